"""The report of `make demo`: two tables and a picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kosmos_ros.drawing.annotate import Annotation, printable
from kosmos_ros.drawing.poster import AnsweredQuestion, poster
from kosmos_ros.model.boxes import Box
from kosmos_ros.tabletop.demo.client import AskAnswer, ReferAnswer
from kosmos_ros.tabletop.world.pinhole import CAMERA


def print_refer_answers(refer_answers: Sequence[ReferAnswer]) -> None:
    """Print a table of the located things."""
    width = max(len(one.question.expression) for one in refer_answers)
    figures = f'{"score":>6} {"IoU":>5} {"age ms":>7} {"ms":>6}'
    print(f'\n{"expression":<{width}}  {"box x0 y0 x1 y1 (px)":<20} {figures}')
    for one in refer_answers:
        timing = one.response.timing
        corners = one.response.message
        if one.corners_px:
            corners = ' '.join(f'{value:4.0f}' for value in one.corners_px)
        figures = (
            f'{one.score:6.2f} {one.iou:5.2f} {timing.image_age_ms:7.0f} {timing.total_ms:6.1f}'
        )
        print(f'{one.question.expression:<{width}}  {corners:<20} {figures}')


def print_ask_answers(ask_answers: Sequence[AskAnswer]) -> None:
    """Print a table of answers and refusals."""
    rows = [
        (
            one.question.ask.task.name.lower(),
            _question(one),
            printable(one.answer.text or one.result.message),
            one.question.truth or '-',
            str(one.result.tokens),
            f'{one.result.timing.total_ms:.1f}',
        )
        for one in ask_answers
    ]
    rows.insert(0, ('task', 'question', 'answer', 'truth', 'tokens', 'ms'))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        texts = [f'{cell:<{width}}' for cell, width in zip(row[:4], widths, strict=False)]
        figures = [f'{cell:>{width}}' for cell, width in zip(row[4:], widths[4:], strict=True)]
        print('  '.join(texts + figures))


def draw_answers(
    image: np.ndarray,
    refer_answers: Sequence[ReferAnswer],
    ask_answers: Sequence[AskAnswer],
    path: Path,
) -> None:
    """Draw a picture of all answers."""
    height, width, _ = image.shape
    annotations = [
        Annotation(
            one.question.expression, Box.from_pixels(one.corners_px, width, height), one.score
        )
        for one in refer_answers
        if one.corners_px
    ]
    answered = [AnsweredQuestion.of(one.question.ask, one.answer) for one in ask_answers]
    poster(image, annotations, answered).save(path)


def _question(answer: AskAnswer) -> str:
    ask = answer.question.ask
    texts = [ask.text] if ask.text else []
    for box in (region.box_in_image for region in ask.regions):
        texts += [f'{x * CAMERA.width:.0f} {y * CAMERA.height:.0f}' for x, y in _corners(box)]
    return ' '.join(texts) or '-'


def _corners(box: Box) -> tuple[tuple[float, float], tuple[float, float]]:
    return (box.x0, box.y0), (box.x1, box.y1)
