"""The newest frame of a camera, and what is known about the camera itself."""

from collections import deque
from collections.abc import Callable
import threading
import time

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import qos_policy_name_from_kind
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # ROS 2 Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

from kosmos_ros.errors import NoImage, StaleImage
from kosmos_ros.node.conversion.stamped_image import Instant, StampedImage
from kosmos_ros.node.middleware.callbacks import LogFailure, never_raises
from kosmos_ros.node.middleware.qos import BEST_EFFORT_IMAGES, RELIABLE_IMAGES
from kosmos_ros.node.parameters import Settings

_RATE_WINDOW = 30


class Camera:
    """Subscribes between `open` and `close`, and keeps the newest message, not decoded.

    :param prefix: '' or 'NAME/', in front of the topics `image` and `camera_info`.
    :param compressed: subscribe to what image_transport publishes beside the image.
    :param reliable: have lost parts of images sent again; best-effort cameras do not match then.
    :param on_image: called for every message, on the executor: it must return at once.
    :param log: where failures of the callbacks go.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        prefix: str,
        compressed: bool,
        reliable: bool,
        on_image: Callable[['Camera'], None],
        log: LogFailure,
    ) -> None:
        self.name = name
        self._node = node
        self._kind = CompressedImage if compressed else Image
        self._qos = RELIABLE_IMAGES if reliable else BEST_EFFORT_IMAGES
        # image_transport appends to the name that `image` has been remapped to.
        image = node.resolve_topic_name(f'{prefix}image')
        self.topic = f'{image}/compressed' if compressed else image
        self._info_topic = f'{prefix}camera_info'
        self._on_image = on_image
        self._log = log
        self._group = MutuallyExclusiveCallbackGroup()
        self._subscriptions: list[object] = []
        self._lock = threading.Lock()
        self._newest: StampedImage | None = None
        self._info: CameraInfo | None = None
        self._arrivals: deque[float] = deque(maxlen=_RATE_WINDOW)
        self.frames = 0
        self.incompatible = ''

    def open(self) -> None:
        """Subscribe."""
        warn_of_qos = never_raises(self._log, self._warn_of_qos)
        keep, keep_info = (never_raises(self._log, one) for one in (self._keep, self._keep_info))
        events = SubscriptionEventCallbacks(incompatible_qos=warn_of_qos)
        self._subscriptions = [
            self._node.create_subscription(
                self._kind, self.topic, keep, self._qos,
                callback_group=self._group, event_callbacks=events,
            ),
            self._node.create_subscription(
                CameraInfo, self._info_topic, keep_info, BEST_EFFORT_IMAGES,
                callback_group=self._group,
            ),
        ]  # fmt: skip

    def close(self) -> None:
        """Unsubscribe and forget the newest message."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        with self._lock:
            self._newest = self._info = None
            self._arrivals.clear()

    def now(self) -> Instant:
        """Return this moment."""
        return Instant(self._node.get_clock().now().nanoseconds, time.monotonic())

    def newest(self, max_age_s: float) -> StampedImage:
        """Return the newest message.

        :raises NoImage: when none has come.
        :raises StaleImage: when it is too old.
        """
        with self._lock:
            stamped = self._newest
        if stamped is None:
            raise NoImage(self._why_no_image())
        now = self.now()
        age_s = self.age_s(stamped, now)
        if age_s > max_age_s:
            raise StaleImage(self._why_stale(stamped, now, age_s, max_age_s))
        return stamped

    def age_s(self, stamped: StampedImage, now: Instant) -> float:
        """Return how old a message is now."""
        return stamped.age_s(now, self._node.get_clock().ros_time_is_active)

    @property
    def info(self) -> CameraInfo | None:
        """The newest calibration, if any has come."""
        with self._lock:
            return self._info

    @property
    def newest_age_s(self) -> float | None:
        """Age of the newest frame; None when there is none."""
        with self._lock:
            stamped = self._newest
        return None if stamped is None else self.age_s(stamped, self.now())

    @property
    def rate_hz(self) -> float:
        """How many frames per second have come lately."""
        with self._lock:
            times = list(self._arrivals)
        if len(times) < 2 or times[-1] == times[0]:
            return 0.0
        # The rate of a camera that has stopped falls with every second.
        end = max(times[-1], time.monotonic() - 1.0)
        return (len(times) - 1) / (end - times[0])

    @property
    def publishers(self) -> int:
        """How many publish on its topic."""
        return int(self._node.count_publishers(self.topic))

    def _keep(self, message: Image | CompressedImage) -> None:
        stamped = StampedImage(message, self.now())
        with self._lock:
            self._newest = stamped
            self._arrivals.append(stamped.received.monotonic_s)
            self.frames += 1
        self._on_image(self)

    def _keep_info(self, message: CameraInfo) -> None:
        with self._lock:
            self._info = message

    def _warn_of_qos(self, event: object) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)  # type: ignore[attr-defined]
        if not self.incompatible:
            self._node.get_logger().warning(
                f'A publisher on {self.topic} offers a QoS that does not fit ({policy}): '
                f'nothing will come from it.  See `ros2 topic info -v {self.topic}`.'
            )
        self.incompatible = policy

    def _why_no_image(self) -> str:
        kind = self._kind.__name__
        if self.incompatible:
            return (
                f'No image has come: a publisher on {self.topic} offers a QoS that does not fit '
                f'({self.incompatible}); see `ros2 topic info -v {self.topic}`.'
            )
        if count := self.publishers:
            return (
                f'No image has come yet on {self.topic}, although it has {count} publisher(s); '
                f'check with `ros2 topic hz {self.topic}` that it publishes sensor_msgs/{kind}.'
            )
        return (
            f'No image has come: nobody publishes sensor_msgs/{kind} on {self.topic}; '
            'start the camera or remap image to its topic.'
        )

    def _why_stale(
        self, stamped: StampedImage, now: Instant, age_s: float, max_age_s: float
    ) -> str:
        since_arrival_s = now.monotonic_s - stamped.received.monotonic_s
        if age_s - since_arrival_s > max_age_s:
            return (
                f'Images on {self.topic} are {age_s - since_arrival_s:.3f} s old by their stamps '
                "when they arrive; check the camera's clock (and use_sim_time), and what delays "
                'them.'
            )
        return (
            f'The newest image on {self.topic} is {age_s:.3f} s old, allowed are {max_age_s:g} s; '
            'check the camera or allow a larger max_image_age.'
        )


def cameras_of(
    node: Node, settings: Settings, on_image: Callable[[Camera], None], log: LogFailure
) -> dict[str, Camera]:
    """Make the cameras that the settings name; with several, each has topics under its name."""
    several = len(settings.cameras) > 1
    return {
        name: Camera(
            node,
            name,
            f'{name}/' if several else '',
            settings.image_transport == 'compressed',
            settings.image_reliability == 'reliable',
            on_image,
            log,
        )
        for name in settings.cameras
    }
