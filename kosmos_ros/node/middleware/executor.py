"""An executor with a pool of threads that hands each callback out once.

rclpy's `MultiThreadedExecutor` offers a task again and again until a thread of its pool has begun
it.  On a machine with nothing else to do that is a loop in Python that holds the interpreter's
lock, and so keeps that very thread from beginning: thousands of submissions for some ten
callbacks, a core in use, and most camera frames lost (seen with rclpy 9.1.2).
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import threading

from rclpy.context import Context
from rclpy.executors import (
    ConditionReachedException,
    Executor,
    ExternalShutdownException,
    ShutdownException,
    TimeoutException,
)
from rclpy.task import Task


class ThreadPoolCallbackExecutor(Executor):  # type: ignore[misc]
    """Runs callbacks in a pool of threads, and looks for the next one when the last has begun.

    :param num_threads: callbacks that may run at the same time.
    :param on_error: is given what a callback raises, in the callback's thread.
    :param context: None: the default one.
    """

    def __init__(
        self,
        num_threads: int,
        on_error: Callable[[Exception], None],
        *,
        context: Context | None = None,
    ) -> None:
        super().__init__(context=context)
        self._on_error = on_error
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix='callback')
        self._handed_out: set[Task] = set()
        self._is_stopping = threading.Event()

    def spin(self) -> None:
        """Run callbacks until `stop` is called or the context is shut down."""
        while self.is_wanted:
            self.spin_once()

    @property
    def is_wanted(self) -> bool:
        """Whether neither `stop` was called nor the context shut down."""
        return bool(self.context.ok()) and not self._is_stopping.is_set()

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait for one callback and hand it to a thread; returns when that thread has begun.

        :param timeout_sec: None: wait as long as it takes.
        """
        try:
            # None: all nodes.
            task, _, _ = self.wait_for_ready_callbacks(timeout_sec, None, self._is_stopping.is_set)
        except (
            ConditionReachedException,
            ExternalShutdownException,
            ShutdownException,
            TimeoutException,
        ):
            return
        # rclpy takes it for new until its thread is inside of it, a moment after `begun`.
        if task in self._handed_out:
            return
        self._handed_out.add(task)
        begun = threading.Event()
        self._pool.submit(self._run, task, begun)
        begun.wait()

    def stop(self) -> None:
        """Let `spin` return; any thread may call it."""
        self._is_stopping.set()
        self.wake()

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Wait for the callbacks that are running; see `Executor.shutdown`."""
        ended = bool(super().shutdown(timeout_sec))
        self._pool.shutdown()
        return ended

    def _run(self, task: Task, begun: threading.Event) -> None:
        begun.set()
        try:
            task()
        finally:
            # A coroutine that waits for something is offered, and handed out, once more.
            self._handed_out.discard(task)
        error = task.exception() if task.done() else None
        if error is not None:
            self._on_error(error)
