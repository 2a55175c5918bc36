"""A part's work, with everything that goes wrong in it put into words."""

from collections.abc import Iterator
from contextlib import contextmanager
import pkgutil
import re
import traceback

from gpu_check.report import State
from gpu_check.task import Ended, Findings, Part, Task
from kosmos_ros.errors import EngineError, RunnerUnavailable, SelfCheckFailed

# How CUDA, PyTorch and the system say that a machine cannot do something.  Their other errors,
# such as an illegal address, are mistakes of ours.
_REFUSAL = re.compile(
    r'out of memory|allocate memory|ALLOC_FAILED|no space left|no kernel image|'
    r'not compiled with CUDA|driver (version|initialization|on your system)',
    re.IGNORECASE,
)
_MOST_WORDS = 600


@contextmanager
def refusals() -> Iterator[None]:
    """Take what goes wrong in the block as a refusal, unless a number is wrong.

    :raises RunnerUnavailable: instead of any other EngineError.
    :raises SelfCheckFailed: as before.
    """
    try:
        yield
    except SelfCheckFailed:
        raise
    except EngineError as error:
        raise RunnerUnavailable(str(error)) from error


def attempt(part: Part, task: Task, findings: Findings) -> Ended:
    """Do a part's work, and return how it ended."""
    try:
        pkgutil.resolve_name(part.work)(task, findings)
    except Exception as error:
        ended = _verdict(error)
        if ended.state is State.FAILED and not isinstance(error, SelfCheckFailed):
            findings.line(traceback.format_exc())
        return ended
    return Ended(State.OK)


def _verdict(error: Exception) -> Ended:
    words = ' '.join(str(error).split())[:_MOST_WORDS]
    if isinstance(error, (RunnerUnavailable, ImportError, MemoryError)) or _REFUSAL.search(words):
        return Ended(State.REFUSED, words or type(error).__name__)
    if isinstance(error, SelfCheckFailed):
        return Ended(State.FAILED, words)
    return Ended(State.FAILED, f'{type(error).__name__}: {words}')
