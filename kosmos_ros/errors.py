"""One tree of errors; each class is one status of the service ``refer`` and the action ``ask``.

Each message says in one sentence what is wrong and what to do; the node passes that sentence on
unchanged.
"""

from enum import IntEnum
from typing import ClassVar


class Status(IntEnum):
    """Status codes, equal to the constants of ``kosmos_ros_msgs/action/Ask``, of which
    ``kosmos_ros_msgs/srv/Refer`` has all but the last (a test compares them).
    """

    OK = 0
    NO_MATCH = 1
    NO_IMAGE = 2
    STALE_IMAGE = 3
    BAD_IMAGE = 4
    BAD_EXPRESSION = 5
    BUSY = 6
    TIMEOUT = 7
    NOT_ACTIVE = 8
    ENGINE_ERROR = 9
    SHUTTING_DOWN = 10
    NO_CONVERSATION = 11


def shown(value: object) -> str:
    """Return any value for a message: one line of at most 80 characters; of an array its shape."""
    if hasattr(value, 'shape') and hasattr(value, 'dtype'):
        return f'an array {value.dtype}{list(value.shape)}'
    return f'{" ".join(repr(value).split()):.80}'


class KosmosError(Exception):
    """Base of everything that kosmos_ros raises on purpose."""

    status: ClassVar[Status] = Status.ENGINE_ERROR


class NoMatch(KosmosError):
    """No box reached the score threshold."""

    status = Status.NO_MATCH


class NoImage(KosmosError):
    """No frame has come from the camera, or there is no such camera."""

    status = Status.NO_IMAGE


class StaleImage(KosmosError):
    """The newest frame is older than the caller accepts."""

    status = Status.STALE_IMAGE


class BadImage(KosmosError):
    """The image cannot be read as what its header says."""

    status = Status.BAD_IMAGE


class BadExpression(KosmosError):
    """The expression, or a number that came with it, cannot be used."""

    status = Status.BAD_EXPRESSION


class Busy(KosmosError):
    """All waiting places are taken."""

    status = Status.BUSY


class TimedOut(KosmosError):
    """The answer did not come within the caller's timeout."""

    status = Status.TIMEOUT


class NotActive(KosmosError):
    """The node is not in the lifecycle state 'active'."""

    status = Status.NOT_ACTIVE


class EngineError(KosmosError):
    """The engine failed."""

    status = Status.ENGINE_ERROR


class RunnerUnavailable(EngineError):
    """This machine cannot run an engine in this way: a library, a GPU or a plan is missing."""


class SelfCheckFailed(EngineError):
    """An engine gives other numbers than its stored reference."""


class EngineFileError(EngineError):
    """An engine directory or checkpoint is missing, damaged or of the wrong kind; nothing of it
    was loaded.
    """


class ShuttingDown(KosmosError):
    """The node is going down."""

    status = Status.SHUTTING_DOWN


class NoConversation(KosmosError):
    """There is no conversation of this name, or not any more."""

    status = Status.NO_CONVERSATION
