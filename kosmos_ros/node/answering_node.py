"""What the service and the action need of the node."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from vision_msgs.msg import Detection2DArray

from kosmos_ros.errors import NoImage, NotActive
from kosmos_ros.node.camera import Camera
from kosmos_ros.node.conversion.detections import Detection
from kosmos_ros.node.conversion.stamped_image import DecodedImage, Instant, StampedImage
from kosmos_ros.node.engine.engine_worker import EngineWorker
from kosmos_ros.node.parameters import Settings


class AnsweringNode(Protocol):
    """The node, as the service and the action see it."""

    cameras: Mapping[str, Camera]
    engine_worker: EngineWorker | None

    @property
    def why_not_active(self) -> str:
        """Why nothing can be answered now; empty when it can."""

    def read_settings(self) -> Settings:
        """Return the present values of the parameters."""

    def now(self) -> Instant:
        """Return this moment."""

    def age_s(self, stamped: StampedImage, now: Instant) -> float:
        """Return how old a message is."""

    def publish_answer(
        self,
        message: Detection2DArray,
        detections: Sequence[Detection],
        image: DecodedImage,
        camera: Camera | None,
    ) -> None:
        """Publish an answer."""

    def log_failure(self, what: str, error: BaseException) -> None:
        """Write to the log what no caller should have to read."""


def active_engine(node: AnsweringNode) -> EngineWorker:
    """Return the engine of an active node.

    :raises NotActive: when the node is not active.
    """
    engine_worker, why = node.engine_worker, node.why_not_active
    if engine_worker is None or why:
        raise NotActive(f'The node is not active: {why or "no engine"}.')
    return engine_worker


def camera_named(node: AnsweringNode, name: str) -> Camera:
    """Return the camera of this name; '': the first one.

    :raises NoImage: when there is no such camera.
    :raises NotActive: when there are none any more.
    """
    cameras = node.cameras
    if not cameras:
        raise NotActive('The node has just been cleaned up; configure and activate it.')
    if name and name not in cameras:
        raise NoImage(f'There is no camera {name[:60]!r}; there is {", ".join(cameras)}.')
    return cameras[name or next(iter(cameras))]
