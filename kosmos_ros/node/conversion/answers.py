"""Answers in words to messages."""

import re

from kosmos_ros_msgs.msg import PhraseGrounding as PhraseGroundingMsg

from kosmos_ros.engine.base import Answer, PhraseGrounding
from kosmos_ros.errors import EngineError
from kosmos_ros.node.conversion.messages import Finding, bounding_box, check_located
from kosmos_ros.node.conversion.stamped_image import Scene


def check_answer(answer: Answer, scene: Scene | None) -> Answer:
    """The answer as it can be sent: with boxes inside the image, and none without an image.

    :raises EngineError: when a number or a place in the text is senseless.
    """
    text = _sendable(answer.text)
    groundings = []
    for one in answer.groundings:
        first, last = one.span
        if not 0 <= first <= last <= len(text):
            raise EngineError(f'The engine gave {one}, which is no part of its answer.')
        boxes = tuple(check_located(one.boxes))
        if boxes and scene is not None:
            groundings.append(PhraseGrounding(_sendable(one.phrase), one.span, boxes))
    return Answer(text, tuple(groundings))


def groundings_from(answer: Answer, scene: Scene | None) -> list[PhraseGroundingMsg]:
    """What has boxes, in pixels of the image that they are about."""
    if scene is None:
        return []
    return [
        PhraseGroundingMsg(
            phrase=one.phrase,
            first=int(one.span[0]),
            last=int(one.span[1]),
            boxes=[bounding_box(box.box_in_image, scene.width, scene.height) for box in one.boxes],
            scores=[box.score for box in one.boxes],
        )
        for one in answer.groundings
    ]


def findings_from(answer: Answer) -> list[Finding]:
    """The same as detections."""
    return [Finding(one.phrase, box) for one in answer.groundings for box in one.boxes]


def _sendable(text: str) -> str:
    """The same length, without what the middleware cannot carry: half characters and NUL."""
    return re.sub('[\0\ud800-\udfff]', '\ufffd', text)
