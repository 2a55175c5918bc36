"""The visible progress of the set-up: a line for each stage, with its duration."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import time
from typing import TextIO

_WIDTH = 56  # of the text before the seconds
_PAUSE_S = 0.1  # between two changes of a line on a terminal


class StageReport:
    """A report of the progress of ``total`` stages on ``stream``."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._total = total
        self._number = 0

    @contextmanager
    def stage(self, title: str) -> Iterator[Callable[[str], None]]:
        """Report one stage; yield a function that reports its progress.

        A terminal shows progress at once; elsewhere a stage is one line, completed at its end.
        """
        self._number += 1
        head = f'[{self._number}/{self._total}] {title} '
        start = last = time.monotonic()
        live = self._stream.isatty()
        self._write(head)

        def report_progress(progress: str) -> None:
            nonlocal last
            now = time.monotonic()
            if live and now - last > _PAUSE_S:
                last = now
                self._write(f'\r\033[K{head}{progress[: 76 - len(head)]}')

        try:
            yield report_progress
        except BaseException:
            self._write('\n')
            raise
        seconds = f'{time.monotonic() - start:.1f} s'
        dots = '.' * max(2, _WIDTH - len(head))
        self._write(f'\r\033[K{head}{dots} {seconds}\n' if live else f'{dots} {seconds}\n')

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
