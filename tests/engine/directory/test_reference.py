"""Reference answers: stored without pickle, the same each time, and a check that sees each kind of
damage.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
import pickle

import numpy as np
import pytest
from safetensors.numpy import save_file
import torch

from kosmos_ros.engine.base import Floats
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.directory.recipe import PRECISIONS
from kosmos_ros.engine.directory.reference import (
    TOLERANCES,
    ReferenceAnswers,
    compute_reference,
    self_check,
)
from kosmos_ros.engine.runners.onnxruntime import OnnxRuntimeRunner
from kosmos_ros.engine.runners.runner import Runner
from kosmos_ros.engine.runners.torch import TorchRunner
from kosmos_ros.errors import EngineFileError, SelfCheckFailed
from kosmos_ros.model.network.weights import load_model

QUICK = ['vision', 'prefill of the image', 'prefill of prompts', 'decode 1']
BOXES = [*QUICK, 'decode 2', 'decode 3']
FULL = [*BOXES, 'text in pieces']
LEVELS = {'quick': QUICK, 'full': FULL}


@pytest.fixture(scope='module')
def files(engines: dict[str, Path]) -> EngineDirectory:
    return EngineDirectory.verified(engines['onnxruntime-fp32'])


@pytest.fixture(scope='module')
def reference(files: EngineDirectory) -> ReferenceAnswers:
    return ReferenceAnswers.read(files.path / 'reference.safetensors')


@pytest.fixture
def runner(files: EngineDirectory) -> OnnxRuntimeRunner:
    image_token = files.vocabulary.image_open
    return OnnxRuntimeRunner(files.path, files.config, image_token, files.recipe)


def same(one: ReferenceAnswers, other: ReferenceAnswers) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        and getattr(one, name).dtype == getattr(other, name).dtype
        for name in asdict(one)
    )


def stages(lines: Iterator[str]) -> list[str]:
    return [line.partition(':')[0] for line in lines]


def test_written_and_read_it_is_the_same(reference: ReferenceAnswers, tmp_path: Path) -> None:
    reference.write(tmp_path / 'reference.safetensors')
    assert same(ReferenceAnswers.read(tmp_path / 'reference.safetensors'), reference)
    assert [path.name for path in tmp_path.iterdir()] == ['reference.safetensors']


def test_the_same_is_asked_each_time(files: EngineDirectory, reference: ReferenceAnswers) -> None:
    network = load_model(files.path, torch.float32)
    runner = TorchRunner(network, files.vocabulary.image_open)
    again = compute_reference(runner, files.vocabulary, files.config)
    for field in fields(ReferenceAnswers):
        found, stored = getattr(again, field.name), getattr(reference, field.name)
        assert np.allclose(found, stored, rtol=1e-3, atol=1e-4), field.name
        assert found.dtype == stored.dtype
    # Rows of several lengths, and no tag where words are.
    assert sorted(reference.lengths.tolist()) != reference.lengths.tolist()
    assert reference.ids.max() < files.vocabulary.first_location


def test_a_damaged_file_is_refused(reference: ReferenceAnswers, tmp_path: Path) -> None:
    """A manifest's hash sees this, and damaged numbers, before; this is what stands behind it."""
    path = tmp_path / 'reference.safetensors'
    reference.write(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    header = 8 + int.from_bytes(whole[:8], 'little')
    damaged = [whole[:size] for size in (0, 1, 7, *rng.integers(2, len(whole), 40).tolist())]
    for position in rng.integers(0, header, 150):
        content = bytearray(whole)
        content[position] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(content))
    refusals = []
    for content in damaged:
        path.write_bytes(content)
        try:
            # Some bits of a JSON text do not matter: a blank may be a tab.
            assert same(ReferenceAnswers.read(path), reference)
        except EngineFileError as error:
            refusals.append(str(error))
    assert len(refusals) > 0.9 * len(damaged)
    assert all(text.startswith(str(path)) and '\n' not in text for text in refusals)


@pytest.mark.parametrize(
    'content',
    [b'', b'x', b'PK\x03\x04', pickle.dumps([1])],
    ids=['empty', 'text', 'zip', 'pickle'],
)
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'reference.safetensors'
    path.write_bytes(content)
    with pytest.raises(EngineFileError, match=f'{path} holds no reference answers'):
        ReferenceAnswers.read(path)


