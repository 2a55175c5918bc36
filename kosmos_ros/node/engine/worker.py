"""One thread that computes, and short, bounded lines in front of it.

Knows nothing of ROS or of engines.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
import threading
import time
from typing import Generic, TypeVar

from kosmos_ros.errors import Busy, KosmosError, TimedOut
from kosmos_ros.node.engine.stepwise_job import Course, Steps, as_ours

T = TypeVar('T')


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What a piece of work gave, and how long it had to wait for its turn."""

    value: T
    queue_s: float


class _Job:
    """A piece of work and its outcome; the first outcome counts."""

    def __init__(self, work: Callable[[], object], awaited: bool) -> None:
        self.work = work
        self.awaited = awaited
        self.arrived_s = time.monotonic()
        self.started_s = self.arrived_s
        self.finished = threading.Event()
        self.abandoned = False
        self.value: object = None
        self.error: BaseException | None = None

    def finish(self, value: object, error: BaseException | None) -> None:
        if not self.finished.is_set():
            self.value, self.error = value, error
            self.finished.set()


class Worker:
    """Runs work in one thread of its own.

    Between any two steps of long work come first all calls, for which somebody waits, in the order
    of their arrival, then one piece of background work, for which nobody does.  Long work takes
    turns.

    :param max_waiting: calls that may wait while one is being worked on.
    :param max_courses: long works that may be on their way at once.
    :param report: is told of failures that nobody waits for.
    """

    def __init__(
        self, max_waiting: int, max_courses: int, report: Callable[[BaseException], None]
    ) -> None:
        self._places = max_waiting + 1
        self._max_courses = max_courses
        self._report = report
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._background: dict[str, _Job] = {}
        self._courses: deque[Course[object]] = deque()
        self._course_is_next = False
        self._running: _Job | Course[object] | None = None
        self._since_s = 0.0
        self._calls = 0
        self._under_way = 0
        self._stopped: KosmosError | None = None
        self._last: _Job | None = None
        # A daemon: an engine that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name='engine', daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], T], timeout_s: float | None) -> Done[T]:
        """Have work done and wait for it.

        :raises Busy: at once, when all places are taken.
        :raises TimedOut: when it is not done in time; it will not be begun any more.
        :raises KosmosError: what the worker was stopped with, or everybody dismissed with.
        :raises Exception: whatever `work` raises.
        """
        job = _Job(work, awaited=True)
        with self._changed:
            if self._stopped:
                raise self._stopped
            if self._calls >= self._places:
                raise Busy(
                    f'{self._calls} calls are already being answered or waiting; '
                    'try again in a moment, or set max_waiting higher.'
                )
            self._calls += 1
            self._waiting.append(job)
            self._changed.notify_all()
        job.finished.wait(timeout_s)
        with self._changed:
            if not job.finished.is_set():
                self._give_up(job)
                raise TimedOut(self._why_late(job, timeout_s))
        if job.error is not None:
            if isinstance(job.error, Exception):
                raise job.error
            raise as_ours(job.error) from job.error
        return Done(job.value, job.started_s - job.arrived_s)  # type: ignore[arg-type]

    def begin(self, steps: Steps[T]) -> Course[T]:
        """Have long work done, without waiting for it.

        :raises Busy: at once, when all places are taken; then `steps` are not closed either.
        :raises KosmosError: what the worker was stopped with.
        """
        course = Course(steps)
        with self._changed:
            if self._stopped:
                raise self._stopped
            if self._under_way >= self._max_courses:
                raise Busy(
                    f'{self._under_way} questions are already being answered; '
                    'try again in a moment, or set max_asks higher.'
                )
            self._under_way += 1
            self._courses.append(course)  # type: ignore[arg-type]
            self._changed.notify_all()
        return course

    def offer(self, key: str, work: Callable[[], None]) -> None:
        """Do this when nobody is waiting; it replaces older work of the same key not yet begun."""
        with self._changed:
            if not self._stopped:
                self._background[key] = _Job(work, awaited=False)
                self._changed.notify_all()

    def dismiss(self, error: KosmosError) -> None:
        """Answer everybody who waits, also for what is being worked on, with `error`."""
        with self._changed:
            self._background.clear()
            self._calls -= len(self._waiting)
            for job in self._waiting:
                job.finish(None, error)
            self._waiting.clear()
            for course in self._courses:
                course.end(error)
            if isinstance(self._running, Course):
                self._running.end(error)
            elif self._running is not None:
                self._running.abandoned = True
                self._running.finish(None, error)

    def stop(
        self, error: KosmosError, timeout_s: float, last: Callable[[], None] | None = None
    ) -> bool:
        """Take nothing more, answer the rest, now and later, with `error`, do one last thing.

        :param last: done in the worker's thread, as the last thing.
        :return: whether the thread has ended; False when what it works on takes longer.
        """
        with self._changed:
            self._stopped = error
            self._last = _Job(last, awaited=False) if last else None
            self._changed.notify_all()
        self.dismiss(error)
        return self.join(timeout_s)

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the thread, once the worker has been stopped."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def waiting(self) -> int:
        """How many calls wait for their turn."""
        with self._changed:
            return len(self._waiting)

    @property
    def under_way(self) -> int:
        """How many long works are on their way."""
        with self._changed:
            return self._under_way

    @property
    def running_s(self) -> float:
        """For how long the present piece of work has been worked on; 0 when idle."""
        with self._changed:
            return time.monotonic() - self._since_s if self._running else 0.0

    def _give_up(self, job: _Job) -> None:
        job.abandoned = True
        if job in self._waiting:
            self._waiting.remove(job)
            self._calls -= 1

    def _why_late(self, job: _Job, timeout_s: float | None) -> str:
        if job is self._running:
            return f'The engine did not answer within {timeout_s:.3g} s; allow more time.'
        return (
            f'The call waited {timeout_s:.3g} s for other calls and was dropped; '
            'allow more time or call less often.'
        )

    def _work(self) -> None:
        while job := self._next():
            if isinstance(job, Course):
                self._advance(job)
            else:
                self._do(job)

    def _next(self) -> _Job | Course[object] | None:
        job: _Job | Course[object] | None
        with self._changed:
            while not (self._waiting or self._background or self._courses or self._stopped):
                self._changed.wait()
            if self._stopped:
                # The courses have been ended; they are still to be closed.
                job, self._last = (
                    (self._courses.popleft(), self._last) if self._courses else (self._last, None)
                )
            elif self._waiting:
                job = self._waiting.popleft()
            elif self._background and not (self._course_is_next and self._courses):
                job = self._background.pop(next(iter(self._background)))
                self._course_is_next = True
            else:
                job = next((one for one in self._courses if one.leaving), self._courses[0])
                self._courses.remove(job)
                self._course_is_next = False
            self._running, self._since_s = job, time.monotonic()
            if isinstance(job, _Job):
                job.started_s = self._since_s
            return job

    def _do(self, job: _Job) -> None:
        value: object = None
        failure: BaseException | None = None
        try:
            value = job.work()
        # The border of the thread: whoever waits raises it again, and the thread lives on.
        except BaseException as error:
            failure = error
        with self._changed:
            self._running = None
            self._calls -= job.awaited
            heard = job.awaited and not job.abandoned
            job.finish(value, failure)
        if failure is not None and not heard:
            self._report(failure)

    def _advance(self, course: Course[object]) -> None:
        failure = course.advance()
        over = course.leaving
        if over:
            try:
                course.steps.close()
            except BaseException as error:
                failure = failure or error
        with self._changed:
            self._running = None
            if not over:
                self._courses.append(course)
                return
            self._under_way -= 1
            heard = course.end(failure)
        if failure is not None and not heard:
            self._report(failure)
