"""One thread that computes, and short, bounded queues in front of it.

Knows nothing of ROS or of engines.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
import threading
import time
from typing import Any, Generic, TypeVar

from kosmos_ros.errors import Busy, KosmosError, TimedOut
from kosmos_ros.node.engine.stepwise_job import StepwiseJob, as_engine_error

T = TypeVar('T')


@dataclass(frozen=True, slots=True)
class CallResult(Generic[T]):
    """What a call returned, and how long it waited for its turn."""

    value: T
    queue_s: float


class _Call:
    """Short work and its outcome; the first outcome counts.

    :param is_awaited: whether a thread waits for it.
    """

    def __init__(self, work: Callable[[], object], is_awaited: bool) -> None:
        self.work = work
        self.is_awaited = is_awaited
        self.arrived_s = time.monotonic()
        self.started_s = self.arrived_s
        self.finished = threading.Event()
        self.is_abandoned = False
        self.value: object = None
        self.error: BaseException | None = None

    def finish(self, value: object, error: BaseException | None) -> None:
        if not self.finished.is_set():
            self.value, self.error = value, error
            self.finished.set()


_Job = StepwiseJob[Any]


class Worker:
    """Runs work in one thread of its own.

    Between any two steps of stepwise jobs come first all calls, for which threads wait, in the
    order of their arrival, then one piece of background work, for which none does.  Stepwise jobs
    take turns.

    :param max_waiting: calls that may wait while one is running.
    :param max_jobs: stepwise jobs that may run at once.
    :param report: is given failures that no thread waits for.
    """

    def __init__(
        self, max_waiting: int, max_jobs: int, report: Callable[[BaseException], None]
    ) -> None:
        self._max_calls = max_waiting + 1
        self._max_jobs = max_jobs
        self._report = report
        self._changed = threading.Condition()
        self._waiting: deque[_Call] = deque()
        self._background: dict[str, _Call] = {}
        self._jobs: deque[_Job] = deque()
        self._job_is_next = False
        self._running: _Call | _Job | None = None
        self._running_since_s = 0.0
        self._calls = 0
        self._unfinished_jobs = 0
        self._stopped: KosmosError | None = None
        self._last: _Call | None = None
        # A daemon: an engine that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name='engine', daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], T], timeout_s: float | None) -> CallResult[T]:
        """Run short work and wait for it.

        :raises Busy: at once, when as many calls wait as may.
        :raises TimedOut: when it is not done in time; if it is not running, it never will.
        :raises KosmosError: what the worker was stopped with, or all were rejected with.
        :raises Exception: whatever `work` raises.
        """
        call = _Call(work, is_awaited=True)
        with self._changed:
            if self._stopped:
                raise self._stopped
            if self._calls >= self._max_calls:
                raise Busy(
                    f'{self._calls} calls are already being answered or waiting; '
                    'try again in a moment, or set max_waiting higher.'
                )
            self._calls += 1
            self._waiting.append(call)
            self._changed.notify_all()
        call.finished.wait(timeout_s)
        with self._changed:
            if not call.finished.is_set():
                self._abandon(call)
                raise TimedOut(self._why_late(call, timeout_s))
        if call.error is not None:
            if isinstance(call.error, Exception):
                raise call.error
            raise as_engine_error(call.error) from call.error
        return CallResult(call.value, call.started_s - call.arrived_s)  # type: ignore[arg-type]

    def start(self, job: StepwiseJob[T]) -> None:
        """Run a stepwise job, without waiting for it.

        :raises Busy: at once, when as many run as may; then the job is not closed either.
        :raises KosmosError: what the worker was stopped with.
        """
        with self._changed:
            if self._stopped:
                raise self._stopped
            if self._unfinished_jobs >= self._max_jobs:
                raise Busy(
                    f'{self._unfinished_jobs} questions are already being answered; '
                    'try again in a moment, or set max_asks higher.'
                )
            self._unfinished_jobs += 1
            self._jobs.append(job)
            self._changed.notify_all()

    def run_in_background(self, key: str, work: Callable[[], None]) -> None:
        """Run work when no call waits; it replaces older work of the same key not yet begun."""
        with self._changed:
            if not self._stopped:
                self._background[key] = _Call(work, is_awaited=False)
                self._changed.notify_all()

    def reject_all(self, error: KosmosError) -> None:
        """Answer all calls and jobs with `error`, also what is running."""
        with self._changed:
            self._background.clear()
            self._calls -= len(self._waiting)
            for call in self._waiting:
                call.finish(None, error)
            self._waiting.clear()
            for job in self._jobs:
                job.end(error)
            if isinstance(self._running, StepwiseJob):
                self._running.end(error)
            elif self._running is not None:
                self._running.is_abandoned = True
                self._running.finish(None, error)

    def stop(
        self, error: KosmosError, timeout_s: float, last: Callable[[], None] | None = None
    ) -> bool:
        """Take nothing more, answer everything, now and later, with `error`, and end the thread.

        :param last: the last thing that the thread does.
        :return: whether the thread has ended; False when what it is running takes longer.
        """
        with self._changed:
            self._stopped = error
            self._last = _Call(last, is_awaited=False) if last else None
            self._changed.notify_all()
        self.reject_all(error)
        return self.join(timeout_s)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the thread, once the worker was stopped; return whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def waiting_calls(self) -> int:
        """How many calls wait for their turn."""
        with self._changed:
            return len(self._waiting)

    @property
    def unfinished_jobs(self) -> int:
        """How many stepwise jobs have not ended."""
        with self._changed:
            return self._unfinished_jobs

    @property
    def running_s(self) -> float:
        """For how long the present piece of work has been running; 0 when idle."""
        with self._changed:
            return time.monotonic() - self._running_since_s if self._running else 0.0

    def _abandon(self, call: _Call) -> None:
        call.is_abandoned = True
        if call in self._waiting:
            self._waiting.remove(call)
            self._calls -= 1

    def _why_late(self, call: _Call, timeout_s: float | None) -> str:
        if call is self._running:
            return f'The engine did not answer within {timeout_s:.3g} s; allow more time.'
        return (
            f'The call waited {timeout_s:.3g} s for other calls and was dropped; '
            'allow more time or call less often.'
        )

    def _work(self) -> None:
        while work := self._next():
            if isinstance(work, StepwiseJob):
                self._advance(work)
            else:
                self._run(work)

    def _next(self) -> _Call | _Job | None:
        work: _Call | _Job | None
        with self._changed:
            while not (self._waiting or self._background or self._jobs or self._stopped):
                self._changed.wait()
            if self._stopped:
                # The jobs have ended; they are still to be closed.
                work, self._last = (
                    (self._jobs.popleft(), self._last) if self._jobs else (self._last, None)
                )
            elif self._waiting:
                work = self._waiting.popleft()
            elif self._background and not (self._job_is_next and self._jobs):
                work = self._background.pop(next(iter(self._background)))
                self._job_is_next = True
            else:
                work = next((job for job in self._jobs if job.is_ending), self._jobs[0])
                self._jobs.remove(work)
                self._job_is_next = False
            self._running, self._running_since_s = work, time.monotonic()
            if isinstance(work, _Call):
                work.started_s = self._running_since_s
            return work

    def _run(self, call: _Call) -> None:
        value: object = None
        failure: BaseException | None = None
        try:
            value = call.work()
        # The border of the thread: the waiting thread raises it again, and this one lives on.
        except BaseException as error:
            failure = error
        with self._changed:
            self._running = None
            self._calls -= call.is_awaited
            is_heard = call.is_awaited and not call.is_abandoned
            call.finish(value, failure)
        if failure is not None and not is_heard:
            self._report(failure)

    def _advance(self, job: _Job) -> None:
        failure = job.advance()
        is_over = job.is_ending
        if is_over:
            closing = job.close()
            failure = failure or closing
        with self._changed:
            self._running = None
            if not is_over:
                self._jobs.append(job)
                return
            self._unfinished_jobs -= 1
            is_heard = job.end(failure)
        if failure is not None and not is_heard:
            self._report(failure)
