"""TensorRT logs what went wrong and returns False or None: both become one error."""

from collections import deque
from typing import TypeVar

import tensorrt as trt

from kosmos_ros.errors import EngineError

T = TypeVar('T')

_KEPT = 40
_QUOTED = 3


class TensorRTLog(trt.ILogger):
    """Keeps the last warnings and errors."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[str] = deque(maxlen=_KEPT)

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Called by TensorRT, from any of its threads."""
        if severity in (
            trt.ILogger.Severity.INTERNAL_ERROR,
            trt.ILogger.Severity.ERROR,
            trt.ILogger.Severity.WARNING,
        ):
            self._lines.append(' '.join(msg.split()))

    def error(self, what: str) -> EngineError:
        """Return an error that says what failed and what TensorRT logged last."""
        said = ' | '.join(list(self._lines)[-_QUOTED:])
        return EngineError(f'{what}; TensorRT says: {said or "nothing"}')

    def require(self, value: T | None, what: str) -> T:
        """Return the result of a call of TensorRT.

        :raises EngineError: when it is False or None.
        """
        if value is None or value is False:
            raise self.error(what)
        return value
