"""Answers on a terminal."""

from collections.abc import Sequence
import sys
import unicodedata

from kosmos_ros.engine.base import Image, ScoredBox
from kosmos_ros.model.boxes import Box


def corners_px(box: Box, image: Image) -> list[float]:
    """Return x0, y0, x1, y1 in pixels of the image, for the JSON line."""
    height, width, _ = image.shape
    inside = box.clipped()
    corners = (inside.x0 * width, inside.y0 * height, inside.x1 * width, inside.y1 * height)
    return [round(value, 1) for value in corners]


def print_boxes(
    heading: str, answers: Sequence[tuple[str, Sequence[ScoredBox]]], image: Image
) -> None:
    """Print a table of words and their boxes."""
    column = max(_columns(words) for words in (heading, *(words for words, _ in answers)))
    print(f'{heading:<{column}}  {"box x0 y0 x1 y1 (px)":<20} {"score":>6}')
    for words, boxes in answers:
        name = shown(words) + ' ' * (column - _columns(words))
        for located in boxes:
            corners = ' '.join(
                f'{value:4.0f}' for value in corners_px(located.box_in_image, image)
            )
            print(f'{name}  {corners:<20} {located.score:6.2f}')
            # Once: what follows are boxes of the same.
            name = ' ' * column
        if not boxes:
            print(f'{name}  no box')


def shown(text: str) -> str:
    """Return a text as a terminal may get it: lines, but no control characters, and nothing that
    standard output cannot encode.
    """
    plain = ''.join(c if c.isprintable() or c == '\n' else ' ' for c in text)
    encoding = sys.stdout.encoding or 'utf-8'
    return plain.encode(encoding, 'replace').decode(encoding)


def _columns(text: str) -> int:
    """Return how wide a terminal shows a text."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in 'WF')
        for c in shown(text)
    )
