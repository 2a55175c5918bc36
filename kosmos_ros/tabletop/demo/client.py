"""The client of `make demo`: it calls the node's service and action over DDS, with time limits."""

from collections.abc import Sequence
from dataclasses import dataclass
import time
from typing import Any, Protocol

from kosmos_ros_msgs.action import Ask as AskAction
from kosmos_ros_msgs.msg import Region as RegionMsg
from kosmos_ros_msgs.srv import Refer
import numpy as np
import rclpy
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.task import Future
from sensor_msgs.msg import Image
from vision_msgs.msg import BoundingBox2D

from kosmos_ros.engine.base import Answer, PhraseGrounding, ScoredBox
from kosmos_ros.errors import KosmosError, Status
from kosmos_ros.limits import Limits
from kosmos_ros.model.boxes import Box
from kosmos_ros.node.conversion.images import decode_raw_image
from kosmos_ros.node.middleware.qos import CALLS
from kosmos_ros.tabletop.demo.scenes import AskQuestion, ReferQuestion
from kosmos_ros.tabletop.world.pinhole import CAMERA

_START_S = 60.0
_ANSWER_S = 20.0
# Statuses that occur while the camera or the node is starting.
_STARTING = {Status.NOT_ACTIVE, Status.NO_IMAGE, Status.STALE_IMAGE}

Corners = tuple[float, float, float, float]


class DemoError(KosmosError):
    """The demo cannot go on; the message says why and what to do."""


class WatchedProcess(Protocol):
    """A process that must run while the client waits for answers."""

    def check(self) -> None:
        """Check that the process runs.

        :raises DemoError: when it has ended.
        """


@dataclass(frozen=True, slots=True)
class ReferAnswer:
    """One answer of the service; `corners_px` is None if there is no box."""

    question: ReferQuestion
    response: Refer.Response
    corners_px: Corners | None
    score: float
    iou: float

    @property
    def is_hit(self) -> bool:
        """Return whether the IoU is at least 0.5, as benchmarks count hits."""
        return self.iou >= 0.5


@dataclass(frozen=True, slots=True)
class AskAnswer:
    """One answer of the action."""

    question: AskQuestion
    result: AskAction.Result
    answer: Answer

    @property
    def is_correct(self) -> bool | None:
        """Return whether the answer is correct; None if the question has several answers."""
        return self.question.is_correct(self.answer.text)


class DemoClient:
    """A client of the node that checks the processes while it waits."""

    def __init__(self, node: Node, processes: Sequence[WatchedProcess]) -> None:
        self._node, self._processes = node, processes
        self._refer = node.create_client(Refer, 'refer', qos_profile=CALLS)
        self._ask = ActionClient(
            node,
            AskAction,
            'ask',
            goal_service_qos_profile=CALLS,
            result_service_qos_profile=CALLS,
            cancel_service_qos_profile=CALLS,
        )
        self._newest: Image | None = None
        node.create_subscription(Image, 'image', self._store_image, qos_profile_sensor_data)

    def wait_until_ready(self, expression: str) -> None:
        """Wait for service and action, then until the node has an active engine and a frame.

        :raises DemoError: when the time limit is exceeded, or a process has ended.
        """
        deadline = time.monotonic() + _START_S
        while not self._refer.wait_for_service(timeout_sec=0.2):
            self._check(deadline, 'the service /refer did not appear')
        while not self._ask.wait_for_server(timeout_sec=0.2):
            self._check(deadline, 'the action /ask did not appear')
        while self._call(expression).status in _STARTING:
            self._check(deadline, 'the node answers, but has no image')

    def refer(self, question: ReferQuestion) -> ReferAnswer:
        """Locate a thing in the newest frame."""
        response = self._call(question.expression)
        if not response.detections.detections:
            return ReferAnswer(question, response, None, 0.0, 0.0)
        detection = response.detections.detections[0]
        corners = _corners(detection.bbox)
        iou = _box_from_pixels(corners).iou(_box_from_pixels(question.box_px))
        return ReferAnswer(question, response, corners, detection.results[0].hypothesis.score, iou)

    def ask(self, question: AskQuestion) -> AskAnswer:
        """Ask a question about the newest frame."""
        ask = question.ask
        regions = [
            RegionMsg(box=_box_message(region.box_in_image), phrase=region.phrase)
            for region in ask.regions
        ]
        goal = AskAction.Goal(task=int(ask.task), text=ask.text, regions=regions)
        what = f'no answer to {ask.task.name}'
        handle = self._wait(self._ask.send_goal_async(goal), what)
        if not handle.accepted:
            raise DemoError(f'the node has refused {ask.task.name}; its log says why')
        result = self._wait(handle.get_result_async(), what).result
        groundings = tuple(
            PhraseGrounding(
                one.phrase,
                (one.first, one.last),
                tuple(
                    ScoredBox(_box_from_pixels(_corners(box)), score)
                    for box, score in zip(one.boxes, one.scores, strict=True)
                ),
            )
            for one in result.groundings
        )
        return AskAnswer(question, result, Answer(result.text, groundings))

    def image(self) -> np.ndarray:
        """Return the newest frame, uint8[height, width, 3]."""
        deadline = time.monotonic() + _ANSWER_S
        while self._newest is None:
            rclpy.spin_once(self._node, timeout_sec=0.2)
            self._check(deadline, 'no image came from the camera')
        return decode_raw_image(self._newest, Limits()).pixels

    def _store_image(self, message: Image) -> None:
        self._newest = message

    def _call(self, expression: str) -> Refer.Response:
        future = self._refer.call_async(Refer.Request(expression=expression))
        return self._wait(future, f'no answer to {expression!r}')

    def _wait(self, future: Future, what: str) -> Any:
        deadline = time.monotonic() + _ANSWER_S
        while not future.done():
            rclpy.spin_once(self._node, timeout_sec=0.2)
            self._check(deadline, what)
        return future.result()

    def _check(self, deadline: float, what: str) -> None:
        for process in self._processes:
            process.check()
        if time.monotonic() > deadline:
            raise DemoError(
                f'{what} in time; processes on this machine must be able to exchange UDP packets '
                'on the loopback interface (look for a firewall), or choose another ROS_DOMAIN_ID'
            )


def _box_from_pixels(corners_px: Corners) -> Box:
    return Box.from_pixels(corners_px, CAMERA.width, CAMERA.height)


def _corners(box: BoundingBox2D) -> Corners:
    """Return x0, y0, x1, y1 in pixels."""
    centre = box.center.position
    x0, y0 = centre.x - box.size_x / 2, centre.y - box.size_y / 2
    return x0, y0, x0 + box.size_x, y0 + box.size_y


def _box_message(box: Box) -> BoundingBox2D:
    message = BoundingBox2D()
    message.center.position.x = (box.x0 + box.x1) / 2 * CAMERA.width
    message.center.position.y = (box.y0 + box.y1) / 2 * CAMERA.height
    message.size_x, message.size_y = box.width * CAMERA.width, box.height * CAMERA.height
    return message
