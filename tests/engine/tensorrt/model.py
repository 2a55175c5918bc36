"""What models of TensorRT's objects share.

Public attributes of a model that the surface has too are what the double imitates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any


class Shape(tuple[int, ...]):
    """EncodedImage as Dims."""


@dataclass(frozen=True)
class HostMemory:
    """EncodedImage as IHostMemory."""

    data: bytes

    @property
    def nbytes(self) -> int:
        return len(self.data)


class Model:
    """One object of TensorRT's.

    :cvar surface: the class that a program sees.
    :ivar native: the class that the object has in C++.
    :ivar face: the object that a program sees, once it sees any.
    """

    surface = ''

    def __init__(self, trt: ModuleType, listener: Any) -> None:
        self.trt = trt
        self.listener = listener
        self.native = self.surface
        self.face = None

    def say(self, severity: str, text: str) -> None:
        """Give a line to the program's logger."""
        call_back(self.listener.log, getattr(self.trt.ILogger.Severity, severity), text)

    def complain(self, text: str) -> None:
        """Say what is wrong, which is all that TensorRT does besides giving False or None."""
        self.say('ERROR', text)


class Logger(Model):
    """The logger that comes with TensorRT.  It would print; nobody reads that in a test."""

    surface = 'Logger'

    def __init__(self, trt: Any, severity: Any = None) -> None:
        super().__init__(trt, self)

    def log(self, severity: Any, text: str) -> None:
        """Forget a line."""


def call_back(method: Callable[..., Any], *arguments: object) -> Any:
    """Call what a program wrote in a class derived from TensorRT's.

    :raises AssertionError: it raised; TensorRT would swallow that, or end the process.
    """
    try:
        return method(*arguments)
    except Exception as error:
        raise AssertionError(f'{method.__qualname__} lets an exception out') from error