def test_an_array_that_is_not_there_is_named(reference: ReferenceAnswers, tmp_path: Path) -> None:
    path = tmp_path / 'reference.safetensors'
    for field in fields(ReferenceAnswers):
        rest = {name: value for name, value in asdict(reference).items() if name != field.name}
        save_file(rest, path)
        with pytest.raises(EngineFileError, match=field.name):
            ReferenceAnswers.read(path)


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineFileError, match='no reference answers'):
        ReferenceAnswers.read(tmp_path / 'reference.safetensors')


@pytest.mark.parametrize('level', LEVELS)
@pytest.mark.parametrize('name', ['onnxruntime-fp32', 'onnxruntime-int8', 'tensorrt-fp16'])
def test_a_good_runner_passes(engines: dict[str, Path], name: str, level: str) -> None:
    files = EngineDirectory.verified(engines[name])
    image_token = files.vocabulary.image_open
    runner = OnnxRuntimeRunner(files.path, files.config, image_token, files.recipe)
    reference = ReferenceAnswers.read(files.path / 'reference.safetensors')
    lines = list(self_check(runner, reference, level, files.recipe.precision))
    assert stages(iter(lines)) == LEVELS[level]
    assert all('cosine' in line and 'norm' in line for line in lines)


def test_bfloat16_passes_on_its_own_runner(engines: dict[str, Path]) -> None:
    files = EngineDirectory.verified(engines['tensorrt-bf16'])
    runner = TorchRunner(load_model(files.path, torch.bfloat16), files.vocabulary.image_open)
    reference = ReferenceAnswers.read(files.path / 'reference.safetensors')
    assert stages(self_check(runner, reference, 'full', 'bf16')) == FULL


class Damaged:
    """A runner one of whose answers is not what it was: `fetch` or `logits`, the n-th time."""

    def __init__(
        self, runner: Runner, call: str, index: int, harm: Callable[[Floats], Floats]
    ) -> None:
        self._runner, self._call, self._index, self._harm = runner, call, index, harm
        self.name, self.close, self.chunk = runner.name, runner.close, runner.chunk
        self.vision, self.prefill, self.decode = runner.vision, runner.prefill, runner.decode
        self._calls: Counter[str] = Counter()

    def fetch(self, value: object) -> Floats:
        return self._answer('fetch', self._runner.fetch(value))

    def logits(self, hidden: object, first: int, last: int) -> Floats:
        return self._answer('logits', self._runner.logits(hidden, first, last))

    def _answer(self, call: str, found: Floats) -> Floats:
        self._calls[call] += 1
        hit = call == self._call and self._calls[call] == self._index + 1
        return self._harm(found) if hit else found


def scaled(values: Floats) -> Floats:
    return values * 1.5


def last_row_scaled(values: Floats) -> Floats:
    values = values.copy()
    values.reshape(-1, values.shape[-1])[-1] *= 1.5
    return values


def rotated(values: Floats) -> Floats:
    """Of the same length, but in another direction."""
    return np.roll(values, 1, axis=-1)


def turned_a_little(values: Floats) -> Floats:
    """By two degrees, a cosine of 0.9994."""
    across = np.random.default_rng(0).normal(size=values.shape)
    along = (across * values).sum(-1, keepdims=True) / (values**2).sum(-1, keepdims=True)
    across -= along * values
    sizes = [np.linalg.norm(one, axis=-1, keepdims=True) for one in (values, across)]
    return np.float32(np.cos(0.035) * values + np.sin(0.035) * across * sizes[0] / sizes[1])


def one_nan(values: Floats) -> Floats:
    values = values.copy()
    values.flat[-1] = np.nan
    return values


def infinite(values: Floats) -> Floats:
    return np.full_like(values, np.inf)


def nothing(values: Floats) -> Floats:
    return np.zeros_like(values)


DAMAGES = {
    scaled: r'differs .*norm off by 0\.5000 \(at most 0\.01\)',
    last_row_scaled: r'differs .*norm off by 0\.5000 \(at most 0\.01\)',
    rotated: r'differs .*cosine -?0\.\d+ \(at least 0\.9999\)',
    turned_a_little: r'differs .*cosine 0\.999\d+ \(at least 0\.9999\)',
    one_nan: 'gave values that are not numbers',
    infinite: 'gave values that are not numbers',
    nothing: r'differs .*cosine 0\.00000',
}
# Each stage fetches once; the two of the picture have no scores.
CALLS = [
    *(('fetch', index, stage) for index, stage in enumerate(FULL)),
    *(('logits', index, f'{stage}, location scores') for index, stage in enumerate(BOXES[2:])),
]


