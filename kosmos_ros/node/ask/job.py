"""One goal as the worker runs it: decode the images, encode them, answer."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
import time

from kosmos_ros.engine.base import Draft, Finish, ImageContext
from kosmos_ros.errors import BadExpression, EngineError
from kosmos_ros.model.tasks import Ask
from kosmos_ros.node.ask.conversations import ConversationTurn
from kosmos_ros.node.ask.goal import AskGoal
from kosmos_ros.node.conversion.answers import check_answer
from kosmos_ros.node.conversion.stamped_image import DecodedImage, ImageReference
from kosmos_ros.node.engine.engine_worker import EngineWorker, PreparedImage
from kosmos_ros.node.engine.stepwise_job import StepwiseJob


@dataclass(frozen=True, slots=True)
class AskProgress:
    """An answer so far.

    :param tokens_per_second: since the first one.
    """

    draft: Draft
    tokens_per_second: float


class AskJob(StepwiseJob[AskProgress | None]):
    """Answers a goal; its progress is None until the first draft.

    Its times and its image may be read by any thread.

    :param sources: return the images when their turn has come: those of the examples, then those
        of the question.
    :param turn: of CHAT; it ends with the job.
    """

    def __init__(
        self,
        engine_worker: EngineWorker,
        goal: AskGoal,
        sources: Sequence[Callable[[], PreparedImage]],
        turn: ConversationTurn[ImageReference] | None,
    ) -> None:
        super().__init__()
        self._engine_worker = engine_worker
        self._goal = goal
        self._sources = sources
        self._turn = turn
        self._draft: Draft | None = None
        self._has_asked = False
        self._first_token: tuple[int, float] | None = None
        self.reference = turn.image if turn is not None else None
        self.image: DecodedImage | None = None
        self.preprocess_s = 0.0
        self.inference_s = 0.0

    def run(self) -> Generator[AskProgress | None, None, None]:
        """See `StepwiseJob.run`.

        :raises BadExpression: when the question does not fit its images.
        :raises EngineError: when the engine stops without an end.
        """
        prepared: list[PreparedImage] = []
        for source in self._sources:
            begin = time.monotonic()
            prepared.append(source())
            self.preprocess_s += time.monotonic() - begin
            yield None
        ask = self._ask(prepared)
        history = None if self._turn is None else self._turn.history
        self._engine_worker.engine.check_ask(ask, history)
        contexts: list[ImageContext] = []
        while prepared:
            begin = time.monotonic()
            contexts.append(self._engine_worker.encode_once(prepared.pop(0)))
            self.inference_s += time.monotonic() - begin
            yield None
        self._has_asked = True
        begin = time.monotonic()
        for draft in self._engine_worker.engine.ask(ask, contexts, history):
            now_s = time.monotonic()
            self.inference_s += now_s - begin
            self._draft = draft
            yield AskProgress(draft, self._tokens_per_second(draft.tokens, now_s))
            if draft.finish is not Finish.NONE:
                return
            begin = time.monotonic()
        raise EngineError('The engine ended in the middle of its answer; see the log.')

    def finish(self) -> None:
        """End the turn: a client that got a part of the answer may go on from there, unless the
        engine has failed.

        :raises EngineError: when the answer makes no sense.
        """
        turn, draft = self._turn, self._draft
        if turn is None:
            return
        if draft is None or not draft.tokens or self.has_failed:
            turn.roll_back(self._has_asked)
            return
        try:
            check_answer(draft.read(), self.reference)
            transcript = draft.transcript()
        except BaseException:
            turn.roll_back(self._has_asked)
            raise
        turn.commit(transcript, self.reference)

    def _ask(self, prepared: Sequence[PreparedImage]) -> Ask:
        """Return the question, its regions as fractions of their images."""
        sizes = [(one.image.width, one.image.height) for one in prepared]
        examples = len(self._goal.examples)
        if prepared[examples:]:
            last = prepared[-1]
            self.image = last.image
            self.reference = ImageReference.of(last.stamped, last.image)
        reference = self.reference
        size = None if reference is None else (reference.width, reference.height)
        return self._goal.ask(size, sizes[:examples])

    def _tokens_per_second(self, tokens: int, now_s: float) -> float:
        if self._first_token is None:
            self._first_token = (tokens, now_s) if tokens else None
            return 0.0
        first, since_s = self._first_token
        return (tokens - first) / max(now_s - since_s, 1e-6)


def check_regions(goal: AskGoal, reference: ImageReference | None) -> None:
    """Refuse regions without an image.

    :param reference: the last image of the goal's conversation.
    :raises BadExpression: when there are regions of no image.
    """
    if goal.regions and not goal.images and not goal.needs_camera and reference is None:
        raise BadExpression(
            'The goal has regions, but no image that they are parts of; give one or name a camera.'
        )
