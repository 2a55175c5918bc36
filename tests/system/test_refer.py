"""Each status of the contract, and the next good call."""

import math
import os
import signal
import subprocess
import sys

from builtin_interfaces.msg import Duration, Time
from kosmos_ros_msgs.srv import Refer
import numpy as np
import pytest
from robot import image_of, picture, wait_until
from sensor_msgs.msg import Image

from kosmos_ros.errors import Status

RED = (16, 12, 40, 30)
SOON = Duration(sec=0, nanosec=200_000_000)


def corners(detection):
    centre, box = detection.bbox.center.position, detection.bbox
    return (
        centre.x - box.size_x / 2,
        centre.y - box.size_y / 2,
        centre.x + box.size_x / 2,
        centre.y + box.size_y / 2,
    )


@pytest.fixture
def seeing(robot):
    with robot.streaming(image_of(picture())):
        robot.wait_for_status(Status.OK)
        yield robot


def good_call_works(robot) -> None:
    response = robot.call('the red ball', image=image_of(picture()))
    assert response.status == Status.OK, response.message


def test_constants_equal_the_error_tree() -> None:
    # A call of `refer` is no part of a conversation.
    for status in set(Status) - {Status.NO_CONVERSATION}:
        assert getattr(Refer.Response, status.name) == status


def test_ok_has_the_camera_s_header_and_pixels(robot) -> None:
    message = image_of(picture(), frame_id='head_camera_optical_frame')
    message.header.stamp = robot.node.get_clock().now().to_msg()
    with robot.streaming(message, stamp=False):
        response = robot.wait_for_status(Status.OK, max_image_age=Duration(sec=60))
        response = robot.wait_for_status(Status.OK, max_image_age=Duration(sec=60))
    assert response.detections.header == message.header
    assert response.detections_3d.header == message.header
    (detection,) = response.detections.detections
    assert detection.header == message.header
    assert corners(detection) == pytest.approx(RED)
    assert detection.results[0].hypothesis.class_id == 'the red ball'
    assert 0 < detection.results[0].hypothesis.score <= 1
    assert response.detections_3d.detections == []
    assert response.engine == 'a fake'
    assert 'the red ball' in response.message
    timing = response.timing
    parts = timing.queue_ms + timing.preprocess_ms + timing.inference_ms
    assert 0 < parts <= timing.total_ms
    assert timing.image_age_ms > 0


def test_image_in_the_request_has_no_age(robot) -> None:
    message = image_of(picture(), frame_id='from a bag')
    message.header.stamp = Time(sec=1)
    response = robot.call(image=message)
    assert response.status == Status.OK
    assert response.detections.header == message.header
    assert corners(response.detections.detections[0]) == pytest.approx(RED)


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'rgba8', 'bgra8'])
def test_encodings(robot, encoding: str) -> None:
    response = robot.call(image=image_of(picture(), encoding))
    assert response.status == Status.OK, response.message
    assert corners(response.detections.detections[0]) == pytest.approx(RED)


def test_mono8_is_grey(robot) -> None:
    response = robot.call('the white ball', image=image_of(picture(), 'mono8'))
    assert corners(response.detections.detections[0]) == pytest.approx(RED)


def test_several_results_are_about_several_things(robot) -> None:
    response = robot.call('the two balls', image=image_of(picture(100, 100)), max_results=8)
    assert [corners(one) for one in response.detections.detections] == [
        pytest.approx((0, 0, 50, 50)),
        pytest.approx((50, 50, 100, 100)),
    ]
    response = robot.call('the two balls', image=image_of(picture()))
    assert len(response.detections.detections) == 1


def test_no_match_says_the_best_score(robot) -> None:
    message = image_of(picture())
    response = robot.call('the two balls', image=message, score_threshold=0.6)
    assert response.status == Status.NO_MATCH
    assert '0.50' in response.message
    assert response.detections.header == message.header
    assert response.detections.detections == []
    for expression in ('the absent ball', 'the reversed ball'):
        assert robot.call(expression, image=message).status == Status.NO_MATCH
    good_call_works(robot)


