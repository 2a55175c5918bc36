"""Pictures with questions and answers below them."""

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
from kosmos_ros.model.prompts import PROMPT_TEMPLATES
from kosmos_ros.model.tasks import Ask, Task

Bytes = npt.NDArray[np.uint8]
# Small images are enlarged by a factor or to a minimum area, so that strokes and letters are in
# proportion; large images are reduced to a maximum area and side length.
_ENLARGEMENT, _MIN_AREA_PX, _MAX_AREA_PX, _MAX_SIDE_PX = 1.5, 960 * 720, 1920 * 1080, 1920
_MIN_FONT_PX = 18
# The minimum width of a sheet, in heights of its font.
_MIN_WIDTH = 26
_MAX_ROW_CHARS = 68
_QUIET: Colour = (150, 157, 168)
_RULE: Colour = (54, 58, 66)
_ENDS = ('?', ':', '.', '!')
# Boxes with this IoU or more show the same object.
_SAME_IOU = 0.5


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A question and its answer in words.

    :param question: the text before the answer; '' where only the answer is shown.
    :param regions: the boxes that the question was about.
    """

    question: str
    answer: Answer
    regions: tuple[Box, ...] = ()

    @classmethod
    def of(cls, ask: Ask, answer: Answer) -> 'AnsweredQuestion':
        """Return a question in readable form, with its answer."""
        template = PROMPT_TEMPLATES[ask.task]
        text = ask.text or template.default_text or ''
        if ask.task is Task.DESCRIBE_REGION:
            text = ask.regions[0].phrase or text
        words = template.template.removeprefix('Question: ').removesuffix(' Answer:')
        # The answer of this task is the text itself.
        question = '' if ask.task is Task.GROUND_CAPTION else words.format(text=text)
        return cls(question, answer, tuple(region.box_in_image for region in ask.regions))


def captioned(image: Bytes, answered: AnsweredQuestion) -> Image.Image:
    """Draw the boxes of an answer on an image, and write the question and the answer below it.

    Phrases of the answer have the colours of their boxes; boxes of the question are white.

    :param image: RGB, uint8[height, width, 3]; it is not changed.
    """
    picture = _enlarged(image)
    groundings = answered.answer.groundings
    colours = colours_for([_boxes(grounding) for grounding in groundings])
    frames = [(box, LIGHT) for box in answered.regions]
    frames += [(box, colours[_boxes(one)]) for one in groundings for box in _boxes(one)]
    # Large boxes are drawn first, so that they do not cover smaller ones inside them.
    for box, colour in sorted(frames, key=lambda frame: -frame[0].area):
        draw_box(picture, box, colour)
    font, width = _font_and_width(picture)
    margin = round(font.size * 0.9)
    marks = [(grounding.span, colours[_boxes(grounding)]) for grounding in groundings]
    # A complete sentence has a separate line; the answer continues any other text.
    gap = '\n' if answered.question.endswith(_ENDS) else ' '
    lines = lines_of(_runs(answered, gap, marks), font, width - 2 * margin)
    if not lines:
        return picture
    words = _strip(width, line_height(font) * len(lines) + 2 * margin)
    write_lines(words, lines, font, (margin, margin))
    return _stacked([picture, words])


def poster(
    image: Bytes,
    annotations: Sequence[Annotation],
    answered_questions: Sequence[AnsweredQuestion] = (),
) -> Image.Image:
    """Draw numbered boxes on an image, and write their texts and answered questions below it.

    Phrases of the answers have the colours of the numbered boxes that show the same objects.

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
    if answered_questions:
        strips.append(_answers(answered_questions, numbered, font, width))
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
        text = shortened(annotation.text, _MAX_ROW_CHARS)
        draw.text((row * 1.8, middle), text, fill=LIGHT, font=font, anchor='lm')
        if annotation.score is not None:
            right = (width - row / 2, middle)
            draw.text(right, f'{annotation.score:.2f}', fill=LIGHT, font=font, anchor='rm')
    return strip


def _answers(
    answered_questions: Sequence[AnsweredQuestion],
    numbered: Sequence[Annotation],
    font: ImageFont.FreeTypeFont,
    width: int,
) -> Image.Image:
    row, leading = _row(font), line_height(font)
    left, gap = row * 1.8, leading // 3
    blocks: list[list[Line]] = []
    for answered in answered_questions:
        found = [
            (grounding.span, _matching_index(_boxes(grounding), numbered))
            for grounding in answered.answer.groundings
        ]
        marks = [(span, _colour(index)) for span, index in found if index is not None]
        blocks.append(lines_of(_runs(answered, ' ', marks), font, width - left - row / 2))
    height = sum(leading * len(block) + gap for block in blocks)
    strip = _strip(width, row // 2 + height + row // 2)
    ImageDraw.Draw(strip).line((row / 2, 0, width - row / 2, 0), fill=_RULE, width=3)
    top = row // 2
    for answered, block in zip(answered_questions, blocks, strict=True):
        index = _matching_index(answered.regions, numbered)
        if index is not None:
            _draw_number(strip, index, top + leading / 2, font)
        write_lines(strip, block, font, (left, top))
        top += leading * len(block) + gap
    return strip


def _runs(
    answered: AnsweredQuestion, gap: str, marks: Sequence[tuple[tuple[int, int], Colour]]
) -> list[Run]:
    front = answered.question + gap if answered.question else ''
    return [Run(front, _QUIET), *coloured(answered.answer.text, LIGHT, marks)]


def _boxes(grounding: PhraseGrounding) -> tuple[Box, ...]:
    return tuple(located.box_in_image for located in grounding.boxes)


def _matching_index(boxes: Sequence[Box], numbered: Sequence[Annotation]) -> int | None:
    """Return the index of the first annotation that shows the same object as one of the boxes."""
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
    """Return the colour that `annotate` gives to an index, as all numbers are distinct."""
    return colours_for(range(index + 1))[index]


def _enlarged(image: Bytes) -> Image.Image:
    height, width, _ = image.shape
    area = min(max(width * height * _ENLARGEMENT**2, _MIN_AREA_PX), _MAX_AREA_PX)
    scale = min(math.sqrt(area / (width * height)), _MAX_SIDE_PX / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)


def _font_and_width(picture: Image.Image) -> tuple[ImageFont.FreeTypeFont, int]:
    """Return the font for the text below a picture, and the width of the whole sheet."""
    size = round(math.sqrt(picture.width * picture.height) / 35)
    font = load_font(max(_MIN_FONT_PX, size))
    return font, max(picture.width, round(_MIN_WIDTH * font.size))


def _row(font: ImageFont.FreeTypeFont) -> int:
    return round(font.size * 1.7)


def _strip(width: int, height: int) -> Image.Image:
    return Image.new('RGB', (width, height), DARK)


def _stacked(strips: Sequence[Image.Image]) -> Image.Image:
    """Stack strips vertically, centred."""
    width = max(strip.width for strip in strips)
    sheet = _strip(width, sum(strip.height for strip in strips))
    top = 0
    for strip in strips:
        sheet.paste(strip, ((width - strip.width) // 2, top))
        top += strip.height
    return sheet
