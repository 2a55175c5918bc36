"""All runners and all graphs against the PyTorch reference: shapes, ragged rows, shared prefix,
many steps.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kosmos_ros.engine.golden import Golden, Tolerance
from kosmos_ros.engine.load import EngineFiles
from kosmos_ros.engine.runner import Runner
from kosmos_ros.engine.runners.onnxruntime import OnnxRuntimeRunner
from kosmos_ros.engine.runners.static import StaticRunner
from kosmos_ros.engine.runners.tables import Tables
from kosmos_ros.engine.runners.torch import TorchProgram, TorchRunner
from kosmos_ros.errors import EngineError, RunnerUnavailable
from kosmos_ros.model.weights import load_model

from .stand_in import PlainDevice

EXACT, CLOSE = Tolerance(1 - 1e-6, 1e-4), Tolerance(0.999, 0.02)


def reference_of(files: EngineFiles) -> TorchRunner:
    network = load_model(files.directory, torch.float32)
    return TorchRunner(network, files.vocabulary.image_open)


def on_onnxruntime(tier: str) -> Callable[[EngineFiles], Runner]:
    return lambda files: OnnxRuntimeRunner(
        files.directory, files.config, files.vocabulary.image_open, files.recipe, tier
    )


def on_static_loop(files: EngineFiles) -> Runner:
    network = load_model(files.directory, torch.float32)
    weight = network.decoder.embed_tokens.weight
    tables = Tables.of(weight, network.text_model.lm_head.weight, files.config.text)
    image_token = files.vocabulary.image_open
    program = TorchProgram(network)
    return StaticRunner(program, PlainDevice(), tables, files.config, files.recipe, image_token)


KINDS = {
    'onnxruntime-fp32': (on_onnxruntime('scatter'), EXACT),
    'onnxruntime-int8': (on_onnxruntime('scatter'), EXACT),
    'tensorrt-fp32 scatter': (on_onnxruntime('scatter'), EXACT),
    'tensorrt-fp32 attention': (on_onnxruntime('attention'), EXACT),
    'tensorrt-fp16 scatter': (on_onnxruntime('scatter'), CLOSE),
    'tensorrt-fp16 attention': (on_onnxruntime('attention'), CLOSE),
    'tensorrt-int8 scatter': (on_onnxruntime('scatter'), CLOSE),
    'tensorrt-int8 attention': (on_onnxruntime('attention'), CLOSE),
    'onnxruntime-fp32 static': (on_static_loop, EXACT),
}


class Case:
    """One runner beside its reference, and what both have read."""

    def __init__(self, files: EngineFiles, runner: Runner, tolerance: Tolerance) -> None:
        self.files = files
        self.both = (runner, reference_of(files))
        self.tolerance = tolerance
        self.golden = Golden.read(files.directory / 'golden.safetensors')
        self.first = files.vocabulary.first_location

    def same(self, values: list[object]) -> None:
        found, wanted = (one.fetch(value) for one, value in zip(self.both, values, strict=True))
        norms = np.linalg.norm(found, axis=-1), np.linalg.norm(wanted, axis=-1)
        cosine = (found * wanted).sum(-1) / (norms[0] * norms[1])
        assert cosine.min() > self.tolerance.cosine
        assert np.abs(norms[0] / norms[1] - 1).max() < self.tolerance.norm

    def look(self, flipped: bool = False) -> list[object]:
        ids, pixels = self.golden.image_ids, self.golden.pixels
        pixels = pixels[..., ::-1].copy() if flipped else pixels
        embeds = [one.vision(pixels) for one in self.both]
        self.same(embeds)
        lengths = np.array([ids.shape[1]])
        read = [
            one.prefill(ids, lengths, images=[image])
            for one, image in zip(self.both, embeds, strict=True)
        ]
        self.same([hidden for hidden, _ in read])
        return [past for _, past in read]

    def prompts(self, rows: int, tokens: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Random ids, ragged: the first row has all tokens, the others some."""
        rng = np.random.default_rng(seed)
        lengths = rng.integers(1, tokens + 1, rows)
        lengths[0] = tokens
        ids = rng.integers(4, self.files.vocabulary.mask, (rows, tokens))
        ids[np.arange(tokens) >= lengths[:, None]] = self.files.vocabulary.pad
        return ids, lengths

    def read(
        self, prefixes: list[object], ids: np.ndarray, lengths: np.ndarray, room: int = 0
    ) -> list[object]:
        read = [
            one.prefill(ids, lengths, prefix=prefix, room=room)
            for one, prefix in zip(self.both, prefixes, strict=True)
        ]
        self.same([hidden for hidden, _ in read])
        return [past for _, past in read]

    def step(self, ids: np.ndarray, pasts: list[object]) -> list[object]:
        read = [one.decode(ids, past) for one, past in zip(self.both, pasts, strict=True)]
        self.same([hidden for hidden, _ in read])
        scores = [
            one.logits(hidden, self.first, self.first + 1024)
            for one, (hidden, _) in zip(self.both, read, strict=True)
        ]
        self.same_scores(*scores)
        return [past for _, past in read]

    def same_scores(self, found: np.ndarray, wanted: np.ndarray) -> None:
        """The best token is the reference's, but for ties within rounding."""
        assert found.dtype == np.float32
        lost = wanted.max(1) - wanted[np.arange(len(wanted)), found.argmax(1)]
        # Vectors of this cosine differ by this share of their length, and so do random scores.
        sine = np.sqrt(2 * (1 - self.tolerance.cosine))
        assert lost.max() < 3 * sine * wanted.std()


