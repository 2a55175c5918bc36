"""Pictures with words below them, for people."""

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from kosmos_ros.drawing.annotate import (
    DARK,
    LIGHT,
    Annotation,
    Colour,
    annotate,
    colours_for,
    draw_box,
    draw_plate,
    load_font,
    readable_on,
    shortened,
)
from kosmos_ros.drawing.text import Line, Run, coloured, line_height, lines_of, write_lines
from kosmos_ros.engine.base import Answer, PhraseGrounding
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.prompts import LAYOUTS
from kosmos_ros.model.tasks import Ask, Task

Bytes = npt.NDArray[np.uint8]
# Of the picture on a sheet: small ones are enlarged until strokes and letters look right on them,
# large ones are shrunk to what a screen shows.
_ENLARGED, _LEAST_PX, _MOST_PX, _LONGEST_PX = 1.5, 960 * 720, 1920 * 1080, 1920
_SMALLEST_FONT_PX = 18
# Of a sheet with a narrow picture, in heights of its font.
_NARROWEST = 26
_LONGEST_ROW = 68
_QUIET: Colour = (150, 157, 168)
_RULE: Colour = (54, 58, 66)
_ENDS = ('?', ':', '.', '!')
# Boxes that overlap so much show the same thing.
_SAME_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Said:
    """A question and its answer in words.

    :param asked: stands in front of the answer; '' where the answer is all there is to read.
    :param regions: what the question was about.
    """

    asked: str
    answer: Answer
    regions: tuple[Box, ...] = ()

    @classmethod
    def of(cls, ask: Ask, answer: Answer) -> 'Said':
        """A question as a person would read it, and its answer."""
        layout = LAYOUTS[ask.task]
        text = ask.text or layout.usual or ''
        if ask.task is Task.DESCRIBE_REGION:
            text = ask.regions[0].phrase or text
        words = layout.words.removeprefix('Question: ').removesuffix(' Answer:')
        # The answer of this task is the text itself.
        asked = '' if ask.task is Task.GROUND_CAPTION else words.format(text=text)
        return cls(asked, answer, tuple(region.box_in_image for region in ask.regions))


def captioned(image: Bytes, said: Said) -> Image.Image:
    """The picture with a frame around everything that the answer means, and below it the answer,
    its phrases in the colours of their frames.

    :param image: RGB, uint8[height, width, 3]; it is not changed.
    """
    picture = _enlarged(image)
    groundings = said.answer.groundings
    colours = colours_for([_boxes(grounding) for grounding in groundings])
    frames = [(box, LIGHT) for box in said.regions]
    frames += [(box, colours[_boxes(one)]) for one in groundings for box in _boxes(one)]
    # Large ones first, so that none covers another one inside it.
    for box, colour in sorted(frames, key=lambda frame: -frame[0].area):
        draw_box(picture, box, colour)
    font, width = _font_and_width(picture)
    margin = round(font.size * 0.9)
    marks = [(grounding.span, colours[_boxes(grounding)]) for grounding in groundings]
    # What is no beginning of a sentence that the answer ends has a line of its own.
    gap = '\n' if said.asked.endswith(_ENDS) else ' '
    lines = lines_of(_runs(said, gap, marks), font, width - 2 * margin)
    if not lines:
        return picture
    words = _strip(width, line_height(font) * len(lines) + 2 * margin)
    write_lines(words, lines, font, (margin, margin))
    return _stacked([picture, words])


def poster(
    image: Bytes, annotations: Sequence[Annotation], talk: Sequence[Said] = ()
) -> Image.Image:
    """The picture with numbered boxes; below it what each number asks, then questions that were
    answered in words.  Their phrases have the colours of the boxes that show the same.

    :param image: RGB, uint8[height, width, 3]; it is not changed.
    """
    larger = _enlarged(image)
    font, width = _font_and_width(larger)
    numbered = [
        Annotation(str(number), annotation.box_in_image)
        for number, annotation in enumerate(annotations, 1)
    ]
    picture = annotate(np.asarray(larger), numbered)
    strips = [picture, _rows(annotations, font, width)]
    if talk:
        strips.append(_talk(talk, numbered, font, width))
    return _stacked(strips)


