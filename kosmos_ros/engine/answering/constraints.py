"""What may follow in an answer, so that every ``<object>`` in it is a well-formed one."""

from collections.abc import Sequence

import numpy as np

from kosmos_ros.engine.answering.box_search import POSSIBLE
from kosmos_ros.engine.base import Tokens
from kosmos_ros.model.boxes import CELLS
from kosmos_ros.model.vocabulary import Vocabulary

# Tokens of <object> UL LR </object>, and of </delimiter_of_multi_objects/> UL LR </object>.
_WHOLE = 4


class Grammar:
    """``<object> UL LR (</delimiter_of_multi_objects/> UL LR)* </object>``, as the training data
    has it: the second corner neither above nor left of the first, nothing of it anywhere else,
    and none begun that could not be ended.
    """

    def __init__(self, vocabulary: Vocabulary, ngram: int) -> None:
        """Take the vocabulary of the answers.

        :param ngram: no sequence of so many tokens comes twice, if anything else may come; 0: any
            may.
        """
        self._vocabulary = vocabulary
        self._ngram = ngram
        self._places = vocabulary.first_location + np.arange(CELLS)
        # Beside what has its place in objects only: <s> and <pad>, which are never in a sequence.
        tags = (vocabulary.object_close, vocabulary.delimiter, vocabulary.bos, vocabulary.pad)
        elsewhere = np.concatenate([tags, self._places])
        self._outside = np.setdiff1d(np.arange(vocabulary.size), elsewhere)
        self._outside_late = np.setdiff1d(self._outside, [vocabulary.object_open])

    def allowed(self, ids: Sequence[int], left: int) -> Tokens:
        """The tokens that may come next.

        :param ids: prompt and answer so far.
        :param left: tokens that may still come, at least one.
        """
        legal = self._legal(ids[-2:], left)
        banned = repeating(ids, self._ngram)
        fresh: Tokens = legal[~np.isin(legal, banned)] if len(banned) else legal
        # A box may have to be ended by what has ended another.
        return fresh if len(fresh) else legal

    def open_object(self, ids: Sequence[int]) -> int | None:
        """Where the ``<object>`` stands that `ids` end in the middle of; None when they do not."""
        for place in range(len(ids) - 1, -1, -1):
            if ids[place] == self._vocabulary.object_open:
                return place
            inside = self._vocabulary.location_cell(ids[place]) is not None
            if not inside and ids[place] != self._vocabulary.delimiter:
                return None
        return None

    def _legal(self, tail: Sequence[int], left: int) -> Tokens:
        vocabulary = self._vocabulary
        last = tail[-1]
        if last in (vocabulary.object_open, vocabulary.delimiter):
            return self._places
        second = vocabulary.location_cell(last)
        if second is None:
            return self._outside if left >= _WHOLE else self._outside_late
        if vocabulary.location_cell(tail[0]) is None:
            return vocabulary.first_location + np.flatnonzero(POSSIBLE[second])
        ends = [vocabulary.object_close]
        return np.array([*ends, vocabulary.delimiter] if left >= _WHOLE else ends)


def repeating(ids: Sequence[int], ngram: int) -> Tokens:
    """The tokens that would make the last `ngram` ones a sequence that was there before."""
    if not 0 < ngram <= len(ids):
        return np.empty(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(ids, np.int64), ngram)
    newest = np.asarray(ids[len(ids) - ngram + 1 :], np.int64)
    again: Tokens = windows[(windows[:, :-1] == newest).all(axis=1), -1]
    return again
