"""A warning when replies come faster than clients with the default QoS can keep them."""

from collections import deque
from collections.abc import Callable
import threading

from kosmos_ros.node.middleware.qos import CALLS, DEFAULT_CALL_DEPTH

# A client on a busy machine may not look at its queue for so long.
_UNREAD_S = 0.1


class ReplyStormWarning:
    """Counts replies, and warns once.  Every thread may use it.

    The middleware gives every client the replies to all clients, and keeps the newest ten for it.
    More of them at once and a client may lose its own, and wait until its own time-out; nothing
    but a deeper queue at the client's end helps.

    :param warn: is given the warning.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._lock = threading.Lock()
        self._times_s: deque[float] = deque(maxlen=DEFAULT_CALL_DEPTH + 1)
        self._has_warned = False

    def on_reply(self, now_s: float) -> None:
        """Count a reply that is about to be sent, at this moment of a monotonic clock."""
        with self._lock:
            self._times_s.append(now_s)
            is_full = len(self._times_s) == self._times_s.maxlen
            if self._has_warned or not is_full or now_s - self._times_s[0] > _UNREAD_S:
                return
            self._has_warned = True
        self._warn(
            f'More than {DEFAULT_CALL_DEPTH} calls were answered within {_UNREAD_S:g} s. Every '
            f'client receives the replies to all of them and keeps {DEFAULT_CALL_DEPTH}, so it '
            "may lose its own: give clients a deeper queue, create_client(Refer, 'refer', "
            f'qos_profile=QoSProfile(depth={CALLS.depth})), and a time-out.'
        )
