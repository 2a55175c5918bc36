"""TensorRT logs what went wrong and returns False or None: both become one error."""

from collections import deque
from typing import TypeVar

from kosmos_ros.engine.tensorrt.flavours import trt
from kosmos_ros.errors import EngineError

T = TypeVar('T')

_QUOTED = 3


class TensorRTLog(trt.ILogger):
    """Keeps the last warnings and errors."""

    def __init__(self) -> None:
        super().__init__()
        self._errors: deque[str] = deque(maxlen=_QUOTED)
        self._warnings: deque[str] = deque(maxlen=_QUOTED)

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Called by TensorRT, from any of its threads."""
        line = ' '.join(msg.split())
        if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
            self._errors.append(line)
        elif severity == trt.ILogger.Severity.WARNING:
            self._warnings.append(line)

    def error(self, what: str) -> EngineError:
        """Return an error that says what failed and what TensorRT logged last."""
        said = ' | '.join(self._errors or self._warnings)
        return EngineError(f'{what}; TensorRT says: {said or "nothing"}')

    def require(self, value: T | None, what: str) -> T:
        """Return the result of a call of TensorRT.

        :raises EngineError: when it is False or None.
        """
        if value is None or value is False:
            raise self.error(what)
        return value
