"""The action `ask`: exactly one result for each goal, in bounded time, whatever happens."""

from collections.abc import Callable
import time

from kosmos_ros_msgs.action import Ask
from rclpy.action import CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node

from kosmos_ros.engine.base import Answer, Finish
from kosmos_ros.errors import KosmosError, ShuttingDown, Status, TimedOut
from kosmos_ros.limits import Limits
from kosmos_ros.model.tasks import Task
from kosmos_ros.node.answering_node import Host, active_room, camera_named
from kosmos_ros.node.ask.conversations import Turn
from kosmos_ros.node.ask.goal import Goal, goal_from
from kosmos_ros.node.ask.job import AskSteps, Said, check_regions
from kosmos_ros.node.camera import Camera
from kosmos_ros.node.conversion.answers import check_answer, findings_from, groundings_from
from kosmos_ros.node.conversion.messages import one_line, timing_message
from kosmos_ros.node.conversion.stamped_image import Scene, Shot
from kosmos_ros.node.diagnostics.counters import Counters
from kosmos_ros.node.engine.engine_worker import EngineRoom, View
from kosmos_ros.node.engine.stepwise_job import Course
from kosmos_ros.node.middleware.action_server import MendedActionServer, RCLError

# At most ten times a second, as the action promises.
_FEEDBACK_S = 0.1
# For so long a goal that ends early waits for the step that is under way.
_LAST_STEP_S = 1.0


class _Pending:
    """A goal under way, as far as its cancellation must know it."""

    def __init__(self) -> None:
        self.cancelled = False
        self.course: Course[Said | None] | None = None

    def cancel(self) -> None:
        self.cancelled = True
        if self.course is not None:
            self.course.cancel()


