"""`make demo`: simulated camera and node as processes of their own, and questions to them over DDS
from this one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import json
import os
from pathlib import Path
import signal
import socket
from statistics import median
import subprocess
import sys
import tempfile
import time

from kosmos_ros_msgs.srv import Refer
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from kosmos_ros.drawing import Annotation, poster
from kosmos_ros.environment import child_environment
from kosmos_ros.errors import KosmosError, Status
from kosmos_ros.limits import Limits
from kosmos_ros.model.boxes import Box
from kosmos_ros.node.messages import frame_from_msg
from kosmos_ros.tabletop.pinhole import CAMERA
from kosmos_ros.tabletop.stage import Asked, questions_for

_QUESTIONS = 6
_HITS_WANTED = 5
_START_S = 60.0
_ANSWER_S = 20.0
# DDS adds 250 ports per domain to this one (DDSI-RTPS 2.5, 9.6.2.3); up to 101 they stay below
# Linux's ephemeral ports.
_DISCOVERY_PORT, _PORTS_PER_DOMAIN, _LAST_DOMAIN = 7400, 250, 101
# Not answers but a camera or a node that is still starting.
_STARTING = {Status.NOT_ACTIVE, Status.NO_IMAGE, Status.STALE_IMAGE}


class DemoError(KosmosError):
    """The demo cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered question; x0, y0, x1, y1 in pixels, None when there was no box."""

    asked: Asked
    response: Refer.Response
    corners_px: tuple[float, float, float, float] | None
    score: float
    iou: float


def run_demo(seed: int, picture: Path) -> int:
    """Run everything, print the table and one JSON line, draw `picture`; returns the exit code.

    :raises DemoError: when a process dies or does not answer in time.
    """
    if not picture.parent.is_dir():
        raise DemoError(
            f'{picture.parent} is not a directory; choose another place for the picture'
        )
    domain = _domain()
    os.environ.update(ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST')
    questions = questions_for(seed, _QUESTIONS)
    print(f'starting camera and node (ROS_DOMAIN_ID={domain}, scene {seed})', file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix='kosmos_ros_') as logs:
        camera = _Process('tabletop_camera', ['-p', f'seed:={seed}'], Path(logs))
        node = _Process('main', [], Path(logs))
        with camera, node, _client() as client:
            asker = _Asker(client, [camera, node])
            asker.wait_until_ready(questions[0].expression)
            answers = [asker.ask(question) for question in questions]
            image = asker.image()
    _print_table(answers)
    _draw(image, answers, picture)
    print(f'\npicture: {picture.resolve()}', file=sys.stderr)
    ok = sum(answer.response.status == Status.OK for answer in answers)
    hits = sum(answer.iou >= 0.5 for answer in answers)
    summary = {
        'calls': len(answers),
        'ok': ok,
        'iou50': hits,
        'inference_ms_p50': round(
            median(answer.response.timing.inference_ms for answer in answers), 2
        ),
        'total_ms_p50': round(median(answer.response.timing.total_ms for answer in answers), 2),
        'engine': answers[0].response.engine,
        'image': str(picture.resolve()),
    }
    print(json.dumps(summary), flush=True)
    return 0 if ok == len(answers) and hits >= _HITS_WANTED else 1


class _Process:
    """A module of `kosmos_ros.node` as a process; its output goes to a file that is shown when it
    fails.
    """

    def __init__(self, module: str, arguments: list[str], logs: Path) -> None:
        self._module, self._log = module, logs / f'{module}.log'
        self._command = [
            sys.executable,
            '-m',
            f'kosmos_ros.node.{module}',
            '--ros-args',
            *arguments,
        ]

    def __enter__(self) -> '_Process':
        with self._log.open('wb') as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(),
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        """:raises DemoError: with the last line that the process wrote, when it has ended."""
        if (code := self._process.poll()) is not None:
            lines = self._log.read_text(errors='replace').strip().splitlines() or ['(no output)']
            raise DemoError(
                f'kosmos_ros.node.{self._module} ended with exit code {code}: {lines[-1]}'
            )


@contextmanager
def _client() -> Iterator[Node]:
    rclpy.init()
    try:
        node = rclpy.create_node('kosmos_demo')
        yield node
        node.destroy_node()
    except ExternalShutdownException:
        raise KeyboardInterrupt from None
    finally:
        rclpy.try_shutdown()


class _Asker:
    """Calls `refer` and watches over the processes meanwhile."""

    def __init__(self, node: Node, processes: list[_Process]) -> None:
        self._node, self._processes = node, processes
        self._client = node.create_client(Refer, 'refer')
        self._newest: Image | None = None
        node.create_subscription(Image, 'image', self._keep, qos_profile_sensor_data)

    def wait_until_ready(self, expression: str) -> None:
        """Wait for the service, then until it has an active engine and a frame."""
        deadline = time.monotonic() + _START_S
        while not self._client.wait_for_service(timeout_sec=0.2):
            self._check(deadline, 'the service /refer did not appear')
        while self._call(expression).status in _STARTING:
            self._check(deadline, 'the node answers, but has no image')

    def ask(self, asked: Asked) -> Answer:
        """One question about the newest frame."""
        response = self._call(asked.expression)
        if not response.detections.detections:
            return Answer(asked, response, None, 0.0, 0.0)
        detection = response.detections.detections[0]
        centre, box = detection.bbox.center.position, detection.bbox
        x0, y0 = centre.x - box.size_x / 2, centre.y - box.size_y / 2
        corners = (x0, y0, x0 + box.size_x, y0 + box.size_y)
        found, truth = (
            Box.from_pixels(px, CAMERA.width, CAMERA.height) for px in (corners, asked.box_px)
        )
        score = detection.results[0].hypothesis.score
        return Answer(asked, response, corners, score, found.iou(truth))

    def image(self) -> np.ndarray:
        """The newest frame, uint8[height, width, 3]."""
        deadline = time.monotonic() + _ANSWER_S
        while self._newest is None:
            rclpy.spin_once(self._node, timeout_sec=0.2)
            self._check(deadline, 'no image came from the camera')
        return frame_from_msg(self._newest, Limits()).image

    def _keep(self, message: Image) -> None:
        self._newest = message

    def _call(self, expression: str) -> Refer.Response:
        future = self._client.call_async(Refer.Request(expression=expression))
        deadline = time.monotonic() + _ANSWER_S
        while not future.done():
            rclpy.spin_once(self._node, timeout_sec=0.2)
            self._check(deadline, f'no answer to {expression!r}')
        return future.result()

    def _check(self, deadline: float, what: str) -> None:
        for process in self._processes:
            process.check()
        if time.monotonic() > deadline:
            raise DemoError(
                f'{what} in time; processes on this machine must be able to exchange UDP packets '
                'on the loopback interface (look for a firewall), or choose another ROS_DOMAIN_ID'
            )


def _domain() -> int:
    """The user's ROS_DOMAIN_ID, else one whose discovery port nobody on this machine has
    opened.
    """
    chosen = os.environ.get('ROS_DOMAIN_ID', '')
    if chosen:
        if not chosen.isdecimal() or int(chosen) > _LAST_DOMAIN:
            raise DemoError(f'ROS_DOMAIN_ID is {chosen!r}; unset it or choose 0 to {_LAST_DOMAIN}')
        return int(chosen)
    first = os.getpid() % _LAST_DOMAIN
    for offset in range(_LAST_DOMAIN):
        domain = 1 + (first + offset) % _LAST_DOMAIN
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', _DISCOVERY_PORT + _PORTS_PER_DOMAIN * domain))
            except OSError:
                continue
        return domain
    raise DemoError(
        'all ROS domains are in use on this machine; stop some ROS processes or set ROS_DOMAIN_ID'
    )


def _print_table(answers: list[Answer]) -> None:
    width = max(len(answer.asked.expression) for answer in answers)
    figures = f'{"score":>6} {"IoU":>5} {"age ms":>7} {"ms":>6}'
    print(f'\n{"expression":<{width}}  {"box x0 y0 x1 y1 (px)":<20} {figures}')
    for answer in answers:
        timing = answer.response.timing
        corners = answer.response.message
        if answer.corners_px:
            corners = ' '.join(f'{value:4.0f}' for value in answer.corners_px)
        figures = (
            f'{answer.score:6.2f} {answer.iou:5.2f} '
            f'{timing.image_age_ms:7.0f} {timing.total_ms:6.1f}'
        )
        print(f'{answer.asked.expression:<{width}}  {corners:<20} {figures}')


def _draw(image: np.ndarray, answers: list[Answer], path: Path) -> None:
    height, width, _ = image.shape
    annotations = [
        Annotation(
            answer.asked.expression,
            Box.from_pixels(answer.corners_px, width, height),
            answer.score,
        )
        for answer in answers
        if answer.corners_px
    ]
    poster(image, annotations).save(path)
