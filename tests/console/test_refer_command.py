"""`kosmos_ros refer`: a table, a picture, one JSON line."""

from collections.abc import Callable
import json
from pathlib import Path

import numpy as np
from PIL import Image
import pytest
from running import HEIGHT, WIDTH, Command

from kosmos_ros.engine.base import ScoredBox
from kosmos_ros.errors import EngineError
from kosmos_ros.model.boxes import Box
from kosmos_ros.testing.fake_engine import FakeEngine
from kosmos_ros.testing.script import Act

Load = Callable[..., FakeEngine]
TWO = (ScoredBox(Box(0.25, 0.5, 0.75, 1), 0.9), ScoredBox(Box(0, 0, 0.5, 0.5), 0.06))


def test_prints_and_draws(command: Command, load: Load, here: Path) -> None:
    engine = load({'the cup': Act(TWO)})
    summary = command('refer', 'cup.png', 'the cup', 'a mug', '--max-results', '2')
    place = str(here / 'cup.refer.png')
    assert summary['image'] == place
    assert f'picture: {place}' in command.err
    cup, mug = summary['answers']  # type: ignore[misc]
    assert cup == {
        'expression': 'the cup',
        'boxes_px': [[20, 30, 60, 60], [0, 0, 40, 30]],
        'scores': [0.9, 0.06],
    }
    assert mug['expression'] == 'a mug'
    assert summary['engine'] == 'fake'
    assert [line.split() for line in command.lines] == [
        ['expression', 'box', 'x0', 'y0', 'x1', 'y1', '(px)', 'score'],
        ['the', 'cup', '20', '30', '60', '60', '0.90'],
        ['0', '0', '40', '30', '0.06'],
        ['a', 'mug', '20', '15', '60', '45', '0.90'],
    ]
    with Image.open(place) as picture:
        assert picture.width / picture.height < WIDTH / HEIGHT
    assert engine.calls.top_k == [2]
    assert engine.calls.closed == 1


def test_one_box_each_unless_more_are_wanted(command: Command, load: Load) -> None:
    load(otherwise=Act(TWO))
    (answer,) = command('refer', 'mug.jpg', 'the cup', '--out', 'there.png')['answers']  # type: ignore[misc]
    assert answer['scores'] == [0.9]
    assert Path('there.png').is_file()


def test_no_box(command: Command, load: Load) -> None:
    load(otherwise=Act((ScoredBox(Box(0.5, 0.5, 0.25, 0.75), 0.1),)))
    summary = command('refer', 'cup.png', '杯子')
    assert summary['answers'] == [{'expression': '杯子', 'boxes_px': [], 'scores': []}]
    assert command.lines[1].split() == ['杯子', 'no', 'box']


def test_says_what_was_passed_over(command: Command, load: Load) -> None:
    load(remarks=['not by TensorRT: there is none'])
    command('refer', 'cup.png', 'the cup')
    assert 'kosmos_ros: not by TensorRT: there is none\n' in command.err


def test_a_script_as_engine(command: Command, here: Path) -> None:
    (here / 'script.json').write_text(json.dumps({'name': 'scripted'}))
    summary = command('refer', 'cup.png', 'the cup', '--engine', 'fake:script.json')
    assert summary['engine'] == 'scripted'


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        (['none.png', 'the cup'], 'none.png cannot be read as a picture: there is no such file'),
        (['.', 'the cup'], 'folder'),
        (['text.png', 'the cup'], 'text.png is no picture'),
        (['cut.png', 'the cup'], 'cut.png cannot be read as a picture'),
        (['cup.png', ''], 'empty'),
        (['cup.png', 'the cup', '<object>'], 'tag'),
        (['cup.png', 'x' * 513], 'shorten'),
        (['cup.png', 'the cup', '--out', 'no/place.png'], 'no is not a directory'),
        (['cup.png', 'the cup', '--out', 'cup.png'], 'choose another place'),
        (['cup.png', 'the cup', '--out', 'folder.png'], 'folder.png is a directory'),
        (['cup.png', 'the cup', '--engine', '/nowhere'], '/nowhere'),
        (['cup.png', 'the cup', '--engine', 'fake:none.json'], 'no script'),
        (['cup.png', 'the cup', '--engine', 'fake:none.json', '--runner', 'torch'], 'its own'),
    ],
)
def test_refuses(
    arguments: list[str], reason: str, command: Command, load: Load, here: Path
) -> None:
    (here / 'text.png').write_text('no picture')
    (here / 'cut.png').write_bytes((here / 'cup.png').read_bytes()[:-30])
    (here / 'folder.png').mkdir()
    if not {'--engine', '--runner'} & set(arguments):
        load()
    assert reason in command.refused('refer', *arguments)


def test_a_failing_engine_is_one_line_and_closed(command: Command, load: Load) -> None:
    engine = load(otherwise=Act(failure=EngineError('out of order')))
    assert command.refused('refer', 'cup.png', 'the cup') == 'out of order'
    assert engine.calls.closed == 1


@pytest.mark.parametrize(
    'arguments',
    [
        ['cup.png'],
        ['cup.png', 'the cup', '--max-results', '0'],
        ['cup.png', 'the cup', '--max-results', '65'],
        ['cup.png', 'the cup', '--max-results', 'x'],
        ['cup.png', 'the cup', '--out', 'cup.jpg'],
        ['cup.png', 'the cup', '--runner', 'abacus'],
        ['cup.png', 'the cup', '--stream'],
    ],
)
def test_wrong_use(arguments: list[str], command: Command) -> None:
    command.misused('refer', *arguments)


def test_large_pictures_are_refused_before_they_are_read(command: Command, load: Load) -> None:
    load()
    Image.new('1', (8001, 4000)).save('large.png')
    assert 'megapixels' in command.refused('refer', 'large.png', 'the cup')


@pytest.mark.parametrize(
    ('mode', 'name'),
    [
        ('L', 'a.png'),
        ('LA', 'a.png'),
        ('P', 'a.gif'),
        ('RGBA', 'a.png'),
        ('CMYK', 'a.jpg'),
        ('1', 'a.png'),
        ('I;16', 'a.png'),
        ('RGB', 'a.bmp'),
        ('RGB', 'a.tif'),
        ('RGB', 'a.webp'),
        ('RGB', 'a.ppm'),
    ],
)
def test_kinds_of_pictures(mode: str, name: str, command: Command, load: Load) -> None:
    engine = load()
    Image.new(mode, (4, 3)).save(name)
    command('refer', name, 'the cup')
    (image,) = engine.calls.encoded
    assert (image.shape, image.dtype) == ((3, 4, 3), np.uint8)


def test_orientation_tags_are_ignored(command: Command, load: Load) -> None:
    engine = load()
    picture = Image.new('RGB', (8, 4))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save('turned.jpg', exif=exif)
    command('refer', 'turned.jpg', 'the cup')
    assert engine.calls.encoded[0].shape == (4, 8, 3)
