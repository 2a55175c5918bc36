"""What the node knows of a camera's image, before and after it is decoded."""

from dataclasses import dataclass

from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from std_msgs.msg import Header

from kosmos_ros.engine.base import Image

# A clock that has gone on by this much more or less than the monotonic one was set.
_JUMP_S = 0.5


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on two clocks: the node's, which may be set or simulated, and a monotonic one."""

    ros_ns: int
    monotonic_s: float


@dataclass(frozen=True, slots=True, eq=False)
class StampedImage:
    """A message as it came from a camera or in a request, not decoded yet."""

    message: ImageMsg | CompressedImage
    received: Instant

    def age_s(self, now: Instant, simulated_time: bool = False) -> float:
        """Return how old the image is: by its stamp, as long as stamp and clock can be believed.

        A stamp of zero or from the future says nothing, and neither does the difference to a clock
        that was set since the arrival; then the time since the arrival counts.

        :param simulated_time: whether the node's clock may stand still or run at another speed.
        """
        stamp = self.message.header.stamp
        stamp_ns = int(stamp.sec * 1_000_000_000 + stamp.nanosec)
        since_arrival_s = now.monotonic_s - self.received.monotonic_s
        by_stamp_s = (now.ros_ns - stamp_ns) / 1e9
        if stamp_ns == 0 or by_stamp_s < 0:
            return since_arrival_s
        jump_s = (now.ros_ns - self.received.ros_ns) / 1e9 - since_arrival_s
        if simulated_time or abs(jump_s) < _JUMP_S:
            return by_stamp_s
        return max(by_stamp_s - jump_s, since_arrival_s)


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """An image whose message was checked.

    :param pixels: RGB, uint8[height, width, 3].
    :param header: of its message.
    """

    pixels: Image
    header: Header

    @property
    def width(self) -> int:
        """Pixels across."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels down."""
        return int(self.pixels.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class ImageReference:
    """What is kept of an image whose pixels are released: what boxes in it need.

    :param stamped: its message without data.
    """

    stamped: StampedImage
    width: int
    height: int

    @classmethod
    def of(cls, stamped: StampedImage, image: DecodedImage) -> 'ImageReference':
        """Return the reference to an image."""
        without_data = StampedImage(ImageMsg(header=image.header), stamped.received)
        return cls(without_data, image.width, image.height)

    @property
    def header(self) -> Header:
        """The image's header."""
        return self.stamped.message.header
