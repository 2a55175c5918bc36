"""What the node knows of a camera's image, before and after it has been looked into."""

from dataclasses import dataclass

from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMsg
from std_msgs.msg import Header

from kosmos_ros.engine.base import Image

# A clock that has gone on by this much more or less than the monotonic one was set anew.
_JUMP_S = 0.5


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on two clocks: the node's, which may be set or simulated, and a monotonic one."""

    ros_ns: int
    monotonic_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """A message as it came from a camera or in a request; nobody has looked into it yet."""

    message: ImageMsg | CompressedImage
    received: Instant

    def age_s(self, now: Instant, simulated_time: bool = False) -> float:
        """How old the picture is: by its stamp, as long as stamp and clock can be believed.

        A stamp of zero or from the future says nothing, and after a jump of the clock the
        difference to it says nothing either; then the time since the arrival counts.

        :param simulated_time: whether the node's clock may stand still or run at another speed.
        """
        stamp = self.message.header.stamp
        stamp_ns = int(stamp.sec * 1_000_000_000 + stamp.nanosec)
        here_s = now.monotonic_s - self.received.monotonic_s
        by_stamp_s = (now.ros_ns - stamp_ns) / 1e9
        if stamp_ns == 0 or by_stamp_s < 0:
            return here_s
        jump_s = (now.ros_ns - self.received.ros_ns) / 1e9 - here_s
        if simulated_time or abs(jump_s) < _JUMP_S:
            return by_stamp_s
        return max(by_stamp_s - jump_s, here_s)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A picture that can be relied on.

    :param image: RGB, uint8[height, width, 3].
    :param header: of the message it came in.
    """

    image: Image
    header: Header

    @property
    def width(self) -> int:
        """Pixels across."""
        return int(self.image.shape[1])

    @property
    def height(self) -> int:
        """Pixels down."""
        return int(self.image.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is remembered of a picture whose pixels have gone: what boxes about it need.

    :param shot: its message without data.
    """

    shot: Shot
    width: int
    height: int

    @classmethod
    def of(cls, shot: Shot, frame: Frame) -> 'Scene':
        """The memory of a picture."""
        return cls(Shot(ImageMsg(header=frame.header), shot.received), frame.width, frame.height)

    @property
    def header(self) -> Header:
        """The picture's."""
        return self.shot.message.header
