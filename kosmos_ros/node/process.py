"""The process around the node: threads, signals, and an orderly end."""

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
    notice_dropped_replies,
    send_action_replies_until_delivered,
)

# Besides one thread for each call and each goal that waits or is being answered: some for those
# that are refused, images, parameters, transitions and diagnostics, so that none of these waits.
_SPARE_THREADS = 7
# `ros2 launch` sends the next signal after five seconds.
_END_S, _AT_THE_LATEST_S = 1.5, 4.5
RCLError = rclpy_implementation.RCLError


def run(arguments: Sequence[str]) -> int:
    """Run the node until SIGINT or SIGTERM, or until its plans are built if that is all it is for.

    :return: the exit code.
    """
    end = _End()
    notice_dropped_replies()
    send_action_replies_until_delivered(get_logger('kosmos').warning)
    # rclpy's own handlers would close the context at once, and no waiting call could be answered
    # any more.
    rclpy.init(args=list(arguments), signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = KosmosNode()
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
    starting = threading.Thread(target=_start, args=(node, end), name='start', daemon=True)
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
    """The end of the process: a signal or a thread asks for it, and it comes in bounded time.

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
        """Wait until the end is asked for; from then on it comes, if need be by force."""
        self._wakes.recv(1)
        latest = threading.Timer(_AT_THE_LATEST_S, self.leave)
        latest.daemon = True
        latest.start()

    def ask(self, code: int) -> None:
        """Ask for the end, with an exit code; any thread may call it."""
        self.code = code
        self._woken.send(b'.')

    def after_error(self, error: Exception) -> None:
        """Go on or end the process, whatever a callback or the executor has raised."""
        if isinstance(error, RCLError):
            # An answer that could not be sent, as a rule because its caller is gone.
            get_logger('kosmos').warning(f'the middleware reports: {error}')
            return
        # Our own callbacks do not raise.  If something else does, the process must end, so that it
        # can be restarted, instead of staying without an executor.
        get_logger('kosmos').fatal(f'the executor ended: {error!r}')
        self.ask(1)

    def leave(self) -> None:
        """End the process now, without waiting for any thread."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(self.code)


def _start(node: KosmosNode, end: _End) -> None:
    only_plans = node.read_settings().build_plans == 'only'
    node.start()
    # Without autostart, somebody else configures the node.
    if only_plans:
        end.ask(0 if node.wait_until_configured() else 1)


def _spin(executor: ThreadPoolCallbackExecutor, end: _End) -> None:
    while executor.is_wanted:
        try:
            executor.spin()
        except Exception as error:
            end.after_error(error)
            if not isinstance(error, RCLError):
                return
