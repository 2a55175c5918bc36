"""The best-first search against brute force over all pairs of cells."""

import numpy as np
import pytest

from kosmos_ros.engine.answering.box_search import BoxSearch

CELLS = 1024


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def brute_force(upper: np.ndarray, lower: np.ndarray, top_k: int) -> list[tuple[int, int, float]]:
    joint = upper[:, None] * lower
    for a in range(CELLS):
        for_row = np.arange(CELLS) // 32 >= a // 32
        for_column = np.arange(CELLS) % 32 >= a % 32
        joint[a, ~(for_row & for_column)] = -1
    best = np.argsort(-joint, axis=None, kind='stable')[:top_k]
    return [(int(i // CELLS), int(i % CELLS), float(joint.flat[i])) for i in best]


def run(
    upper: np.ndarray, lower: np.ndarray, top_k: int, step: int
) -> tuple[list[tuple[int, int, float]], int]:
    search, opened = BoxSearch(upper, top_k), 0
    while len(cells := search.next_cells(step)):
        opened += len(cells)
        search.add(cells, lower[cells])
    return search.result(), opened


@pytest.mark.parametrize('sharpness', [0.01, 1.0, 4.0])
@pytest.mark.parametrize('top_k', [1, 5, 33])
def test_equals_brute_force(sharpness: float, top_k: int) -> None:
    rng = np.random.default_rng(top_k)
    upper = softmax(sharpness * rng.normal(size=CELLS))
    lower = softmax(sharpness * rng.normal(size=(CELLS, CELLS)))
    found, _ = run(upper, lower, top_k, step=8)
    expected = brute_force(upper, lower, top_k)
    assert [pair[:2] for pair in found] == [pair[:2] for pair in expected]
    assert [pair[2] for pair in found] == pytest.approx([pair[2] for pair in expected])


def test_a_certain_answer_opens_one_step_only() -> None:
    upper, lower = np.full(CELLS, 1e-6), np.full((CELLS, CELLS), 1e-6)
    upper[33] = lower[33, 99] = 1 - 1e-6 * (CELLS - 1)
    found, opened = run(upper, lower, top_k=1, step=8)
    assert found[0][:2] == (33, 99)
    assert opened == 8


def test_a_box_never_ends_before_it_begins() -> None:
    upper, lower = np.zeros(CELLS), np.zeros((CELLS, CELLS))
    upper[500] = 1.0
    lower[500, 499], lower[500, 501] = 0.9, 0.1
    (pair,), _ = run(upper, lower, top_k=1, step=8)
    assert pair == (500, 501, pytest.approx(0.1))
