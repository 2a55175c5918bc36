"""Replies that arrive, also while the processes are still discovering each other.

A service may receive a request before it has discovered the reader of its client.  The middleware
then waits 0.1 s, drops the reply and only warns, and the client waits without end.  DDS repeats
its announcements every three seconds, so the reply is sent again until then.
"""

from collections.abc import Callable
from functools import partial
import threading
import time
import warnings

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.service import Service

_DISCOVERED_WITHIN_S = 4.0
_DROPPED = 'failed to send response'
_this_thread = threading.local()


def send_until_delivered(service: Service, report: Callable[[str], None]) -> None:
    """Let a service send a reply again that the middleware has dropped.

    It blocks the thread that sends, and only while the client is not discovered.

    :param report: is given a line when a client was not discovered at all.
    """
    send = service.send_response
    service.send_response = lambda response, header: _send_again(
        partial(send, response, header), report
    )


def send_action_replies_until_delivered(
    report: Callable[[str], None], kind: type = rclpy_implementation.ActionServer
) -> None:
    """Do the same for the three services of every action.

    This changes rclpy's class for the whole process, once, at its start: an instance of it takes
    no attributes.  An action's replies are sent under a lock that the executor needs, too, so only
    the first attempt is made there, and the others in a thread of their own.  Nothing is raised
    either: rclpy would forget a goal whose acceptance could not be sent.
    """
    for name in ('send_goal_response', 'send_cancel_response', 'send_result_response'):
        setattr(kind, name, _sending_again(getattr(kind, name), report))


def notice_dropped_replies() -> None:
    """Let `send_until_delivered` notice the warning that rclpy gives for a dropped reply.

    This replaces `warnings.showwarning` for the whole process, once, at its start: Python's own
    ways to catch warnings do not work with several threads.
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


def _sending_again(
    send: Callable[[object, object, object], None], report: Callable[[str], None]
) -> Callable[[object, object, object], None]:
    def send_response(handle: object, header: object, response: object) -> None:
        once = partial(send, handle, header, response)
        try:
            if not _is_sent(once):
                threading.Thread(
                    target=send_again, args=(once,), name='replies', daemon=True
                ).start()
        except rclpy_implementation.RCLError as error:
            report(f'a reply could not be sent: {error}')

    def send_again(once: Callable[[], None]) -> None:
        try:
            _send_again(once, report)
        except rclpy_implementation.RCLError as error:
            report(f'a reply could not be sent: {error}')

    return send_response


def _send_again(send: Callable[[], None], report: Callable[[str], None]) -> None:
    deadline = time.monotonic() + _DISCOVERED_WITHIN_S
    while not _is_sent(send):
        if time.monotonic() > deadline:
            report('a reply could not be delivered: its client was not discovered, or is gone')
            return


def _is_sent(send: Callable[[], None]) -> bool:
    _this_thread.dropped = False
    try:
        send()
    # Older versions of rclpy raise where newer ones warn.
    except rclpy_implementation.RCLError as error:
        if 'client will not receive response' not in str(error):
            raise
        return False
    return not _this_thread.dropped
