"""Answers that arrive, also while the processes are still finding each other.

A service may hear a request before it has found the place where its caller waits for the answer.
The middleware then waits 0.1 s, drops the answer and only warns, and the caller waits for ever.
DDS repeats its announcements every three seconds, so the answer is sent again until then.
"""

from collections.abc import Callable
from functools import partial
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
    service.send_response = lambda response, header: _insist(
        partial(send, response, header), report
    )


def send_action_answers_until_heard(
    report: Callable[[str], None], kind: type = rclpy_implementation.ActionServer
) -> None:
    """The same for the three services of every action.

    For the whole process, once, at its start.  An action's answers are sent under a lock that the
    executor needs, too, so only the first try is made there, and the others in a thread of their
    own.  Nothing is raised either: rclpy would forget a goal whose acceptance could not be sent.
    """
    for name in ('send_goal_response', 'send_cancel_response', 'send_result_response'):
        setattr(kind, name, _patient(getattr(kind, name), report))


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


def _patient(
    send: Callable[[object, object, object], None], report: Callable[[str], None]
) -> Callable[[object, object, object], None]:
    def send_response(handle: object, header: object, response: object) -> None:
        once = partial(send, handle, header, response)
        try:
            if not _is_sent(once):
                threading.Thread(target=insist, args=(once,), name='replies', daemon=True).start()
        except rclpy_implementation.RCLError as error:
            report(f'an answer could not be sent: {error}')

    def insist(once: Callable[[], None]) -> None:
        try:
            _insist(once, report)
        except rclpy_implementation.RCLError as error:
            report(f'an answer could not be sent: {error}')

    return send_response


def _insist(send: Callable[[], None], report: Callable[[str], None]) -> None:
    deadline = time.monotonic() + _FOUND_WITHIN_S
    while not _is_sent(send):
        if time.monotonic() > deadline:
            report('an answer could not be delivered: its caller was not found, or is gone')
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
