"""Text in several colours, broken into lines and drawn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import re

from PIL import Image, ImageDraw, ImageFont

from kosmos_ros.drawing.annotate import Colour, printable

# Distance of lines, in heights of the font.
LEADING = 1.5
# Words with the spaces in front of them.
_WORD = re.compile(r'\s*\S+')


@dataclass(frozen=True, slots=True)
class Run:
    """Text of one colour; what is `marked` is underlined, too.  Line breaks are kept."""

    text: str
    colour: Colour
    marked: bool = False


Line = tuple[Run, ...]


def coloured(
    text: str, colour: Colour, marks: Sequence[tuple[tuple[int, int], Colour]]
) -> list[Run]:
    """A text with some of its parts, [first, last), marked in colours of their own; of parts that
    overlap, the later one wins.
    """
    looks: list[tuple[Colour, bool]] = [(colour, False)] * len(text)
    for (first, last), own in marks:
        places = range(*slice(first, last).indices(len(text)))
        for place in places:
            looks[place] = (own, True)
    return [Run(text[first:last], *looks[first]) for first, last in _stretches(looks)]


def lines_of(runs: Sequence[Run], font: ImageFont.FreeTypeFont, width: float) -> list[Line]:
    """Break runs into lines of at most `width` pixels, between words where that is possible."""
    text = ''.join(run.text for run in runs)
    looks = [(run.colour, run.marked) for run in runs for _ in run.text]
    lines: list[Line] = []
    begin = 0
    for paragraph in text.splitlines(keepends=True):
        shown = printable(paragraph)
        for first, last in _broken(shown, font, width):
            place = begin + first
            lines.append(
                tuple(
                    Run(shown[first + a : first + b], *looks[place + a])
                    for a, b in _stretches(looks[place : begin + last])
                )
            )
        begin += len(paragraph)
    return lines


def write_lines(
    picture: Image.Image,
    lines: Sequence[Line],
    font: ImageFont.FreeTypeFont,
    corner: tuple[float, float],
) -> None:
    """Draw lines below one another; `corner` is the top-left one of the first."""
    draw = ImageDraw.Draw(picture)
    leading = line_height(font)
    stroke = max(1, round(font.size / 14))
    for number, line in enumerate(lines):
        before = ''
        baseline = corner[1] + leading * number + (leading + font.size * 0.7) / 2
        for run in line:
            # From the beginning of the line: rounding would add up from run to run.
            x = corner[0] + font.getlength(before)
            draw.text((x, baseline), run.text, fill=run.colour, font=font, anchor='ls')
            if run.marked:
                end, y = x + font.getlength(run.text), baseline + font.size * 0.2
                draw.line((x, y, end - 1, y), fill=run.colour, width=stroke)
            before += run.text


def line_height(font: ImageFont.FreeTypeFont) -> int:
    """Distance of lines in pixels."""
    return round(font.size * LEADING)


def _broken(text: str, font: ImageFont.FreeTypeFont, width: float) -> Iterator[tuple[int, int]]:
    """The lines of one paragraph as [first, last), without the spaces around them."""
    first = last = 0
    for word in _WORD.finditer(text):
        if last > first and font.getlength(text[first : word.end()]) > width:
            yield first, last
            first = last
        if last == first:
            first = word.end() - len(word.group().lstrip())
        last = word.end()
        while font.getlength(text[first:last]) > width and last - first > 1:
            fitting = _fitting(text[first:last], font, width)
            yield first, first + fitting
            first += fitting
    if last > first:
        yield first, last


def _fitting(word: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """How many of a long word's characters fit into a line, at least one."""
    few, many = 1, len(word)
    while many - few > 1:
        middle = (few + many) // 2
        if font.getlength(word[:middle]) <= width:
            few = middle
        else:
            many = middle
    return few


def _stretches(looks: Sequence[object]) -> Iterator[tuple[int, int]]:
    """Where neighbours are equal, as [first, last)."""
    first = 0
    for place in range(1, len(looks) + 1):
        if place == len(looks) or looks[place] != looks[first]:
            yield first, place
            first = place