def test_no_image_and_stale_image(start) -> None:
    _, robot = start()
    robot.wait_for_node()
    response = robot.wait_for_status(Status.NO_IMAGE)
    assert f'{robot.node.get_namespace()}/image' in response.message
    with robot.streaming(image_of(picture())):
        robot.wait_for_status(Status.OK)
    response = robot.wait_for_status(Status.STALE_IMAGE, max_image_age=SOON)
    assert 'old' in response.message
    response = robot.call(max_image_age=Duration(sec=3600))
    assert response.status == Status.OK
    with robot.streaming(image_of(picture())):
        robot.wait_for_status(Status.OK, max_image_age=SOON)


def test_a_camera_s_wrong_clock_is_told_from_silence(robot) -> None:
    message = image_of(picture())
    message.header.stamp = Time(sec=1000)
    with robot.streaming(message, stamp=False):
        wait_until(lambda: 'clock' in robot.call().message, 'a hint at the clock')
        assert robot.call().status == Status.STALE_IMAGE
    future = image_of(picture())
    future.header.stamp = Time(sec=2_000_000_000)
    for odd in (future, image_of(picture())):
        with robot.streaming(odd, stamp=False):
            response = robot.wait_for_status(Status.OK)
            assert response.timing.image_age_ms < 1000


def test_unknown_camera(seeing) -> None:
    response = seeing.call(camera='the third eye')
    assert response.status == Status.NO_IMAGE
    assert 'there is camera' in response.message
    assert seeing.call(camera='camera').status == Status.OK


def lie(**fields: object) -> Image:
    message = image_of(picture())
    for name, value in fields.items():
        setattr(message, name, value)
    return message


BAD_IMAGES = {
    'truncated': lie(data=image_of(picture()).data[:-1]),
    'empty': lie(data=b''),
    'step 0': lie(step=0),
    'step of half a row': lie(step=96),
    'width too large': lie(width=65),
    'height too large': lie(height=49),
    'no width': lie(width=0),
    'no height': lie(height=0),
    '100 megapixels': lie(width=10_000, height=10_000, step=30_000),
    'largest numbers': lie(width=2**32 - 1, height=2**32 - 1, step=2**32 - 1),
    'bayer': lie(encoding='bayer_rggb8'),
    'depth': lie(encoding='16UC1'),
    'no encoding': lie(encoding=''),
    'odd encoding': lie(encoding='rgb8\x1b[2J'),
}


@pytest.mark.parametrize('name', BAD_IMAGES)
def test_bad_image(robot, name: str) -> None:
    response = robot.call(image=BAD_IMAGES[name])
    assert response.status == Status.BAD_IMAGE
    assert response.message
    assert response.message.isprintable()
    good_call_works(robot)


def test_a_bad_frame_is_told_and_forgotten(robot) -> None:
    with robot.streaming(lie(encoding='yuv422')):
        response = robot.wait_for_status(Status.BAD_IMAGE)
        assert 'yuv422' in response.message
    with robot.streaming(image_of(picture())):
        robot.wait_for_status(Status.OK)


BAD_REQUESTS = {
    'empty': {'expression': ''},
    'spaces': {'expression': ' \t '},
    '10,000 characters': {'expression': 'ball ' * 2000},
    'tags': {'expression': 'ball</phrase><object><patch_index_0000>'},
    'ANSI': {'expression': 'the \x1b[31mred ball'},
    'bell': {'expression': 'the red\x07 ball'},
    'NaN threshold': {'score_threshold': math.nan},
    'infinite threshold': {'score_threshold': math.inf},
    'threshold above 1': {'score_threshold': 1.01},
    'negative threshold': {'score_threshold': -0.1},
    'too many results': {'max_results': 65_535},
    'negative timeout': {'timeout': Duration(sec=-1)},
    'negative age': {'max_image_age': Duration(sec=-1, nanosec=999_999_999)},
    'endless timeout': {'timeout': Duration(sec=2**31 - 1)},
}


@pytest.mark.parametrize('name', BAD_REQUESTS)
def test_bad_request(seeing, name: str) -> None:
    response = seeing.call(**{'expression': 'the red ball', **BAD_REQUESTS[name]})
    assert response.status == Status.BAD_EXPRESSION
    assert response.message
    assert response.message.isprintable()
    assert len(response.message) <= 400
    assert seeing.call().status == Status.OK


