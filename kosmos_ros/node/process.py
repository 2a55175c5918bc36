"""The process around the node: threads, signals, and an end without loose ones."""

from collections.abc import Sequence
import os
import signal
import socket
import sys
import threading

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.logging import get_logger
from rclpy.signals import SignalHandlerOptions

from kosmos_ros.node.kosmos_node import KosmosNode
from kosmos_ros.node.middleware.executor import ThreadPoolCallbackExecutor
from kosmos_ros.node.middleware.replies import (
    notice_dropped_answers,
    send_action_answers_until_heard,
)

# Besides one thread for each call and each goal that waits or is being answered: some for those
# that are refused, images, parameters, transitions and diagnostics, so that none of these ever
# waits.
_SPARE_THREADS = 7
# `ros2 launch` sends the next signal after five seconds.
_END_S, _AT_THE_LATEST_S = 1.5, 4.5
RCLError = rclpy_implementation.RCLError


def run(arguments: Sequence[str]) -> int:
    """Run the node until SIGINT or SIGTERM, or until it asks for its end; returns the exit
    code.
    """
    end = _End()
    notice_dropped_answers()
    send_action_answers_until_heard(get_logger('kosmos').warning)
    # rclpy's own handlers would close the context at once, and no waiting call could be answered
    # any more.
    rclpy.init(args=list(arguments), signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = KosmosNode(end.ask)
    except ParameterException as error:
        print(f'kosmos_node: {error}', file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    waiting = node.limits.max_waiting + 1 + node.limits.max_asks
    executor = ThreadPoolCallbackExecutor(waiting + _SPARE_THREADS, end.after_error)
    executor.add_node(node)
    spinning = threading.Thread(target=_spin, args=(executor, end), name='spin', daemon=True)
    spinning.start()
    # Beside the executor: services answer NOT_ACTIVE while an engine is being loaded.
    starting = threading.Thread(target=node.start, name='start', daemon=True)
    starting.start()
    end.wait()
    ended = node.close(_END_S)
    # Its last transition publishes and may still set the exit code.
    starting.join(_END_S)
    # In this order: an executor that is shut down while it spins trips over what is gone.
    executor.stop()
    spinning.join()
    executor.shutdown()
    rclpy.try_shutdown()
    if not ended:
        # Whatever still computes cannot be stopped from here, and the interpreter would wait.
        end.leave()
    return end.code


class _End:
    """The end of the process: asked for by a signal or by a thread, and come to in time.

    A signal may reach any thread of the middleware, which does not wake a main thread that waits
    for a lock; the file descriptor that Python writes each signal to does.
    """

    def __init__(self) -> None:
        self.code = 0
        self._wakes, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)

    def wait(self) -> None:
        """Until it is asked for; then it comes, if need be by force."""
        self._wakes.recv(1)
        latest = threading.Timer(_AT_THE_LATEST_S, self.leave)
        latest.daemon = True
        latest.start()

    def ask(self, code: int) -> None:
        """From any thread."""
        self.code = code
        self._woken.send(b'.')

    def after_error(self, error: Exception) -> None:
        """Go on or end the process, whatever a callback or the executor has raised."""
        if isinstance(error, RCLError):
            # An answer that could not be sent, as a rule because its caller is gone.
            get_logger('kosmos').warning(f'the middleware reports: {error}')
            return
        # Our own callbacks do not raise.  If something else does, the process must end, for
        # whoever starts it again, instead of staying without an executor.
        get_logger('kosmos').fatal(f'the executor ended: {error!r}')
        self.ask(1)

    def leave(self) -> None:
        """Now, without waiting for any thread."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.code)


def _spin(executor: ThreadPoolCallbackExecutor, end: _End) -> None:
    while executor.is_wanted:
        try:
            executor.spin()
        except Exception as error:
            end.after_error(error)
            if not isinstance(error, RCLError):
                return
