"""Callbacks that never raise."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, Protocol

P = ParamSpec('P')


class LogFailure(Protocol):
    """Logs failures that no caller waits for."""

    def __call__(self, what: str, error: BaseException) -> None:
        """Log one failure."""


def never_raises(log: LogFailure, callback: Callable[P, None]) -> Callable[P, None]:
    """Return the callback, but let whatever it raises be logged.

    An exception that leaves a callback ends the executor's spin, and with it every other callback
    of the process: one odd message would stop the node.
    """

    @wraps(callback)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception as error:
            log(getattr(callback, '__name__', 'callback'), error)

    return guarded
