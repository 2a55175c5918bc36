"""The steps of one goal, as the worker takes them: read the images, encode them, answer."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
import time

from kosmos_ros.engine.base import Draft, Finish, ImageContext
from kosmos_ros.errors import BadExpression, EngineError
from kosmos_ros.node.ask.conversations import Turn
from kosmos_ros.node.ask.goal import Goal
from kosmos_ros.node.conversion.answers import check_answer
from kosmos_ros.node.conversion.stamped_image import Frame, Scene
from kosmos_ros.node.engine.engine_worker import EngineRoom, View


@dataclass(frozen=True, slots=True)
class Said:
    """An answer so far.

    :param tokens_per_second: since the first one.
    """

    draft: Draft
    tokens_per_second: float


class AskSteps:
    """Satisfies `Steps`.  Its numbers and its scene may be read by any thread.

    :param sources: give the images when their turn has come: those of the examples, then those of
        the question.
    :param turn: of CHAT; it is ended when the steps are.
    """

    def __init__(
        self,
        room: EngineRoom,
        goal: Goal,
        sources: Sequence[Callable[[], View]],
        turn: Turn[Scene] | None,
    ) -> None:
        self._room = room
        self._goal = goal
        self._sources = sources
        self._turn = turn
        self._steps = self._take()
        self._draft: Draft | None = None
        self._begun = False
        self._failed = False
        self._first: tuple[int, float] | None = None
        self.scene = turn.picture if turn is not None else None
        self.frame: Frame | None = None
        self.preprocess_s = 0.0
        self.inference_s = 0.0

    def __next__(self) -> Said | None:
        """See `Steps`; None as long as nothing has been said."""
        try:
            return next(self._steps)
        except StopIteration:
            raise
        except BaseException:
            self._failed = True
            raise

    def close(self) -> None:
        """See `Steps`.

        Whoever was told a part of the answer may go on from there, unless the engine has failed.

        :raises EngineError: when the answer is none.
        """
        turn, draft = self._turn, self._draft
        try:
            if turn is None:
                return
            if draft is None or not draft.tokens or self._failed:
                turn.leave(self._begun)
                return
            try:
                check_answer(draft.read(), self.scene)
                transcript = draft.transcript()
            except BaseException:
                turn.leave(self._begun)
                raise
            turn.keep(transcript, self.scene)
        finally:
            self._steps.close()

    def _take(self) -> Generator[Said | None, None, None]:
        goal, engine = self._goal, self._room.engine
        views: list[View] = []
        for source in self._sources:
            begin = time.monotonic()
            views.append(source())
            self.preprocess_s += time.monotonic() - begin
            yield None
        sizes = [(view.frame.width, view.frame.height) for view in views]
        examples = len(goal.examples)
        if views[examples:]:
            self.frame = views[-1].frame
            self.scene = Scene.of(views[-1].shot, views[-1].frame)
        scene = self.scene
        size = None if scene is None else (scene.width, scene.height)
        past = None if self._turn is None else self._turn.past
        ask = goal.question(size, sizes[:examples])
        engine.check_ask(ask, past)
        contexts: list[ImageContext] = []
        while views:
            begin = time.monotonic()
            contexts.append(self._room.context(views.pop(0)))
            self.inference_s += time.monotonic() - begin
            yield None
        self._begun = True
        begin = time.monotonic()
        for draft in engine.ask(ask, contexts, past):
            now = time.monotonic()
            self.inference_s += now - begin
            self._draft = draft
            yield Said(draft, self._rate(draft.tokens, now))
            if draft.finish is not Finish.NONE:
                return
            begin = time.monotonic()
        raise EngineError('The engine ended in the middle of its answer; see the log.')

    def _rate(self, tokens: int, now_s: float) -> float:
        if self._first is None:
            self._first = (tokens, now_s) if tokens else None
            return 0.0
        first, since_s = self._first
        return (tokens - first) / max(now_s - since_s, 1e-6)


def check_regions(goal: Goal, scene: Scene | None) -> None:
    """
    :raises BadExpression: when there are regions of no image.
    """
    if goal.regions and not goal.images and not goal.needs_camera and scene is None:
        raise BadExpression(
            'The goal has regions, but no image that they are parts of; give one or name a camera.'
        )
