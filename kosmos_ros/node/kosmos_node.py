"""The node: a managed one that puts the parts together."""

from collections.abc import Mapping, Sequence
import dataclasses
import queue
import threading
import time
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from kosmos_ros_msgs.srv import Refer
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from vision_msgs.msg import Detection2DArray

from kosmos_ros.errors import KosmosError, NotActive, ShuttingDown
from kosmos_ros.limits import Limits
from kosmos_ros.node import parameters
from kosmos_ros.node.ask.ask_action import AskAction
from kosmos_ros.node.camera import Camera, cameras_of
from kosmos_ros.node.continuous_detection import ContinuousDetection
from kosmos_ros.node.conversion.detections import Detection, detections_message
from kosmos_ros.node.conversion.stamped_image import DecodedImage, Instant, StampedImage
from kosmos_ros.node.conversion.text import one_line
from kosmos_ros.node.diagnostics.counters import Counters
from kosmos_ros.node.diagnostics.loading_progress import LoadingProgress
from kosmos_ros.node.diagnostics.status import diagnostics_from
from kosmos_ros.node.engine.engine_worker import EngineWorker, Localization
from kosmos_ros.node.middleware.callbacks import never_raises
from kosmos_ros.node.middleware.qos import CALLS
from kosmos_ros.node.middleware.replies import send_until_delivered
from kosmos_ros.node.output.publishers import Publishers
from kosmos_ros.node.parameters import Settings
from kosmos_ros.node.refer.service import ReferService

_CLOSE_S = 2.0
_LOG_EVERY_S = 5.0


