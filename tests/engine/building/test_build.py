"""Checkpoints to engines: whole or not at all, and nothing is done twice or for nothing."""

from collections.abc import Callable, Iterator
from dataclasses import replace
import json
from pathlib import Path
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]

from kosmos_ros.engine.building import build
from kosmos_ros.engine.building.build import build_engine
from kosmos_ros.engine.directory.directory import (
    REFERENCE_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
)
from kosmos_ros.engine.directory.manifest import FILE_NAME, Manifest
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.directory.reference import ReferenceAnswers
from kosmos_ros.engine.load import load_engine
from kosmos_ros.errors import EngineError, EngineFileError, SelfCheckFailed

STAGES = ('tokenizer', 'weights', 'graphs', 'reference answers')
GRAPHS = ('vision.onnx', 'decoder.matmul.onnx')
# What ends each stage, then what comes after them.
STEPS = ('write_tokenizer', 'save_file', 'export_graphs', 'compute_reference', 'self_check')


class Attempt:
    """Builds one engine, as often as it takes."""

    def __init__(self, checkpoint: Path, out: Path, recipe: Recipe) -> None:
        self.checkpoint, self.out, self.recipe = checkpoint, out, recipe
        self.partial = out.with_name(f'{out.name}.partial')
        self.lines: list[str] = []

    def __call__(self) -> Manifest:
        self.lines.clear()
        return build_engine(
            self.checkpoint, self.out, self.recipe, name='tiny', report=self.lines.append
        )

    @property
    def done_before(self) -> list[str]:
        end = ': done before'
        return [line.removesuffix(end) for line in self.lines if line.endswith(end)]

    def left_nothing_that_loads(self) -> bool:
        assert not self.out.exists()
        for directory in (self.out, self.partial):
            with pytest.raises(EngineFileError, match=str(directory)):
                load_engine(directory)
        return True