@pytest.fixture(scope='module', params=KINDS)
def case(request: pytest.FixtureRequest, engines: dict[str, Path]) -> Case:
    make, tolerance = KINDS[request.param]
    files = EngineFiles.verified(engines[request.param.split()[0]])
    return Case(files, make(files), tolerance)


def test_every_shape_of_the_recipe(case: Case) -> None:
    prefixes = case.look()
    for seed, (rows, tokens) in enumerate(case.files.recipe.prefill):
        for count in {rows, max(rows - 1, 1)}:
            case.read(prefixes, *case.prompts(count, tokens, seed))
    for rows in case.files.recipe.decode:
        ids, lengths = case.prompts(rows, 4, rows)
        pasts = case.read(prefixes, ids, lengths, room=2)
        for seed in range(2):
            tokens = case.first + np.random.default_rng(seed).integers(0, 1024, rows)
            pasts = case.step(tokens, pasts)


def test_more_rows_than_any_shape_has(case: Case) -> None:
    prefixes = case.look()
    ids, lengths = case.prompts(11, 7, seed=5)
    pasts = case.read(prefixes, ids, lengths, room=2)
    rows = np.repeat(np.arange(11), 3)
    pasts = [past.select(rows) for past in pasts]
    for step in range(2):
        pasts = case.step(case.first + np.arange(33) + step, pasts)


def test_sixty_four_steps_in_place(case: Case) -> None:
    prefixes = case.look()
    ids, lengths = case.prompts(3, 9, seed=6)
    pasts = case.read(prefixes, ids, lengths, room=64)
    rng = np.random.default_rng(7)
    for _ in range(64):
        pasts = case.step(rng.integers(4, case.files.vocabulary.size, 3), pasts)


def test_two_pasts_and_two_pictures_do_not_mix(case: Case) -> None:
    """Steps of one question between those of another, about another picture."""
    first = case.look()
    second = case.look(flipped=True)
    pasts = [
        case.read(prefixes, *case.prompts(3, 6, seed), room=8)
        for seed, prefixes in enumerate((first, second))
    ]
    rng = np.random.default_rng(8)
    for _ in range(4):
        for index in (0, 1):
            pasts[index] = case.step(rng.integers(4, 20, 3), pasts[index])
    # A search comes back to the rows of a prefill after steps from them.
    asked = case.read(first, *case.prompts(2, 5, seed=9), room=1)
    for rows in ([0, 0, 1], [1], [1, 0]):
        index = np.array(rows)
        case.step(case.first + np.arange(len(rows)), [past.select(index) for past in asked])


def test_questions_without_a_picture(case: Case) -> None:
    read = [one.prefill(*case.prompts(2, 5, seed=10), room=1) for one in case.both]
    case.same([hidden for hidden, _ in read])
    case.step(case.first + np.arange(2), [past for _, past in read])


def test_bfloat16_is_not_for_onnxruntime(engines: dict[str, Path]) -> None:
    with pytest.raises(RunnerUnavailable, match='bfloat16'):
        on_onnxruntime('scatter')(EngineFiles.verified(engines['tensorrt-bf16']))


@pytest.mark.parametrize('kind', ['onnxruntime-fp32 static', 'tensorrt-fp16 attention'])
def test_too_many_tokens_say_what_to_do(engines: dict[str, Path], kind: str) -> None:
    files = EngineFiles.verified(engines[kind.split()[0]])
    runner = KINDS[kind][0](files)
    with pytest.raises(EngineError, match='recipe with'):
        runner.prefill(np.full((1, 80), 5), np.array([80]), room=9)


def test_one_bad_picture_does_not_spoil_the_next(engines: dict[str, Path]) -> None:
    files = EngineFiles.verified(engines['onnxruntime-fp32'])
    case = Case(files, on_static_loop(files), EXACT)
    runner = case.both[0]
    bad = np.full_like(case.golden.pixels, np.nan)
    ids = case.golden.image_ids
    lengths = np.array([ids.shape[1]])
    _, prefix = runner.prefill(ids, lengths, images=[runner.vision(bad)])
    hidden, _ = runner.prefill(*case.prompts(2, 8, seed=1), prefix=prefix)
    assert np.isnan(runner.logits(hidden, 0, 9)).any()
    prefixes = case.look()
    case.step(np.array([5]), case.read(prefixes, *case.prompts(1, 3, seed=2), room=1))
