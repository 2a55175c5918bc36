"""Goals of the action `ask` that end otherwise: with the node, or without their client."""

import os
import signal
import subprocess
import sys
import time

from action_msgs.msg import GoalStatus, GoalStatusArray
from diagnostic_msgs.msg import DiagnosticArray
from kosmos_ros_msgs.action import Ask
from lifecycle_msgs.msg import Transition
import psutil
import pytest
from rclpy.qos import qos_profile_action_status_default
from robot import image_of, picture, wait_until
from test_lifecycle import change

from kosmos_ros.errors import Status

GOAL, RESULT = Ask.Goal, Ask.Result
LONG = {'task': GOAL.CHAT, 'text': 'how long?', 'max_tokens': 2000}


def wait_for_activity(robot) -> None:
    robot.wait_for_node()
    robot.wait_for_status(Status.OK, image=image_of(picture()))


def test_deactivation_in_the_middle(start) -> None:
    process, robot = start()
    wait_for_activity(robot)
    assert robot.answer(task=GOAL.CAPTION).status == Status.NO_IMAGE
    name = robot.answer(task=GOAL.CHAT, text='one').conversation_id
    goal = robot.begin(**LONG, conversation_id=name).expect()
    goal.wait_for_words()
    assert change(robot, Transition.TRANSITION_DEACTIVATE)
    result = goal.result()
    assert (goal.state, result.status) == (GoalStatus.STATUS_ABORTED, Status.NOT_ACTIVE)
    assert result.finish_reason == RESULT.FINISH_NONE
    assert result.tokens == len(result.text.split()) > 0
    assert 'deactivated' in result.message
    result = robot.answer(task=GOAL.CHAT, text='two', conversation_id=name)
    assert result.status == Status.NOT_ACTIVE

    # The conversation goes on where it was; it goes with the engine.
    assert change(robot, Transition.TRANSITION_ACTIVATE)
    result = robot.answer(task=GOAL.CHAT, text='what before?', conversation_id=name)
    assert (result.status, result.text) == (Status.OK, 'one+how long?')
    goal = robot.begin(**LONG).expect()
    goal.wait_for_words()
    assert change(robot, Transition.TRANSITION_DEACTIVATE)
    assert change(robot, Transition.TRANSITION_CLEANUP)
    assert goal.result().status == Status.NOT_ACTIVE
    assert change(robot, Transition.TRANSITION_CONFIGURE)
    assert change(robot, Transition.TRANSITION_ACTIVATE)
    result = robot.answer(task=GOAL.CHAT, text='three', conversation_id=name)
    assert result.status == Status.NO_CONVERSATION
    assert process.stop() == 0
    assert 'Traceback' not in process.output()


@pytest.mark.parametrize('act', [{'latency_s': 0.01}, {'hangs': True}], ids=['works', 'hangs'])
def test_whoever_is_being_answered_is_told_of_the_end(start, act: dict[str, object]) -> None:
    speech = {'words': 'on and', 'endless': True, 'after': 2, 'act': act}
    process, robot = start(script={'speeches': {'how long?': speech}})
    wait_for_activity(robot)
    goals = [robot.begin(**LONG).expect() for _ in range(4)]
    wait_until(lambda: any(goal.feedback and goal.feedback[-1].text for goal in goals), 'words')
    assert process.stop() == 0
    results = [goal.result() for goal in goals]
    assert {goal.state for goal in goals} == {GoalStatus.STATUS_ABORTED}
    assert {result.status for result in results} == {Status.SHUTTING_DOWN}
    assert any(result.text for result in results)
    assert 'Traceback' not in process.output()


MORTAL = """
import sys, rclpy
from builtin_interfaces.msg import Duration
from kosmos_ros_msgs.action import Ask
from rclpy.action import ActionClient
from rclpy.qos import QoSProfile

rclpy.init()
node = rclpy.create_node('mortal')
many = QoSProfile(depth=100)
client = ActionClient(
    node, Ask, sys.argv[1], goal_service_qos_profile=many, result_service_qos_profile=many
)
assert client.wait_for_server(30)
goal = Ask.Goal(task=Ask.Goal.CHAT, text='how long?', timeout=Duration(sec=1))
goals = [client.send_goal_async(goal) for _ in range(50)]
for accepted in goals:
    rclpy.spin_until_future_complete(node, accepted)
    accepted.result().get_result_async()
print('asked', flush=True)
rclpy.spin(node)
"""


def abandon_goals(domain: int, action: str) -> None:
    """Fifty goals, whose client dies in the middle of their answers."""
    client = subprocess.Popen(
        [sys.executable, '-c', MORTAL, action],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain)},
    )
    assert client.stdout.readline() == 'asked\n'
    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()


def test_a_hundred_goals_whose_clients_die_leave_nothing(start, domain: int) -> None:
    # Under a name of its own, as all nodes share /diagnostics.
    process, robot = start(
        '-r', '__node:=lonely', '-p', 'max_asks:=64', '-p', 'max_conversations:=3'
    )
    wait_for_activity(robot)
    namespace = process.namespace
    arrays = robot.listen(DiagnosticArray, '/diagnostics')
    lists = robot.listen(
        GoalStatusArray, f'{namespace}/ask/_action/status', qos_profile_action_status_default
    )

    def told() -> dict[str, str]:
        statuses = [one for array in list(arrays) for one in array.status]
        ours = [one for one in statuses if one.name == 'lonely: asks']
        return {pair.key: pair.value for pair in ours[-1].values} if ours else {}

    threads = []
    for late in ('50', '100'):
        abandon_goals(domain, f'{namespace}/ask')
        wait_until(lambda late=late: told().get('TIMEOUT') == late, 'the end of all of them')
        threads.append(psutil.Process(process.process.pid).num_threads())
    # The executor may begin some more of its threads, but not one for each goal.
    assert threads[1] < threads[0] + 10
    assert told()['under_way'] == '0'
    assert int(told()['conversations']) <= 3
    abandoned = {bytes(one.goal_info.goal_id.uuid) for one in lists[-1].status_list}

    def forgotten() -> bool:
        time.sleep(0.5)
        assert robot.answer(task=GOAL.CHAT, text='hello').status == Status.OK
        left = {bytes(one.goal_info.goal_id.uuid) for one in lists[-1].status_list}
        return not left & abandoned

    assert len(abandoned) >= 50
    wait_until(forgotten, 'the end of their results')
    assert process.stop() == 0
    assert 'Traceback' not in process.output()
