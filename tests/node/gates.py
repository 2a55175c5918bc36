"""Work that waits for the test, and a test that waits for work."""

import threading
import time


class Gate:
    """Work that ends when it is let."""

    def __init__(self, log=None, name=''):
        self.begun, self.let = threading.Event(), threading.Event()
        self.log, self.name = log, name

    def __call__(self):
        self.begun.set()
        assert self.let.wait(10)
        if self.log is not None:
            self.log.append(self.name)
        return self.name


def until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
