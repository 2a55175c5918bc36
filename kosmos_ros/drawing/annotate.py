"""Boxes with labels on an image."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from kosmos_ros.model.boxes import Box

Colour = tuple[int, int, int]
Key = TypeVar('Key', bound=Hashable)

# Most people can distinguish these colours, on wood, grey and grass (after Okabe and Ito,
# brightened).
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
# Lines are drawn this many times larger and then reduced, because Pillow draws without
# antialiasing.
_SUPERSAMPLING = 4
_MAX_LABEL_CHARS = 48


@dataclass(frozen=True, slots=True)
class Annotation:
    """A box with the text of its label; the label shows `score` unless it is None."""

    text: str
    box_in_image: Box
    score: float | None = None


def annotate(image: npt.NDArray[np.uint8], annotations: Sequence[Annotation]) -> Image.Image:
    """Draw boxes with labels on a copy of an image; equal texts have equal colours.

    :param image: RGB, uint8[height, width, 3]; it is not changed.
    """
    picture = Image.fromarray(image).convert('RGB')
    unit = _unit(picture)
    colours = colours_for([annotation.text for annotation in annotations])
    boxes = [_corners(annotation.box_in_image, picture.size) for annotation in annotations]
    # The first annotation is the best one, so it is drawn last and covers the others.
    for annotation in reversed(annotations):
        draw_box(picture, annotation.box_in_image, colours[annotation.text])
    taken: list[tuple[float, float, float, float]] = []
    for annotation, corners in zip(annotations, boxes, strict=True):
        _draw_label(picture, annotation, corners, colours[annotation.text], unit, taken)
    return picture


def colours_for(keys: Sequence[Key]) -> dict[Key, Colour]:
    """Assign a colour to each distinct key, in their order."""
    different = dict.fromkeys(keys)
    return {key: PALETTE[i % len(PALETTE)] for i, key in enumerate(different)}


def _unit(picture: Image.Image) -> float:
    """Return the base length for strokes and margins, in pixels."""
    return max(1.0, min(picture.size) / 240)


def _corners(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size
    inside = box.clipped()
    return inside.x0 * width, inside.y0 * height, inside.x1 * width, inside.y1 * height


def draw_box(picture: Image.Image, box_in_image: Box, colour: Colour) -> None:
    """Draw a rounded frame with a dark rim, which makes it visible on any background."""
    unit = _unit(picture)
    corners = x0, y0, x1, y1 = _corners(box_in_image, picture.size)
    line, rim = 1.6 * unit, 0.8 * unit
    margin = int(line + rim) + 2
    left, top = int(x0) - margin, int(y0) - margin
    size = (int(x1) + margin - left + 1, int(y1) + margin - top + 1)
    mask = Image.new('L', (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING))
    frame = [
        (v - o) * _SUPERSAMPLING for v, o in zip(corners, (left, top, left, top), strict=True)
    ]
    for grow, width, stroke_colour in ((rim, line + 2 * rim, DARK), (0.0, line, colour)):
        draw = ImageDraw.Draw(mask)
        draw.rectangle((0, 0, *mask.size), fill=0)
        outer = [
            value + sign * grow * _SUPERSAMPLING
            for value, sign in zip(frame, (-1, -1, 1, 1), strict=True)
        ]
        draw.rounded_rectangle(
            _in_order(outer),
            radius=3 * unit * _SUPERSAMPLING,
            outline=255,
            width=max(1, round(width * _SUPERSAMPLING)),
        )
        smooth = mask.resize(size, Image.Resampling.BOX)
        alpha = smooth if stroke_colour is colour else smooth.point(lambda v: v * 0.6)
        picture.paste(stroke_colour, (left, top), alpha)


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
    """Draw a label above, below or inside its box, where it overlaps no other label."""
    font = load_font(max(11, round(7.5 * unit)))
    text = shortened(annotation.text, _MAX_LABEL_CHARS)
    if annotation.score is not None:
        text += f'  {annotation.score:.2f}'
    pad_x, pad_y = 2.6 * unit, 1.6 * unit
    ascent, descent = font.getmetrics()
    width, height = font.getlength(text) + 2 * pad_x, ascent + descent + 2 * pad_y
    x = min(max(corners[0], 0.0), max(picture.width - width, 0.0))
    gap = 2.4 * unit
    for y in (corners[1] - height - gap, corners[3] + gap, corners[1] + gap, corners[3] - height):
        plate = (x, min(max(y, 0.0), max(picture.height - height, 0.0)), width, height)
        if plate[1] == y and not any(_overlap(plate, other) for other in taken):
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
    """Draw a filled, rounded rectangle as the background of a label.

    :param plate: x, y, width and height, in pixels.
    """
    x, y, width, height = plate
    size = (int(width) + 2, int(height) + 2)
    mask = Image.new('L', (size[0] * _SUPERSAMPLING, size[1] * _SUPERSAMPLING))
    dx, dy = (x - int(x)) * _SUPERSAMPLING, (y - int(y)) * _SUPERSAMPLING
    ImageDraw.Draw(mask).rounded_rectangle(
        (dx, dy, dx + width * _SUPERSAMPLING, dy + height * _SUPERSAMPLING),
        radius=radius * _SUPERSAMPLING,
        fill=round(255 * opacity),
    )
    picture.paste(colour, (int(x), int(y)), mask.resize(size, Image.Resampling.BOX))


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def readable_on(colour: Colour) -> Colour:
    """Return black or white, whichever is readable on a background colour."""
    r, g, b = colour
    return DARK if 0.299 * r + 0.587 * g + 0.114 * b > 110 else LIGHT


def shortened(text: str, max_chars: int) -> str:
    """Return a text as one printable line of at most `max_chars` characters."""
    line = printable(text)
    return line if len(line) <= max_chars else line[: max_chars - 1] + '…'


def printable(text: str) -> str:
    """Replace unprintable characters, some of which fonts cannot draw, by spaces."""
    return ''.join(c if c.isprintable() else ' ' for c in text)


@lru_cache(maxsize=8)
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Load the font for all text on pictures; it has Latin letters only."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError('this Pillow was built without FreeType and cannot draw labels')
    return font
