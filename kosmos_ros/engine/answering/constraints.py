"""Which tokens may come next in an answer, so that every ``<object>`` in it is well formed."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kosmos_ros.engine.answering.box_search import POSSIBLE
from kosmos_ros.engine.base import Tokens
from kosmos_ros.model.boxes import CELLS
from kosmos_ros.model.vocabulary import Vocabulary

Mask = npt.NDArray[np.bool_]

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
        first = vocabulary.first_location
        self._locations = slice(first, first + CELLS)
        # Beside what belongs into objects only: <s> and <pad>, which are never in a sequence.
        self._outside = np.ones(vocabulary.size, np.bool_)
        self._outside[[vocabulary.bos, vocabulary.pad]] = False
        self._outside[[vocabulary.object_close, vocabulary.delimiter]] = False
        self._outside[self._locations] = False
        self._outside_late = self._outside.copy()
        self._outside_late[vocabulary.object_open] = False

    def allowed(self, ids: Sequence[int], left: int) -> Mask:
        """Return which tokens may come next, bool[V]; it is not to be changed.

        :param ids: prompt and answer so far.
        :param left: tokens that the answer may still have, at least one.
        """
        legal = self._legal(ids[-2:], left)
        fresh = legal.copy()
        fresh[repeating(ids, self._ngram)] = False
        # A box may have to end with the token that has ended another one.
        return fresh if fresh.any() else legal

    def open_object(self, ids: Sequence[int]) -> int | None:
        """Return the index of the ``<object>`` that `ids` leave open; None when they do not."""
        for index in range(len(ids) - 1, -1, -1):
            if ids[index] == self._vocabulary.object_open:
                return index
            inside = self._vocabulary.location_cell(ids[index]) is not None
            if not inside and ids[index] != self._vocabulary.delimiter:
                return None
        return None

    def _legal(self, tail: Sequence[int], left: int) -> Mask:
        vocabulary = self._vocabulary
        last = tail[-1]
        second = vocabulary.location_cell(last)
        legal = np.zeros(vocabulary.size, np.bool_)
        if last in (vocabulary.object_open, vocabulary.delimiter):
            legal[self._locations] = True
        elif second is None:
            return self._outside if left >= _WHOLE else self._outside_late
        elif vocabulary.location_cell(tail[0]) is None:
            legal[self._locations] = POSSIBLE[second]
        else:
            legal[vocabulary.object_close] = True
            legal[vocabulary.delimiter] = left >= _WHOLE
        return legal


def repeating(ids: Sequence[int], ngram: int) -> Tokens:
    """Return the tokens that would complete an n-gram of size `ngram` that `ids` already have."""
    if not 0 < ngram <= len(ids):
        return np.empty(0, np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(ids, np.int64), ngram)
    newest = np.asarray(ids[len(ids) - ngram + 1 :], np.int64)
    again: Tokens = windows[(windows[:, :-1] == newest).all(axis=1), -1]
    return again
