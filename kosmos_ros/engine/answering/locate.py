"""Referring expressions to boxes: the loop that every runner executes.

After ``<phrase>X</phrase><object>`` the training data leaves no choice but two location tokens.
So the answer is read from the location rows of the head alone, with one prefill and as a rule one
decode step, and it is the box that unconstrained greedy decoding gives whenever that gives a
well-formed one first.
"""

from collections.abc import Sequence

import numpy as np

from kosmos_ros.engine.answering.box_search import BoxSearch, Probabilities
from kosmos_ros.engine.base import Floats, ScoredBox, Tokens
from kosmos_ros.engine.runners.runner import KeyValues, Runner
from kosmos_ros.errors import EngineError
from kosmos_ros.model.boxes import CELLS, decode_box
from kosmos_ros.model.vocabulary import Vocabulary

# Expressions that share one prefill, and top-left cells that one expression opens in one decode
# step.
_MAX_ROWS = 16
_CELLS_PER_STEP = 8


class BoxLocator:
    """Finds the most probable boxes for prompts that end with ``<object>``."""

    def __init__(self, runner: Runner, vocabulary: Vocabulary) -> None:
        self._runner = runner
        self._pad = vocabulary.pad
        self._first_location = vocabulary.first_location

    def locate(
        self, prefix: KeyValues, prompts: Sequence[list[int]], top_k: int
    ) -> list[tuple[ScoredBox, ...]]:
        """Return the `top_k` most probable boxes for each prompt, best first.

        :param prefix: the image that all prompts are about.
        :raises EngineError: when the network gives something that is not a number.
        """
        answers: list[tuple[ScoredBox, ...]] = []
        for begin in range(0, len(prompts), _MAX_ROWS):
            answers += self._locate_rows(prefix, prompts[begin : begin + _MAX_ROWS], top_k)
        return answers

    def _locate_rows(
        self, prefix: KeyValues, prompts: Sequence[list[int]], top_k: int
    ) -> list[tuple[ScoredBox, ...]]:
        ids, lengths = _padded(prompts, self._pad)
        hidden, past = self._runner.prefill(ids, lengths, prefix=prefix, reserve=1)
        searches = [BoxSearch(row, top_k) for row in self._cell_probabilities(hidden)]
        while True:
            steps = [search.next_cells(_CELLS_PER_STEP) for search in searches]
            cells = np.concatenate(steps)
            if not len(cells):
                return [_boxes_of(search) for search in searches]
            rows = np.repeat(np.arange(len(steps)), [len(step) for step in steps])
            hidden, _ = self._runner.decode(self._first_location + cells, past.select(rows))
            probabilities = self._cell_probabilities(hidden)
            for row, search in enumerate(searches):
                search.add(cells[rows == row], probabilities[rows == row])

    def _cell_probabilities(self, hidden: object) -> Probabilities:  # [B,1024]
        first = self._first_location
        logits: Floats = self._runner.logits(hidden, first, first + CELLS)
        check_logits(logits, self._runner.name)
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        weights: Probabilities = np.exp(shifted)
        probabilities: Probabilities = weights / weights.sum(axis=1, keepdims=True)
        return probabilities


def check_logits(logits: Floats, runner: str) -> None:
    """Refuse logits that are not finite.

    :param runner: its name.
    :raises EngineError: when one is NaN or infinite.
    """
    if not np.isfinite(logits).all():
        raise EngineError(
            f'{runner} gave scores that are not numbers; check it with `kosmos_ros engine verify`'
        )


def _boxes_of(search: BoxSearch) -> tuple[ScoredBox, ...]:
    return tuple(
        ScoredBox(decode_box(upper_left, lower_right), score)
        for upper_left, lower_right, score in search.result()
    )


def _padded(rows: Sequence[list[int]], pad: int) -> tuple[Tokens, Tokens]:
    """Return rows as one array of ids, right-padded, and their lengths."""
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.full((len(rows), lengths.max()), pad, np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
    return ids, lengths
