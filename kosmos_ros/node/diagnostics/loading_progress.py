"""How far the loading of an engine has come, for answers, diagnostics and the log."""

from collections.abc import Callable
import time

from kosmos_ros.node.conversion.text import one_line

_LOG_EVERY_S = 5.0


class LoadingProgress:
    """Keeps the latest line, and logs some.

    A line is 'stage: how far'.

    :param log: is given the first line of each stage, and another one of it at most every 5 s.
    :param clock: seconds, monotonic.
    """

    def __init__(
        self, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._clock = clock
        self._line = ''
        self._logged_stage = ''
        self._logged_s = -_LOG_EVERY_S
        self._ended = False

    @property
    def line(self) -> str:
        """The latest line; empty before the first one."""
        return self._line

    def report(self, line: str) -> None:
        """Take a line, from the thread that loads."""
        line = one_line(line)
        if self._ended or not line or line == self._line:
            return
        self._line = line
        stage, now_s = line.partition(':')[0], self._clock()
        if stage != self._logged_stage or now_s - self._logged_s >= _LOG_EVERY_S:
            self._logged_stage, self._logged_s = stage, now_s
            self._log(line)

    def end(self) -> None:
        """Take no more lines: an engine that was abandoned while it was being loaded goes on."""
        self._ended = True
