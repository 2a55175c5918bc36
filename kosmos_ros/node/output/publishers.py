"""The node's topics: answers for programs at once, pictures for people when somebody looks."""

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
from kosmos_ros.node.conversion.messages import (
    Finding,
    detections_from,
    image_message,
    no_detections_3d,
)
from kosmos_ros.node.conversion.stamped_image import Frame
from kosmos_ros.node.middleware.callbacks import Log, never_raises
from kosmos_ros.node.middleware.qos import LATCHED
from kosmos_ros.node.output.markers import markers_from

_DEPTH = 10
# So long the picture of an answer stays before standing expressions draw over it.
_HOLD_S = 2.0


class Publishing:
    """All publishers but that of the diagnostics.

    Drawing takes some ten milliseconds, so it has a thread of its own; while it is busy, pictures
    are left out, detections never.
    """

    def __init__(self, node: LifecycleNode, log: Log) -> None:
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
        self._draws = ThreadPoolExecutor(1, thread_name_prefix='drawing')
        self._free = threading.Semaphore(1)
        self._draw = never_raises(log, self._draw_and_publish)
        self._hold_until_s = 0.0
        self._version = -1

    def publish(
        self,
        findings: Sequence[Finding],
        frame: Frame,
        info: CameraInfo | None,
        standing: bool = False,
    ) -> None:
        """Publish what was found in a frame, nothing included.

        :param standing: for standing expressions, which let a caller's picture stand a while.
        """
        self._detections.publish(detections_from(findings, frame))
        self._detections_3d.publish(no_detections_3d(frame.header))
        now_s = time.monotonic()
        if standing and now_s < self._hold_until_s:
            return
        if not standing:
            self._hold_until_s = now_s + _HOLD_S
        watched = self._picture.get_subscription_count() or self._markers.get_subscription_count()
        if watched and self._free.acquire(blocking=False):
            self._draws.submit(self._draw, findings, frame, info)

    def announce(self, engine: str, expressions: Sequence[str]) -> None:
        """Tell what the detections are made with; a new version each time."""
        self._version += 1
        message = VisionInfo(method=engine, database_location='; '.join(expressions))
        message.database_version = self._version
        message.header.stamp = self._now().to_msg()
        self._info.publish(message)

    def close(self) -> None:
        """End the drawing thread."""
        self._draws.shutdown(wait=True, cancel_futures=True)

    def _draw_and_publish(
        self, findings: Sequence[Finding], frame: Frame, info: CameraInfo | None
    ) -> None:
        try:
            if self._markers.get_subscription_count():
                self._markers.publish(markers_from(findings, frame, info))
            if self._picture.get_subscription_count():
                self._picture.publish(annotated(findings, frame))
        finally:
            self._free.release()


def annotated(findings: Sequence[Finding], frame: Frame) -> Image:
    """The frame with boxes and labels, under its own header."""
    picture = annotate(
        frame.image,
        [
            Annotation(finding.expression, finding.located.box_in_image, finding.located.score)
            for finding in findings
        ],
    )
    return image_message(np.asarray(picture), 'rgb8', frame.header)
