"""Answers that arrive, also while the processes are still finding each other.

A service may hear a request before it has found the place where its caller waits for the answer.
The middleware then waits 0.1 s, drops the answer and only warns, and the caller waits for ever.
DDS repeats its announcements every three seconds, so the answer is sent again until then.
"""

from collections.abc import Callable
import threading
import time
import warnings

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.service import Service

_FOUND_WITHIN_S = 4.0
_DROPPED = 'failed to send response'
_this_thread = threading.local()


def send_until_heard(service: Service, report: Callable[[str], None]) -> None:
    """Make a service send an answer again that the middleware has dropped.

    It blocks the thread that sends, in the middleware, and only while the caller is not found.

    :param report: told when a caller was not found at all.
    """
    send = service.send_response

    def send_response(response: object, header: object) -> None:
        deadline = time.monotonic() + _FOUND_WITHIN_S
        while not _is_sent(send, response, header):
            if time.monotonic() > deadline:
                report('an answer could not be delivered: its caller was not found, or is gone')
                return

    service.send_response = send_response


def notice_dropped_answers() -> None:
    """Let `send_until_heard` see the warning by which rclpy tells of a dropped answer.

    For the whole process, once, at its start: Python's own ways to catch warnings are not made
    for several threads.
    """
    show = warnings.showwarning

    def notice(
        message: Warning | str, category: type[Warning], *where: object, **more: object
    ) -> None:
        if str(message).startswith(_DROPPED):
            _this_thread.dropped = True
        else:
            show(message, category, *where, **more)  # type: ignore[arg-type]

    warnings.showwarning = notice
    warnings.filterwarnings('always', _DROPPED, RuntimeWarning)


def _is_sent(send: Callable[[object, object], None], response: object, header: object) -> bool:
    _this_thread.dropped = False
    try:
        send(response, header)
    # Older versions of rclpy raise where newer ones warn.
    except rclpy_implementation.RCLError as error:
        if 'client will not receive response' not in str(error):
            raise
        return False
    return not _this_thread.dropped
