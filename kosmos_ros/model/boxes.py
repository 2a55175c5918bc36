"""Location tokens and boxes.

The image is a grid of 32 x 32 cells; cell ``row * 32 + column`` is one location token.  A box is
two of them, that of its top-left and that of its bottom-right corner.
"""

from dataclasses import dataclass
import math

GRID = 32
CELLS = GRID * GRID
# The official encoder's stand-in for the right and bottom edge, so that 1.0 falls into the last
# cell.
_LAST = 0.99999


@dataclass(frozen=True, slots=True)
class Box:
    """Corners as shares of the image's width (x) and height (y), from its top-left edge."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        """Share of the image's width."""
        return self.x1 - self.x0

    @property
    def height(self) -> float:
        """Share of the image's height."""
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        """Share of the image's area; 0 for a box whose corners are in the wrong order."""
        return max(self.width, 0.0) * max(self.height, 0.0)

    @property
    def is_valid(self) -> bool:
        """Whether the box lies inside the image and its corners are in order (False for NaN)."""
        return 0 <= self.x0 < self.x1 <= 1 and 0 <= self.y0 < self.y1 <= 1

    @classmethod
    def from_pixels(
        cls, corners_px: tuple[float, float, float, float], width: int, height: int
    ) -> 'Box':
        """Corners x0, y0, x1, y1 in pixels of an image `width` x `height`, as shares of it."""
        x0, y0, x1, y1 = corners_px
        return cls(x0 / width, y0 / height, x1 / width, y1 / height)

    def iou(self, other: 'Box') -> float:
        """Intersection over union, 0 to 1; 0 when neither has an area."""
        shared = Box(
            max(self.x0, other.x0),
            max(self.y0, other.y0),
            min(self.x1, other.x1),
            min(self.y1, other.y1),
        ).area
        union = self.area + other.area - shared
        return shared / union if union > 0 else 0.0

    def clipped(self) -> 'Box':
        """The part inside the image; a box wholly outside becomes one without area on the edge."""
        return Box(*(min(max(value, 0.0), 1.0) for value in (self.x0, self.y0, self.x1, self.y1)))


def encode_box(box: Box) -> tuple[int, int]:
    """The cells of a box's top-left and bottom-right corner.

    As in training: both corners are rounded down, and what reaches over the image's edges is cut
    off (microsoft/unilm, kosmos-2 obj_utils.py).  ``transformers`` rounds the second corner up
    less one, which differs where a corner lies exactly on a grid line.

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
    column0, row0, column1, row1 = (int(min(max(corner, 0.0), _LAST) * GRID) for corner in corners)
    return row0 * GRID + column0, row1 * GRID + column1


def decode_box(upper_left: int, lower_right: int) -> Box:
    """The box that two cells stand for.

    As published: corners are the middles of their cells, unless both lie in one row or one column;
    then the box reaches to the outer edges of its cells in both directions (microsoft/unilm,
    kosmos-2/demo/decode_string.py).  Corners in the wrong order are returned as they come;
    ``Box.is_valid`` tells.

    :raises ValueError: when a cell is not 0..1023.
    """
    for cell in (upper_left, lower_right):
        if not 0 <= cell < CELLS:
            raise ValueError(f'there is no cell {cell}; cells are 0 to {CELLS - 1}')
    row0, column0 = divmod(upper_left, GRID)
    row1, column1 = divmod(lower_right, GRID)
    # 32 is a power of two: these are exact.
    first, last = (0.0, 1.0) if row0 == row1 or column0 == column1 else (0.5, 0.5)
    return Box(
        (column0 + first) / GRID,
        (row0 + first) / GRID,
        (column1 + last) / GRID,
        (row1 + last) / GRID,
    )
