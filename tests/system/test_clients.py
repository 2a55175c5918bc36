"""Many clients at once: with the documented queue none loses a reply; with the default one some
may, which is counted, and the node has answered every call once all the same.
"""

from collections.abc import Callable
import time

from diagnostic_msgs.msg import DiagnosticArray
from kosmos_ros_msgs.srv import Refer
import pytest
from rclpy.qos import QoSProfile, qos_profile_services_default
from robot import NodeProcess, Robot, image_of, picture, wait_until

from kosmos_ros.errors import Status

CLIENTS, CALLS = 12, 40
# Of the engine, by which the node's diagnostics are told from those of other nodes.
NAME = 'a busy fake'
# A reply that has not come by then was overwritten.
LOST_S = 3.0


@pytest.fixture(scope='module')
def busy(start_for_session: Callable[..., tuple[NodeProcess, Robot]]) -> Robot:
    """A robot beside a node that nobody else calls."""
    _, robot = start_for_session(script={'name': NAME})
    robot.wait_for_node()
    robot.wait_for_status(Status.OK, image=image_of(picture()))
    return robot


class Caller:
    """One client that calls, waits for the reply, and calls again."""

    def __init__(self, robot: Robot, qos: QoSProfile) -> None:
        self._client = robot.node.create_client(Refer, 'refer', qos_profile=qos)
        self._request = Refer.Request(expression='a cup', image=image_of(picture()))
        self.answered = self.lost = 0
        self._call()

    def _call(self) -> None:
        self._future = self._client.call_async(self._request)
        self._sent_s = time.monotonic()

    def is_ready(self) -> bool:
        """Look for the reply; whether all calls are over."""
        if self.answered + self.lost == CALLS:
            return True
        if self._future.done():
            self.answered += 1
        elif time.monotonic() - self._sent_s > LOST_S:
            self._client.remove_pending_request(self._future)
            self.lost += 1
        else:
            return False
        if self.answered + self.lost < CALLS:
            self._call()
        return False


def answered_by(diagnostics: list[DiagnosticArray]) -> int:
    """How many calls the node says that it has answered, by its newest diagnostics."""
    for array in reversed(diagnostics):
        for status in array.status:
            if status.name.endswith(': calls') and status.hardware_id == NAME:
                counts = {pair.key: pair.value for pair in status.values}
                return sum(int(counts[one.name]) for one in Status)
    return 0


@pytest.mark.parametrize(
    ('qos', 'may_lose'),
    [(QoSProfile(depth=200), False), (qos_profile_services_default, True)],
    ids=['documented', 'default'],
)
def test_many_clients(
    busy: Robot, qos: QoSProfile, may_lose: bool, record_property: Callable[..., None]
) -> None:
    diagnostics = busy.listen(DiagnosticArray, '/diagnostics')
    wait_until(lambda: answered_by(diagnostics), 'diagnostics')
    before = answered_by(diagnostics)
    callers = [Caller(busy, qos) for _ in range(CLIENTS)]
    # Every caller is looked at in every round.
    wait_until(lambda: sum(one.is_ready() for one in callers) == CLIENTS, 'the last call', 100)
    lost = sum(one.lost for one in callers)
    record_property('lost', lost)
    print(f'{lost} of {CLIENTS * CALLS} replies lost')
    assert lost == 0 or may_lose
    # Lost is what the client's queue overwrote: the node has answered each call, and once.
    wait_until(lambda: answered_by(diagnostics) - before >= CLIENTS * CALLS, 'all answers')
    assert answered_by(diagnostics) - before == CLIENTS * CALLS
