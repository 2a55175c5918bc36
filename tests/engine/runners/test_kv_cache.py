"""Prompts in pieces, answers of many steps, and conversations that go on: all runners and graphs
against the PyTorch reference.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.cases import EXACT, Case, on_static_loop, talk
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.directory.recipe import Shape
from kosmos_ros.errors import EngineError


def in_one_piece(case: Case, prefixes: list[Any] | None, *prompt: Any, **options: Any) -> Any:
    """What the reference makes of it."""
    prefix = prefixes[1] if prefixes else None
    hidden, past = case.both[1].prefill(*prompt, prefix=prefix, **options)
    return hidden, past


@pytest.mark.parametrize('with_picture', [True, False])
def test_ragged_pieces_are_one_prompt(case: Case, with_picture: bool) -> None:
    prefixes = case.look() if with_picture else None
    pieces = [case.prompts(4, tokens, seed=tokens) for tokens in (9, 16, 1, 5)]
    rows = [
        np.concatenate([ids[row, : lengths[row]] for ids, lengths in pieces]) for row in range(4)
    ]
    total = np.array([len(row) for row in rows])
    whole = np.zeros((4, total.max()), np.int64)
    for index, row in enumerate(rows):
        whole[index, : len(row)] = row
    pasts = None
    for ids, lengths in pieces:
        read = [
            one.prefill(
                ids,
                lengths,
                prefix=prefixes[index] if prefixes and not pasts else None,
                past=pasts[index] if pasts else None,
                reserve=2,
            )
            for index, one in enumerate(case.both)
        ]
        pasts = [past for _, past in read]
    hidden, past = in_one_piece(case, prefixes, whole, total, reserve=2)
    case.same([read[0][0], hidden])
    for step in range(2):
        pasts = case.step(case.first + np.arange(4) + step, [pasts[0], past])
        past = pasts[1]


def test_pictures_in_later_pieces(case: Case) -> None:
    prefixes, images = case.look(), [case.see(), case.see(flipped=True)]
    text, _ = case.prompts(1, 30, seed=3)
    picture = case.reference.image_ids
    whole = np.hstack([text[:, :11], picture, text[:, 11:24], picture, text[:, 24:]])
    hidden, past = in_one_piece(
        case,
        prefixes,
        whole,
        np.array([whole.shape[1]]),
        images=[image[1] for image in images],
    )
    first, second = 11 + picture.shape[1], 24 + 2 * picture.shape[1]
    pasts = case.read(prefixes, whole[:, :5], np.array([5]))
    for begin, end, shown in ((5, first, images[:1]), (first, first + 10, [])):
        piece = whole[:, begin:end]
        pasts = case.read(None, piece, np.array([end - begin]), pasts=pasts, images=shown)
    piece = whole[:, first + 10 : second]
    pasts = case.read(None, piece, np.array([piece.shape[1]]), pasts=pasts, images=images[1:])
    piece = whole[:, second:]
    read = case.both[0].prefill(piece, np.array([piece.shape[1]]), past=pasts[0], reserve=1)
    case.same([read[0], hidden])
    case.step(np.array([7]), [read[1], past])


def test_there_is_room_for_more_than_was_asked_for(case: Case) -> None:
    prefixes = case.look()
    pasts = case.read(prefixes, *case.prompts(1, 9, seed=6))
    rng = np.random.default_rng(7)
    for _ in range(90):
        pasts = case.step(rng.integers(4, case.files.vocabulary.size, 1), pasts)


@pytest.mark.parametrize('rows', [4, 5])
def test_beams(case: Case, rows: int) -> None:
    """With more of them than the longer shapes have rows, too."""
    pasts = case.select(case.fill(case.look(), 1, 20), [0] * rows)
    rng = np.random.default_rng(rows)
    for _ in range(40):
        pasts = case.step(rng.integers(4, case.files.vocabulary.size, rows), pasts)
        pasts = case.select(pasts, rng.integers(0, rows, rows))


def test_others_ask_between_any_two_steps(case: Case) -> None:
    talk(case)


def test_what_was_kept_goes_on_after_other_conversations(case: Case) -> None:
    first, second = case.look(), case.look(flipped=True)
    kept = [
        case.fill(prefixes, 1, 30 + 9 * index)
        for index, prefixes in enumerate((first, second, None))
    ]
    for turn in range(3):
        for index in (2, 0, 1):
            pasts = case.read(None, *case.prompts(1, 5, seed=turn), reserve=4, pasts=kept[index])
            for token in range(4):
                pasts = case.step(np.array([5 + token]), pasts)
            kept[index] = pasts
        case.refer(second, seed=turn)


def test_bytes_are_those_of_the_rows(case: Case) -> None:
    pasts = case.fill(case.look(), 1, 20)
    text = case.files.config.text
    wide = 2 if case.files.recipe.activations == 'fp16' else 4
    token = 2 * text.layers * text.embed_dim * wide
    kept, copies = pasts[0], pasts[0].select(np.zeros(3, np.int64))
    assert kept.nbytes >= 20 * token
    assert copies.nbytes == 3 * kept.nbytes
    if case.files.recipe.runner == 'tensorrt':
        assert kept.nbytes < 2 * 20 * token


def test_a_prefix_and_a_past_are_too_much(case: Case) -> None:
    prefixes = case.look()
    pasts = case.read(prefixes, *case.prompts(1, 3, seed=1))
    for one, prefix, past in zip(case.both, prefixes, pasts, strict=True):
        with pytest.raises(ValueError, match='cannot be given both'):
            one.prefill(*case.prompts(1, 3, seed=1), prefix=prefix, past=past)


def test_what_runners_can_read(case: Case) -> None:
    free = case.files.config.text.max_position_embeddings
    for one in case.both:
        static = hasattr(one, '_recipe')
        assert (one.chunk, one.capacity) == ((24, 112) if static else (256, free))


def test_more_than_there_is_room_for(case: Case) -> None:
    prefixes = case.look()
    shared = case.reference.image_ids.shape[1]
    for one, prefix in zip(case.both, prefixes, strict=True):
        static = hasattr(one, '_recipe')
        most = 112 if static else 128 - shared
        _, past = one.prefill(*case.prompts(1, 20, seed=0), prefix=prefix)
        while most - 20 - 23 > 0 and past.lengths[0] + 20 < most:
            _, past = one.prefill(*case.prompts(1, 20, seed=0), past=past)
        left = most - int(past.lengths[0])
        message = f'{most if static else 128} .*{(most if static else 128) + 1}'
        with pytest.raises(EngineError, match=message):
            one.prefill(*case.prompts(1, left + 1, seed=0), past=past)
        _, past = one.prefill(*case.prompts(1, left, seed=0), past=past)
        with pytest.raises(EngineError, match=message):
            one.decode(np.array([5]), past)


def test_the_static_loop_says_early_that_there_will_be_no_room(engines: dict[str, Path]) -> None:
    files = EngineDirectory.verified(engines['onnxruntime-fp32'])
    runner = on_static_loop(files)
    with pytest.raises(EngineError, match='slots for 112 tokens .* not 113; build it by a recipe'):
        runner.prefill(np.full((1, 3), 5), np.array([3]), reserve=110)
    with pytest.raises(EngineError, match='reads 24 tokens at once, not 25; build it by a recipe'):
        runner.prefill(np.full((1, 25), 5), np.array([25]))


def test_the_cheapest_shape_that_fits(
    engines: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = EngineDirectory.verified(engines['onnxruntime-fp32'])
    runner = on_static_loop(files)
    ran: list[Shape] = []
    run = runner._run

    def watched(shape: Shape, *rest: Any) -> Any:
        ran.append(shape)
        return run(shape, *rest)

    monkeypatch.setattr(runner, '_run', watched)
    case = Case(files, runner, EXACT)
    for rows, tokens, before, shapes in [
        (1, 5, 0, [(1, 8, 32)]),
        (1, 1, 24, [(1, 1, 32)]),
        (1, 8, 24, [(1, 8, 32)]),
        (1, 9, 24, [(1, 24, 112)]),
        (1, 8, 32, [(1, 8, 112)]),
        (1, 1, 32, [(1, 1, 112)]),
        (3, 1, 24, [(4, 1, 32)]),
        (3, 1, 32, [(4, 1, 88)]),
        (3, 2, 32, [(1, 8, 112)] * 3),
        (5, 1, 24, [(8, 1, 32)]),
        (5, 1, 32, [(4, 1, 88), (1, 1, 112)]),
        (6, 12, 0, [(4, 16, 32)] * 2),
    ]:
        pasts = case.fill(None, rows, before) if before else None
        ran.clear()
        case.read(None, np.full((rows, tokens), 9), np.full(rows, tokens), pasts=pasts)
        assert ran == shapes, (rows, tokens, before)


def test_nothing_is_copied_while_nobody_else_asks(
    engines: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = EngineDirectory.verified(engines['onnxruntime-fp32'])
    runner = on_static_loop(files)
    case = Case(files, runner, EXACT)
    prefixes = case.look()
    pasts = case.fill(prefixes, 1, 40)
    cache = runner._arena.past(1, 112)
    assert pasts[0].tensor.data_ptr() == cache.data_ptr()
    pasts = case.step(np.array([5]), pasts)
    assert pasts[0].tensor.data_ptr() == cache.data_ptr()
    before = pasts[0].nbytes
    case.refer(prefixes, seed=1)
    assert pasts[0].tensor.data_ptr() != cache.data_ptr()
    assert pasts[0].nbytes == before == pasts[0].tensor.nbytes
    pasts = case.step(np.array([6]), pasts)
    assert pasts[0].tensor.data_ptr() == cache.data_ptr()
