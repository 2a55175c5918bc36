"""The node of the simulated camera.  It publishes what a driver would, without ground truth."""

from collections.abc import Sequence
import io
import signal
import sys

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from kosmos_ros.node.conversion.images import image_message
from kosmos_ros.tabletop.demo.scenes import DEFAULT_SEED, view_for
from kosmos_ros.tabletop.world.pinhole import Intrinsics
from kosmos_ros.tabletop.world.render import add_sensor_noise

FRAME_ID = 'camera_color_optical_frame'
# Drivers publish reliably (REP 2003), which is compatible with reliable and best-effort
# subscribers.
_QOS = QoSProfile(depth=2)
_JPEG_QUALITY = 90


class TabletopCamera(Node):  # type: ignore[misc]
    """A camera that publishes the scene of a seed at a fixed rate, each frame with new noise."""

    def __init__(self) -> None:
        super().__init__('tabletop_camera')
        seed = self._declare('seed', DEFAULT_SEED, 'Which scene is on the table.', 0, 2**31 - 1)
        rate = self._declare('rate', 15.0, 'Frames per second.', 0.1, 100.0)
        self._view = view_for(int(seed))
        self._noise = np.random.default_rng()
        self._info = camera_info(self._view.camera)
        self._image = self.create_publisher(Image, 'image', _QOS)
        topic = self.resolve_topic_name('image')
        self._jpeg = self.create_publisher(CompressedImage, f'{topic}/compressed', _QOS)
        self._depth = self.create_publisher(Image, 'depth/image', _QOS)
        self._infos = self.create_publisher(CameraInfo, 'camera_info', _QOS)
        self._stamp = self.get_clock().now
        self.create_timer(1 / rate, self._publish)
        self.get_logger().info(f'scene {seed} at {rate:g} Hz on {topic}')

    def _publish(self) -> None:
        header = Header(stamp=self._stamp().to_msg(), frame_id=FRAME_ID)
        self._info.header = header
        self._infos.publish(self._info)
        if not (
            _has_subscribers(self._image)
            or _has_subscribers(self._jpeg)
            or _has_subscribers(self._depth)
        ):
            return
        rgb = add_sensor_noise(self._view.rgb, self._noise)
        if _has_subscribers(self._image):
            self._image.publish(image_message(rgb, 'rgb8', header))
        if _has_subscribers(self._jpeg):
            self._jpeg.publish(_compressed(rgb, header))
        if _has_subscribers(self._depth):
            self._depth.publish(image_message(self._view.depth_mm, '16UC1', header))

    def _declare(
        self, name: str, default: int | float, description: str, low: float, high: float
    ) -> float:
        descriptor = ParameterDescriptor(name=name, description=description, read_only=True)
        if isinstance(default, float):
            bounds = FloatingPointRange(from_value=low, to_value=high)
            descriptor.floating_point_range = [bounds]
        else:
            whole = IntegerRange(from_value=int(low), to_value=int(high), step=1)
            descriptor.integer_range = [whole]
        value: float = self.declare_parameter(name, default, descriptor).value
        return value


def run(arguments: Sequence[str]) -> int:
    """Publish until SIGINT or SIGTERM; return the exit code."""
    rclpy.init(args=list(arguments))
    try:
        rclpy.spin(TabletopCamera())
    except ParameterException as error:
        print(f'tabletop_camera: {error}', file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        # Under `ros2 launch`, Ctrl-C arrives twice: from the terminal and from the launcher.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    finally:
        rclpy.try_shutdown()
    return 0


def camera_info(camera: Intrinsics) -> CameraInfo:
    """Return the calibration of a pinhole camera without distortion."""
    info = CameraInfo(width=camera.width, height=camera.height, distortion_model='plumb_bob')
    info.d = [0.0] * 5
    info.k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [
        *(camera.fx, 0.0, camera.cx, 0.0),
        *(0.0, camera.fy, camera.cy, 0.0),
        *(0.0, 0.0, 1.0, 0.0),
    ]
    return info


def _has_subscribers(publisher: Publisher) -> bool:
    return bool(publisher.get_subscription_count())


def _compressed(rgb: npt.NDArray[np.uint8], header: Header) -> CompressedImage:
    buffer = io.BytesIO()
    Pillow.fromarray(rgb).save(buffer, 'JPEG', quality=_JPEG_QUALITY)
    message = CompressedImage(header=header, format='rgb8; jpeg compressed bgr8')
    message.data.frombytes(buffer.getvalue())
    return message
