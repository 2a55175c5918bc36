"""The node's topics: detections for programs at once, pictures for people when somebody looks."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import threading
import time

import numpy as np
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray, VisionInfo
from visualization_msgs.msg import MarkerArray

from kosmos_ros.drawing.annotate import Annotation, annotate
from kosmos_ros.node.conversion.detections import Detection, no_detections_3d
from kosmos_ros.node.conversion.images import image_message
from kosmos_ros.node.conversion.stamped_image import DecodedImage
from kosmos_ros.node.middleware.callbacks import LogFailure, never_raises
from kosmos_ros.node.middleware.qos import LATCHED
from kosmos_ros.node.output.markers import markers_message

_DEPTH = 10
# For so long the picture of an answer stays before standing expressions replace it.
_HOLD_S = 2.0


class Publishers:
    """All publishers but that of the diagnostics.

    Drawing takes some ten milliseconds, so it has a thread of its own; while that is busy,
    pictures are left out, detections never.
    """

    def __init__(self, node: LifecycleNode, log: LogFailure) -> None:
        self._detections = node.create_lifecycle_publisher(
            Detection2DArray, '~/detections', _DEPTH
        )
        self._detections_3d = node.create_lifecycle_publisher(
            Detection3DArray, '~/detections_3d', _DEPTH
        )
        self._picture = node.create_lifecycle_publisher(Image, '~/annotated_image', _DEPTH)
        self._markers = node.create_lifecycle_publisher(MarkerArray, '~/markers', _DEPTH)
        self._info = node.create_publisher(VisionInfo, '~/vision_info', LATCHED)
        self._now = node.get_clock().now
        self._drawing = ThreadPoolExecutor(1, thread_name_prefix='drawing')
        self._free = threading.Semaphore(1)
        self._draw = never_raises(log, self._draw_and_publish)
        self._hold_until_s = 0.0
        self._version = -1

    def publish(
        self,
        message: Detection2DArray,
        detections: Sequence[Detection],
        image: DecodedImage,
        info: CameraInfo | None,
        *,
        standing: bool,
    ) -> None:
        """Publish what was found in an image, also when that is nothing.

        :param message: the same detections as a message.
        :param standing: for standing expressions, which do not replace a caller's picture at once.
        """
        self._detections.publish(message)
        self._detections_3d.publish(no_detections_3d(image.header))
        now_s = time.monotonic()
        if standing and now_s < self._hold_until_s:
            return
        if not standing:
            self._hold_until_s = now_s + _HOLD_S
        watched = self._picture.get_subscription_count() or self._markers.get_subscription_count()
        if watched and self._free.acquire(blocking=False):
            self._drawing.submit(self._draw, detections, image, info)

    def publish_vision_info(self, engine: str, expressions: Sequence[str]) -> None:
        """Publish what the detections are made with, as a new version."""
        self._version += 1
        message = VisionInfo(method=engine, database_location='; '.join(expressions))
        message.database_version = self._version
        message.header.stamp = self._now().to_msg()
        self._info.publish(message)

    def close(self) -> None:
        """End the drawing thread."""
        self._drawing.shutdown(wait=True, cancel_futures=True)

    def _draw_and_publish(
        self, detections: Sequence[Detection], image: DecodedImage, info: CameraInfo | None
    ) -> None:
        try:
            if self._markers.get_subscription_count():
                self._markers.publish(markers_message(detections, image, info))
            if self._picture.get_subscription_count():
                self._picture.publish(annotated_message(detections, image))
        finally:
            self._free.release()


def annotated_message(detections: Sequence[Detection], image: DecodedImage) -> Image:
    """Return the image with boxes and labels, under its own header."""
    picture = annotate(
        image.pixels,
        [
            Annotation(one.phrase, one.scored_box.box_in_image, one.scored_box.score)
            for one in detections
        ],
    )
    return image_message(np.asarray(picture), 'rgb8', image.header)
