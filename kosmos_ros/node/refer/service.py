"""The service `refer`: exactly one answer to each call, in bounded time, whatever happens."""

from collections.abc import Callable
import threading
import time

from kosmos_ros_msgs.srv import Refer

from kosmos_ros.errors import KosmosError, NoMatch, ShuttingDown, Status
from kosmos_ros.limits import Limits
from kosmos_ros.node.answering_node import AnsweringNode, active_engine, camera_named
from kosmos_ros.node.camera import Camera
from kosmos_ros.node.conversion.detections import (
    Detection,
    detections_message,
    no_detections_3d,
    timing_message,
)
from kosmos_ros.node.conversion.stamped_image import StampedImage
from kosmos_ros.node.conversion.text import one_line
from kosmos_ros.node.diagnostics.counters import Counters
from kosmos_ros.node.engine.engine_worker import Localization
from kosmos_ros.node.middleware.reply_storm import ReplyStormWarning
from kosmos_ros.node.refer.nms import candidates_for, suppress
from kosmos_ros.node.refer.query import ReferQuery, refer_query_from


class ReferService:
    """Answers calls; `answer` blocks its thread until the answer is there or the time is over."""

    def __init__(
        self,
        node: AnsweringNode,
        limits: Limits,
        counters: Counters,
        warn: Callable[[str], None],
    ) -> None:
        self._node = node
        self._limits = limits
        self._counters = counters
        self._storm = ReplyStormWarning(warn)
        self._idle = threading.Condition()
        self._inside = 0
        self._closed = False

    def answer(self, request: Refer.Request, response: Refer.Response) -> Refer.Response:
        """Answer a call; this is the service's callback, and it never raises."""
        arrived_s = time.monotonic()
        with self._idle:
            self._inside += 1
        try:
            self._answer(request, response, arrived_s)
        except KosmosError as error:
            self._refuse(response, error.status, str(error))
        # rclpy sends nothing when a callback raises, the client waits until its own time-out, and
        # the executor ends: so this is the one place that lets nothing pass.
        except Exception as error:
            self._node.log_failure('refer', error)
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
        """Answer calls with SHUTTING_DOWN from now on."""
        self._closed = True

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait for the callbacks that are running; return whether they have ended."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._inside, timeout_s)

    def _answer(self, request: Refer.Request, response: Refer.Response, arrived_s: float) -> None:
        if self._closed:
            raise ShuttingDown('The node is shutting down; call again when it is back.')
        node, engine_worker = self._node, active_engine(self._node)
        response.engine = engine_worker.engine.name
        query = refer_query_from(request, node.read_settings(), self._limits)
        # Words that the model does not know are refused before the call waits for its turn.
        engine_worker.engine.check_expression(query.expression)
        newest, camera = self._source(query)
        newest()
        top_k = candidates_for(query.max_results)

        def locate() -> tuple[StampedImage, Localization]:
            # The image is chosen when the engine is free, so that waiting does not make it old.
            stamped = newest()
            return stamped, engine_worker.locate(stamped, [query.expression], top_k)

        timeout_s = query.timeout_s - (time.monotonic() - arrived_s)
        result = engine_worker.worker.call(locate, timeout_s)
        stamped, found = result.value
        likely = [one for one in found.boxes[0] if one.score >= query.score_threshold]
        detections = [
            Detection(query.expression, one) for one in suppress(likely, query.max_results)
        ]
        age_s = node.age_s(stamped, node.now())
        response.detections = detections_message(detections, found.image)
        response.detections_3d = no_detections_3d(found.image.header)
        response.timing = timing_message(
            queue_s=result.queue_s,
            preprocess_s=found.preprocess_s,
            inference_s=found.inference_s,
            total_s=0.0,
            image_age_s=age_s,
        )
        node.publish_answer(response.detections, detections, found.image, camera)
        if not detections:
            raise NoMatch(_why_no_match(query, found))
        response.status = Status.OK
        response.message = _summary(query, detections, age_s)

    def _source(self, query: ReferQuery) -> tuple[Callable[[], StampedImage], Camera | None]:
        """Return how to get the image when the call's turn has come, and the camera."""
        if query.image is not None:
            stamped = StampedImage(query.image, self._node.now())
            return lambda: stamped, None
        camera = camera_named(self._node, query.camera)
        return lambda: camera.newest(query.max_image_age_s), camera

    def _refuse(self, response: Refer.Response, status: Status, message: str) -> None:
        response.status = status
        response.message = one_line(message)


def _summary(query: ReferQuery, detections: list[Detection], age_s: float) -> str:
    boxes = '1 box' if len(detections) == 1 else f'{len(detections)} boxes'
    return one_line(
        f'{boxes} for {query.expression!r}, score {detections[0].scored_box.score:.2f}, '
        f'image {1e3 * age_s:.0f} ms old'
    )


def _why_no_match(query: ReferQuery, found: Localization) -> str:
    best = max((one.score for one in found.boxes[0]), default=None)
    if best is None:
        return f'The engine found no box for {query.expression!r}; try other words.'
    return (
        f'No box for {query.expression!r} reached score_threshold '
        f'{query.score_threshold:.2f}; the best scored {best:.2f}.'
    )
