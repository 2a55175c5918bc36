"""Which tokens may come next in an answer, so that every ``<object>`` in it is well formed."""

from collections.abc import Sequence

import numpy as np

from kosmos_ros.engine.answering.box_search import POSSIBLE
from kosmos_ros.engine.base import Tokens
from kosmos_ros.model.boxes import CELLS
from kosmos_ros.model.vocabulary import Vocabulary

# Tokens of <object> UL LR </object>, and of </delimiter_of_multi_objects/> UL LR </object>.
_WHOLE = 4


class OutputConstraints:
    """``<object> UL LR (</delimiter_of_multi_objects/> UL LR)* </object>``, as the training data
    has it: the second corner neither above nor left of the first, nothing of it anywhere else,
    and none begun that could not be ended.
    """

    def __init__(self, vocabulary: Vocabulary, ngram: int) -> None:
        """Prepare the constraints of a vocabulary.

        :param ngram: no n-gram of this size comes twice, if another token is possible; 0: no such
            limit.
        """
        self._vocabulary = vocabulary
        self._ngram = ngram
        self._locations = vocabulary.first_location + np.arange(CELLS)
        # Beside what belongs into objects only: <s> and <pad>, which are never in a sequence.
        tags = (vocabulary.object_close, vocabulary.delimiter, vocabulary.bos, vocabulary.pad)
        elsewhere = np.concatenate([tags, self._locations])
        self._outside = np.setdiff1d(np.arange(vocabulary.size), elsewhere)
        self._outside_late = np.setdiff1d(self._outside, [vocabulary.object_open])

    def allowed(self, ids: Sequence[int], left: int) -> Tokens:
        """Return the tokens that may come next.

        :param ids: prompt and answer so far.
        :param left: tokens that the answer may still have, at least one.
        """
        legal = self._legal(ids[-2:], left)
        banned = repeating(ids, self._ngram)
        fresh: Tokens = legal[~np.isin(legal, banned)] if len(banned) else legal
        # A box may have to end with the token that has ended another one.
        return fresh if len(fresh) else legal

    def open_object(self, ids: Sequence[int]) -> int | None:
        """Return the index of the ``<object>`` that `ids` leave open; None when they do not."""
        for index in range(len(ids) - 1, -1, -1):
            if ids[index] == self._vocabulary.object_open:
                return index
            inside = self._vocabulary.location_cell(ids[index]) is not None
            if not inside and ids[index] != self._vocabulary.delimiter:
                return None
        return None

    def _legal(self, tail: Sequence[int], left: int) -> Tokens:
        vocabulary = self._vocabulary
        last = tail[-1]
        if last in (vocabulary.object_open, vocabulary.delimiter):
            return self._locations
        second = vocabulary.location_cell(last)
        if second is None:
            return self._outside if left >= _WHOLE else self._outside_late
        if vocabulary.location_cell(tail[0]) is None:
            return vocabulary.first_location + np.flatnonzero(POSSIBLE[second])
        ends = [vocabulary.object_close]
        return np.array([*ends, vocabulary.delimiter] if left >= _WHOLE else ends)


def repeating(ids: Sequence[int], ngram: int) -> Tokens:
    """Return the tokens that would complete an n-gram of size `ngram` that `ids` already have."""
    if not 0 < ngram <= len(ids):
        return np.empty(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(ids, np.int64), ngram)
    newest = np.asarray(ids[len(ids) - ngram + 1 :], np.int64)
    again: Tokens = windows[(windows[:, :-1] == newest).all(axis=1), -1]
    return again
