"""Layout and drawing of text in several colours."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import re

from PIL import Image, ImageDraw, ImageFont

from kosmos_ros.drawing.annotate import Colour, printable

# The distance between lines, in heights of the font.
LEADING = 1.5
# A word with the spaces before it.
_WORD = re.compile(r'\s*\S+')


@dataclass(frozen=True, slots=True)
class Run:
    """Text of one colour, underlined if `marked`.  Line breaks are kept."""

    text: str
    colour: Colour
    marked: bool = False


Line = tuple[Run, ...]


def coloured(
    text: str, colour: Colour, marks: Sequence[tuple[tuple[int, int], Colour]]
) -> list[Run]:
    """Split a text into runs, with the parts [first, last) of `marks` in their colours.

    Where parts overlap, the later one wins.
    """
    styles: list[tuple[Colour, bool]] = [(colour, False)] * len(text)
    for (first, last), own in marks:
        indices = range(*slice(first, last).indices(len(text)))
        for index in indices:
            styles[index] = (own, True)
    return [Run(text[first:last], *styles[first]) for first, last in _equal_runs(styles)]


def lines_of(runs: Sequence[Run], font: ImageFont.FreeTypeFont, width: float) -> list[Line]:
    """Break runs into lines of at most `width` pixels, between words where that is possible."""
    text = ''.join(run.text for run in runs)
    styles = [(run.colour, run.marked) for run in runs for _ in run.text]
    lines: list[Line] = []
    begin = 0
    for paragraph in text.splitlines(keepends=True):
        shown = printable(paragraph)
        for first, last in _break_lines(shown, font, width):
            index = begin + first
            lines.append(
                tuple(
                    Run(shown[first + a : first + b], *styles[index + a])
                    for a, b in _equal_runs(styles[index : begin + last])
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
            # Measured from the beginning of the line: rounding errors of runs would add up.
            x = corner[0] + font.getlength(before)
            draw.text((x, baseline), run.text, fill=run.colour, font=font, anchor='ls')
            if run.marked:
                end, y = x + font.getlength(run.text), baseline + font.size * 0.2
                draw.line((x, y, end - 1, y), fill=run.colour, width=stroke)
            before += run.text


def line_height(font: ImageFont.FreeTypeFont) -> int:
    """Return the distance between lines in pixels."""
    return round(font.size * LEADING)


def _break_lines(
    text: str, font: ImageFont.FreeTypeFont, width: float
) -> Iterator[tuple[int, int]]:
    """Yield the lines of one paragraph as [first, last), without surrounding spaces."""
    first = last = 0
    for word in _WORD.finditer(text):
        if last > first and font.getlength(text[first : word.end()]) > width:
            yield first, last
            first = last
        if last == first:
            first = word.end() - len(word.group().lstrip())
        last = word.end()
        while font.getlength(text[first:last]) > width and last - first > 1:
            fitting = _fitting_length(text[first:last], font, width)
            yield first, first + fitting
            first += fitting
    if last > first:
        yield first, last


def _fitting_length(word: str, font: ImageFont.FreeTypeFont, width: float) -> int:
    """Return how many characters of a long word fit into a line, at least one."""
    fits, too_long = 1, len(word)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if font.getlength(word[:middle]) <= width:
            fits = middle
        else:
            too_long = middle
    return fits


def _equal_runs(styles: Sequence[object]) -> Iterator[tuple[int, int]]:
    """Yield runs of equal neighbours as [first, last)."""
    first = 0
    for index in range(1, len(styles) + 1):
        if index == len(styles) or styles[index] != styles[first]:
            yield first, index
            first = index
