"""All runners and all graphs against the PyTorch reference: shapes, ragged rows, shared prefix,
many steps.  What was read in pieces is in test_past.py.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.cases import EXACT, Case, on_onnxruntime, on_static_loop, reference_of
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.runners import geometry as layout
from kosmos_ros.errors import RunnerUnavailable


def test_every_shape_of_the_recipe(case: Case) -> None:
    prefixes = case.look()
    for rows, tokens, slots in case.files.recipe.prefill:
        for count in {rows, max(rows - 1, 1)}:
            # To the last slot.
            pasts = case.fill(prefixes, count, slots - tokens)
            case.read(None, *case.prompts(count, tokens, seed=rows), pasts=pasts)
    for rows, slots in case.files.recipe.decode:
        pasts = case.fill(prefixes, rows, slots - 2)
        for seed in range(2):
            tokens = case.first + np.random.default_rng(seed).integers(0, 1024, rows)
            pasts = case.step(tokens, pasts)


def test_more_rows_than_any_shape_has(case: Case) -> None:
    prefixes = case.look()
    ids, lengths = case.prompts(11, 7, seed=5)
    pasts = case.read(prefixes, ids, lengths, reserve=2)
    pasts = case.select(pasts, np.repeat(np.arange(11), 3))
    for step in range(2):
        pasts = case.step(case.first + np.arange(33) + step, pasts)


def test_sixty_four_steps_in_place(case: Case) -> None:
    prefixes = case.look()
    ids, lengths = case.prompts(3, 9, seed=6)
    pasts = case.read(prefixes, ids, lengths, reserve=64)
    rng = np.random.default_rng(7)
    for _ in range(64):
        pasts = case.step(rng.integers(4, case.files.vocabulary.size, 3), pasts)


def test_two_pasts_and_two_pictures_do_not_mix(case: Case) -> None:
    """Steps of one question between those of another, about another picture."""
    first = case.look()
    second = case.look(flipped=True)
    pasts = [
        case.read(prefixes, *case.prompts(3, 6, seed), reserve=8)
        for seed, prefixes in enumerate((first, second))
    ]
    rng = np.random.default_rng(8)
    for _ in range(4):
        for index in (0, 1):
            pasts[index] = case.step(rng.integers(4, 20, 3), pasts[index])
    # A search comes back to the rows of a prefill after steps from them.
    asked = case.read(first, *case.prompts(2, 5, seed=9), reserve=1)
    for rows in ([0, 0, 1], [1], [1, 0]):
        case.step(case.first + np.arange(len(rows)), case.select(asked, rows))


def test_questions_without_a_picture(case: Case) -> None:
    read = [one.prefill(*case.prompts(2, 5, seed=10), reserve=1) for one in case.both]
    case.same([hidden for hidden, _ in read])
    case.step(case.first + np.arange(2), [past for _, past in read])


def test_bfloat16_is_not_for_onnxruntime(engines: dict[str, Path]) -> None:
    with pytest.raises(RunnerUnavailable, match='bfloat16'):
        on_onnxruntime('matmul')(EngineDirectory.verified(engines['tensorrt-bf16']))


@pytest.mark.parametrize('piece', [8192, 100, 1])
def test_scores_of_the_whole_vocabulary(
    case: Case, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(layout, '_HEAD_ROWS', piece)
    size = case.files.vocabulary.size
    read = [one.prefill(*case.prompts(2, 5, seed=1)) for one in case.both]
    scores = []
    for one, (hidden, _) in zip(case.both, read, strict=True):
        every = one.logits(hidden, 0, size)
        assert every.shape == (2, size)
        some = one.logits(hidden, 7, 300)
        np.testing.assert_allclose(some, every[:, 7:300], rtol=1e-4, atol=1e-4)
        scores.append(every)
    case.same_scores(*scores)


def test_the_reference_is_the_network_in_one_piece(engines: dict[str, Path]) -> None:
    """By attention of its own: what is new is in the cache before it is looked at."""
    files = EngineDirectory.verified(engines['onnxruntime-fp32'])
    runner = reference_of(files)
    network = runner._network
    ids = np.random.default_rng(0).integers(4, files.vocabulary.mask, (2, 40))
    length = ids.shape[1]
    with torch.inference_mode():
        tokens = network.decoder.embed_tokens(torch.from_numpy(ids))
        hidden, _ = network.decoder(
            network.decoder.embed(tokens, torch.arange(length).expand(2, -1)),
            torch.ones(length, length, dtype=torch.bool).tril().expand(2, -1, -1),
            torch.zeros(2, dtype=torch.int64),
            network.empty_cache(1, 0),
            network.empty_cache(2, length),
        )
    past, begin = None, 0
    for end in (17, 30, 31, 40):
        piece = ids[:, begin:end]
        found, past = runner.prefill(piece, np.full(2, end - begin), past=past)
        torch.testing.assert_close(found, hidden[:, end - 1], rtol=1e-4, atol=1e-4)
        begin = end


def test_one_bad_picture_does_not_spoil_the_next(engines: dict[str, Path]) -> None:
    files = EngineDirectory.verified(engines['onnxruntime-fp32'])
    case = Case(files, on_static_loop(files), EXACT)
    runner = case.both[0]
    bad = np.full_like(case.reference.pixels, np.nan)
    ids = case.reference.image_ids
    lengths = np.array([ids.shape[1]])
    _, prefix = runner.prefill(ids, lengths, images=[runner.vision(bad)])
    hidden, _ = runner.prefill(*case.prompts(2, 8, seed=1), prefix=prefix)
    assert np.isnan(runner.logits(hidden, 0, 9)).any()
    prefixes = case.look()
    case.step(np.array([5]), case.read(prefixes, *case.prompts(1, 3, seed=2), reserve=1))
