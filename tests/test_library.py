"""kosmos_ros as docs/library.md describes it to other programs."""

import ast
import json
from pathlib import Path
import re
import subprocess
import sys

import numpy as np
from other_engines import COLOUR_ENGINE, declare_engine, install_colour_engine
from PIL import Image
import pytest

import kosmos_ros
from kosmos_ros import (
    Ask,
    BadExpression,
    Box,
    EngineError,
    KosmosError,
    RunnerUnavailable,
    Task,
    errors,
    load_engine,
)

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / 'docs' / 'library.md').read_text(encoding='utf-8')
BLOCKS = re.findall(r'^```(\w+)\n(.*?)^```$', GUIDE, re.MULTILINE | re.DOTALL)
FAKE = 'fake = kosmos_ros.testing:fake_engine_from_script'
# What the front page promises, word for word.
EXAMPLE = """
from kosmos_ros import load_engine, Ask, Task
with load_engine('kosmos2') as engine:
    image = engine.encode_image(pixels)
    engine.locate(image, ['the red mug', 'the laptop'], top_k=3)
    for draft in engine.ask(Ask(Task.CAPTION), [image]): ...
"""


def picture() -> np.ndarray:
    """Grey with a red and a smaller blue square: uint8[240, 320, 3]."""
    pixels = np.full((240, 320, 3), 200, np.uint8)
    pixels[80:160, 100:180] = (220, 30, 30)
    pixels[20:60, 240:300] = (30, 30, 220)
    return pixels


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of a user's, with photo.png, in which the guide's programs run."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture()).save('photo.png')
    return tmp_path


def section(title: str) -> str:
    """A section of the guide, without its title."""
    parts = dict(part.split('\n', 1) for part in GUIDE.split('\n## ')[1:])
    return parts[title]


def test_the_guide_lists_the_names() -> None:
    assert sorted(re.findall(r'`(\w+)`', section('Names'))) == sorted(kosmos_ros.__all__)


def test_every_name_is_there() -> None:
    assert set(kosmos_ros.__all__) <= set(dir(kosmos_ros))
    for name in kosmos_ros.__all__:
        assert getattr(kosmos_ros, name) is not None
    names: dict[str, object] = {}
    exec('from kosmos_ros import *', names)
    assert names.keys() >= set(kosmos_ros.__all__)


@pytest.mark.parametrize('name', ['load_engines', '_MODULE', 'torch'])
def test_no_other_name_is_there(name: str) -> None:
    with pytest.raises(AttributeError, match=f"'kosmos_ros' has no attribute '{name}'"):
        getattr(kosmos_ros, name)


def test_type_checkers_see_the_same() -> None:
    """They read the imports that Python skips; both must lead to the same module."""
    tree = ast.parse((ROOT / 'kosmos_ros' / '__init__.py').read_text(encoding='utf-8'))
    skipped = next(part for part in tree.body if isinstance(part, ast.If))
    read = {part.module: {name.name for name in part.names} for part in skipped.body}
    table = {module: set(names) for module, names in vars(kosmos_ros)['_NAMES_IN'].items()}
    assert read == table


def test_importing_it_costs_nearly_nothing() -> None:
    heavy = {'numpy', 'PIL', 'onnxruntime', 'torch', 'rclpy', 'yaml', 'sentencepiece'}
    program = 'import sys; import kosmos_ros; print(*{n.partition(".")[0] for n in sys.modules})'
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert not heavy & set(done.stdout.split())
    assert 'kosmos_ros' in done.stdout.split()


def test_the_guide_explains_every_error() -> None:
    table = section('Errors')
    explained = set(re.findall(r'^\| `(\w+)` \|', table, re.MULTILINE))
    exported = {name for name in kosmos_ros.__all__ if hasattr(errors, name)}
    assert explained == exported | {'TypeError', 'ValueError'}


def test_the_guide_is_short() -> None:
    lines = GUIDE.splitlines()
    assert len(lines) <= 120
    prose = re.sub(r'^```.*?^```$', '', GUIDE, flags=re.MULTILINE | re.DOTALL).splitlines()
    several = [line for line in prose if re.search(r'[.!?] [A-Z]', line)]
    assert several == []


