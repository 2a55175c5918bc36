"""The interface between callers (node, command line, benchmarks, your program) and engines."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from kosmos_ros.model.boxes import Box
from kosmos_ros.model.tasks import Ask

Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]
# RGB, uint8[height, width, 3].
Image = npt.NDArray[np.uint8]
# Whatever `Engine.encode_image` takes: an image, one of Pillow's, or the path of a picture file.
ImageSource = Image | Pillow.Image | Path | str
# Is given lines of progress: 'stage' or 'stage: how far'.
Report = Callable[[str], None]
_Self = TypeVar('_Self')


def ignore_progress(line: str) -> None:
    """Take a line of progress and do nothing with it."""


@dataclass(frozen=True, slots=True)
class ScoredBox:
    """A box as fractions of the image, with its joint probability
    P(top-left) P(bottom-right | top-left).
    """

    box_in_image: Box
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class ImageContext:
    """An encoded image: what all questions about it share.

    :param encoded: may be read by the engine that made it, and by no other.
    :param made_by: that engine; others refuse it.
    """

    encoded: object = field(repr=False)
    made_by: object = None


class Finish(IntEnum):
    """Why an answer ends, equal to the constants FINISH_ of ``kosmos_ros_msgs/action/Ask`` (a test
    compares them).
    """

    NONE = 0
    END = 1
    LENGTH = 2
    CANCELLED = 3
    TIMEOUT = 4


@dataclass(frozen=True, slots=True)
class PhraseGrounding:
    """A phrase of an answer and its boxes in the image.

    :param phrase: '' where the model named none.
    :param span: index of its first character in the answer's text, and the index after its last.
    :param boxes: in the order in which the model gave them.
    """

    phrase: str
    span: tuple[int, int]
    boxes: tuple[ScoredBox, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer in words, without tags.  All boxes are about the last image in front of it."""

    text: str
    groundings: tuple[PhraseGrounding, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Transcript:
    """A conversation so far.  Only the engine that made it may read it.

    :param ids: every token id, given or generated.
    :param images: what the engine keeps of its images, in their order.
    :param kv_cache: keys and values of the first of these tokens; None: to be computed again.
    :param nbytes: memory of `kv_cache`.
    :param made_by: that engine; others refuse it.  None: nobody knows.
    """

    ids: tuple[int, ...]
    images: tuple[object, ...] = ()
    kv_cache: object | None = None
    nbytes: int = 0
    made_by: object = None

    def without_kv_cache(self) -> 'Transcript':
        """Return the same conversation with the memory of its keys and values released."""
        return replace(self, kv_cache=None, nbytes=0)


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer so far.

    :param tokens: number of generated tokens.
    :param finish: NONE while it goes on.
    :param read: returns the answer; any thread may call it, at any time.
    :param transcript: returns the conversation with this answer, until the next step is taken.
    """

    tokens: int
    finish: Finish
    read: Callable[[], Answer]
    transcript: Callable[[], Transcript]


class Engine(Protocol):
    """Answers questions about images.  One thread at a time may call it.

    `encode_image`, `locate` and `ask` raise EngineError after `close`, and so does a step of an
    answer that is yet to be computed.

    :param name: what answers, for people: model, runner, device, precision.
    :param remarks: what a person should know about its loading: backends that were passed over,
        and why.
    """

    name: str
    remarks: tuple[str, ...]

    def check_expression(self, expression: str) -> None:
        """Raise BadExpression when `locate` could not take this text.  Cheap; any thread may call
        it.
        """

    def encode_image(self, image: ImageSource) -> ImageContext:
        """Encode an image once, for any number of questions.

        :param image: RGB uint8[height, width, 3], an image of Pillow's, or the path of a picture.
        :raises BadImage: when it cannot be read as a picture, or is too large.
        :raises TypeError: when it is something else.
        :raises ValueError: when an array has another shape.
        """

    def locate(
        self, context: ImageContext, expressions: Sequence[str], top_k: int = 1
    ) -> list[tuple[ScoredBox, ...]]:
        """Return the `top_k` most probable boxes for each expression, best first.

        :raises BadExpression: before anything is computed, when an expression cannot be asked.
        :raises TypeError: when `expressions` is a single text, `top_k` is no whole number, or
            another engine has made `context`.
        :raises ValueError: when `top_k` is less than 1.
        """

    def check_ask(self, ask: Ask, history: Transcript | None = None) -> None:
        """Raise BadExpression when `ask` could not take this.  Cheap; any thread may call it."""

    def ask(
        self, ask: Ask, contexts: Sequence[ImageContext], history: Transcript | None = None
    ) -> Iterator[Draft]:
        """Answer in steps, each of which is one run of the network: over a piece of the prompt or
        one token.  A caller that takes no further step ends it.

        :param contexts: the images: one for each example, then those of the question.
        :param history: the conversation that this goes on with.
        :raises BadExpression: at once, when the question cannot be answered.
        :raises TypeError: when something is of another type than promised.
        :raises ValueError: when `contexts` are not as many as `ask` needs.
        """

    def close(self) -> None:
        """Release memory and devices; a second call does nothing."""

    def __enter__(self: _Self) -> _Self:
        """Return the engine; the ``with`` statement closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the engine."""
        self.close()
