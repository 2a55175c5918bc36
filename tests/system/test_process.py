"""How the process starts and ends."""

import signal

from builtin_interfaces.msg import Duration
import psutil
import pytest
from robot import image_of, picture, wait_until

from kosmos_ros.errors import Status

LONG = Duration(sec=50)


def engine_is_busy(robot) -> bool:
    moment = Duration(nanosec=20_000_000)
    return robot.call(image=image_of(picture()), timeout=moment).status == Status.TIMEOUT


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_whoever_waits_is_told_of_the_end(start, number: int) -> None:
    # The worst case: an engine that never comes back.
    process, robot = start(script={'acts': {'the hanging ball': {'hangs': True}}})
    robot.wait_for_node()
    image = image_of(picture())
    wait_until(lambda: robot.call('a cup', image=image).status == Status.OK, 'an active node')
    calls = [
        robot.send(expression='the hanging ball', image=image, timeout=LONG) for _ in range(4)
    ]
    wait_until(lambda: engine_is_busy(robot), 'work')
    assert process.stop(number) == 0
    assert {call.result().status for call in calls} == {Status.SHUTTING_DOWN}
    assert 'Traceback' not in process.output()


def test_an_idle_node_ends_at_once(start) -> None:
    process, robot = start()
    robot.wait_for_node()
    with robot.streaming(image_of(picture())):
        robot.wait_for_status(Status.OK)
        assert process.stop() == 0
    assert 'Traceback' not in process.output()


@pytest.mark.parametrize(
    ('argument', 'word'),
    [
        ('rate:=.nan', 'rate'),
        ('rate:=fast', 'rate'),
        ('max_waiting:=0', 'max_waiting'),
        ('conversation_age:=.nan', 'conversation_age'),
        ('image_transport:=theora', 'compressed'),
        ('runner:=cuda', 'tensorrt'),
        ('self_check:=on', 'quick'),
        ('build_plans:=always', 'missing'),
        ("cameras:=['a b']", 'a b'),
    ],
)
def test_a_wrong_parameter_at_the_start_is_one_line(start, argument: str, word: str) -> None:
    process, _ = start('-p', argument)
    assert process.process.wait(30) == 2
    (line,) = process.output().splitlines()
    assert word in line


def test_a_standing_expression_that_cannot_be_asked(start) -> None:
    process, robot = start('-p', "expressions:=['<image>']")
    robot.wait_for_node()
    wait_until(lambda: '<image>' in robot.call().message, 'the reason')
    assert robot.call().status == Status.NOT_ACTIVE
    assert process.stop() == 0
    assert 'Traceback' not in process.output()


def test_several_cameras(start) -> None:
    from sensor_msgs.msg import Image

    _, robot = start('-p', "cameras:=['left', 'right']")
    robot.wait_for_node()
    response = robot.wait_for_status(Status.NO_IMAGE)
    assert '/left/image' in response.message
    assert 'left, right' in robot.call(camera='camera').message
    robot.image = robot.node.create_publisher(Image, 'right/image', 2)
    with robot.streaming(image_of(picture(), frame_id='right eye')):
        response = robot.wait_for_status(Status.OK, camera='right')
        assert response.detections.header.frame_id == 'right eye'
        assert robot.call(camera='left').status == Status.NO_IMAGE


def test_a_camera_whose_qos_does_not_fit_is_named(start) -> None:
    from rclpy.event_handler import PublisherEventCallbacks
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    _, robot = start('-p', 'image_reliability:=reliable')
    robot.wait_for_node()
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    # rclpy's own callback uses a deprecated call, which is an error here.
    quiet = PublisherEventCallbacks(use_default_callbacks=False)
    robot.node.create_publisher(Image, 'image', qos, event_callbacks=quiet)
    wait_until(lambda: 'RELIABILITY' in robot.call().message, 'the reason')
    assert robot.call().status == Status.NO_IMAGE
    # Another camera, which does fit, is heard all the same.
    with robot.streaming(image_of(picture())):
        robot.wait_for_status(Status.OK)


def test_waiting_costs_nothing(start) -> None:
    """No thread spins while calls wait for an engine that hangs."""
    process, robot = start(script={'acts': {'the hanging ball': {'hangs': True}}})
    robot.wait_for_node()
    image = image_of(picture())
    wait_until(lambda: robot.call('a cup', image=image).status == Status.OK, 'an active node')
    for _ in range(4):
        robot.send(expression='the hanging ball', image=image, timeout=LONG)
    wait_until(lambda: engine_is_busy(robot), 'work')
    node = psutil.Process(process.process.pid)
    before = sum(node.cpu_times()[:2])
    late = robot.send(expression='a cup', image=image, timeout=Duration(sec=2))
    late.result()
    # Two seconds of waiting; a spinning thread would have used about two.
    assert sum(node.cpu_times()[:2]) - before < 0.5
