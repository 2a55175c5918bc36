"""Answers in words to messages."""

import math

import numpy as np
import pytest
from std_msgs.msg import Header

from kosmos_ros.engine.base import Answer, PhraseGrounding, ScoredBox
from kosmos_ros.errors import EngineError
from kosmos_ros.model.boxes import Box
from kosmos_ros.node.conversion.answers import check_answer, detections_of, grounding_messages
from kosmos_ros.node.conversion.stamped_image import (
    DecodedImage,
    ImageReference,
    Instant,
    StampedImage,
)

FRAME = DecodedImage(np.zeros((20, 40, 3), np.uint8), Header(frame_id='eye'))
SCENE = ImageReference.of(StampedImage(None, Instant(0, 0.0)), FRAME)  # type: ignore[arg-type]
LEFT, RIGHT = (ScoredBox(Box(x, 0.0, x + 0.5, 0.5), 0.5 + x) for x in (0.0, 0.5))


def answer(*boxes: ScoredBox, span: tuple[int, int] = (0, 3)) -> Answer:
    return Answer('two mugs', (PhraseGrounding('two', span, boxes),))


def test_in_pixels_and_in_order() -> None:
    checked = check_answer(answer(RIGHT, LEFT), SCENE)
    (one,) = grounding_messages(checked, SCENE)
    assert (one.phrase, one.first, one.last) == ('two', 0, 3)
    assert [(box.center.position.x, box.center.position.y) for box in one.boxes] == [
        (30, 5), (10, 5),
    ]  # fmt: skip
    assert {(box.size_x, box.size_y) for box in one.boxes} == {(20.0, 10.0)}
    assert list(one.scores) == [1.0, 0.5]
    assert [finding.phrase for finding in detections_of(checked)] == ['two', 'two']


def test_numbers_of_numpy_become_floats() -> None:
    """Others would end the process in the middleware."""
    corners = [np.float32(corner) for corner in (0.0, 0.0, 0.5, 0.5)]
    odd = ScoredBox(Box(*corners), np.float32(0.5))  # type: ignore[arg-type]
    places = (np.int64(0), np.int64(3))
    (one,) = grounding_messages(check_answer(answer(odd, span=places), SCENE), SCENE)  # type: ignore[arg-type]
    numbers = (one.boxes[0].center.position.x, one.boxes[0].size_x, one.scores[0])
    assert {type(number) for number in numbers} == {float}
    assert (type(one.first), type(one.last)) == (int, int)


def test_what_has_no_image_or_no_box_is_left_out() -> None:
    assert check_answer(answer(LEFT), None).groundings == ()
    assert grounding_messages(answer(LEFT), None) == []
    inverted = ScoredBox(Box(0.5, 0.5, 0.1, 0.1), 0.5)
    assert check_answer(answer(inverted), SCENE) == Answer('two mugs')


@pytest.mark.parametrize(
    'senseless',
    [
        answer(ScoredBox(Box(math.nan, 0, 1, 1), 0.5)),
        answer(ScoredBox(Box(0, 0, 1, 1), 7.0)),
        answer(LEFT, span=(-1, 3)),
        answer(LEFT, span=(0, 9)),
        answer(LEFT, span=(3, 0)),
    ],
)
def test_senseless_answers(senseless: Answer) -> None:
    with pytest.raises(EngineError):
        check_answer(senseless, SCENE)


def test_what_the_middleware_cannot_carry_keeps_its_place() -> None:
    checked = check_answer(Answer('a\0b\ud83dc é'), None)
    assert checked.text == 'a\ufffdb\ufffdc é'
