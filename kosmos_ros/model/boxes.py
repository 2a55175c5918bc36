"""Location tokens and boxes.

The image is a grid of 32 x 32 cells.  Cell ``row * 32 + column`` has one location token.  A box is
written as two tokens: the cell of its top-left corner and the cell of its bottom-right corner.
"""

from dataclasses import dataclass
import math

GRID = 32
CELLS = GRID * GRID
# The official encoder limits coordinates to this value, so that 1.0 falls into the last cell.
_MAX_COORDINATE = 0.99999


@dataclass(frozen=True, slots=True)
class Box:
    """A box in fractions of the image's width (x) and height (y), from its top-left corner."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        """Return the width as a fraction of the image's width."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Return the height as a fraction of the image's height."""
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        """Return the fraction of the image's area; 0 if the corners are in the wrong order."""
        return max(self.width, 0.0) * max(self.height, 0.0)

    @property
    def is_valid(self) -> bool:
        """Return whether the box is inside the image with corners in order (False for NaN)."""
        return 0 <= self.x0 < self.x1 <= 1 and 0 <= self.y0 < self.y1 <= 1

    @classmethod
    def from_pixels(
        cls, corners_px: tuple[float, float, float, float], width: int, height: int
    ) -> 'Box':
        """Convert corners x0, y0, x1, y1 in pixels of an image of `width` x `height` pixels."""
        x0, y0, x1, y1 = corners_px
        return cls(x0 / width, y0 / height, x1 / width, y1 / height)

    def iou(self, other: 'Box') -> float:
        """Return the intersection over union, 0 to 1; 0 when neither box has an area."""
        shared = Box(
            max(self.x0, other.x0),
            max(self.y0, other.y0),
            min(self.x1, other.x1),
            min(self.y1, other.y1),
        ).area
        union = self.area + other.area - shared
        return shared / union if union > 0 else 0.0

    def clipped(self) -> 'Box':
        """Return the part inside the image; a box outside becomes an empty box on the edge."""
        return Box(*(min(max(value, 0.0), 1.0) for value in (self.x0, self.y0, self.x1, self.y1)))


def encode_box(box: Box) -> tuple[int, int]:
    """Return the cells of a box's top-left and bottom-right corners.

    As in training, both corners are rounded down, and a box that crosses the image's edges is
    clipped (microsoft/unilm, kosmos-2 obj_utils.py).  ``transformers`` instead uses the cell
    before the second corner rounded up, which differs where a corner lies on a grid line.

    :raises ValueError: when a corner is not finite, the box has no area, or it lies wholly outside
        the image.
    """
    corners = (box.x0, box.y0, box.x1, box.y1)
    if not all(math.isfinite(corner) for corner in corners):
        raise ValueError(f'{box} has a corner that is not a finite number')
    if not (box.x0 < box.x1 and box.y0 < box.y1):
        raise ValueError(
            f'{box} has no area: its second corner must lie right of and below the first'
        )
    if not (box.x0 < 1 and box.y0 < 1 and box.x1 > 0 and box.y1 > 0):
        raise ValueError(f'{box} lies outside the image')
    column0, row0, column1, row1 = (
        int(min(max(corner, 0.0), _MAX_COORDINATE) * GRID) for corner in corners
    )
    return row0 * GRID + column0, row1 * GRID + column1


def decode_box(upper_left: int, lower_right: int) -> Box:
    """Return the box that two cells describe.

    As published, the corners are the centres of their cells.  If both cells are in one row or one
    column, the box extends to the outer edges of its cells in both directions (microsoft/unilm,
    kosmos-2/demo/decode_string.py).  Corners in the wrong order are not swapped: such a box is
    not ``Box.is_valid``.

    :raises ValueError: when a cell is not in 0..1023.
    """
    for cell in (upper_left, lower_right):
        if not 0 <= cell < CELLS:
            raise ValueError(f'there is no cell {cell}; cells are 0 to {CELLS - 1}')
    row0, column0 = divmod(upper_left, GRID)
    row1, column1 = divmod(lower_right, GRID)
    # The results are exact, because 32 is a power of two.
    first, last = (0.0, 1.0) if row0 == row1 or column0 == column1 else (0.5, 0.5)
    return Box(
        (column0 + first) / GRID,
        (row0 + first) / GRID,
        (column1 + last) / GRID,
        (row1 + last) / GRID,
    )
