"""The node: a managed one that puts the parts together."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import threading
import time
import traceback

from diagnostic_msgs.msg import DiagnosticArray
from kosmos_ros_msgs.srv import Refer
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo

from kosmos_ros.errors import KosmosError, NotActive, ShuttingDown
from kosmos_ros.limits import Limits
from kosmos_ros.node import parameters
from kosmos_ros.node.ask.ask_action import Asking
from kosmos_ros.node.camera import Camera
from kosmos_ros.node.continuous_detection import Standing
from kosmos_ros.node.conversion.messages import Finding, one_line
from kosmos_ros.node.conversion.stamped_image import Frame, Instant, Shot
from kosmos_ros.node.diagnostics.counters import Counters
from kosmos_ros.node.diagnostics.loading_progress import Progress
from kosmos_ros.node.diagnostics.status import diagnostics_from
from kosmos_ros.node.engine.engine_worker import EngineRoom, Sight
from kosmos_ros.node.middleware.callbacks import never_raises
from kosmos_ros.node.middleware.qos import CALLS
from kosmos_ros.node.middleware.replies import send_until_heard
from kosmos_ros.node.output.publishers import Publishing
from kosmos_ros.node.parameters import Settings
from kosmos_ros.node.refer.service import ReferService

_CLOSE_S = 2.0
_LOG_EVERY_S = 5.0


class KosmosNode(LifecycleNode):  # type: ignore[misc]
    """Answers `refer` and `ask` in every lifecycle state, with boxes while it is active.

    :param ask_end: asks for the end of the process, with an exit code; returns at once.
    :raises rclpy.exceptions.ParameterException: when a parameter from outside is refused.
    """

    def __init__(self, ask_end: Callable[[int], None]) -> None:
        super().__init__('kosmos')
        self._ask_end = ask_end
        self._why_inactive = 'it is starting'
        self._progress: Progress | None = None
        self.room: EngineRoom | None = None
        self._opening: EngineRoom | None = None
        self.cameras: Mapping[str, Camera] = {}
        self._standing: Standing | None = None
        self.add_on_set_parameters_callback(self._check_parameters)
        parameters.declare(self)
        settings = self.settings
        self.limits = dataclasses.replace(
            Limits(), max_waiting=settings.max_waiting, max_asks=settings.max_asks
        )
        self._announced: tuple[str, ...] = ()
        self._announcing = threading.Lock()
        self._counters = Counters()
        self._logged: dict[str, float] = {}
        self._publishing = Publishing(self, self.log_failure)
        self.service = ReferService(self, self.limits, self._counters, self.get_logger().warning)
        refer = self.create_service(
            Refer,
            'refer',
            self.service.answer,
            qos_profile=CALLS,
            callback_group=ReentrantCallbackGroup(),
        )
        send_until_heard(refer, self.get_logger().warning)
        self.asking = Asking(self, self, self.limits, self._counters)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.create_timer(
            1.0,
            never_raises(self.log_failure, self._publish_diagnostics),
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )

    # What the service and the action need of their host.

    @property
    def settings(self) -> Settings:
        """The present values of the parameters."""
        return parameters.read(self)

    @property
    def why_not_active(self) -> str:
        """Why calls cannot be answered now; empty when they can."""
        progress = self._loading_line
        return f'{self._why_inactive}: {progress}' if progress else self._why_inactive

    def now(self) -> Instant:
        """This moment on the node's clock."""
        return Instant(self.get_clock().now().nanoseconds, time.monotonic())

    def age_s(self, shot: Shot, now: Instant) -> float:
        """How old a message is."""
        return shot.age_s(now, self.get_clock().ros_time_is_active)

    def show(self, frame: Frame, findings: Sequence[Finding], camera: Camera | None) -> None:
        """Publish the answer to a call."""
        self._publishing.publish(findings, frame, _info(camera))

    def log_failure(self, what: str, error: BaseException) -> None:
        """Write down a failure: in full if it is not one of ours, not oftener than every 5 s."""
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

    # Transitions.  rclpy drops what these raise and says nothing, so they answer FAILURE.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the engine and check the standing expressions with it."""
        self._why_inactive = 'it is loading its engine'
        settings = self.settings
        only = settings.build_plans == 'only'
        try:
            room = self._load(settings)
        # An engine's libraries raise what they like; here, too, nothing may pass.
        except Exception as error:
            self._why_inactive = (
                f'it could not be configured ({one_line(str(error))}); mend that, then run '
                f'`ros2 lifecycle set {self.get_fully_qualified_name()} configure`'
            )
            self._log_refusal(error)
            if only:
                self._ask_end(1)
            return TransitionCallbackReturn.FAILURE
        self.room = room
        self._standing = Standing(room, lambda: self.settings, self._show_standing)
        self.cameras = self._make_cameras(settings, self._standing.on_shot)
        with self._announcing:
            self._announce(settings.expressions)
        self._why_inactive = self._advice('it is configured but not activated', 'activate')
        self.get_logger().info(f'engine: {room.engine.name}')
        for remark in room.engine.remarks:
            self.get_logger().warning(f'engine: {one_line(remark)}')
        if only:
            self._why_inactive = 'its plans are ready, and it ends, as build_plans is only'
            self.get_logger().info(
                f'{room.engine.name} has all the plans that it needs; '
                'the node ends, as build_plans is only'
            )
            self._ask_end(0)
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
        """Unsubscribe; who waits is told so."""
        self._why_inactive = self._advice('it was deactivated', 'activate')
        for camera in self.cameras.values():
            camera.close()
        if self.room is not None:
            self.room.worker.dismiss(NotActive('The node was deactivated before it could answer.'))
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give the engine back."""
        self._why_inactive = self._advice('it is not configured', 'configure')
        self._close_room()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back, from any state."""
        self._why_inactive = 'it was shut down; start it again'
        for camera in self.cameras.values():
            camera.close()
        self._close_room()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a transition that failed half-way: back to the beginning."""
        for camera in self.cameras.values():
            camera.close()
        return self.on_cleanup(state)

    def start(self) -> None:
        """Configure and activate, if the parameter autostart says so."""
        if not self.settings.autostart:
            self._why_inactive = self._advice('it is not configured', 'configure')
            return
        configured = self.trigger_configure() == TransitionCallbackReturn.SUCCESS
        if configured and self.settings.build_plans != 'only':
            self.trigger_activate()

    def close(self, timeout_s: float) -> bool:
        """Answer everybody who waits with SHUTTING_DOWN and give back what can be given back.

        :return: False when the engine did not come back in time.
        """
        self.service.close()
        self.asking.close()
        room = self.room or self._opening
        error = ShuttingDown('The node is shutting down; call again when it is back.')
        ended = room.close(error, timeout_s) if room is not None else True
        self.service.wait_until_idle(timeout_s)
        self.asking.wait_until_idle(timeout_s)
        self._publishing.close()
        return ended

    @property
    def _loading_line(self) -> str:
        progress = self._progress
        return progress.line if progress is not None else ''

    def _load(self, settings: Settings) -> EngineRoom:
        room = self._opening = EngineRoom(self.limits, self._report_background)
        progress = self._progress = Progress(self.get_logger().info)
        try:
            room.load(settings, progress.report)
            for expression in settings.expressions:
                room.engine.check_expression(expression)
        except Exception:
            room.close(NotActive('The engine could not be loaded.'), _CLOSE_S)
            raise
        finally:
            progress.end()
            self._opening = self._progress = None
        return room

    def _advice(self, why: str, transition: str) -> str:
        return f'{why}; run `ros2 lifecycle set {self.get_fully_qualified_name()} {transition}`'

    def _log_refusal(self, error: Exception) -> None:
        if not isinstance(error, KosmosError):
            self.log_failure('loading the engine', error)
        self.get_logger().error(f'cannot be configured: {one_line(str(error))}')

    def _close_room(self) -> None:
        room, self.room = self.room, None
        self.cameras = {}
        if room is None:
            return
        error = NotActive('The engine was given back before it could answer; configure the node.')
        if not room.close(error, _CLOSE_S):
            self.get_logger().error('the engine does not end what it is doing; it is abandoned')

    def _make_cameras(
        self, settings: Settings, on_shot: Callable[[Camera], None]
    ) -> dict[str, Camera]:
        compressed = settings.image_transport == 'compressed'
        reliable = settings.image_reliability == 'reliable'
        several = len(settings.cameras) > 1
        return {
            name: Camera(
                self,
                name,
                f'{name}/' if several else '',
                compressed,
                reliable,
                on_shot,
                self.log_failure,
            )
            for name in settings.cameras
        }

    def _show_standing(self, sight: Sight, findings: list[Finding], camera: Camera) -> None:
        self._announce_changes()
        self._publishing.publish(findings, sight.frame, _info(camera), standing=True)

    def _report_background(self, error: BaseException) -> None:
        if not isinstance(error, KosmosError):
            self._counters.fail(one_line(f'{type(error).__name__}: {error}'))
        self.log_failure('standing expressions', error)

    def _check_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        for parameter in changed:
            # While an engine is being loaded, a new value would come too late, unnoticed.
            configured = (self.room or self._opening) is not None
            reason = parameters.refusal(parameter, configured)
            if not reason and parameter.name == 'expressions':
                reason = self._refused_expressions(parameters.texts(parameter.value))
            if reason:
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _refused_expressions(self, expressions: tuple[str, ...]) -> str:
        if self.room is None:
            return ''
        try:
            for expression in expressions:
                self.room.engine.check_expression(expression)
        except KosmosError as error:
            return one_line(str(error))
        return ''

    def _announce(self, expressions: tuple[str, ...]) -> None:
        if self.room is not None:
            self._publishing.announce(self.room.engine.name, expressions)
            self._announced = expressions

    def _announce_changes(self) -> None:
        # Looked at here and once a second: ROS 2 Humble tells nobody that parameters were set.
        expressions = self.settings.expressions
        with self._announcing:
            if expressions != self._announced:
                self._announce(expressions)

    def _publish_diagnostics(self) -> None:
        self._announce_changes()
        message = diagnostics_from(
            node=self.get_name(),
            why_not_active=self.why_not_active,
            progress=self._loading_line,
            room=self.room,
            cameras=self.cameras.values(),
            max_image_age_s=self.settings.max_image_age,
            counters=self._counters,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def _info(camera: Camera | None) -> CameraInfo | None:
    return camera.info if camera else None
