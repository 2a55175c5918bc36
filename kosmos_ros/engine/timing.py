"""How long an engine takes for what its callers ask."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
import math
import time
from typing import Any, cast

import numpy as np

from kosmos_ros.engine.answering.prefill import EncodedImage
from kosmos_ros.engine.base import Image
from kosmos_ros.engine.kosmos2 import Kosmos2Engine
from kosmos_ros.engine.runners.runner import Runner

# Runs in which kernels may be compiled and graphs captured.
_WARM_UPS = 2
# Fewer would say nothing, whatever time they take.
_LEAST_RUNS = 5


@dataclass(frozen=True, slots=True)
class Times:
    """Of one kind of work: median and 95th percentile, and how often it was done."""

    p50_ms: float
    p95_ms: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> 'Times':
        """Sum up times, at least one."""
        p50, p95 = np.percentile(seconds, (50, 95))
        return cls(1e3 * float(p50), 1e3 * float(p95), len(seconds))

    def as_dict(self) -> dict[str, float]:
        """Return the fields by name."""
        return asdict(self)


def timed(work: Callable[[], Any], runs: int, most_s: float = math.inf) -> Times:
    """Do work again and again.

    :param work: ends when its result is there, not when a GPU has been told what to do.
    :param most_s: seconds after which fewer runs are enough.
    """
    for _ in range(_WARM_UPS):
        work()
    seconds: list[float] = []
    end = time.perf_counter() + most_s
    while len(seconds) < runs and (time.perf_counter() < end or len(seconds) < _LEAST_RUNS):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return Times.of(seconds)


def see(engine: Kosmos2Engine, runner: Runner, image: Image) -> None:
    """Encode an image, RGB uint8[height, width, 3], and wait until that is done.

    :param runner: the engine's.
    """
    encoded = cast(EncodedImage, engine.encode_image(image).encoded)
    # A GPU only notes down what it is to do; to read the result is to wait for it.
    runner.fetch(encoded.embeddings)
