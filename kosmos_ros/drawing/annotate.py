"""Boxes and words on a picture, for people."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from kosmos_ros.model.boxes import Box

Colour = tuple[int, int, int]
Thing = TypeVar('Thing', bound=Hashable)

# Told apart by most eyes, and on wood, grey and grass alike (after Okabe and Ito, brightened).
PALETTE: tuple[Colour, ...] = (
    (255, 176, 0),
    (0, 190, 255),
    (0, 214, 143),
    (255, 92, 138),
    (180, 140, 255),
    (255, 241, 84),
    (255, 120, 40),
    (120, 230, 230),
    (255, 178, 214),
    (172, 226, 60),
    (112, 150, 255),
    (222, 184, 135),
)
DARK, LIGHT = (16, 18, 22), (255, 255, 255)
# Lines are drawn this many times larger and shrunk: Pillow itself draws without antialiasing.
_FINER = 4
_LONGEST_LABEL = 48


@dataclass(frozen=True, slots=True)
class Annotation:
    """A box with what it shows; `score` is left out of the label when None."""

    text: str
    box_in_image: Box
    score: float | None = None


def annotate(image: npt.NDArray[np.uint8], annotations: Sequence[Annotation]) -> Image.Image:
    """Draw boxes with labels; the same text has the same colour.

    :param image: RGB, uint8[height, width, 3]; it is not changed.
    """
    picture = Image.fromarray(image).convert('RGB')
    unit = _unit(picture)
    colours = colours_for([annotation.text for annotation in annotations])
    boxes = [_corners(annotation.box_in_image, picture.size) for annotation in annotations]
    # The first is the best one: it lies on top.
    for annotation in reversed(annotations):
        draw_box(picture, annotation.box_in_image, colours[annotation.text])
    taken: list[tuple[float, float, float, float]] = []
    for annotation, corners in zip(annotations, boxes, strict=True):
        _draw_label(picture, annotation, corners, colours[annotation.text], unit, taken)
    return picture


def colours_for(things: Sequence[Thing]) -> dict[Thing, Colour]:
    """A colour for each different thing, such as a text, in their order."""
    different = dict.fromkeys(things)
    return {thing: PALETTE[i % len(PALETTE)] for i, thing in enumerate(different)}


def _unit(picture: Image.Image) -> float:
    """In pixels: what all strokes are measured by."""
    return max(1.0, min(picture.size) / 240)


def _corners(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size
    inside = box.clipped()
    return inside.x0 * width, inside.y0 * height, inside.x1 * width, inside.y1 * height


def draw_box(picture: Image.Image, box_in_image: Box, colour: Colour) -> None:
    """A rounded frame with a dark rim, so that it stands out from any ground."""
    unit = _unit(picture)
    corners = x0, y0, x1, y1 = _corners(box_in_image, picture.size)
    line, rim = 1.6 * unit, 0.8 * unit
    margin = int(line + rim) + 2
    left, top = int(x0) - margin, int(y0) - margin
    size = (int(x1) + margin - left + 1, int(y1) + margin - top + 1)
    mask = Image.new('L', (size[0] * _FINER, size[1] * _FINER))
    frame = [(v - o) * _FINER for v, o in zip(corners, (left, top, left, top), strict=True)]
    for grow, width, colour_here in ((rim, line + 2 * rim, DARK), (0.0, line, colour)):
        draw = ImageDraw.Draw(mask)
        draw.rectangle((0, 0, *mask.size), fill=0)
        outer = [
            value + sign * grow * _FINER for value, sign in zip(frame, (-1, -1, 1, 1), strict=True)
        ]
        draw.rounded_rectangle(
            _in_order(outer),
            radius=3 * unit * _FINER,
            outline=255,
            width=max(1, round(width * _FINER)),
        )
        smooth = mask.resize(size, Image.Resampling.BOX)
        alpha = smooth if colour_here is colour else smooth.point(lambda v: v * 0.6)
        picture.paste(colour_here, (left, top), alpha)


def _in_order(corners: Sequence[float]) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = corners
    return x0, y0, max(x0, x1), max(y0, y1)


def _draw_label(
    picture: Image.Image,
    annotation: Annotation,
    corners: tuple[float, float, float, float],
    colour: Colour,
    unit: float,
    taken: list[tuple[float, float, float, float]],
) -> None:
    """A plate in the box's colour above it, below it or inside it, where there is still room."""
    font = load_font(max(11, round(7.5 * unit)))
    text = shortened(annotation.text, _LONGEST_LABEL)
    if annotation.score is not None:
        text += f'  {annotation.score:.2f}'
    pad_x, pad_y = 2.6 * unit, 1.6 * unit
    ascent, descent = font.getmetrics()
    width, height = font.getlength(text) + 2 * pad_x, ascent + descent + 2 * pad_y
    x = min(max(corners[0], 0.0), max(picture.width - width, 0.0))
    gap = 2.4 * unit
    for y in (corners[1] - height - gap, corners[3] + gap, corners[1] + gap, corners[3] - height):
        plate = (x, min(max(y, 0.0), max(picture.height - height, 0.0)), width, height)
        if plate[1] == y and not any(_touch(plate, other) for other in taken):
            break
    taken.append(plate)
    draw_plate(picture, plate, colour, 2 * unit)
    ImageDraw.Draw(picture).text(
        (plate[0] + pad_x, plate[1] + pad_y), text, fill=readable_on(colour), font=font
    )


def draw_plate(
    picture: Image.Image,
    plate: tuple[float, float, float, float],
    colour: Colour,
    radius: float,
    opacity: float = 0.94,
) -> None:
    """A rounded rectangle to write on.

    :param plate: x, y, width and height, in pixels.
    """
    x, y, width, height = plate
    size = (int(width) + 2, int(height) + 2)
    mask = Image.new('L', (size[0] * _FINER, size[1] * _FINER))
    dx, dy = (x - int(x)) * _FINER, (y - int(y)) * _FINER
    ImageDraw.Draw(mask).rounded_rectangle(
        (dx, dy, dx + width * _FINER, dy + height * _FINER),
        radius=radius * _FINER,
        fill=round(255 * opacity),
    )
    picture.paste(colour, (int(x), int(y)), mask.resize(size, Image.Resampling.BOX))


def _touch(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def readable_on(colour: Colour) -> Colour:
    """The colour of text on a ground."""
    r, g, b = colour
    return DARK if 0.299 * r + 0.587 * g + 0.114 * b > 110 else LIGHT


def shortened(text: str, longest: int) -> str:
    """One printable line of at most so many characters."""
    line = printable(text)
    return line if len(line) <= longest else line[: longest - 1] + '…'


def printable(text: str) -> str:
    """The text with a space for each character that has no shape; fonts refuse some of them."""
    return ''.join(c if c.isprintable() else ' ' for c in text)


@lru_cache(maxsize=8)
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """The font of all that is written on pictures; it has Latin letters."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError('this Pillow was built without FreeType and cannot draw labels')
    return font