class Asking:
    """Answers goals; each blocks a thread of the executor until it has its result."""

    def __init__(self, node: Node, host: Host, limits: Limits, counters: Counters) -> None:
        self._host = host
        self._limits = limits
        self._counters = counters
        self._closed = False
        self._pending: dict[bytes, _Pending] = {}
        self._server = MendedActionServer(
            node, Ask, 'ask', self._execute, self._cancel, host.log_failure
        )

    def close(self) -> None:
        """From now on goals end with SHUTTING_DOWN."""
        self._closed = True

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait for the goals that are under way, and until their results are sent."""
        return bool(self._server.wait_until_idle(timeout_s))

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        # The goal may be about to begin or to end; `_follow` looks at its state, too.
        if pending := self._pending.get(_key(handle)):
            pending.cancel()
        return CancelResponse.ACCEPT

    def _execute(self, handle: ServerGoalHandle) -> Ask.Result:
        arrived_s = time.monotonic()
        result = Ask.Result()
        pending = self._pending[_key(handle)] = _Pending()
        try:
            self._answer(handle, pending, result, arrived_s)
        except KosmosError as error:
            _refuse(result, error.status, str(error))
        # rclpy would send an empty result, which says OK: so this is the one place that lets
        # nothing pass.
        except Exception as error:
            self._host.log_failure('ask', error)
            _refuse(
                result,
                Status.ENGINE_ERROR,
                f'The engine failed with {type(error).__name__}: {error}; see the log.',
            )
        finally:
            del self._pending[_key(handle)]
            # rclpy keeps the goal as long as its result, and images are large.
            handle.request.images, handle.request.examples = [], []
        result.timing.total_ms = 1e3 * (time.monotonic() - arrived_s)
        self._counters.count_ask(Status(result.status), result.message)
        self._conclude(handle, result)
        return result

    def _answer(
        self, handle: ServerGoalHandle, pending: _Pending, result: Ask.Result, arrived_s: float
    ) -> None:
        if self._closed:
            raise ShuttingDown('The node is shutting down; ask again when it is back.')
        host, room = self._host, active_room(self._host)
        result.engine = room.engine.name
        goal = goal_from(handle.request, host.settings, self._limits)
        turn = room.conversations.turn(goal.conversation_id) if goal.task is Task.CHAT else None
        try:
            steps, camera = self._prepare(room, goal, turn)
            course = room.worker.begin(steps)
        except BaseException:
            if turn is not None:
                turn.leave(begun=False)
                result.conversation_id = turn.conversation_id
            raise
        pending.course = course
        try:
            # Who deactivates the node dismisses all goals, but may have come before this one.
            active_room(host)
            self._follow(handle, pending, steps, course, arrived_s + goal.timeout_s)
            self._conclude_answer(result, pending, goal, steps, course, camera)
        finally:
            course.cancel()
            if turn is not None:
                result.conversation_id = turn.conversation_id

    def _prepare(
        self, room: EngineRoom, goal: Goal, turn: Turn[Scene] | None
    ) -> tuple[AskSteps, Camera | None]:
        """Everything that can be refused at once is refused here."""
        now = self._host.now()
        camera: Camera | None = None
        images = [*goal.example_images, *goal.images]
        sources = [_reader(room, Shot(image, now)) for image in images]
        if goal.needs_camera:
            camera = camera_named(self._host, goal.camera)
            sources.append(_looker(room, camera, goal.max_image_age_s))
            camera.newest(goal.max_image_age_s)
        check_regions(goal, None if turn is None else turn.picture)
        unknown = [None] * len(goal.examples)
        room.engine.check_ask(goal.question(None, unknown), None if turn is None else turn.past)
        return AskSteps(room, goal, sources, turn), camera

    def _follow(
        self,
        handle: ServerGoalHandle,
        pending: _Pending,
        steps: AskSteps,
        course: Course[Said | None],
        deadline_s: float,
    ) -> None:
        """Publish feedback until the goal has come to an end, by itself or early."""
        told: Said | None = None
        while not course.wait(min(_FEEDBACK_S, max(deadline_s - time.monotonic(), 0.0))):
            if handle.is_cancel_requested:
                pending.cancelled = True
            if pending.cancelled or time.monotonic() >= deadline_s:
                break
            said = course.latest
            if said is not told and said is not None:
                told = said
                self._publish(handle, said, steps.scene)
        course.cancel()
        course.wait(_LAST_STEP_S)

    def _publish(self, handle: ServerGoalHandle, said: Said, scene: Scene | None) -> None:
        answer = check_answer(said.draft.read(), scene)
        feedback = Ask.Feedback(
            text=answer.text,
            groundings=groundings_from(answer, scene),
            tokens_per_second=said.tokens_per_second,
        )
        try:
            handle.publish_feedback(feedback)
        except RCLError as error:
            self._host.log_failure('feedback', error)

    def _conclude_answer(
        self,
        result: Ask.Result,
        pending: _Pending,
        goal: Goal,
        steps: AskSteps,
        course: Course[Said | None],
        camera: Camera | None,
    ) -> None:
        said, scene, host = course.latest, steps.scene, self._host
        result.timing = timing_message(
            queue_s=course.queue_s,
            preprocess_s=steps.preprocess_s,
            inference_s=steps.inference_s,
            total_s=0.0,
            image_age_s=0.0 if scene is None else host.age_s(scene.shot, host.now()),
        )
        if scene is not None:
            result.header = scene.header
        finish, answer = Finish.NONE, Answer('')
        if said is not None:
            finish, answer = said.draft.finish, check_answer(said.draft.read(), scene)
            result.text, result.tokens = answer.text, int(said.draft.tokens)
            result.groundings = groundings_from(answer, scene)
        if course.error is not None:
            raise course.error
        if finish is not Finish.NONE:
            findings = findings_from(answer)
            if findings and steps.frame is not None:
                host.show(steps.frame, findings, camera)
            result.message = _summary(finish, result.tokens, len(findings))
        elif pending.cancelled:
            finish = Finish.CANCELLED
            result.message = f'The goal was cancelled after {result.tokens} tokens.'
        else:
            result.finish_reason = Finish.TIMEOUT
            raise TimedOut(_why_late(goal, result.tokens, begun=course.latest is not None))
        result.status, result.finish_reason = Status.OK, finish

    def _conclude(self, handle: ServerGoalHandle, result: Ask.Result) -> None:
        try:
            if result.finish_reason == Finish.CANCELLED and _is_cancelling(handle):
                handle.canceled()
            elif result.status == Status.OK:
                handle.succeed()
            else:
                handle.abort()
        # rclpy then ends the goal as aborted.
        except RCLError as error:
            self._host.log_failure('the state of a goal', error)


def _key(handle: ServerGoalHandle) -> bytes:
    return bytes(handle.goal_id.uuid)


def _reader(room: EngineRoom, shot: Shot) -> Callable[[], View]:
    return lambda: room.read(shot)


def _looker(room: EngineRoom, camera: Camera, max_age_s: float) -> Callable[[], View]:
    # The frame is chosen when its turn has come, so that waiting does not make it old.
    return lambda: room.view(camera.newest(max_age_s))


def _is_cancelling(handle: ServerGoalHandle) -> bool:
    """Whether rclpy knows of it, which it does a moment after it has told us."""
    deadline = time.monotonic() + _LAST_STEP_S
    while not handle.is_cancel_requested:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


def _refuse(result: Ask.Result, status: Status, message: str) -> None:
    result.status = status
    result.message = one_line(message)


def _summary(finish: Finish, tokens: int, boxes: int) -> str:
    what = f'{tokens} tokens, {boxes} boxes'
    if finish is Finish.LENGTH:
        return f'{what}; the answer was cut off there, allow more with max_tokens'
    return what


def _why_late(goal: Goal, tokens: int, begun: bool) -> str:
    if begun:
        return (
            f'The answer had {tokens} tokens after {goal.timeout_s:.3g} s and was not complete; '
            'allow more time, or ask for less with max_tokens.'
        )
    return (
        f'The answer was not begun within {goal.timeout_s:.3g} s; '
        'allow more time or ask less often.'
    )