@pytest.mark.parametrize('harm', DAMAGES, ids=lambda harm: harm.__name__)
@pytest.mark.parametrize(('call', 'index', 'stage'), CALLS)
def test_damage_is_seen_and_its_stage_named(
    runner: Runner,
    reference: ReferenceAnswers,
    call: str,
    index: int,
    stage: str,
    harm: Callable[[Floats], Floats],
) -> None:
    lines: list[str] = []
    with pytest.raises(SelfCheckFailed, match=f'^self-check: {stage} {DAMAGES[harm]}'):
        lines.extend(self_check(Damaged(runner, call, index, harm), reference, 'full', 'fp32'))
    # `extend` keeps what came before.
    assert stages(iter(lines)) == FULL[: FULL.index(stage.partition(',')[0])]


def test_quick_asks_one_prompt_for_one_box(runner: Runner, reference: ReferenceAnswers) -> None:
    later = Damaged(runner, 'fetch', FULL.index('decode 2'), one_nan)
    assert stages(self_check(later, reference, 'quick', 'fp32')) == QUICK
    # The first row is the one that it asks.
    with pytest.raises(SelfCheckFailed, match='prefill of prompts'):
        list(self_check(Damaged(runner, 'fetch', 2, scaled), reference, 'quick', 'fp32'))
    wrong = replace(
        reference, hidden=np.concatenate([reference.hidden[:1], -reference.hidden[1:]])
    )
    assert stages(self_check(runner, wrong, 'quick', 'fp32')) == QUICK
    with pytest.raises(SelfCheckFailed, match='prefill of prompts'):
        list(self_check(runner, wrong, 'full', 'fp32'))


def runner_up_wins(values: Floats) -> Floats:
    """By as little as float32 tells: nothing else changes."""
    values = values.copy()
    best, second = np.argsort(values[0])[[-1, -2]]
    values[0, second] = np.nextafter(values[0, best], np.float32(np.inf))
    return values


@pytest.mark.parametrize('index', range(4), ids=BOXES[2:])
def test_another_best_location_is_seen(
    runner: Runner, reference: ReferenceAnswers, index: int
) -> None:
    damaged = Damaged(runner, 'logits', index, runner_up_wins)
    message = f'{FULL[2 + index]} prefers other location tokens than the reference'
    with pytest.raises(SelfCheckFailed, match=message):
        # The tolerance of 16 bits lets it pass as a vector.
        list(self_check(damaged, reference, 'full', 'fp16'))


@pytest.mark.parametrize(
    ('precision', 'passed', 'refused'),
    [
        ('fp32', (1e-3, 5e-3), (0.02, 0.1)),
        ('fp16', (0.02, 0.1, 0.2), (0.3, 0.5)),
        ('bf16', (0.02, 0.1, 0.2), (0.3, 0.5)),
        ('int8', (0.02, 0.1, 0.2), (0.3, 0.5)),
    ],
)
def test_tolerance_is_that_of_the_precision(
    runner: Runner,
    reference: ReferenceAnswers,
    precision: str,
    passed: tuple[float, ...],
    refused: tuple[float, ...],
) -> None:
    for share in passed:
        damaged = Damaged(runner, 'fetch', 2, lambda values, share=share: values * (1 - share))
        assert stages(self_check(damaged, reference, 'full', precision)) == FULL
    for share in refused:
        damaged = Damaged(runner, 'fetch', 2, lambda values, share=share: values * (1 + share))
        with pytest.raises(SelfCheckFailed, match=f'norm off by {share:.4f}'):
            list(self_check(damaged, reference, 'full', precision))
    little = Damaged(runner, 'fetch', 2, turned_a_little)
    if precision == 'fp32':
        with pytest.raises(SelfCheckFailed, match='cosine'):
            list(self_check(little, reference, 'full', precision))
    else:
        assert stages(self_check(little, reference, 'full', precision)) == FULL


def test_every_precision_has_a_tolerance() -> None:
    assert set(TOLERANCES) == {precision for all in PRECISIONS.values() for precision in all}