@pytest.fixture
def attempt(
    checkpoint: Path,
    recipe: Recipe,
    engines: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Attempt:
    """Of a copy that a test may change; what takes long is taken from the same model's engine."""
    made = engines['onnxruntime-fp32']

    def export_graphs(config: object, recipe: object, directory: Path) -> None:
        for name in GRAPHS:
            shutil.copyfile(made / name, directory / name)

    monkeypatch.setattr(build, 'export_graphs', export_graphs)
    monkeypatch.setattr(
        build, 'compute_reference', lambda *_: ReferenceAnswers.read(made / REFERENCE_FILE)
    )
    own = Path(shutil.copytree(checkpoint, tmp_path / 'checkpoint'))
    return Attempt(own, tmp_path / 'out' / 'engine', recipe)


def interrupting(real: Callable[..., Any]) -> Callable[..., Any]:
    """As `real`, but somebody presses Ctrl-C before its end."""

    def work(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        # A generator has done nothing yet.
        if isinstance(result, Iterator):
            next(result)
        raise KeyboardInterrupt

    return work


def test_never_overwrites(attempt: Attempt) -> None:
    attempt.out.mkdir(parents=True)
    (attempt.out / 'mine').write_text('mine')
    with pytest.raises(EngineFileError, match='exists already'):
        attempt()
    assert [path.name for path in attempt.out.parent.rglob('*')] == ['engine', 'mine']
    assert attempt.lines == []


@pytest.mark.parametrize('stage', range(len(STEPS)), ids=STEPS)
def test_goes_on_after_an_interruption(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch, stage: int
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(build, STEPS[stage], interrupting(getattr(build, STEPS[stage])))
        with pytest.raises(KeyboardInterrupt):
            attempt()
        assert attempt.done_before == []
        assert attempt.left_nothing_that_loads()
    manifest = attempt()
    assert attempt.done_before == list(STAGES[:stage])
    for name in STAGES[stage:]:
        assert f'{name} ...' in attempt.lines
    load_engine(attempt.out, self_check='full').close()
    assert not attempt.partial.exists()
    assert set(manifest.files) | {FILE_NAME} == {path.name for path in attempt.out.iterdir()}


@pytest.mark.parametrize('step', ['before the manifest', 'after the manifest'])
def test_an_interruption_at_the_end_costs_nothing(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """All those hashes take a while, too."""
    name = {'before the manifest': 'of_directory', 'after the manifest': 'write'}[step]
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, name, interrupting(getattr(Manifest, name)))
        with pytest.raises(KeyboardInterrupt):
            attempt()
        assert not attempt.out.exists()
    manifest = attempt()
    assert attempt.done_before == list(STAGES)
    assert Manifest.read(attempt.out) == manifest


def change_weights(attempt: Attempt) -> None:
    path = attempt.checkpoint / WEIGHTS_FILE
    weights = load_file(path)
    weights['text_model.model.layer_norm.weight'][0] += 1
    save_file(weights, path)


def change_config(attempt: Attempt) -> None:
    path = attempt.checkpoint / 'config.json'
    content = json.loads(path.read_text())
    content['text_config']['layer_norm_eps'] = 1e-6
    path.write_text(json.dumps(content))


def change_tokenizer(attempt: Attempt) -> None:
    path = attempt.checkpoint / TOKENIZER_FILE
    proto = ModelProto.FromString(path.read_bytes())
    proto.pieces[5].piece = '\u2581another'
    path.write_bytes(proto.SerializeToString())


def change_recipe(attempt: Attempt) -> None:
    attempt.recipe = replace(attempt.recipe, decode=((1, 32), (1, 112)))


def change_place(attempt: Attempt) -> None:
    attempt.checkpoint = attempt.checkpoint.rename(attempt.checkpoint.with_name('moved'))


@pytest.mark.parametrize(
    'change', [change_weights, change_config, change_tokenizer, change_recipe, change_place]
)
def test_starts_anew_for_another_model_or_recipe(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch, change: Callable[[Attempt], None]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(build, 'compute_reference', interrupting(build.compute_reference))
        with pytest.raises(KeyboardInterrupt):
            attempt()
    change(attempt)
    (attempt.partial / 'stray').write_text('of the earlier attempt')
    # Graphs and reference are those of the model as it was.
    monkeypatch.setattr(build, 'self_check', lambda *_: iter(()))
    manifest = attempt()
    assert attempt.done_before == []
    assert 'stray' not in manifest.files
    tokenizers = [directory / TOKENIZER_FILE for directory in (attempt.checkpoint, attempt.out)]
    assert tokenizers[0].read_bytes() == tokenizers[1].read_bytes()
    assert Recipe.from_yaml(attempt.out / 'recipe.yaml') == attempt.recipe


@pytest.mark.parametrize('progress', ['', '[]', '{"key": 1}', 'x', '{"key": null, "done": 5}'])
def test_a_damaged_record_of_progress_means_none(attempt: Attempt, progress: str) -> None:
    attempt.partial.mkdir(parents=True)
    (attempt.partial / 'progress.json').write_text(progress)
    attempt()
    assert attempt.done_before == []


def test_sizes_are_known_before_anything_is_done(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[str] = []

    def report(line: str) -> None:
        if 'million parameters' in line:
            touched.extend(path.name for path in attempt.out.parent.glob('*/*'))
        attempt.lines.append(line)

    build_engine(attempt.checkpoint, attempt.out, attempt.recipe, name='tiny', report=report)
    assert touched == []
    assert 'weights' in attempt.lines[0]
    assert 'million parameters' in attempt.lines[0]


@pytest.mark.parametrize(
    ('place', 'value', 'message'),
    [
        (
            'shutil.disk_usage',
            lambda path: SimpleNamespace(free=1000),
            r'has 0\.0 MB free and 0\.\d MB are needed; make room',
        ),
        (
            'available_memory',
            lambda: 300_000_000,
            r'takes 1\.5 GB of memory and 0\.3 GB are available; do it on a larger machine',
        ),
    ],
    ids=['disk', 'memory'],
)
def test_too_little_room_is_told_before_anything_is_done(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch, place: str, value: object, message: str
) -> None:
    monkeypatch.setattr(f'kosmos_ros.engine.building.estimates.{place}', value)
    with pytest.raises(EngineError, match=message):
        attempt()
    assert 'million parameters' in attempt.lines[0]
    assert not any(line.endswith('...') for line in attempt.lines)
    assert attempt.left_nothing_that_loads()


def drop_a_piece(checkpoint: Path) -> None:
    path = checkpoint / TOKENIZER_FILE
    proto = ModelProto.FromString(path.read_bytes())
    del proto.pieces[-1]
    path.write_bytes(proto.SerializeToString())


def drop_a_weight(checkpoint: Path) -> None:
    path = checkpoint / WEIGHTS_FILE
    weights = load_file(path)
    del weights['text_model.model.layer_norm.weight']
    save_file(weights, path)


@pytest.mark.parametrize(
    ('harm', 'message'),
    [
        (drop_a_piece, r'the tokenizer in .* has \d+ ids, the model \d+'),
        (lambda path: (path / TOKENIZER_FILE).unlink(), 'neither sentencepiece.bpe.model nor'),
        (lambda path: (path / TOKENIZER_FILE).write_bytes(b'x'), 'as a sentencepiece model'),
        (drop_a_weight, r'text_model\.model\.layer_norm\.weight'),
        (lambda path: (path / WEIGHTS_FILE).write_bytes(b'x'), 'as safetensors'),
        (lambda path: (path / WEIGHTS_FILE).unlink(), 'holds neither model.safetensors nor'),
        (lambda path: (path / 'config.json').unlink(), 'as a model configuration'),
        (shutil.rmtree, 'as a model configuration'),
    ],
)
def test_an_incomplete_checkpoint_is_refused(
    attempt: Attempt, harm: Callable[[Path], object], message: str
) -> None:
    harm(attempt.checkpoint)
    with pytest.raises(EngineFileError, match=message):
        attempt()
    assert attempt.left_nothing_that_loads()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'prefix': 8}, 'an image of this model has 9 tokens.*slots for 8 and 24'),
        ({'prefill': ((1, 8, 112),)}, 'an image of this model has 9 tokens.*slots for 16 and 8'),
        ({'prefix': 120}, '128 positions does not fit this recipe: .*more slots than tokens'),
    ],
)
def test_a_recipe_must_have_room_for_the_model(
    attempt: Attempt, change: dict[str, Any], message: str
) -> None:
    attempt.recipe = replace(attempt.recipe, **change)
    with pytest.raises(EngineFileError, match=message):
        attempt()
    assert attempt.left_nothing_that_loads()
    assert attempt.lines == []


def test_other_answers_than_the_reference_are_refused(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = build.compute_reference

    def tampered(*args: Any) -> Any:
        reference = real(*args)
        return replace(reference, step_hidden=1.5 * reference.step_hidden)

    with monkeypatch.context() as patch:
        patch.setattr(build, 'compute_reference', tampered)
        with pytest.raises(SelfCheckFailed, match='decode 1 differs'):
            attempt()
        assert attempt.left_nothing_that_loads()
    # Nor does it stand in the way of a better one.
    attempt()
    load_engine(attempt.out, self_check='full').close()
