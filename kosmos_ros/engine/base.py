"""The seam between whoever asks (node, command line, benchmarks) and whatever answers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kosmos_ros.model.boxes import Box
from kosmos_ros.model.tasks import Ask

Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]
Image = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Located:
    """One answer: a box as shares of the image, and its joint probability P(top-left)
    P(bottom-right | top-left).
    """

    box_in_image: Box
    score: float


@dataclass(frozen=True, slots=True)
class ImageContext:
    """One image, looked at once: what all questions about it share.  Only the engine that made it
    may read it.
    """

    seen: object


class Finish(IntEnum):
    """Why an answer ends where it ends, equal to the constants FINISH_ of
    ``kosmos_ros_msgs/action/Ask`` (a test compares them).
    """

    NONE = 0
    END = 1
    LENGTH = 2
    CANCELLED = 3
    TIMEOUT = 4


@dataclass(frozen=True, slots=True)
class PhraseGrounding:
    """Words of an answer and where in the image they are.

    :param phrase: '' where the model named none.
    :param span: its first character in the answer's text, and the one behind its last.
    :param boxes: in the order in which the model gave them.
    """

    phrase: str
    span: tuple[int, int]
    boxes: tuple[Located, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said, without tags, and what of it has boxes.  All boxes are about the last image
    in front of the answer.
    """

    text: str
    groundings: tuple[PhraseGrounding, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Transcript:
    """A conversation so far.  Only the engine that made it may read it.

    :param ids: every token, as it was given or generated.
    :param images: what the engine keeps of its images, in their order.
    :param past: keys and values of the first of these tokens; None: to be computed again.
    :param nbytes: memory of `past`.
    """

    ids: tuple[int, ...]
    images: tuple[object, ...] = ()
    past: object | None = None
    nbytes: int = 0

    def without_past(self) -> 'Transcript':
        """The same with the memory of keys and values given back."""
        return replace(self, past=None, nbytes=0)


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer so far.

    :param tokens: how many were generated.
    :param finish: NONE while it goes on.
    :param read: gives what was said; any thread may call it, at any time.
    :param transcript: gives the conversation with this answer, as long as no further step of it
        was made.
    """

    tokens: int
    finish: Finish
    read: Callable[[], Answer]
    transcript: Callable[[], Transcript]


class Engine(Protocol):
    """Answers questions about images.  One thread at a time may call it."""

    @property
    def name(self) -> str:
        """What answers, for people: model, runner, device, precision."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a person should know about how it was loaded: runners that were passed over, and
        why.
        """

    def check_expression(self, expression: str) -> None:
        """Raise BadExpression when `locate` could not take this text.  Cheap; any thread may call
        it.
        """

    def encode_image(self, image: Image) -> ImageContext:
        """Look at an RGB image uint8[height, width, 3] once, for any number of questions."""

    def locate(
        self, context: ImageContext, expressions: Sequence[str], top_k: int = 1
    ) -> list[tuple[Located, ...]]:
        """The `top_k` most probable boxes for each expression, best first."""

    def check_ask(self, ask: Ask, past: Transcript | None = None) -> None:
        """Raise BadExpression when `ask` could not take this.  Cheap; any thread may call it."""

    def ask(
        self, ask: Ask, contexts: Sequence[ImageContext], past: Transcript | None = None
    ) -> Iterator[Draft]:
        """Answer in steps, each of which is one run of the network: over a piece of the prompt or
        one token.  Whoever does not ask for the next step ends it.

        :param contexts: the images: one for each example, then those of the question.
        :param past: the conversation that this goes on with.
        """

    def close(self) -> None:
        """Give memory and devices back; nothing may be called afterwards."""
