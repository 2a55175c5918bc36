"""The other side of the node: a process with a camera, callers, and listeners, and the node's own
process beside it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import threading
import time

from kosmos_ros_msgs.action import Ask
from kosmos_ros_msgs.srv import Refer
import numpy as np
import rclpy
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from kosmos_ros.environment import child_environment
from kosmos_ros.errors import Status

ENOUGH_S = 30.0
ROOT = Path(__file__).parents[2]
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def free_domain() -> int:
    """A ROS domain whose discovery port nobody on this machine has opened."""
    first = os.getpid() % 100
    for offset in range(100):
        domain = 1 + (first + offset) % 100
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', 7400 + 250 * domain))
            except OSError:
                continue
        return domain
    raise RuntimeError('no ROS domain is free')


def wait_until(condition: Callable[[], object], what: str, within_s: float = ENOUGH_S) -> None:
    """Poll a condition that no event announces."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f'{what} did not happen within {within_s} s'
        time.sleep(0.01)


class NodeProcess:
    """`kosmos_node` as its own process, with a fake engine that follows a script."""

    def __init__(
        self,
        folder: Path,
        domain: int,
        namespace: str,
        script: dict[str, object],
        arguments: tuple[str, ...] = (),
    ) -> None:
        self.namespace = namespace
        path = folder / 'script.json'
        path.write_text(json.dumps(script))
        self.log = folder / 'log.txt'
        command = [sys.executable, '-m', 'kosmos_ros.node.main', '--ros-args']
        if namespace:
            command += ['-r', f'__ns:={namespace}']
        command += ['-p', f'engine:=fake:{path}', *arguments]
        environment = child_environment() | {
            'ROS_DOMAIN_ID': str(domain),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
            'ROS_LOG_DIR': str(folder),
            'PYTHONPATH': os.pathsep.join([str(ROOT), str(ROOT / 'tests' / 'plugins')]),
        }
        with self.log.open('wb') as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
            )

    def stop(self, number: int = signal.SIGINT, within_s: float = 5.0) -> int:
        """Signal it, and give the exit code."""
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors='replace')

    def end(self) -> None:
        """Whatever a test has left of it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Robot:
    """A node in this process that spins in a thread of its own."""

    def __init__(self, domain: int, namespace: str) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = Node('robot', namespace=namespace or None, context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        # Tests send more at once than the usual ten, each of which the middleware must keep.
        many = QoSProfile(depth=200)
        self.client = self.node.create_client(Refer, 'refer', qos_profile=many)
        self.asker = ActionClient(
            self.node,
            Ask,
            'ask',
            goal_service_qos_profile=many,
            result_service_qos_profile=many,
            cancel_service_qos_profile=many,
            feedback_sub_qos_profile=many,
        )
        self.image = self.node.create_publisher(Image, 'image', 2)
        self.jpeg = self.node.create_publisher(CompressedImage, 'image/compressed', 2)
        self.info = self.node.create_publisher(CameraInfo, 'camera_info', 2)
        self.heard: dict[str, list[object]] = {}
        self._thread = threading.Thread(target=self.executor.spin, name='robot')
        self._thread.start()

    def close(self) -> None:
        """End the thread and leave the domain."""
        self.executor.shutdown()
        self._thread.join(ENOUGH_S)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def wait_for_node(self) -> None:
        """Until the service and the action are there."""
        assert self.client.wait_for_service(ENOUGH_S), 'the service did not appear'
        assert self.asker.wait_for_server(ENOUGH_S), 'the action did not appear'

    def send(self, **fields: object) -> 'Pending':
        """Call `refer` without waiting."""
        return Pending(self.client.call_async(Refer.Request(**fields)))

    def call(self, expression: str = 'the red ball', **fields: object) -> Refer.Response:
        """Call `refer` and wait."""
        return self.send(expression=expression, **fields).result()

    def begin(self, **fields: object) -> 'Asked':
        """Send a goal of the action `ask` without waiting."""
        return Asked(self.asker, Ask.Goal(**fields))

    def answer(self, **fields: object) -> Ask.Result:
        """Send a goal and wait for its result."""
        return self.begin(**fields).result()

    def ask(self, kind: type, name: str, request: object) -> object:
        """Call any other service and wait."""
        client = self.node.create_client(kind, name)
        assert client.wait_for_service(ENOUGH_S), f'no service {name}'
        answer = Pending(client.call_async(request)).result()
        self.node.destroy_client(client)
        return answer

    def listen(self, kind: type, topic: str, qos: QoSProfile | int = 10) -> list[object]:
        """A list that grows with every message."""
        messages: list[object] = []
        subscription = self.node.create_subscription(kind, topic, messages.append, qos)
        wait_until(subscription.get_publisher_count, f'a publisher of {topic}')
        return messages

    @contextmanager
    def streaming(self, message: Image | CompressedImage, stamp: bool = True) -> Iterator[None]:
        """Publish an image at 50 Hz, stamped with the time; from the moment somebody listens."""
        publisher = self.jpeg if isinstance(message, CompressedImage) else self.image
        wait_until(publisher.get_subscription_count, f'a subscriber of {publisher.topic}')

        def publish() -> None:
            if stamp:
                message.header.stamp = self.node.get_clock().now().to_msg()
            publisher.publish(message)

        timer = self.node.create_timer(0.02, publish)
        try:
            yield
        finally:
            self.node.destroy_timer(timer)

    def wait_for_status(self, status: Status, **fields: object) -> Refer.Response:
        """Call until the answer has this status: for what takes effect with the next frame."""
        responses: list[Refer.Response] = []

        def reached() -> bool:
            responses.append(self.call(**fields))
            return responses[-1].status == status

        wait_until(reached, f'{status.name}')
        return responses[-1]


class Pending:
    """An answer that is on its way."""

    def __init__(self, future: object) -> None:
        self._future = future
        self._done = threading.Event()
        future.add_done_callback(lambda _: self._done.set())
        self.sent_s = time.monotonic()

    def result(self, within_s: float = ENOUGH_S) -> Refer.Response:
        """The answer; the test fails when there is none in time."""
        assert self._done.wait(within_s), f'no answer within {within_s} s'
        return self._future.result()


class Asked:
    """A goal that is on its way."""

    def __init__(self, client: ActionClient, goal: Ask.Goal) -> None:
        self.feedback: list[Ask.Feedback] = []
        self.state = 0
        self._accepted = Pending(
            client.send_goal_async(goal, lambda message: self.feedback.append(message.feedback))
        )
        self._result: Pending | None = None

    def wait_for_words(self) -> str:
        """Until it has said something: what."""
        wait_until(lambda: any(one.text for one in self.feedback), 'the first word')
        return str(self.feedback[-1].text)

    def cancel(self) -> Pending:
        """Ask for its cancellation, without waiting."""
        return Pending(self._handle.cancel_goal_async())

    def expect(self) -> 'Asked':
        """Ask for the result, without waiting."""
        self._result = self._result or Pending(self._handle.get_result_async())
        return self

    def result(self, within_s: float = ENOUGH_S) -> Ask.Result:
        """Its result; then `state` is the goal's."""
        self.expect()
        answer = self._result.result(within_s)
        self.state = answer.status
        return answer.result

    @property
    def _handle(self) -> object:
        handle = self._accepted.result()
        assert handle.accepted
        return handle


def picture(
    width: int = 64, height: int = 48, box: tuple[int, int, int, int] = (16, 12, 40, 30)
) -> np.ndarray:
    """Dark blue with a red rectangle: RGB uint8[height, width, 3]."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:] = (10, 20, 90)
    image[box[1] : box[3], box[0] : box[2]] = (255, 0, 0)
    return image


def image_of(rgb: np.ndarray, encoding: str = 'rgb8', frame_id: str = 'eye') -> Image:
    """The picture as a driver would send it."""
    order = {'rgb8': rgb, 'bgr8': rgb[:, :, ::-1]}
    alpha = np.full((*rgb.shape[:2], 1), 7, np.uint8)
    order['rgba8'] = np.concatenate([rgb, alpha], axis=2)
    order['bgra8'] = np.concatenate([rgb[:, :, ::-1], alpha], axis=2)
    order['mono8'] = rgb[:, :, :1]
    data = np.ascontiguousarray(order[encoding])
    height, width, channels = data.shape
    return Image(
        header=Header(frame_id=frame_id),
        height=height,
        width=width,
        encoding=encoding,
        step=width * channels,
        data=data.tobytes(),
    )
