"""Boxes to messages."""

from collections.abc import Sequence
from dataclasses import dataclass
import math

from kosmos_ros_msgs.msg import Timing
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    Detection3DArray,
    ObjectHypothesisWithPose,
)

from kosmos_ros.engine.base import ScoredBox
from kosmos_ros.errors import EngineError
from kosmos_ros.model.boxes import Box
from kosmos_ros.node.conversion.stamped_image import DecodedImage


@dataclass(frozen=True, slots=True)
class Detection:
    """A phrase and a box that shows it."""

    phrase: str
    scored_box: ScoredBox


def check_boxes(boxes: Sequence[ScoredBox]) -> list[ScoredBox]:
    """Return the boxes inside the image; one whose corners are in the wrong order is left out.

    :raises EngineError: when a coordinate or a score is not a number.
    """
    for one in boxes:
        box = one.box_in_image
        numbers = (box.x0, box.y0, box.x1, box.y1, one.score)
        if not all(math.isfinite(number) for number in numbers) or not 0 <= one.score <= 1.001:
            raise EngineError(
                f'The engine gave {one}, which is no box with a score; '
                'run `kosmos_ros engine verify` on it.'
            )
    inside = (ScoredBox(one.box_in_image.clipped(), min(float(one.score), 1.0)) for one in boxes)
    return [one for one in inside if one.box_in_image.is_valid]


def detections_message(detections: Sequence[Detection], image: DecodedImage) -> Detection2DArray:
    """Return detections as a message under the header of the image's message, in its pixels.

    Pixel i covers i to i + 1: a box around the whole image has its centre at width / 2.
    """
    return Detection2DArray(
        header=image.header,
        detections=[_detection_message(detection, image) for detection in detections],
    )


def bounding_box(box: Box, width: int, height: int) -> BoundingBox2D:
    """Return a box in pixels of an image of this size."""
    message = BoundingBox2D()
    # The generated C code ends the process at any number but a float, also at one of NumPy's.
    message.center.position.x = float((box.x0 + box.x1) / 2 * width)
    message.center.position.y = float((box.y0 + box.y1) / 2 * height)
    message.size_x, message.size_y = float(box.width * width), float(box.height * height)
    return message


def no_detections_3d(header: Header) -> Detection3DArray:
    """Return the array in metres: empty, as no depth image is used yet."""
    return Detection3DArray(header=header)


def timing_message(
    *, queue_s: float, preprocess_s: float, inference_s: float, total_s: float, image_age_s: float
) -> Timing:
    """Return seconds as the milliseconds of the message."""
    return Timing(
        queue_ms=1e3 * queue_s,
        preprocess_ms=1e3 * preprocess_s,
        inference_ms=1e3 * inference_s,
        total_ms=1e3 * total_s,
        image_age_ms=1e3 * image_age_s,
    )


def _detection_message(detection: Detection, image: DecodedImage) -> Detection2D:
    box = bounding_box(detection.scored_box.box_in_image, image.width, image.height)
    message = Detection2D(header=image.header, bbox=box)
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = detection.phrase
    hypothesis.hypothesis.score = detection.scored_box.score
    message.results = [hypothesis]
    return message
