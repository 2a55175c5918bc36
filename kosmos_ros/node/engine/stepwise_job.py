"""Long work in steps, between which other work has its turn.

Knows nothing of ROS or of engines.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator
import threading
import time
from typing import Generic, TypeVar

from kosmos_ros.errors import EngineError

T = TypeVar('T')


class StepwiseJob(ABC, Generic[T]):
    """Any thread may look at it, wait for its end, or cancel it; only the worker runs it.

    A subclass does its work in `run`, and what must happen at the end in `finish`.
    """

    def __init__(self) -> None:
        self.arrived_s = time.monotonic()
        self._started_s: float | None = None
        self._steps = self.run()
        self._latest: T | None = None
        self._is_ending = False
        self._has_failed = False
        self._error: Exception | None = None
        self._over = threading.Event()

    @abstractmethod
    def run(self) -> Generator[T, None, None]:
        """Do the work: each ``yield`` ends a step and tells what it has come to."""

    def finish(self) -> None:
        """Do what must be done at the end; called once, also when `run` was never begun."""

    @property
    def latest(self) -> T | None:
        """What the newest step has come to; None before the first one."""
        return self._latest

    @property
    def error(self) -> Exception | None:
        """What it failed with, or was rejected with."""
        return self._error

    @property
    def has_failed(self) -> bool:
        """Whether a step has raised."""
        return self._has_failed

    @property
    def is_ending(self) -> bool:
        """Whether no further step will be begun."""
        return self._is_ending

    @property
    def queue_s(self) -> float:
        """How long it had to wait for its first step, so far."""
        return (self._started_s or time.monotonic()) - self.arrived_s

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; return whether it has come."""
        return self._over.wait(timeout_s)

    def cancel(self) -> None:
        """Begin no further step; the end comes when the present one is done."""
        self._is_ending = True

    def advance(self) -> BaseException | None:
        """Take one step, unless it is ending; return what the step raised.  For the worker."""
        self._started_s = self._started_s or time.monotonic()
        if self._is_ending:
            return None
        try:
            self._latest = next(self._steps)
        except StopIteration:
            self._is_ending = True
        # The border of the worker's thread: the waiting thread gets it, and the worker lives on.
        except BaseException as error:
            self._is_ending = self._has_failed = True
            return error
        return None

    def close(self) -> BaseException | None:
        """Call `finish` and end `run`; return what they raised.  For the worker."""
        failure: BaseException | None = None
        for end in (self.finish, self._steps.close):
            try:
                end()
            except BaseException as error:
                failure = failure or error
        return failure

    def end(self, error: BaseException | None = None) -> bool:
        """Wake who waits for the end.  For the worker, which lets no other thread in meanwhile.

        :return: whether that is news, as the first end counts.
        """
        self._is_ending = True
        if self._over.is_set():
            return False
        if error is not None and not isinstance(error, Exception):
            error = as_engine_error(error)
        self._error = error
        self._over.set()
        return True


def as_engine_error(error: BaseException) -> EngineError:
    """Return what a waiting thread gets for an exception that it should not survive, such as
    SystemExit.
    """
    return EngineError(f'The engine ended with {error!r}.')
