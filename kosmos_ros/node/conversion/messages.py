"""Messages to frames, and answers to messages.

Whatever an image message claims, only `BadImage` comes out of here.

cv_bridge is not asked for the usual encodings, because it believes the header: with a ``step`` of
half a row it returns the wrong pixels without a word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
import io
import math
import warnings

from kosmos_ros_msgs.msg import Timing
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import UnidentifiedImageError
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from std_msgs.msg import Header
from vision_msgs.msg import (
    BoundingBox2D,
    Detection2D,
    Detection2DArray,
    Detection3DArray,
    ObjectHypothesisWithPose,
)

from kosmos_ros.engine.base import Image, ScoredBox
from kosmos_ros.errors import BadImage, EngineError
from kosmos_ros.limits import Limits
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.expressions import quoted
from kosmos_ros.node.conversion.stamped_image import Frame

# Encoding -> bytes per pixel, and which of them are red, green and blue.
_VIEWS = {
    'rgb8': (3, (0, 1, 2)),
    'bgr8': (3, (2, 1, 0)),
    'rgba8': (4, (0, 1, 2)),
    'bgra8': (4, (2, 1, 0)),
    'mono8': (1, (0, 0, 0)),
}
_FORMATS = ('JPEG', 'PNG')


def frame_from(message: ImageMsg | CompressedImage, limits: Limits) -> Frame:
    """Either kind of message to a frame.

    :raises BadImage: one sentence that says what is wrong with it.
    """
    if isinstance(message, CompressedImage):
        return frame_from_compressed(message, limits)
    return frame_from_msg(message, limits)


def frame_from_msg(message: ImageMsg, limits: Limits) -> Frame:
    """Check a raw image and read its pixels.

    `data` may be longer than `step` x `height`, as some drivers hand out their whole buffer; the
    byte order means nothing for the encodings read here.

    :raises BadImage: when size, step, encoding and data do not fit together.
    """
    width, height = message.width, message.height
    _check_size(width, height, limits)
    view = _VIEWS.get(message.encoding)
    if view is None:
        return Frame(_by_cv_bridge(message), message.header)
    bytes_per_pixel, channels = view
    if message.step < width * bytes_per_pixel:
        raise BadImage(
            f'The image has a step of {message.step} bytes, but {width} pixels of '
            f'{message.encoding} need {width * bytes_per_pixel}; mend its publisher.'
        )
    needed = message.step * height
    if len(message.data) < needed:
        raise BadImage(
            f'The image has {len(message.data)} bytes of data, but step x height is {needed}; '
            'it was cut off, or its publisher is wrong.'
        )
    rows = np.frombuffer(message.data, np.uint8, needed).reshape(height, message.step)
    pixels = rows[:, : width * bytes_per_pixel].reshape(height, width, bytes_per_pixel)
    if message.encoding == 'rgb8':
        return Frame(np.ascontiguousarray(pixels), message.header)
    return Frame(np.ascontiguousarray(pixels[:, :, channels]), message.header)


def frame_from_compressed(message: CompressedImage, limits: Limits) -> Frame:
    """Decode a JPEG or PNG, after its header has shown that it is not too large.

    The message's `format` is not looked at: the data say themselves what they are.  Orientation
    tags are ignored, as boxes refer to the pixels as they are stored.

    :raises BadImage: when the data are of another kind, cut off or damaged.
    """
    try:
        # Pillow's own limit only warns, and ours has been checked by then.
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with Pillow.open(io.BytesIO(message.data), formats=_FORMATS) as picture:
                _check_size(*picture.size, limits)
                image = _rgb(picture)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(
            f'The compressed image, {len(message.data)} bytes with the format '
            f'{quoted(message.format)}, is neither JPEG nor PNG; publish one of these.'
        ) from None
    # All that Pillow is known to raise for damaged files, depending on where the damage is.
    except (
        OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError,
        OverflowError, ZeroDivisionError, AttributeError, Pillow.DecompressionBombError,
    ) as error:  # fmt: skip
        raise BadImage(f'The compressed image is cut off or damaged: {error}.') from None
    return Frame(image, message.header)


def _check_size(width: int, height: int, limits: Limits) -> None:
    """Before any memory is asked for."""
    if width < 1 or height < 1:
        raise BadImage(f'The image is {width}x{height}, it has no pixels; mend its publisher.')
    if width * height > limits.max_pixels:
        raise BadImage(
            f'The image is {width}x{height}, {width * height / 1e6:.0f} megapixels; '
            f'at most {limits.max_pixels / 1e6:.0f} are allowed.'
        )


def _rgb(picture: Pillow.Image) -> Image:
    if picture.mode in ('I', 'I;16', 'I;16B', 'I;16L'):
        # Pillow would cut 16 bits at 255 instead of scaling them.
        grey = (np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))
    return np.ascontiguousarray(np.asarray(picture.convert('RGB')))


def _by_cv_bridge(message: ImageMsg) -> Image:
    """Encodings beyond the usual five, where a ROS distribution is there to read them."""
    known = ', '.join(_VIEWS)
    name = quoted(message.encoding)
    try:
        from cv_bridge import CvBridge
    except ImportError:
        raise BadImage(
            f'The encoding {name} needs cv_bridge, which is not installed; '
            f'install it or publish one of {known}.'
        ) from None
    if len(message.data) < message.step * message.height or message.step < message.width:
        raise BadImage(f'Size, step and data of this {name} image do not fit together.')
    try:
        image = np.asarray(CvBridge().imgmsg_to_cv2(message, 'rgb8'))
    # cv_bridge lets through what OpenCV and NumPy raise, and documents none of it.
    except Exception as error:
        raise BadImage(f'cv_bridge cannot read {name}: {error}; publish one of {known}.') from None
    if image.dtype != np.uint8 or image.shape != (message.height, message.width, 3):
        raise BadImage(f'cv_bridge does not make RGB of {name}; publish one of {known}.')
    return np.ascontiguousarray(image)


@dataclass(frozen=True, slots=True)
class Finding:
    """A box that answers an expression."""

    expression: str
    located: ScoredBox


def check_located(located: Sequence[ScoredBox]) -> list[ScoredBox]:
    """The boxes inside the image; a box whose corners are in the wrong order is left out.

    :raises EngineError: when something that should be a number is none.
    """
    for one in located:
        box = one.box_in_image
        numbers = (box.x0, box.y0, box.x1, box.y1, one.score)
        if not all(math.isfinite(number) for number in numbers) or not 0 <= one.score <= 1.001:
            raise EngineError(
                f'The engine gave {one}, which is no box with a score; '
                'run `kosmos_ros engine verify` on it.'
            )
    inside = (ScoredBox(one.box_in_image.clipped(), min(float(one.score), 1.0)) for one in located)
    return [one for one in inside if one.box_in_image.is_valid]


def detections_from(findings: Sequence[Finding], frame: Frame) -> Detection2DArray:
    """VerificationReport as a message under the header of the frame's message, in its pixels.

    Pixel i covers i to i + 1: a box around the whole image has its centre at width / 2.
    """
    return Detection2DArray(
        header=frame.header, detections=[_detection(finding, frame) for finding in findings]
    )


def bounding_box(box: Box, width: int, height: int) -> BoundingBox2D:
    """A box in pixels of an image of this size."""
    message = BoundingBox2D()
    # The generated C code ends the process at any number but a float, also at one of NumPy's.
    message.center.position.x = float((box.x0 + box.x1) / 2 * width)
    message.center.position.y = float((box.y0 + box.y1) / 2 * height)
    message.size_x, message.size_y = float(box.width * width), float(box.height * height)
    return message


def no_detections_3d(header: Header) -> Detection3DArray:
    """The array in metres: empty, as long as no depth image is looked at."""
    return Detection3DArray(header=header)


def timing_message(
    *, queue_s: float, preprocess_s: float, inference_s: float, total_s: float, image_age_s: float
) -> Timing:
    """Seconds to the milliseconds of the message."""
    return Timing(
        queue_ms=1e3 * queue_s,
        preprocess_ms=1e3 * preprocess_s,
        inference_ms=1e3 * inference_s,
        total_ms=1e3 * total_s,
        image_age_ms=1e3 * image_age_s,
    )


def image_message(array: npt.NDArray[np.generic], encoding: str, header: Header) -> ImageMsg:
    """An array [height, width] or [height, width, channels] as a raw image, little-endian."""
    height, width = array.shape[:2]
    bytes_ = np.ascontiguousarray(array, array.dtype.newbyteorder('<')).view(np.uint8)
    message = ImageMsg(header=header, height=height, width=width, encoding=encoding)
    message.step = array.nbytes // height
    # Into the message's own buffer: an assignment would check each byte by itself.
    message.data.frombytes(bytes_.reshape(-1).data)
    return message


def one_line(text: str, at_most: int = 400) -> str:
    """Any text as one printable line that every middleware can carry.

    What cannot be encoded would raise while the answer is sent, and the caller would wait for
    ever.
    """
    return ''.join(c if c.isprintable() else f'\\x{ord(c):02x}' for c in text[:at_most])


def _detection(finding: Finding, frame: Frame) -> Detection2D:
    box = bounding_box(finding.located.box_in_image, frame.width, frame.height)
    detection = Detection2D(header=frame.header, bbox=box)
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = finding.expression
    hypothesis.hypothesis.score = finding.located.score
    detection.results = [hypothesis]
    return detection
