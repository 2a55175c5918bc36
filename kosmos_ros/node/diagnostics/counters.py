"""Counts of answers and failures, and latest durations, for the diagnostics."""

from collections import Counter, deque
import threading

from kosmos_ros.errors import Status

_WINDOW = 200


class Counters:
    """Counts answers and keeps the latest durations; every thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: Counter[Status] = Counter()
        self._asks: Counter[Status] = Counter()
        self._totals_ms: deque[float] = deque(maxlen=_WINDOW)
        self._failures_in_a_row = 0
        self._last_failure = ''

    def count(self, status: Status, message: str, total_ms: float) -> None:
        """Count an answer to a call."""
        with self._lock:
            self._answers[status] += 1
            if status in (Status.OK, Status.NO_MATCH):
                self._totals_ms.append(total_ms)
            self._judge(status, message)

    def count_ask(self, status: Status, message: str) -> None:
        """Count the result of a goal."""
        with self._lock:
            self._asks[status] += 1
            self._judge(status, message)

    def fail(self, message: str) -> None:
        """Count a failure of work that no caller waited for."""
        with self._lock:
            self._fail(message)

    def _judge(self, status: Status, message: str) -> None:
        if status in (Status.OK, Status.NO_MATCH):
            self._failures_in_a_row = 0
        elif status is Status.ENGINE_ERROR:
            self._fail(message)

    def _fail(self, message: str) -> None:
        self._failures_in_a_row += 1
        self._last_failure = message

    @property
    def answers(self) -> dict[Status, int]:
        """How often each status was the answer to a call."""
        with self._lock:
            return dict(self._answers)

    @property
    def asks(self) -> dict[Status, int]:
        """How often each status was the result of a goal."""
        with self._lock:
            return dict(self._asks)

    @property
    def failures_in_a_row(self) -> int:
        """Failures of the engine since its last answer."""
        with self._lock:
            return self._failures_in_a_row

    @property
    def last_failure(self) -> str:
        """What the last one said."""
        with self._lock:
            return self._last_failure

    def total_ms(self, share: float) -> float:
        """Return the duration that this fraction of the latest answers did not exceed; 0 without
        any.
        """
        with self._lock:
            ordered = sorted(self._totals_ms)
        if not ordered:
            return 0.0
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
