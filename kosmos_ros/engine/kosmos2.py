"""Referring expressions to boxes: the decode loop that every runner executes.

After ``<phrase>X</phrase><object>`` the grammar of the training data leaves no choice but two
location tokens.  So the answer is read from the location rows of the head alone, with one prefill
and as a rule one decode step, and it is the box that unconstrained greedy decoding gives whenever
that gives a well-formed one first.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from kosmos_ros.engine.answering.box_search import BoxSearch, Probabilities
from kosmos_ros.engine.answering.generate import Answering, Seen
from kosmos_ros.engine.base import (
    Draft,
    Floats,
    Image,
    ImageContext,
    Located,
    Tokens,
    Transcript,
)
from kosmos_ros.engine.runners.runner import KeyValues, Runner
from kosmos_ros.errors import BadExpression, EngineError
from kosmos_ros.limits import Limits
from kosmos_ros.model import prompts
from kosmos_ros.model.boxes import GRID, decode_box
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.expressions import check_expression, quoted
from kosmos_ros.model.preprocess import pixels_from_image
from kosmos_ros.model.tasks import Ask
from kosmos_ros.model.vocabulary import Vocabulary

# Expressions that share one prefill, and top-left cells that one expression opens in one decode
# step.
_MAX_ROWS = 16
_CELLS_PER_STEP = 8


class GroundingEngine:
    """A Kosmos-2 on some runner; satisfies `kosmos_ros.engine.base.Engine`."""

    def __init__(
        self,
        name: str,
        runner: Runner,
        vocabulary: Vocabulary,
        config: Kosmos2Config,
        limits: Limits | None = None,
        remarks: Sequence[str] = (),
    ) -> None:
        instead = ', a fallback' if remarks else ''
        self.name = f'{name} on {runner.name}{instead}'
        self.remarks = tuple(remarks)
        self._runner = runner
        self._vocabulary = vocabulary
        self._config = config
        self._limits = limits or Limits()
        self._answering = Answering(runner, vocabulary, config, self._limits)

    def check_expression(self, expression: str) -> None:
        """See `Engine.check_expression`."""
        self._prompt(expression)

    def encode_image(self, image: Image) -> ImageContext:
        """See `Engine.encode_image`."""
        pixels = pixels_from_image(image, self._config.vision.image_size)
        return ImageContext(Seen(self._runner.vision(pixels)))

    def locate(
        self, context: ImageContext, expressions: Sequence[str], top_k: int = 1
    ) -> list[tuple[Located, ...]]:
        """See `Engine.locate`.

        :raises BadExpression: before anything is computed, when one of the expressions cannot be
            asked.
        :raises EngineError: when the network gives something that is not a number.
        """
        asked = [self._prompt(expression) for expression in expressions]
        answers: list[tuple[Located, ...]] = []
        prefix = self._answering.prefix(_seen(context))
        for begin in range(0, len(asked), _MAX_ROWS):
            answers += self._locate(prefix, asked[begin : begin + _MAX_ROWS], top_k)
        return answers

    def check_ask(self, ask: Ask, past: Transcript | None = None) -> None:
        """See `Engine.check_ask`."""
        self._answering.check(ask, past)

    def ask(
        self, ask: Ask, contexts: Sequence[ImageContext], past: Transcript | None = None
    ) -> Iterator[Draft]:
        """See `Engine.ask`.

        :raises BadExpression: before anything is computed.
        :raises EngineError: when the network gives something that is not a number.
        """
        return self._answering.answer(ask, [_seen(context) for context in contexts], past)

    def close(self) -> None:
        """See `Engine.close`."""
        self._runner.close()

    def _locate(
        self, prefix: KeyValues, asked: Sequence[list[int]], top_k: int
    ) -> list[tuple[Located, ...]]:
        ids, lengths = _pad(asked, self._vocabulary.pad)
        hidden, past = self._runner.prefill(ids, lengths, prefix=prefix, room=1)
        searches = [BoxSearch(row, top_k) for row in self._cell_probabilities(hidden)]
        while True:
            steps = [search.next_cells(_CELLS_PER_STEP) for search in searches]
            cells = np.concatenate(steps)
            if not len(cells):
                return [_located(search) for search in searches]
            rows = np.repeat(np.arange(len(steps)), [len(step) for step in steps])
            hidden, _ = self._runner.decode(
                self._vocabulary.first_location + cells, past.select(rows)
            )
            probabilities = self._cell_probabilities(hidden)
            for row, search in enumerate(searches):
                search.add(cells[rows == row], probabilities[rows == row])

    def _cell_probabilities(self, hidden: object) -> Probabilities:  # [B,1024]
        first = self._vocabulary.first_location
        logits: Floats = self._runner.logits(hidden, first, first + GRID * GRID)
        if not np.isfinite(logits).all():
            raise EngineError(
                f'{self.name} gave scores that are not numbers; check it with '
                '`kosmos_ros engine verify`'
            )
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        weights: Probabilities = np.exp(shifted)
        probabilities: Probabilities = weights / weights.sum(axis=1, keepdims=True)
        return probabilities

    def _prompt(self, expression: str) -> list[int]:
        text = check_expression(expression, self._limits)
        if unknown := self._vocabulary.unknown_words(text):
            words = ', '.join(quoted(word) for word in unknown)
            raise BadExpression(f'The model does not know {words}; use other words.')
        ids = prompts.refer_prompt(self._vocabulary, text)
        if len(ids) > self._limits.max_expression_tokens:
            raise BadExpression(
                f'The expression has {len(ids)} tokens; shorten it to '
                f'{self._limits.max_expression_tokens} or fewer.'
            )
        return ids


def _located(search: BoxSearch) -> tuple[Located, ...]:
    return tuple(
        Located(decode_box(upper, lower), score) for upper, lower, score in search.result()
    )


def _seen(context: ImageContext) -> Seen:
    if not isinstance(context.seen, Seen):
        raise TypeError('this context was made by another engine')
    return context.seen


def _pad(rows: Sequence[list[int]], pad: int) -> tuple[Tokens, Tokens]:
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.full((len(rows), lengths.max()), pad, np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
    return ids, lengths
