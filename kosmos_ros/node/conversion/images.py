"""Image messages to pixels, and pixels to image messages.

Whatever an image message claims, only `BadImage` leaves this module.

cv_bridge is not used for the usual encodings, because it believes the header: with a ``step`` of
half a row it returns the wrong pixels without an error.
"""

import io

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from std_msgs.msg import Header

from kosmos_ros.engine.base import Image
from kosmos_ros.errors import BadImage
from kosmos_ros.limits import Limits
from kosmos_ros.model.expressions import quoted
from kosmos_ros.model.images import check_size, read_image
from kosmos_ros.node.conversion.stamped_image import DecodedImage

# Encoding -> bytes per pixel, and which of them are red, green and blue.
_CHANNELS = {
    'rgb8': (3, (0, 1, 2)),
    'bgr8': (3, (2, 1, 0)),
    'rgba8': (4, (0, 1, 2)),
    'bgra8': (4, (2, 1, 0)),
    'mono8': (1, (0, 0, 0)),
}
_FORMATS = ('JPEG', 'PNG')


def decode_image(message: ImageMsg | CompressedImage, limits: Limits) -> DecodedImage:
    """Decode either kind of image message.

    :raises BadImage: one sentence that says what is wrong with it.
    """
    if isinstance(message, CompressedImage):
        return decode_compressed_image(message, limits)
    return decode_raw_image(message, limits)


def decode_raw_image(message: ImageMsg, limits: Limits) -> DecodedImage:
    """Check a raw image and read its pixels.

    `data` may be longer than `step` x `height`, as some drivers hand out their whole buffer; the
    byte order means nothing for the encodings read here.

    :raises BadImage: when size, step, encoding and data do not fit together.
    """
    width, height = message.width, message.height
    check_size(width, height, 'The image', limits)
    known = _CHANNELS.get(message.encoding)
    if known is None:
        return DecodedImage(_by_cv_bridge(message), message.header)
    bytes_per_pixel, channels = known
    if message.step < width * bytes_per_pixel:
        raise BadImage(
            f'The image has a step of {message.step} bytes, but {width} pixels of '
            f'{message.encoding} need {width * bytes_per_pixel}; correct its publisher.'
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
        return DecodedImage(np.ascontiguousarray(pixels), message.header)
    return DecodedImage(np.ascontiguousarray(pixels[:, :, channels]), message.header)


def decode_compressed_image(message: CompressedImage, limits: Limits) -> DecodedImage:
    """Decode a JPEG or PNG, after its header has shown that it is not too large.

    The message's `format` is not used: the data say themselves what they are.

    :raises BadImage: when the data are of another kind, cut off or damaged.
    """
    name = f'The compressed image, {len(message.data)} bytes of format {quoted(message.format)},'
    pixels = read_image(io.BytesIO(message.data), name, limits, _FORMATS)
    return DecodedImage(pixels, message.header)


def image_message(array: npt.NDArray[np.generic], encoding: str, header: Header) -> ImageMsg:
    """Return an array [height, width] or [height, width, C] as a raw image, little-endian."""
    height, width = array.shape[:2]
    bytes_ = np.ascontiguousarray(array, array.dtype.newbyteorder('<')).view(np.uint8)
    message = ImageMsg(header=header, height=height, width=width, encoding=encoding)
    message.step = array.nbytes // height
    # Into the message's own buffer: an assignment would check each byte by itself.
    message.data.frombytes(bytes_.reshape(-1).data)
    return message


def _by_cv_bridge(message: ImageMsg) -> Image:
    """Read encodings beyond the usual five, where a ROS distribution brings cv_bridge."""
    known = ', '.join(_CHANNELS)
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
