"""The engine room: an engine, the one thread that may call it, and what it looked at last."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
import time

from kosmos_ros.engine.base import Engine, ImageContext, Located
from kosmos_ros.engine.load import load_engine
from kosmos_ros.errors import KosmosError
from kosmos_ros.limits import Limits
from kosmos_ros.node.frame import Frame, Shot
from kosmos_ros.node.messages import check_located, frame_from
from kosmos_ros.node.parameters import Settings
from kosmos_ros.node.worker import Worker


@dataclass(frozen=True, slots=True)
class Sight:
    """What the engine found in a frame: for each expression its boxes, best first."""

    frame: Frame
    located: list[list[Located]]
    preprocess_s: float
    inference_s: float


class EngineRoom:
    """Made when the node is configured, closed when it is cleaned up.

    A frame is read and encoded once, however many calls and standing expressions are about it.
    """

    def __init__(self, limits: Limits, report: Callable[[BaseException], None]) -> None:
        self.worker = Worker(limits.max_waiting, report)
        self._limits = limits
        self._engine: Engine | None = None
        self._shot: Shot | None = None
        self._frame: Frame | None = None
        self._context: ImageContext | None = None

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

        self._engine = self.worker.call(load, timeout_s=None).value

    @property
    def engine(self) -> Engine:
        """The loaded engine; its name and `check_expression` are for every thread."""
        if self._engine is None:
            raise RuntimeError('the engine has not been loaded')
        return self._engine

    def look(self, shot: Shot, expressions: Sequence[str], top_k: int) -> Sight:
        """Find expressions in an image; only for work in the worker's thread.

        :raises BadImage: when the message cannot be read.
        :raises EngineError: when the engine's answer is none.
        """
        begin = time.monotonic()
        if shot is not self._shot:
            # Forgotten first: a failure below must not leave another frame's context here.
            self._shot = self._frame = self._context = None
            self._frame = frame_from(shot.message, self._limits)
            self._shot = shot
        frame = self._frame
        if frame is None:
            raise RuntimeError('a frame that was read has gone')
        ready = time.monotonic()
        if self._context is None:
            self._context = self.engine.encode_image(frame.image)
        answers = self.engine.locate(self._context, expressions, top_k)
        located = [check_located(answer) for answer in answers]
        return Sight(frame, located, ready - begin, time.monotonic() - ready)

    def close(self, error: KosmosError, timeout_s: float) -> bool:
        """Answer everybody who waits with `error`, close the engine, end the thread.

        :return: False when the engine does not come back in time; then it is left to itself.
        """
        closing = None if self._engine is None else self._engine.close
        return self.worker.stop(error, timeout_s, last=closing)
