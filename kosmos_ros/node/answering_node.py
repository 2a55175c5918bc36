"""What the service and the action need of the node."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from kosmos_ros.errors import NoImage, NotActive
from kosmos_ros.node.camera import Camera
from kosmos_ros.node.conversion.messages import Finding
from kosmos_ros.node.conversion.stamped_image import Frame, Instant, Shot
from kosmos_ros.node.engine.engine_worker import EngineRoom
from kosmos_ros.node.parameters import Settings


class Host(Protocol):
    """The node, as those see it who answer."""

    cameras: Mapping[str, Camera]
    room: EngineRoom | None

    @property
    def settings(self) -> Settings:
        """The present values of the parameters."""

    @property
    def why_not_active(self) -> str:
        """Why nothing can be answered now; empty when it can."""

    def now(self) -> Instant:
        """This moment."""

    def age_s(self, shot: Shot, now: Instant) -> float:
        """How old a message is."""

    def show(self, frame: Frame, findings: Sequence[Finding], camera: Camera | None) -> None:
        """Publish an answer."""

    def log_failure(self, what: str, error: BaseException) -> None:
        """Write down what no caller should have to read."""


def active_room(host: Host) -> EngineRoom:
    """
    :raises NotActive: when there is nobody in it to answer.
    """
    room, why = host.room, host.why_not_active
    if room is None or why:
        raise NotActive(f'The node is not active: {why or "no engine"}.')
    return room


def camera_named(host: Host, name: str) -> Camera:
    """The camera of this name; empty: the first one.

    :raises NoImage: when there is no such camera.
    :raises NotActive: when there are none any more.
    """
    cameras = host.cameras
    if not cameras:
        raise NotActive('The node has just been cleaned up; configure and activate it.')
    if name and name not in cameras:
        raise NoImage(f'There is no camera {name[:60]!r}; there is {", ".join(cameras)}.')
    return cameras[name or next(iter(cameras))]
