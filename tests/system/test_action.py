"""rclpy's action server, with its traps closed: server and client in this process."""

from action_msgs.msg import GoalStatus
from kosmos_ros_msgs.action import Ask
import pytest
import rclpy
from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import GoalEvent, ServerGoalHandle
from rclpy.impl.implementation_singleton import rclpy_implementation
from robot import Robot, wait_until

from kosmos_ros.node.middleware.action_server import ReliableActionServer


@pytest.fixture
def robot(domain: int):
    robot = Robot(domain, '/patched')
    yield robot
    robot.close()


@pytest.fixture
def failures() -> list[str]:
    return []


@pytest.fixture
def server(robot, failures):
    def execute(handle: ServerGoalHandle) -> Ask.Result:
        if handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.succeed()
        return Ask.Result(text=handle.request.text)

    server = ReliableActionServer(
        robot.node,
        Ask,
        'ask',
        execute,
        lambda _: CancelResponse.ACCEPT,
        lambda what, error: failures.append(f'{what}: {error}'),
    )
    assert robot.asker.wait_for_server(30)
    return server


def test_idle_means_that_results_were_sent(robot, server) -> None:
    assert server.wait_until_idle(10)
    goals = [robot.begin(text=str(number)).expect() for number in range(20)]
    assert [goal.result().text for goal in goals] == [str(number) for number in range(20)]
    assert server.wait_until_idle(10)


def test_a_goal_cancelled_before_it_could_begin_has_a_result(
    robot, server, failures, monkeypatch
) -> None:
    def execute(handle: ServerGoalHandle) -> None:
        # Another thread is a moment faster.
        handle._update_state(GoalEvent.CANCEL_GOAL)
        handle._update_state(GoalEvent.EXECUTE)

    monkeypatch.setattr(ServerGoalHandle, 'execute', execute)
    goal = robot.begin(text='late')
    assert goal.result().text == 'late'
    assert goal.state == GoalStatus.STATUS_CANCELED
    assert (failures, server.wait_until_idle(10)) == ([], True)


def test_what_rclpy_raises_stays_here(robot, server, failures, monkeypatch) -> None:
    ask_for_result = ActionServer._execute_get_result_request
    broken = [KeyError('expired a moment ago'), rclpy_implementation.RCLError('unsent')]

    async def fail(server: ActionServer, request: object) -> None:
        if broken:
            raise broken.pop()
        await ask_for_result(server, request)

    monkeypatch.setattr(ActionServer, '_execute_get_result_request', fail)
    unheard = [robot.begin().expect() for _ in range(2)]
    wait_until(lambda: len(failures) == 2, 'both failures')
    assert all('the result request of an action' in failure for failure in failures)
    assert robot.answer(text='still here').text == 'still here'
    assert unheard[0].feedback == []


def test_the_end_of_a_goal_is_the_end_whatever_happens(
    robot, server, failures, monkeypatch
) -> None:
    async def fail(*_: object) -> None:
        raise KeyError('gone')

    monkeypatch.setattr(ActionServer, '_execute_goal', fail)
    robot.begin()
    wait_until(lambda: failures, 'the failure')
    assert server.wait_until_idle(10)
    assert rclpy.ok(context=robot.context)
