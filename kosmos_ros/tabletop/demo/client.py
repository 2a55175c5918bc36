"""The client of `make demo`: asks the node by its service and its action, over DDS, and never
waits for ever.
"""

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
from kosmos_ros.node.conversion.messages import frame_from_msg
from kosmos_ros.node.middleware.qos import CALLS
from kosmos_ros.tabletop.demo.scenes import Asked, Spoken
from kosmos_ros.tabletop.world.pinhole import CAMERA

_START_S = 60.0
_ANSWER_S = 20.0
# Not answers but a camera or a node that is still starting.
_STARTING = {Status.NOT_ACTIVE, Status.NO_IMAGE, Status.STALE_IMAGE}

Corners = tuple[float, float, float, float]


class DemoError(KosmosError):
    """The demo cannot go on; the message says why and what to do."""


class Watched(Protocol):
    """A process that answers depend on."""

    def check(self) -> None:
        """:raises DemoError: when it has ended."""


@dataclass(frozen=True, slots=True)
class Found:
    """One answer of the service; `corners_px` is None when there was no box."""

    asked: Asked
    response: Refer.Response
    corners_px: Corners | None
    score: float
    iou: float

    @property
    def is_hit(self) -> bool:
        """Whether the box is that of the thing, as benchmarks count it."""
        return self.iou >= 0.5


@dataclass(frozen=True, slots=True)
class Told:
    """One answer of the action."""

    spoken: Spoken
    result: AskAction.Result
    answer: Answer

    @property
    def is_right(self) -> bool | None:
        """Whether it is the true answer; None where there are many."""
        return self.spoken.is_right(self.answer.text)


class Asker:
    """Asks the node, and watches over the processes meanwhile."""

    def __init__(self, node: Node, processes: Sequence[Watched]) -> None:
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
        node.create_subscription(Image, 'image', self._keep, qos_profile_sensor_data)

    def wait_until_ready(self, expression: str) -> None:
        """Wait for service and action, then until the node has an active engine and a frame.

        :raises DemoError: when that takes too long, or a process has ended.
        """
        deadline = time.monotonic() + _START_S
        while not self._refer.wait_for_service(timeout_sec=0.2):
            self._check(deadline, 'the service /refer did not appear')
        while not self._ask.wait_for_server(timeout_sec=0.2):
            self._check(deadline, 'the action /ask did not appear')
        while self._call(expression).status in _STARTING:
            self._check(deadline, 'the node answers, but has no image')

    def refer(self, asked: Asked) -> Found:
        """Where something is in the newest frame."""
        response = self._call(asked.expression)
        if not response.detections.detections:
            return Found(asked, response, None, 0.0, 0.0)
        detection = response.detections.detections[0]
        corners = _corners(detection.bbox)
        iou = _in_image(corners).iou(_in_image(asked.box_px))
        return Found(asked, response, corners, detection.results[0].hypothesis.score, iou)

    def ask(self, spoken: Spoken) -> Told:
        """An answer in words about the newest frame."""
        ask = spoken.ask
        regions = [
            RegionMsg(box=_message(region.box_in_image), phrase=region.phrase)
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
                    ScoredBox(_in_image(_corners(box)), score)
                    for box, score in zip(one.boxes, one.scores, strict=True)
                ),
            )
            for one in result.groundings
        )
        return Told(spoken, result, Answer(result.text, groundings))

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


def _in_image(corners_px: Corners) -> Box:
    return Box.from_pixels(corners_px, CAMERA.width, CAMERA.height)


def _corners(box: BoundingBox2D) -> Corners:
    """x0, y0, x1, y1 in pixels."""
    centre = box.center.position
    x0, y0 = centre.x - box.size_x / 2, centre.y - box.size_y / 2
    return x0, y0, x0 + box.size_x, y0 + box.size_y


def _message(box: Box) -> BoundingBox2D:
    message = BoundingBox2D()
    message.center.position.x = (box.x0 + box.x1) / 2 * CAMERA.width
    message.center.position.y = (box.y0 + box.y1) / 2 * CAMERA.height
    message.size_x, message.size_y = box.width * CAMERA.width, box.height * CAMERA.height
    return message
