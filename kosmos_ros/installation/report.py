"""What people see of the set-up: a line for each stage, with the seconds that it took."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import time
from typing import TextIO

_WIDTH = 56  # of everything before the seconds
_PAUSE_S = 0.1  # between two changes of a line on a terminal


class Report:
    """Writes the progress of ``total`` stages to ``stream``."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream = stream
        self._total = total
        self._number = 0

    @contextmanager
    def stage(self, title: str) -> Iterator[Callable[[str], None]]:
        """Around one stage; hands out a function to say how far it has come.

        On a terminal that shows at once; elsewhere a stage is one line, finished when it ends.
        """
        self._number += 1
        head = f'[{self._number}/{self._total}] {title} '
        start = last = time.monotonic()
        live = self._stream.isatty()
        self._write(head)

        def tell(how_far: str) -> None:
            nonlocal last
            now = time.monotonic()
            if live and now - last > _PAUSE_S:
                last = now
                self._write(f'\r\033[K{head}{how_far[: 76 - len(head)]}')

        try:
            yield tell
        except BaseException:
            self._write('\n')
            raise
        seconds = f'{time.monotonic() - start:.1f} s'
        dots = '.' * max(2, _WIDTH - len(head))
        self._write(f'\r\033[K{head}{dots} {seconds}\n' if live else f'{dots} {seconds}\n')

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
