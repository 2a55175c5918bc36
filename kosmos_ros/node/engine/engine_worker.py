"""The engine room: an engine, the one thread that may call it, and what it looked at last."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
import time

from kosmos_ros.engine.base import Engine, ImageContext, ScoredBox
from kosmos_ros.engine.load import load_engine
from kosmos_ros.errors import KosmosError
from kosmos_ros.limits import Limits
from kosmos_ros.node.ask.conversations import Conversations
from kosmos_ros.node.conversion.messages import check_located, frame_from
from kosmos_ros.node.conversion.stamped_image import Frame, Scene, Shot
from kosmos_ros.node.engine.worker import Worker
from kosmos_ros.node.parameters import Settings


@dataclass(frozen=True, slots=True)
class Sight:
    """What the engine found in a frame: for each expression its boxes, best first."""

    frame: Frame
    located: list[list[ScoredBox]]
    preprocess_s: float
    inference_s: float


@dataclass(slots=True, eq=False)
class View:
    """A picture that has been read; it is encoded when somebody asks about it."""

    shot: Shot
    frame: Frame
    context: ImageContext | None = None


class EngineRoom:
    """Made when the node is configured, closed when it is cleaned up.

    A frame is read and encoded once, however many calls and standing expressions are about it.
    """

    def __init__(self, limits: Limits, report: Callable[[BaseException], None]) -> None:
        self.worker = Worker(limits.max_waiting, limits.max_asks, report)
        self._limits = limits
        self._engine: Engine | None = None
        self._conversations: Conversations[Scene] | None = None
        self._view: View | None = None

    def load(self, settings: Settings, report: Callable[[str], None]) -> None:
        """Load an engine in the thread that will use it.

        :param report: is given lines of progress, in that thread.
        :raises EngineFileError: when it cannot be loaded.
        """

        def load() -> Engine:
            return load_engine(
                Path(settings.engine) if settings.engine else None,
                settings.runner,
                self._limits,
                self_check=settings.self_check,
                build_plans=settings.build_plans,
                report=report,
            )

        self._conversations = Conversations(
            settings.max_conversations,
            settings.conversation_age,
            settings.conversation_memory << 20,
        )
        self._engine = self.worker.call(load, timeout_s=None).value

    @property
    def engine(self) -> Engine:
        """The loaded engine; its name, `check_expression` and `check_ask` are for every thread."""
        if self._engine is None:
            raise RuntimeError('the engine has not been loaded')
        return self._engine

    @property
    def conversations(self) -> Conversations[Scene]:
        """What was said with this engine."""
        if self._conversations is None:
            raise RuntimeError('the engine has not been loaded')
        return self._conversations

    def read(self, shot: Shot) -> View:
        """Decode a picture.

        :raises BadImage: when the message cannot be read.
        """
        return View(shot, frame_from(shot.message, self._limits))

    def view(self, shot: Shot) -> View:
        """The same, and once for all who look at it; only for work in the worker's thread."""
        if self._view is None or shot is not self._view.shot:
            # Forgotten first: two pictures need not be in memory at once.
            self._view = None
            self._view = self.read(shot)
        return self._view

    def context(self, view: View) -> ImageContext:
        """What the engine sees in it; only for work in the worker's thread."""
        if view.context is None:
            view.context = self.engine.encode_image(view.frame.image)
        return view.context

    def look(self, shot: Shot, expressions: Sequence[str], top_k: int) -> Sight:
        """Find expressions in an image; only for work in the worker's thread.

        :raises BadImage: when the message cannot be read.
        :raises EngineError: when the engine's answer is none.
        """
        begin = time.monotonic()
        view = self.view(shot)
        ready = time.monotonic()
        answers = self.engine.locate(self.context(view), expressions, top_k)
        located = [check_located(answer) for answer in answers]
        return Sight(view.frame, located, ready - begin, time.monotonic() - ready)

    def close(self, error: KosmosError, timeout_s: float) -> bool:
        """Answer everybody who waits with `error`, close the engine, end the thread.

        :return: False when the engine does not come back in time; then it is left to itself.
        """
        closing = None if self._engine is None else self._engine.close
        return self.worker.stop(error, timeout_s, last=closing)