@pytest.mark.parametrize('index', [i for i, (kind, _) in enumerate(BLOCKS) if kind == 'python'])
def test_programs_of_the_guide_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], index: int
) -> None:
    (script,) = (text for kind, text in BLOCKS if kind == 'json')
    Path('script.json').write_text(script)
    assert f'`{FAKE}`' in GUIDE
    declare_engine(here, FAKE)
    monkeypatch.syspath_prepend(str(here))
    exec(compile(BLOCKS[index][1], f'docs/library.md, block {index}', 'exec'), {})
    if 'print(' in BLOCKS[index][1]:
        assert capsys.readouterr().out


def test_all_blocks_of_the_guide_are_tried() -> None:
    assert {kind for kind, _ in BLOCKS} == {'python', 'json'}
    assert GUIDE.count('```') == 2 * len(BLOCKS)


def test_the_scripted_failure_of_the_guide(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (script,) = (json.loads(text) for kind, text in BLOCKS if kind == 'json')
    Path('script.json').write_text(json.dumps(script))
    declare_engine(here, FAKE)
    monkeypatch.syspath_prepend(str(here))
    with load_engine('fake:script.json') as engine:
        image = engine.encode_image('photo.png')
        with pytest.raises(EngineError, match='it is dark'):
            engine.locate(image, ['the cup'])


@pytest.mark.parametrize('kind', ['array', 'Pillow', 'path'])
def test_the_promised_program_runs(here: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    declare_engine(here, 'kosmos2 = other_engines:fake')
    monkeypatch.syspath_prepend(str(here))
    image = Image.open('photo.png')
    pixels = {'array': picture(), 'Pillow': image, 'path': 'photo.png'}[kind]
    names: dict[str, object] = {'pixels': pixels}
    exec(EXAMPLE, names)
    assert names['draft'].read().text == 'a fake answer'  # type: ignore[attr-defined]
    image.close()


def test_the_colour_engine_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in install_colour_engine(tmp_path):
        monkeypatch.syspath_prepend(str(path))
    red, blue = Box.from_pixels((100, 80, 180, 160), 320, 240), Box(0.75, 1 / 12, 0.9375, 0.25)
    with load_engine('colour') as engine:
        image = engine.encode_image(picture())
        ((found,), (other,)) = engine.locate(image, ['the red ball', 'a blue box'])
        assert found.box_in_image.iou(red) > 0.95
        assert other.box_in_image.iou(blue) > 0.95
        both = engine.locate(image, ['red or blue'], top_k=5)[0]
        assert both == (found, other)
        (draft,) = engine.ask(Ask(Task.QUESTION, 'which colours ?'), [image])
        assert draft.read().text == 'Its colours are red, blue.'
        with pytest.raises(BadExpression, match='use red, green, blue'):
            engine.locate(image, ['the mug'])
    # The red square has a twelfth of the image.
    with load_engine('colour:0.06') as engine:
        image = engine.encode_image(picture())
        assert [len(boxes) for boxes in engine.locate(image, ['red', 'blue'])] == [1, 0]
    with load_engine('colour:0.2') as engine:
        image = engine.encode_image(picture())
        assert engine.locate(image, ['red', 'blue']) == [(), ()]
        (draft,) = engine.ask(Ask(Task.CAPTION), [image])
        assert draft.read().text == 'Its colours are none that I know.'


def test_the_colour_engine_is_small_and_uses_public_names() -> None:
    source = (COLOUR_ENGINE / 'colour_engine.py').read_text(encoding='utf-8')
    assert len(source.splitlines()) <= 60
    assert re.findall(r'^(?:import|from) .*', source, re.MULTILINE) == [
        'import numpy as np',
        'import kosmos_ros as kr',
    ]
    assert set(re.findall(r'\bkr\.(\w+)', source)) <= set(kosmos_ros.__all__)


def test_a_directory_comes_before_an_engine_of_that_name(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in install_colour_engine(here):
        monkeypatch.syspath_prepend(str(path))
    (here / 'colour').mkdir()
    with pytest.raises(KosmosError, match='colour is not an engine directory'):
        load_engine('colour')


def test_an_engine_that_cannot_be_imported_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare_engine(tmp_path, 'broken = no_such_module:engine')
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RunnerUnavailable, match="'broken' cannot be imported .*no_such_module"):
        load_engine('broken')
    with pytest.raises(KosmosError, match=r'installed: .*broken'):
        load_engine('bröken')


def test_the_guide_names_files_that_are_there() -> None:
    for target in re.findall(r'\]\(([^)]+)\)', GUIDE):
        assert (ROOT / 'docs' / target).exists()
