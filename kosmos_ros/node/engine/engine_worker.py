"""An engine, the one thread that may call it, and the image that it encoded last."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
import time

from kosmos_ros.engine.base import Engine, ImageContext, Report, ScoredBox
from kosmos_ros.engine.building.plans import build_plans
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.directory.packaged import embedded_engine
from kosmos_ros.engine.load import load_engine
from kosmos_ros.errors import EngineError, EngineFileError, KosmosError
from kosmos_ros.limits import Limits
from kosmos_ros.node.ask.conversations import Conversations
from kosmos_ros.node.conversion.detections import check_boxes
from kosmos_ros.node.conversion.images import decode_image
from kosmos_ros.node.conversion.stamped_image import DecodedImage, ImageReference, StampedImage
from kosmos_ros.node.engine.worker import Worker
from kosmos_ros.node.parameters import Settings


@dataclass(frozen=True, slots=True)
class Localization:
    """What the engine found in an image: for each expression its boxes, best first."""

    image: DecodedImage
    boxes: list[list[ScoredBox]]
    preprocess_s: float
    inference_s: float


@dataclass(slots=True, eq=False)
class PreparedImage:
    """A decoded image; `context` is set when the engine has encoded it."""

    stamped: StampedImage
    image: DecodedImage
    context: ImageContext | None = None


class EngineWorker:
    """Made when the node is configured, closed when it is cleaned up.

    An image is decoded and encoded once, however many calls and standing expressions are about it.

    :param report: is given failures of work that no thread waits for.
    """

    def __init__(self, limits: Limits, report: Callable[[BaseException], None]) -> None:
        self.worker = Worker(limits.max_waiting, limits.max_asks, report)
        self._limits = limits
        self._engine: Engine | None = None
        self._conversations: Conversations[ImageReference] | None = None
        self._remarks: tuple[str, ...] = ()
        self._prepared: PreparedImage | None = None

    def load(self, settings: Settings, report: Report) -> None:
        """Load an engine in the thread that will use it; first build its plans, if wanted.

        :param report: is given lines of progress, in that thread.
        :raises EngineError: when it cannot be loaded.
        """

        def load() -> Engine:
            runner = settings.runner
            if settings.build_plans != 'never':
                runner = self._build_plans(settings, report)
            return load_engine(
                settings.engine or None,
                runner,
                self._limits,
                self_check=settings.self_check,
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
        """The loaded engine; every thread may call its checks and read its name."""
        if self._engine is None:
            raise RuntimeError('the engine has not been loaded')
        return self._engine

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know about how the engine was loaded."""
        return (*self._remarks, *self.engine.remarks)

    @property
    def conversations(self) -> Conversations[ImageReference]:
        """The conversations with this engine."""
        if self._conversations is None:
            raise RuntimeError('the engine has not been loaded')
        return self._conversations

    def decode(self, stamped: StampedImage) -> PreparedImage:
        """Decode an image.

        :raises BadImage: when the message cannot be read.
        """
        return PreparedImage(stamped, decode_image(stamped.message, self._limits))

    def decode_once(self, stamped: StampedImage) -> PreparedImage:
        """Decode an image, or return it if it was the last one.  For the worker's thread only.

        :raises BadImage: when the message cannot be read.
        """
        if self._prepared is None or stamped is not self._prepared.stamped:
            # Released first: two images need not be in memory at once.
            self._prepared = None
            self._prepared = self.decode(stamped)
        return self._prepared

    def encode_once(self, prepared: PreparedImage) -> ImageContext:
        """Encode an image, unless that was done.  For the worker's thread only."""
        if prepared.context is None:
            prepared.context = self.engine.encode_image(prepared.image.pixels)
        return prepared.context

    def locate(
        self, stamped: StampedImage, expressions: Sequence[str], top_k: int
    ) -> Localization:
        """Find expressions in an image.  For the worker's thread only.

        :raises BadImage: when the message cannot be read.
        :raises EngineError: when the engine's boxes are none.
        """
        begin = time.monotonic()
        prepared = self.decode_once(stamped)
        decoded = time.monotonic()
        answers = self.engine.locate(self.encode_once(prepared), expressions, top_k)
        boxes = [check_boxes(answer) for answer in answers]
        return Localization(prepared.image, boxes, decoded - begin, time.monotonic() - decoded)

    def close(self, error: KosmosError, timeout_s: float) -> bool:
        """Answer every call and job with `error`, close the engine, end the thread.

        :return: False when the engine does not come back in time; then it is abandoned.
        """
        closing = None if self._engine is None else self._engine.close
        return self.worker.stop(error, timeout_s, last=closing)

    def _build_plans(self, settings: Settings, report: Report) -> str:
        """Build the plans that this machine lacks; return the runner to load the engine by.

        With `build_plans` 'missing', an engine whose plans cannot be built is loaded by another
        runner; with 'only', that is an error.
        """
        path = Path(settings.engine) if settings.engine else embedded_engine()
        if not path.is_dir():
            report(f'plans: {path} is no engine directory, so it has none')
            return settings.runner
        report('checking the files')
        directory = EngineDirectory.verified(path)
        only = settings.build_plans == 'only'
        try:
            build_plans(directory, report)
        except EngineFileError:
            raise
        except EngineError as error:
            if only:
                raise
            self._remarks = (f'plans were not built: {error}',)
        return 'tensorrt' if only and directory.recipe.runner == 'tensorrt' else settings.runner
