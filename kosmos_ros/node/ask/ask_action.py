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
from kosmos_ros.node.answering_node import AnsweringNode, active_engine, camera_named
from kosmos_ros.node.ask.conversations import ConversationTurn
from kosmos_ros.node.ask.goal import AskGoal, ask_goal_from
from kosmos_ros.node.ask.job import AskJob, AskProgress, check_regions
from kosmos_ros.node.camera import Camera
from kosmos_ros.node.conversion.answers import check_answer, detections_of, grounding_messages
from kosmos_ros.node.conversion.detections import detections_message, timing_message
from kosmos_ros.node.conversion.stamped_image import ImageReference, StampedImage
from kosmos_ros.node.conversion.text import one_line
from kosmos_ros.node.diagnostics.counters import Counters
from kosmos_ros.node.engine.engine_worker import EngineWorker, PreparedImage
from kosmos_ros.node.middleware.action_server import RCLError, ReliableActionServer

# At most ten times a second, as the action promises.
_FEEDBACK_S = 0.1
# For so long a goal that ends early waits for the step that is running.
_LAST_STEP_S = 1.0


class _RunningGoal:
    """A goal between its arrival and its result, as far as its cancellation must know it."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self.job: AskJob | None = None

    def cancel(self) -> None:
        self.is_cancelled = True
        if self.job is not None:
            self.job.cancel()


class AskAction:
    """Answers goals; each blocks a thread of the executor until it has its result."""

    def __init__(
        self, node: Node, answering: AnsweringNode, limits: Limits, counters: Counters
    ) -> None:
        self._node = answering
        self._limits = limits
        self._counters = counters
        self._closed = False
        self._goals: dict[bytes, _RunningGoal] = {}
        self._server = ReliableActionServer(
            node, Ask, 'ask', self._execute, self._cancel, answering.log_failure
        )

    def close(self) -> None:
        """Let goals end with SHUTTING_DOWN from now on."""
        self._closed = True

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait for the running goals, and until their results are sent; return whether it came."""
        return bool(self._server.wait_until_idle(timeout_s))

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        # The goal may be about to begin or to end; `_follow` looks at its state, too.
        if running := self._goals.get(_key(handle)):
            running.cancel()
        return CancelResponse.ACCEPT

    def _execute(self, handle: ServerGoalHandle) -> Ask.Result:
        arrived_s = time.monotonic()
        result = Ask.Result()
        running = self._goals[_key(handle)] = _RunningGoal()
        try:
            self._answer(handle, running, result, arrived_s)
        except KosmosError as error:
            _refuse(result, error.status, str(error))
        # rclpy would send an empty result, which says OK: so this is the one place that lets
        # nothing pass.
        except Exception as error:
            self._node.log_failure('ask', error)
            _refuse(
                result,
                Status.ENGINE_ERROR,
                f'The engine failed with {type(error).__name__}: {error}; see the log.',
            )
        finally:
            del self._goals[_key(handle)]
            # rclpy keeps the goal as long as its result, and images are large.
            handle.request.images, handle.request.examples = [], []
        result.timing.total_ms = 1e3 * (time.monotonic() - arrived_s)
        self._counters.count_ask(Status(result.status), result.message)
        self._set_goal_state(handle, result)
        return result

    def _answer(
        self, handle: ServerGoalHandle, running: _RunningGoal, result: Ask.Result, arrived_s: float
    ) -> None:
        if self._closed:
            raise ShuttingDown('The node is shutting down; ask again when it is back.')
        node, engine_worker = self._node, active_engine(self._node)
        result.engine = engine_worker.engine.name
        goal = ask_goal_from(handle.request, node.read_settings(), self._limits)
        conversations = engine_worker.conversations
        turn = conversations.turn(goal.conversation_id) if goal.task is Task.CHAT else None
        try:
            job, camera = self._prepare(engine_worker, goal, turn)
            engine_worker.worker.start(job)
        except BaseException:
            if turn is not None:
                turn.roll_back(begun=False)
                result.conversation_id = turn.conversation_id
            raise
        running.job = job
        try:
            # A deactivation rejects all goals, but may have come before this one.
            active_engine(node)
            self._follow(handle, running, job, arrived_s + goal.timeout_s)
            self._fill_result(result, running, goal, job, camera)
        finally:
            job.cancel()
            if turn is not None:
                result.conversation_id = turn.conversation_id

    def _prepare(
        self,
        engine_worker: EngineWorker,
        goal: AskGoal,
        turn: ConversationTurn[ImageReference] | None,
    ) -> tuple[AskJob, Camera | None]:
        """Make the job; everything that can be refused at once is refused here."""
        now = self._node.now()
        camera: Camera | None = None
        images = [*goal.example_images, *goal.images]
        sources = [_from_request(engine_worker, StampedImage(image, now)) for image in images]
        if goal.needs_camera:
            camera = camera_named(self._node, goal.camera)
            sources.append(_from_camera(engine_worker, camera, goal.max_image_age_s))
            camera.newest(goal.max_image_age_s)
        check_regions(goal, None if turn is None else turn.image)
        unknown = [None] * len(goal.examples)
        history = None if turn is None else turn.history
        engine_worker.engine.check_ask(goal.ask(None, unknown), history)
        return AskJob(engine_worker, goal, sources, turn), camera

    def _follow(
        self, handle: ServerGoalHandle, running: _RunningGoal, job: AskJob, deadline_s: float
    ) -> None:
        """Publish feedback until the goal has come to an end, by itself or early."""
        published: AskProgress | None = None
        while not job.wait(min(_FEEDBACK_S, max(deadline_s - time.monotonic(), 0.0))):
            if handle.is_cancel_requested:
                running.is_cancelled = True
            if running.is_cancelled or time.monotonic() >= deadline_s:
                break
            progress = job.latest
            if progress is not published and progress is not None:
                published = progress
                self._publish(handle, progress, job.reference)
        job.cancel()
        job.wait(_LAST_STEP_S)

    def _publish(
        self, handle: ServerGoalHandle, progress: AskProgress, reference: ImageReference | None
    ) -> None:
        answer = check_answer(progress.draft.read(), reference)
        feedback = Ask.Feedback(
            text=answer.text,
            groundings=grounding_messages(answer, reference),
            tokens_per_second=progress.tokens_per_second,
        )
        try:
            handle.publish_feedback(feedback)
        except RCLError as error:
            self._node.log_failure('feedback', error)

    def _fill_result(
        self,
        result: Ask.Result,
        running: _RunningGoal,
        goal: AskGoal,
        job: AskJob,
        camera: Camera | None,
    ) -> None:
        progress, reference, node = job.latest, job.reference, self._node
        result.timing = timing_message(
            queue_s=job.queue_s,
            preprocess_s=job.preprocess_s,
            inference_s=job.inference_s,
            total_s=0.0,
            image_age_s=0.0 if reference is None else node.age_s(reference.stamped, node.now()),
        )
        if reference is not None:
            result.header = reference.header
        finish, answer = Finish.NONE, Answer('')
        if progress is not None:
            finish, answer = progress.draft.finish, check_answer(progress.draft.read(), reference)
            result.text, result.tokens = answer.text, int(progress.draft.tokens)
            result.groundings = grounding_messages(answer, reference)
        if job.error is not None:
            raise job.error
        if finish is not Finish.NONE:
            detections = detections_of(answer)
            if detections and job.image is not None:
                message = detections_message(detections, job.image)
                node.publish_answer(message, detections, job.image, camera)
            result.message = _summary(finish, result.tokens, len(detections))
        elif running.is_cancelled:
            finish = Finish.CANCELLED
            result.message = f'The goal was cancelled after {result.tokens} tokens.'
        else:
            result.finish_reason = Finish.TIMEOUT
            raise TimedOut(_why_late(goal, result.tokens, begun=progress is not None))
        result.status, result.finish_reason = Status.OK, finish

    def _set_goal_state(self, handle: ServerGoalHandle, result: Ask.Result) -> None:
        try:
            if result.finish_reason == Finish.CANCELLED and _is_cancelling(handle):
                handle.canceled()
            elif result.status == Status.OK:
                handle.succeed()
            else:
                handle.abort()
        # rclpy then ends the goal as aborted.
        except RCLError as error:
            self._node.log_failure('the state of a goal', error)


def _key(handle: ServerGoalHandle) -> bytes:
    return bytes(handle.goal_id.uuid)


def _from_request(
    engine_worker: EngineWorker, stamped: StampedImage
) -> Callable[[], PreparedImage]:
    return lambda: engine_worker.decode(stamped)


def _from_camera(
    engine_worker: EngineWorker, camera: Camera, max_age_s: float
) -> Callable[[], PreparedImage]:
    # The image is chosen when its turn has come, so that waiting does not make it old.
    return lambda: engine_worker.decode_once(camera.newest(max_age_s))


def _is_cancelling(handle: ServerGoalHandle) -> bool:
    """Wait until rclpy knows of a cancellation, which it does a moment after its callback; return
    whether it does.
    """
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


def _why_late(goal: AskGoal, tokens: int, begun: bool) -> str:
    if begun:
        return (
            f'The answer had {tokens} tokens after {goal.timeout_s:.3g} s and was not complete; '
            'allow more time, or ask for less with max_tokens.'
        )
    return (
        f'The answer was not begun within {goal.timeout_s:.3g} s; '
        'allow more time or ask less often.'
    )
