"""The seam between whoever asks (node, command line, benchmarks) and whatever answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kosmos_ros.model.boxes import Box

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
    """One image, looked at once: what all expressions about it share.  Only the engine that made
    it may read it.
    """

    prefix: object


class Engine(Protocol):
    """Answers referring expressions about images.  One thread at a time may call it."""

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
        """Look at an RGB image uint8[height, width, 3] once, for any number of expressions."""

    def locate(
        self, context: ImageContext, expressions: Sequence[str], top_k: int = 1
    ) -> list[tuple[Located, ...]]:
        """The `top_k` most probable boxes for each expression, best first."""

    def close(self) -> None:
        """Give memory and devices back; nothing may be called afterwards."""