def _rows(
    annotations: Sequence[Annotation], font: ImageFont.FreeTypeFont, width: int
) -> Image.Image:
    row = _row(font)
    strip = _strip(width, row * len(annotations) + row // 2)
    draw = ImageDraw.Draw(strip)
    for index, annotation in enumerate(annotations):
        middle = row * (index + 0.75)
        _draw_number(strip, index, middle, font)
        text = shortened(annotation.text, _LONGEST_ROW)
        draw.text((row * 1.8, middle), text, fill=LIGHT, font=font, anchor='lm')
        if annotation.score is not None:
            right = (width - row / 2, middle)
            draw.text(right, f'{annotation.score:.2f}', fill=LIGHT, font=font, anchor='rm')
    return strip


def _talk(
    talk: Sequence[Said],
    numbered: Sequence[Annotation],
    font: ImageFont.FreeTypeFont,
    width: int,
) -> Image.Image:
    row, leading = _row(font), line_height(font)
    left, gap = row * 1.8, leading // 3
    blocks: list[list[Line]] = []
    for said in talk:
        found = [
            (grounding.span, _shown_as(_boxes(grounding), numbered))
            for grounding in said.answer.groundings
        ]
        marks = [(span, _colour(index)) for span, index in found if index is not None]
        blocks.append(lines_of(_runs(said, ' ', marks), font, width - left - row / 2))
    height = sum(leading * len(block) + gap for block in blocks)
    strip = _strip(width, row // 2 + height + row // 2)
    ImageDraw.Draw(strip).line((row / 2, 0, width - row / 2, 0), fill=_RULE, width=3)
    top = row // 2
    for said, block in zip(talk, blocks, strict=True):
        index = _shown_as(said.regions, numbered)
        if index is not None:
            _draw_number(strip, index, top + leading / 2, font)
        write_lines(strip, block, font, (left, top))
        top += leading * len(block) + gap
    return strip


def _runs(said: Said, gap: str, marks: Sequence[tuple[tuple[int, int], Colour]]) -> list[Run]:
    front = said.asked + gap if said.asked else ''
    return [Run(front, _QUIET), *coloured(said.answer.text, LIGHT, marks)]


def _boxes(grounding: PhraseGrounding) -> tuple[Box, ...]:
    return tuple(located.box_in_image for located in grounding.boxes)


def _shown_as(boxes: Sequence[Box], numbered: Sequence[Annotation]) -> int | None:
    """The first annotation whose box shows the same as one of the boxes."""
    for index, annotation in enumerate(numbered):
        if any(annotation.box_in_image.iou(box) >= _SAME_IOU for box in boxes):
            return index
    return None


def _draw_number(
    strip: Image.Image, index: int, middle: float, font: ImageFont.FreeTypeFont
) -> None:
    row, colour = _row(font), _colour(index)
    plate = (row / 2, middle - row * 0.38, row * 0.9, row * 0.76)
    draw_plate(strip, plate, colour, row / 6)
    centre = (plate[0] + plate[2] / 2, middle)
    ImageDraw.Draw(strip).text(
        centre, str(index + 1), fill=readable_on(colour), font=font, anchor='mm'
    )


def _colour(index: int) -> Colour:
    """What `annotate` gives to the annotation of this index, as all have different texts."""
    return colours_for(range(index + 1))[index]


def _enlarged(image: Bytes) -> Image.Image:
    height, width, _ = image.shape
    area = min(max(width * height * _ENLARGED**2, _LEAST_PX), _MOST_PX)
    scale = min(math.sqrt(area / (width * height)), _LONGEST_PX / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)


def _font_and_width(picture: Image.Image) -> tuple[ImageFont.FreeTypeFont, int]:
    """What is written with below a picture, and the width of the whole sheet."""
    size = round(math.sqrt(picture.width * picture.height) / 35)
    font = load_font(max(_SMALLEST_FONT_PX, size))
    return font, max(picture.width, round(_NARROWEST * font.size))


def _row(font: ImageFont.FreeTypeFont) -> int:
    return round(font.size * 1.7)


def _strip(width: int, height: int) -> Image.Image:
    return Image.new('RGB', (width, height), DARK)


def _stacked(strips: Sequence[Image.Image]) -> Image.Image:
    """One below the other, narrow ones in the middle."""
    width = max(strip.width for strip in strips)
    sheet = _strip(width, sum(strip.height for strip in strips))
    top = 0
    for strip in strips:
        sheet.paste(strip, ((width - strip.width) // 2, top))
        top += strip.height
    return sheet