class KosmosNode(LifecycleNode):  # type: ignore[misc]
    """Answers `refer` and `ask` in every lifecycle state, with boxes while it is active.

    :param options: as those of `rclpy.node.Node`: context, parameter_overrides, namespace ...
    :raises rclpy.exceptions.ParameterException: when a parameter from outside is refused.
    """

    def __init__(self, node_name: str = 'kosmos', **options: Any) -> None:
        super().__init__(node_name, **options)
        self._why_inactive = 'it is starting'
        self._progress: LoadingProgress | None = None
        self.engine_worker: EngineWorker | None = None
        self._loading: EngineWorker | None = None
        self.cameras: Mapping[str, Camera] = {}
        self._detection: ContinuousDetection | None = None
        self._configured: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self.add_on_set_parameters_callback(self._check_parameters)
        parameters.declare(self)
        settings = self.read_settings()
        self.limits = dataclasses.replace(
            Limits(), max_waiting=settings.max_waiting, max_asks=settings.max_asks
        )
        self._announced: tuple[str, ...] = ()
        self._announcing = threading.Lock()
        self._counters = Counters()
        self._logged: dict[str, float] = {}
        self._outputs = Publishers(self, self.log_failure)
        self._refer = ReferService(self, self.limits, self._counters, self.get_logger().warning)
        service = self.create_service(
            Refer,
            'refer',
            self._refer.answer,
            qos_profile=CALLS,
            callback_group=ReentrantCallbackGroup(),
        )
        send_until_delivered(service, self.get_logger().warning)
        self._ask = AskAction(self, self, self.limits, self._counters)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_timer(
            1.0,
            never_raises(self.log_failure, self._publish_diagnostics),
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    # What the service and the action need of the node: see AnsweringNode.

    def read_settings(self) -> Settings:
        """Return a snapshot of the parameters."""
        return parameters.read_settings(self)

    @property
    def why_not_active(self) -> str:
        """Why calls cannot be answered now; empty when they can."""
        progress = self._loading_line
        return f'{self._why_inactive}: {progress}' if progress else self._why_inactive

    def now(self) -> Instant:
        """Return this moment on the node's clock."""
        return Instant(self.get_clock().now().nanoseconds, time.monotonic())

    def age_s(self, stamped: StampedImage, now: Instant) -> float:
        """Return how old a message is."""
        return stamped.age_s(now, self.get_clock().ros_time_is_active)

    def publish_answer(
        self,
        message: Detection2DArray,
        detections: Sequence[Detection],
        image: DecodedImage,
        camera: Camera | None,
    ) -> None:
        """Publish the answer to a call."""
        info = camera.info if camera else None
        self._outputs.publish(message, detections, image, info, standing=False)

    def log_failure(self, what: str, error: BaseException) -> None:
        """Log a failure, at most every 5 s: in one line if it is ours, else with its traceback."""
        now_s = time.monotonic()
        key = f'{what} {type(error).__name__}'
        if now_s - self._logged.get(key, -_LOG_EVERY_S) < _LOG_EVERY_S:
            return
        self._logged[key] = now_s
        if isinstance(error, KosmosError):
            self.get_logger().warning(f'{what}: {one_line(str(error))}')
        else:
            lines = traceback.format_exception(type(error), error, error.__traceback__)
            self.get_logger().error(f'{what} failed:\n{"".join(lines).rstrip()}')

    # Transitions.  rclpy drops what these raise without a word, so they return FAILURE.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the engine and check the standing expressions with it."""
        self._why_inactive = 'it is loading its engine'
        settings = self.read_settings()
        try:
            engine_worker = self._load(settings)
        # An engine's libraries raise what they like; here, too, nothing may pass.
        except Exception as error:
            self._why_inactive = (
                f'it could not be configured ({one_line(str(error))}); solve that, then run '
                f'`ros2 lifecycle set {self.get_fully_qualified_name()} configure`'
            )
            self._log_refusal(error)
            self._configured.put(False)
            return TransitionCallbackReturn.FAILURE
        self.engine_worker = engine_worker
        self._detection = ContinuousDetection(
            engine_worker, self.read_settings, self._publish_standing
        )
        self.cameras = cameras_of(self, settings, self._detection.on_image, self.log_failure)
        with self._announcing:
            self._announce(settings.expressions)
        self._why_inactive = self._advice('it is configured but not activated', 'activate')
        name = engine_worker.engine.name
        self.get_logger().info(f'engine: {name}')
        for remark in engine_worker.remarks:
            self.get_logger().warning(f'engine: {one_line(remark)}')
        if settings.build_plans == 'only':
            self._why_inactive = 'its plans are ready, and build_plans is only'
            self.get_logger().info(f'{name} has all the plans that it needs')
        self._configured.put(True)
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and begin to answer."""
        result = super().on_activate(state)
        for camera in self.cameras.values():
            camera.open()
        self._why_inactive = ''
        topics = ', '.join(camera.topic for camera in self.cameras.values())
        self.get_logger().info(f'active; looking at {topics}')
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe, and answer waiting calls with NOT_ACTIVE."""
        self._why_inactive = self._advice('it was deactivated', 'activate')
        for camera in self.cameras.values():
            camera.close()
        if self.engine_worker is not None:
            error = NotActive('The node was deactivated before it could answer.')
            self.engine_worker.worker.reject_all(error)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close the engine."""
        self._why_inactive = self._advice('it is not configured', 'configure')
        self._close_engine()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Close everything, from any state."""
        self._why_inactive = 'it was shut down; start it again'
        for camera in self.cameras.values():
            camera.close()
        self._close_engine()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a transition that failed half-way, go back to the unconfigured state."""
        for camera in self.cameras.values():
            camera.close()
        return self.on_cleanup(state)

    def start(self) -> None:
        """Configure and activate, if the parameter autostart says so."""
        settings = self.read_settings()
        if not settings.autostart:
            self._why_inactive = self._advice('it is not configured', 'configure')
            return
        configured = self.trigger_configure() == TransitionCallbackReturn.SUCCESS
        if configured and settings.build_plans != 'only':
            self.trigger_activate()

    def wait_until_configured(self) -> bool:
        """Wait for the end of the next configure transition, or for `close`.

        :return: whether the node was configured.
        """
        return self._configured.get()

    def close(self, timeout_s: float) -> bool:
        """Answer all waiting calls with SHUTTING_DOWN, and close the engine.

        :return: False when the engine did not come back in time.
        """
        self._refer.close()
        self._ask.close()
        engine_worker = self.engine_worker or self._loading
        error = ShuttingDown('The node is shutting down; call again when it is back.')
        ended = engine_worker.close(error, timeout_s) if engine_worker is not None else True
        self._refer.wait_until_idle(timeout_s)
        self._ask.wait_until_idle(timeout_s)
        self._outputs.close()
        self._configured.put(False)
        return ended

    @property
    def _loading_line(self) -> str:
        progress = self._progress
        return progress.line if progress is not None else ''

    def _load(self, settings: Settings) -> EngineWorker:
        engine_worker = self._loading = EngineWorker(self.limits, self._report_background)
        progress = self._progress = LoadingProgress(self.get_logger().info)
        try:
            engine_worker.load(settings, progress.report)
            for expression in settings.expressions:
                engine_worker.engine.check_expression(expression)
        except Exception:
            engine_worker.close(NotActive('The engine could not be loaded.'), _CLOSE_S)
            raise
        finally:
            progress.end()
            self._loading = self._progress = None
        return engine_worker

    def _advice(self, why: str, transition: str) -> str:
        return f'{why}; run `ros2 lifecycle set {self.get_fully_qualified_name()} {transition}`'

    def _log_refusal(self, error: Exception) -> None:
        if not isinstance(error, KosmosError):
            self.log_failure('loading the engine', error)
        self.get_logger().error(f'cannot be configured: {one_line(str(error))}')

    def _close_engine(self) -> None:
        engine_worker, self.engine_worker = self.engine_worker, None
        self.cameras = {}
        if engine_worker is None:
            return
        error = NotActive('The engine was closed before it could answer; configure the node.')
        if not engine_worker.close(error, _CLOSE_S):
            self.get_logger().error('the engine does not end what it is doing; it is abandoned')

    def _publish_standing(
        self, found: Localization, detections: list[Detection], camera: Camera, settings: Settings
    ) -> None:
        self._announce_changes(settings)
        message = detections_message(detections, found.image)
        self._outputs.publish(message, detections, found.image, camera.info, standing=True)

    def _report_background(self, error: BaseException) -> None:
        if not isinstance(error, KosmosError):
            self._counters.fail(one_line(f'{type(error).__name__}: {error}'))
        self.log_failure('standing expressions', error)

    def _check_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        for parameter in changed:
            # While an engine is being loaded, a new value would come too late, unnoticed.
            configured = (self.engine_worker or self._loading) is not None
            reason = parameters.refusal(parameter, configured)
            if not reason and parameter.name == 'expressions':
                reason = self._refused_expressions(parameters.texts(parameter.value))
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _refused_expressions(self, expressions: tuple[str, ...]) -> str:
        engine_worker = self.engine_worker
        if engine_worker is None:
            return ''
        try:
            for expression in expressions:
                engine_worker.engine.check_expression(expression)
        except KosmosError as error:
            return one_line(str(error))
        return ''

    def _announce(self, expressions: tuple[str, ...]) -> None:
        if self.engine_worker is not None:
            self._outputs.publish_vision_info(self.engine_worker.engine.name, expressions)
            self._announced = expressions

    def _announce_changes(self, settings: Settings) -> None:
        # Looked at here and once a second: on ROS 2 Humble no callback follows a set parameter.
        with self._announcing:
            if settings.expressions != self._announced:
                self._announce(settings.expressions)

    def _publish_diagnostics(self) -> None:
        settings = self.read_settings()
        self._announce_changes(settings)
        message = diagnostics_from(
            node=self.get_name(),
            why_not_active=self.why_not_active,
            progress=self._loading_line,
            engine_worker=self.engine_worker,
            cameras=self.cameras.values(),
            max_image_age_s=settings.max_image_age,
            counters=self._counters,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
