"""The service `refer`: exactly one answer to each call, in bounded time, whatever happens."""

from collections.abc import Callable
import threading
import time

from kosmos_ros_msgs.srv import Refer

from kosmos_ros.errors import KosmosError, NoMatch, ShuttingDown, Status
from kosmos_ros.limits import Limits
from kosmos_ros.node.answering_node import Host, active_room, camera_named
from kosmos_ros.node.camera import Camera
from kosmos_ros.node.conversion.messages import (
    Finding,
    detections_from,
    no_detections_3d,
    one_line,
    timing_message,
)
from kosmos_ros.node.conversion.stamped_image import Shot
from kosmos_ros.node.diagnostics.counters import Counters
from kosmos_ros.node.engine.engine_worker import Sight
from kosmos_ros.node.middleware.reply_storm import StormWarning
from kosmos_ros.node.refer.nms import distinct, wanted_top_k
from kosmos_ros.node.refer.query import Question, question_from


class ReferService:
    """Answers calls; `answer` blocks its thread until it can be given, within the timeout."""

    def __init__(
        self, host: Host, limits: Limits, counters: Counters, warn: Callable[[str], None]
    ) -> None:
        self._host = host
        self._limits = limits
        self._counters = counters
        self._storm = StormWarning(warn)
        self._idle = threading.Condition()
        self._inside = 0
        self._closed = False

    def answer(self, request: Refer.Request, response: Refer.Response) -> Refer.Response:
        """The service's callback."""
        arrived_s = time.monotonic()
        with self._idle:
            self._inside += 1
        try:
            self._answer(request, response, arrived_s)
        except KosmosError as error:
            self._refuse(response, error.status, str(error))
        # rclpy sends nothing when a callback raises, the caller waits for ever, and the executor
        # ends: so this is the one place that lets nothing pass.
        except Exception as error:
            self._host.log_failure('refer', error)
            self._refuse(
                response,
                Status.ENGINE_ERROR,
                f'The engine failed with {type(error).__name__}: {error}; see the log.',
            )
        finally:
            with self._idle:
                self._inside -= 1
                self._idle.notify_all()
        response.timing.total_ms = 1e3 * (time.monotonic() - arrived_s)
        self._counters.count(Status(response.status), response.message, response.timing.total_ms)
        self._storm.on_reply(time.monotonic())
        return response

    def close(self) -> None:
        """From now on calls are answered with SHUTTING_DOWN."""
        self._closed = True

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait for the callbacks that are under way."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._inside, timeout_s)

    def _answer(self, request: Refer.Request, response: Refer.Response, arrived_s: float) -> None:
        if self._closed:
            raise ShuttingDown('The node is shutting down; call again when it is back.')
        host, room = self._host, active_room(self._host)
        response.engine = room.engine.name
        question = question_from(request, host.settings, self._limits)
        room.engine.check_expression(question.expression)
        newest, camera = self._source(question)
        newest()
        top_k = wanted_top_k(question.max_results)

        def look() -> tuple[Shot, Sight]:
            # The frame is chosen when the engine is free, so that waiting does not make it old.
            shot = newest()
            return shot, room.look(shot, [question.expression], top_k)

        done = room.worker.call(look, question.timeout_s - (time.monotonic() - arrived_s))
        shot, sight = done.value
        located = [one for one in sight.located[0] if one.score >= question.score_threshold]
        findings = [
            Finding(question.expression, one) for one in distinct(located, question.max_results)
        ]
        age_s = host.age_s(shot, host.now())
        response.detections = detections_from(findings, sight.frame)
        response.detections_3d = no_detections_3d(sight.frame.header)
        response.timing = timing_message(
            queue_s=done.queue_s,
            preprocess_s=sight.preprocess_s,
            inference_s=sight.inference_s,
            total_s=0.0,
            image_age_s=age_s,
        )
        host.show(sight.frame, findings, camera)
        if not findings:
            raise NoMatch(_why_no_match(question, sight))
        response.status = Status.OK
        response.message = _summary(question, findings, age_s)

    def _source(self, question: Question) -> tuple[Callable[[], Shot], Camera | None]:
        """How to get the message to look into, when its turn has come."""
        if question.image is not None:
            shot = Shot(question.image, self._host.now())
            return lambda: shot, None
        camera = camera_named(self._host, question.camera)
        return lambda: camera.newest(question.max_image_age_s), camera

    def _refuse(self, response: Refer.Response, status: Status, message: str) -> None:
        response.status = status
        response.message = one_line(message)


def _summary(question: Question, findings: list[Finding], age_s: float) -> str:
    boxes = '1 box' if len(findings) == 1 else f'{len(findings)} boxes'
    return one_line(
        f'{boxes} for {question.expression!r}, score {findings[0].located.score:.2f}, '
        f'image {1e3 * age_s:.0f} ms old'
    )


def _why_no_match(question: Question, sight: Sight) -> str:
    best = max((one.score for one in sight.located[0]), default=None)
    if best is None:
        return f'The engine found no box for {question.expression!r}; try other words.'
    return (
        f'No box for {question.expression!r} reached score_threshold '
        f'{question.score_threshold:.2f}; the best scored {best:.2f}.'
    )
