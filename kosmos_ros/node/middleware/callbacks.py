"""Callbacks that never raise."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, Protocol

P = ParamSpec('P')


class Log(Protocol):
    """Where failures go that nobody waits for."""

    def __call__(self, what: str, error: BaseException) -> None:
        """Write one down."""


def never_raises(log: Log, callback: Callable[P, None]) -> Callable[P, None]:
    """The callback, but whatever it raises is logged.

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
