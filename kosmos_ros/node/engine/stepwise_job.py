"""Long work in steps, between which others have their turn.

Knows nothing of ROS or of engines.
"""

import threading
import time
from typing import Generic, Protocol, TypeVar

from kosmos_ros.errors import EngineError

T = TypeVar('T')
T_co = TypeVar('T_co', covariant=True)


class Steps(Protocol[T_co]):
    """Long work that others may interrupt between two steps."""

    def __next__(self) -> T_co:
        """Do the next step and tell what it has come to; StopIteration after the last one."""

    def close(self) -> None:
        """Called once, however it ends, also when it was never begun."""


class Course(Generic[T]):
    """Long work on its way: any thread may look at it, wait for its end, or cancel it.

    :param steps: are called by the worker only.
    """

    def __init__(self, steps: Steps[T]) -> None:
        self.steps = steps
        self.arrived_s = time.monotonic()
        self.started_s: float | None = None
        self.leaving = False
        self._latest: T | None = None
        self._error: Exception | None = None
        self._over = threading.Event()

    @property
    def latest(self) -> T | None:
        """What the newest step has come to; None before the first one."""
        return self._latest

    @property
    def error(self) -> Exception | None:
        """What it failed with, or was dismissed with."""
        return self._error

    @property
    def queue_s(self) -> float:
        """How long it had to wait for its first step, so far."""
        return (self.started_s or time.monotonic()) - self.arrived_s

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end; returns whether it has come."""
        return self._over.wait(timeout_s)

    def cancel(self) -> None:
        """Begin no further step; the end comes when the present one is done."""
        self.leaving = True

    def advance(self) -> BaseException | None:
        """One step, or the end; only for the worker."""
        self.started_s = self.started_s or time.monotonic()
        failure: BaseException | None = None
        if not self.leaving:
            try:
                self._latest = next(self.steps)
            except StopIteration:
                self.leaving = True
            # The border of the thread: whoever waits gets it, and the thread lives on.
            except BaseException as error:
                failure, self.leaving = error, True
        return failure

    def end(self, error: BaseException | None = None) -> bool:
        """It is over; only for the worker, which lets nobody else in meanwhile.

        :return: whether that is news, as the first end counts.
        """
        self.leaving = True
        if self._over.is_set():
            return False
        if error is not None and not isinstance(error, Exception):
            error = as_ours(error)
        self._error = error
        self._over.set()
        return True


def as_ours(error: BaseException) -> EngineError:
    """What the worker survives and whoever waits should not have to: SystemExit, for example."""
    return EngineError(f'The engine ended with {error!r}.')