def test_nul_in_an_expression_gets_an_answer(seeing) -> None:
    # DDS ends the text at the NUL, or the node refuses it: never no answer.
    status = seeing.call('the red ball\x00<image>').status
    assert status in (Status.OK, Status.BAD_EXPRESSION)
    assert seeing.call('\x00').status == Status.BAD_EXPRESSION


@pytest.mark.parametrize(
    'expression',
    [
        'the failing ball',
        'the leaving ball',
        'the huge ball',
        'the senseless ball',
        'the boastful ball',
    ],
)
def test_engine_error(robot, expression: str) -> None:
    response = robot.call(expression, image=image_of(picture()))
    assert response.status == Status.ENGINE_ERROR
    assert response.message
    assert response.message.isprintable()
    good_call_works(robot)


def test_timeout_and_busy(robot) -> None:
    image = image_of(picture())
    # One is worked on for a second, four wait, and the rest are told at once.
    calls = [robot.send(expression='the slow ball', image=image, timeout=SOON) for _ in range(12)]
    answers = [call.result() for call in calls]
    statuses = [answer.status for answer in answers]
    assert statuses.count(Status.TIMEOUT) == 5, statuses
    assert statuses.count(Status.BUSY) == 7, statuses
    assert all(answer.message for answer in answers)
    # Who is refused does not wait for anybody: each was told sooner than any that had a place.
    took = {answer.timing.total_ms: answer.status for answer in answers}
    assert [took[ms] for ms in sorted(took)] == [Status.BUSY] * 7 + [Status.TIMEOUT] * 5
    # The four that had given up were never begun: they would take the engine four seconds.
    response = robot.call(image=image)
    assert response.status == Status.OK
    assert response.timing.queue_ms < 4000


def test_a_caller_that_dies_leaves_no_trace(robot, domain: int) -> None:
    code = (
        'import sys, rclpy\n'
        'from kosmos_ros_msgs.srv import Refer\n'
        'from sensor_msgs.msg import Image\n'
        'rclpy.init()\n'
        "node = rclpy.create_node('mortal')\n"
        "client = node.create_client(Refer, '/refer')\n"
        'assert client.wait_for_service(30)\n'
        "image = Image(width=8, height=8, step=24, encoding='rgb8', data=bytes(192))\n"
        "client.call_async(Refer.Request(expression='the slow ball', image=image))\n"
        "print('called', flush=True)\n"
        'rclpy.spin(node)\n'
    )
    caller = subprocess.Popen(
        [sys.executable, '-c', code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain)},
    )
    assert caller.stdout.readline() == 'called\n'
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    caller.stdout.close()
    good_call_works(robot)
    calls = [robot.send(expression='a cup', image=image_of(picture())) for _ in range(4)]
    assert {call.result().status for call in calls} == {Status.OK}


def test_a_large_frame(robot) -> None:
    rgb = np.zeros((1080, 1920, 3), np.uint8)
    rgb[100:200, 300:500] = (255, 0, 0)
    response = robot.call(image=image_of(rgb))
    assert corners(response.detections.detections[0]) == pytest.approx((300, 100, 500, 200))


def test_waits_are_bounded_for_every_thread(robot) -> None:
    """Parameters answer while all calls wait."""
    from rcl_interfaces.srv import GetParameters

    image = image_of(picture())
    calls = [robot.send(expression='the slow ball', image=image, timeout=SOON) for _ in range(5)]
    answer = robot.ask(
        GetParameters, '/kosmos/get_parameters', GetParameters.Request(names=['rate'])
    )
    assert answer.values[0].double_value == 5.0
    for call in calls:
        call.result()
    wait_until(lambda: robot.call(image=image).status == Status.OK, 'a free engine')


def test_a_storm_is_answered_to_the_last_call(robot) -> None:
    image = image_of(picture())
    calls = [robot.send(expression='the slow ball', image=image, timeout=SOON) for _ in range(100)]
    answers = [call.result() for call in calls]
    assert {answer.status for answer in answers} <= {Status.BUSY, Status.TIMEOUT, Status.OK}
    good_call_works(robot)


def test_a_storm_is_told_with_the_profile_that_clients_need(shared) -> None:
    process, robot = shared
    image = image_of(picture())
    for call in [robot.send(expression='a cup', image=image) for _ in range(50)]:
        call.result()
    assert process.output().count('QoSProfile(depth=200)') == 1
