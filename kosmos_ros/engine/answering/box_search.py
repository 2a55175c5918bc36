"""Best-first search for the most probable boxes.

P(box) = P(top-left) P(bottom-right | top-left) over 1024 x 1024 pairs of cells.  The first factor
is known for all cells after prefill; the second costs one decode row per top-left cell.  Top-left
cells are opened in falling order of their probability, and because P(box) <= P(top-left), the
search may stop at the first cell that is no more probable than the k-th best box found: the result
is the exact top k.
"""

import numpy as np
import numpy.typing as npt

from kosmos_ros.model.boxes import GRID

Probabilities = npt.NDArray[np.float64]
Cells = npt.NDArray[np.int64]

_row, _column = np.divmod(np.arange(GRID * GRID), GRID)
# A box's bottom-right corner lies in or behind the row and the column of its top-left corner.
POSSIBLE = (_row[None] >= _row[:, None]) & (_column[None] >= _column[:, None])


class BoxSearch:
    """The search for the boxes of one expression."""

    def __init__(self, upper_left: Probabilities, top_k: int) -> None:
        """Begin a search.

        :param upper_left: P(top-left), [1024].
        :param top_k: boxes wanted.
        """
        self._upper_left = upper_left
        self._order = np.argsort(-upper_left, kind='stable')
        self._opened = 0
        self._top_k = top_k
        self._scores: Probabilities = np.empty(0)
        self._pairs: Cells = np.empty((0, 2), np.int64)

    def next_cells(self, most: int) -> Cells:
        """Return the top-left cells to open now, at most `most`; none when the result is final."""
        cells = self._order[self._opened : self._opened + most]
        if len(self._scores) == self._top_k:
            cells = cells[self._upper_left[cells] > self._scores[-1]]
        self._opened += len(cells)
        return cells

    def add(self, upper_left_cells: Cells, lower_right: Probabilities) -> None:
        """Take the probabilities for cells that `next_cells` returned.

        :param upper_left_cells: [n].
        :param lower_right: P(bottom-right | top-left), [n,1024].
        """
        possible = POSSIBLE[upper_left_cells]
        row, cell = np.nonzero(possible)
        joint = (self._upper_left[upper_left_cells, None] * lower_right)[possible]
        scores = np.concatenate([self._scores, joint])
        pairs = np.concatenate([self._pairs, np.stack([upper_left_cells[row], cell], axis=1)])
        best = np.argsort(-scores, kind='stable')[: self._top_k]
        self._scores, self._pairs = scores[best], pairs[best]

    def result(self) -> list[tuple[int, int, float]]:
        """Return top-left cell, bottom-right cell and P(box) of the best boxes, best first."""
        return [
            (int(a), int(b), float(p)) for (a, b), p in zip(self._pairs, self._scores, strict=True)
        ]
