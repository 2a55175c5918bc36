"""Answers in words to messages."""

import re

from kosmos_ros_msgs.msg import PhraseGrounding as PhraseGroundingMsg

from kosmos_ros.engine.base import Answer, PhraseGrounding
from kosmos_ros.errors import EngineError
from kosmos_ros.node.conversion.detections import Detection, bounding_box, check_boxes
from kosmos_ros.node.conversion.stamped_image import ImageReference


def check_answer(answer: Answer, image: ImageReference | None) -> Answer:
    """Return the answer as it can be sent: with boxes inside the image, and none without an image.

    :raises EngineError: when a number, or a span of the text, makes no sense.
    """
    text = _sendable(answer.text)
    groundings = []
    for one in answer.groundings:
        first, last = one.span
        if not 0 <= first <= last <= len(text):
            raise EngineError(f'The engine gave {one}, which is no part of its answer.')
        boxes = tuple(check_boxes(one.boxes))
        if boxes and image is not None:
            groundings.append(PhraseGrounding(_sendable(one.phrase), one.span, boxes))
    return Answer(text, tuple(groundings))


def grounding_messages(answer: Answer, image: ImageReference | None) -> list[PhraseGroundingMsg]:
    """Return the phrases with boxes, in pixels of the image that they are about."""
    if image is None:
        return []
    return [
        PhraseGroundingMsg(
            phrase=one.phrase,
            first=int(one.span[0]),
            last=int(one.span[1]),
            boxes=[bounding_box(box.box_in_image, image.width, image.height) for box in one.boxes],
            scores=[box.score for box in one.boxes],
        )
        for one in answer.groundings
    ]


def detections_of(answer: Answer) -> list[Detection]:
    """Return the boxes of an answer as detections."""
    return [Detection(one.phrase, box) for one in answer.groundings for box in one.boxes]


def _sendable(text: str) -> str:
    """Return the text, at the same length, without half surrogate pairs and NUL, which the
    middleware cannot carry.
    """
    return re.sub('[\0\ud800-\udfff]', '\ufffd', text)
