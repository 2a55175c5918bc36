"""rclpy's action server without its faults.

With rclpy's own, a goal that is cancelled between its acceptance and its execution is never
executed, and its client waits without end; what a handler raises ends the executor; and no method
tells when the last result has been handed to the middleware.
"""

from collections.abc import Callable, Mapping
import threading
import time
from typing import Any

from rclpy.action import ActionServer
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node

from kosmos_ros.node.middleware.callbacks import LogFailure
from kosmos_ros.node.middleware.qos import CALLS

# Clients ask for the result when their goal is accepted; those that died never do.
_KEEP_RESULTS_S = 10
RCLError = rclpy_implementation.RCLError


class ReliableActionServer(ActionServer):  # type: ignore[misc]
    """Accepts every goal and every cancellation.

    :param execute: returns the result of a goal, whose thread it blocks; it must not raise.
    :param cancelled: called at a cancellation, before the goal's state changes; must not raise.
    :param log: where failures of rclpy itself go.
    """

    def __init__(
        self,
        node: Node,
        kind: type,
        name: str,
        execute: Callable[[ServerGoalHandle], object],
        cancelled: Callable[[ServerGoalHandle], Any],
        log: LogFailure,
    ) -> None:
        # Before rclpy's part: goals may come as soon as it is there.
        self._log = log
        self._idle = threading.Condition()
        self._goals = 0
        super().__init__(
            node,
            kind,
            name,
            execute,
            callback_group=ReentrantCallbackGroup(),
            handle_accepted_callback=self._begin,
            cancel_callback=cancelled,
            goal_service_qos_profile=CALLS,
            result_service_qos_profile=CALLS,
            cancel_service_qos_profile=CALLS,
            result_timeout=_KEEP_RESULTS_S,
        )

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until all results have been handed to the middleware.

        :return: whether they have.
        """
        deadline = time.monotonic() + timeout_s
        with self._idle:
            if not self._idle.wait_for(lambda: not self._goals, timeout_s):
                return False
        executor = self._node.executor
        # Without one, no goal can have been accepted.
        if executor is None:
            return True
        # Results are sent by tasks of the executor, which takes them in order.
        sent = threading.Event()
        executor.create_task(sent.set)
        return sent.wait(deadline - time.monotonic())

    async def execute(self, taken_data: Mapping[str, object]) -> None:
        """Take one request of each kind, so that none suffers from another one's failure."""
        for kind, data in taken_data.items():
            try:
                await super().execute({kind: data})
            # What leaves this ends the executor, and with it the process.
            except Exception as error:
                self._log(f'the {kind} request of an action', error)

    def _begin(self, goal_handle: ServerGoalHandle) -> None:
        with self._idle:
            self._goals += 1
        try:
            goal_handle.execute()
        except RCLError:
            # It was cancelled a moment ago, so that it cannot become 'executing' any more.
            self.notify_execute(goal_handle, None)

    async def _execute_goal(
        self, execute_callback: Callable[..., object], goal_handle: ServerGoalHandle
    ) -> None:
        try:
            await super()._execute_goal(execute_callback, goal_handle)
        except Exception as error:
            self._log('the end of a goal', error)
        finally:
            with self._idle:
                self._goals -= 1
                self._idle.notify_all()
