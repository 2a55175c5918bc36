"""The tabletop benchmark prints what happened, not what was hoped for."""

from collections.abc import Sequence
import json

import pytest

from kosmos_ros.engine.base import Image, ImageContext, Located
from kosmos_ros.evaluation.tabletop import evaluate
from kosmos_ros.model.boxes import Box
from kosmos_ros.tabletop.dataset import held_out

SCENES = 10


class Oracle:
    """Knows the held-out questions in their order; errs on those whose kind it is told."""

    name = 'oracle'

    def __init__(self, seed: int, wrong_kind: str) -> None:
        self._questions = iter(held_out(seed, SCENES))
        self._wrong_kind = wrong_kind

    def check_expression(self, expression: str) -> None:
        """Everything can be asked."""

    def encode_image(self, image: Image) -> ImageContext:
        """Remember nothing: the next question is known."""
        return ImageContext(image)

    def locate(
        self, context: ImageContext, expressions: Sequence[str], top_k: int = 1
    ) -> list[tuple[Located, ...]]:
        question = next(self._questions)
        assert list(expressions) == [question.expression]
        x0, y0, x1, y1 = question.box_px
        right = Box(x0 / 640, y0 / 480, x1 / 640, y1 / 480)
        wrong = Box(0.0, 0.0, 0.01, 0.01)
        return [(Located(wrong if question.kind == self._wrong_kind else right, 0.5),)]

    def close(self) -> None:
        """Nothing to give back."""


def test_counts_hits_per_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(Oracle(4, wrong_kind='relation'), seed=4, scenes=SCENES) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == {
        'n': SCENES,
        'iou50': 0.8,
        'by_kind': {'attribute': 1.0, 'shape': 1.0, 'size': 1.0, 'extreme': 1.0, 'relation': 0.0},
    }


def test_seeds_choose_the_scenes() -> None:
    first, again, other = (
        [question.expression for question in held_out(seed, SCENES)] for seed in (1, 1, 2)
    )
    assert first == again != other
