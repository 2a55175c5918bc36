"""What `make demo` shows: two tables and a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kosmos_ros.drawing.annotate import Annotation, printable
from kosmos_ros.drawing.poster import Said, poster
from kosmos_ros.model.boxes import Box
from kosmos_ros.tabletop.demo.client import Found, Told
from kosmos_ros.tabletop.world.pinhole import CAMERA


def print_found(found: Sequence[Found]) -> None:
    """Where things are."""
    width = max(len(one.asked.expression) for one in found)
    figures = f'{"score":>6} {"IoU":>5} {"age ms":>7} {"ms":>6}'
    print(f'\n{"expression":<{width}}  {"box x0 y0 x1 y1 (px)":<20} {figures}')
    for one in found:
        timing = one.response.timing
        corners = one.response.message
        if one.corners_px:
            corners = ' '.join(f'{value:4.0f}' for value in one.corners_px)
        figures = (
            f'{one.score:6.2f} {one.iou:5.2f} {timing.image_age_ms:7.0f} {timing.total_ms:6.1f}'
        )
        print(f'{one.asked.expression:<{width}}  {corners:<20} {figures}')


def print_told(told: Sequence[Told]) -> None:
    """What was said, or why nothing was."""
    rows = [
        (
            one.spoken.ask.task.name.lower(),
            _question(one),
            printable(one.answer.text or one.result.message),
            one.spoken.truth or '-',
            str(one.result.tokens),
            f'{one.result.timing.total_ms:.1f}',
        )
        for one in told
    ]
    rows.insert(0, ('task', 'question', 'answer', 'truth', 'tokens', 'ms'))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        words = [f'{cell:<{width}}' for cell, width in zip(row[:4], widths, strict=False)]
        figures = [f'{cell:>{width}}' for cell, width in zip(row[4:], widths[4:], strict=True)]
        print('  '.join(words + figures))


def draw(image: np.ndarray, found: Sequence[Found], told: Sequence[Told], path: Path) -> None:
    """One picture of all of it."""
    height, width, _ = image.shape
    annotations = [
        Annotation(one.asked.expression, Box.from_pixels(one.corners_px, width, height), one.score)
        for one in found
        if one.corners_px
    ]
    talk = [Said.of(one.spoken.ask, one.answer) for one in told]
    poster(image, annotations, talk).save(path)


def _question(told: Told) -> str:
    ask = told.spoken.ask
    words = [ask.text] if ask.text else []
    for box in (region.box_in_image for region in ask.regions):
        words += [f'{x * CAMERA.width:.0f} {y * CAMERA.height:.0f}' for x, y in _corners(box)]
    return ' '.join(words) or '-'


def _corners(box: Box) -> tuple[tuple[float, float], tuple[float, float]]:
    return (box.x0, box.y0), (box.x1, box.y1)
