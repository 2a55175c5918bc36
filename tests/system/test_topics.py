"""What the node publishes, and compressed input."""

from contextlib import contextmanager
import io

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from PIL import Image as Pillow
import pytest
from robot import image_of, picture, wait_until
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from test_lifecycle import set_parameter
from vision_msgs.msg import Detection2DArray, Detection3DArray
from visualization_msgs.msg import Marker, MarkerArray

from kosmos_ros.errors import Status


@contextmanager
def standing(robot, *expressions: str):
    assert set_parameter(robot, 'expressions', string_array_value=list(expressions)).successful
    try:
        yield
    finally:
        assert set_parameter(robot, 'expressions', string_array_value=['']).successful


def names(array) -> list[str]:
    return [one.results[0].hypothesis.class_id for one in array.detections]


def test_standing_expressions_in_new_frames(robot) -> None:
    arrays = robot.listen(Detection2DArray, 'kosmos/detections')
    assert set_parameter(robot, 'rate', double_value=50.0).successful
    with robot.streaming(image_of(picture(), frame_id='eye')):
        with standing(robot, 'the red ball', 'the absent ball', 'a cup'):
            wait_until(lambda: len(arrays) > 4, 'detections')
            assert names(arrays[-1]) == ['the red ball', 'a cup']
            assert arrays[-1].header.frame_id == 'eye'
            stamps = [(a.header.stamp.sec, a.header.stamp.nanosec) for a in arrays]
            assert stamps == sorted(set(stamps)), 'each frame once, in order'
        with standing(robot, 'the absent ball'):
            wait_until(lambda: arrays[-1].detections == [], 'an empty array')
        # No call is BUSY or wrong because of them.
        with standing(robot, 'a cup'):
            assert {robot.call().status for _ in range(5)} == {Status.OK}
    assert set_parameter(robot, 'rate', double_value=5.0).successful


def test_answers_to_calls_are_published_too(robot) -> None:
    arrays = robot.listen(Detection2DArray, 'kosmos/detections')
    in_metres = robot.listen(Detection3DArray, 'kosmos/detections_3d')
    response = robot.call(image=image_of(picture()))
    wait_until(lambda: arrays and in_metres, 'detections')
    assert arrays[-1] == response.detections
    assert in_metres[-1] == response.detections_3d
    robot.call('the absent ball', image=image_of(picture(), frame_id='empty'))
    wait_until(lambda: arrays[-1].header.frame_id == 'empty', 'an empty array')
    assert arrays[-1].detections == []


def test_annotated_image_and_markers(robot) -> None:
    images = robot.listen(Image, 'kosmos/annotated_image')
    markers = robot.listen(MarkerArray, 'kosmos/markers')
    info = CameraInfo(width=640, height=480)
    info.k = [500.0, 0.0, 319.5, 0.0, 500.0, 239.5, 0.0, 0.0, 1.0]
    robot.info.publish(info)
    frame = picture(640, 480, (320, 240, 420, 340))
    with robot.streaming(image_of(frame, frame_id='eye')):

        def drawn() -> bool:
            robot.info.publish(info)
            assert robot.wait_for_status(Status.OK).status == Status.OK
            right = markers and abs(markers[-1].markers[1].points[2].x - 0.2) < 1e-6
            return bool(images and images[-1].width == 640 and right)

        # The picture of another test may still be on its way.
        wait_until(drawn, 'picture and markers')
    image = images[-1]
    assert (image.width, image.height, image.encoding, image.step) == (640, 480, 'rgb8', 1920)
    assert image.header.frame_id == 'eye'
    drawn_on = np.frombuffer(image.data, np.uint8).reshape(480, 640, 3)
    changed = (drawn_on != frame).any(axis=2)
    assert changed[240:342, 316:324].any()
    assert not changed[440:, :].any()
    clear, outline, label = markers[-1].markers
    assert clear.action == Marker.DELETEALL
    assert outline.header.frame_id == 'eye'
    corners = {(round(p.x, 6), round(p.y, 6), p.z) for p in outline.points}
    assert corners == {(0.0, 0.0, 1.0), (0.2, 0.0, 1.0), (0.2, 0.2, 1.0), (0.0, 0.2, 1.0)}
    assert label.text.startswith('the red ball')


def test_diagnostics_tell_a_lost_camera(robot) -> None:
    arrays = robot.listen(DiagnosticArray, '/diagnostics')

    def level(name: str) -> bytes | None:
        for status in arrays[-1].status if arrays else []:
            if status.name == f'kosmos: {name}':
                return status.level
        return None

    with robot.streaming(image_of(picture())):
        wait_until(lambda: level('camera camera') == b'\x00', 'a good camera')
    wait_until(lambda: level('camera camera') in (b'\x01', b'\x02'), 'a lost camera')
    assert level('engine') == b'\x00'
    robot.call('the failing ball', image=image_of(picture()))
    wait_until(lambda: level('engine') == b'\x01', 'a failed engine')
    robot.call(image=image_of(picture()))
    wait_until(lambda: level('engine') == b'\x00', 'a good engine')


@pytest.fixture(scope='module')
def compressed(start_for_session):
    _, robot = start_for_session('-p', 'image_transport:=compressed')
    robot.wait_for_node()
    return robot


def encoded(array: np.ndarray, kind: str = 'PNG') -> CompressedImage:
    buffer = io.BytesIO()
    Pillow.fromarray(array).save(buffer, kind)
    return CompressedImage(header=Header(frame_id='eye'), format='png', data=buffer.getvalue())


@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_compressed(compressed, kind: str) -> None:
    with compressed.streaming(encoded(picture(640, 480, (160, 120, 480, 360)), kind)):
        response = compressed.wait_for_status(Status.OK)
    box = response.detections.detections[0].bbox
    found = (box.center.position.x, box.center.position.y, box.size_x, box.size_y)
    assert found == pytest.approx((320, 240, 320, 240), abs=4 if kind == 'JPEG' else 1e-6)


def test_compressed_garbage_and_then_a_picture(compressed) -> None:
    good = encoded(picture())
    for data in (b'', b'GIF89a', bytes(good.data[:-20]), bytes(good.data[:30])):
        with compressed.streaming(CompressedImage(data=data, format='jpeg')):
            assert compressed.wait_for_status(Status.BAD_IMAGE).message
    with compressed.streaming(good):
        compressed.wait_for_status(Status.OK)


def test_photos_over_compressed_image(compressed, shared_data) -> None:
    for path in sorted(shared_data.glob('*.[jp][pn]g')):
        with Pillow.open(path) as photo:
            width, height = photo.size
        message = CompressedImage(format='jpeg', data=path.read_bytes())
        message.header.frame_id = path.stem
        with compressed.streaming(message):

            def seen(stem=path.stem):
                response = compressed.call('a cup')
                ours = response.detections.header.frame_id == stem
                return response if ours and response.status == Status.OK else None

            wait_until(seen, path.name)
            box = seen().detections.detections[0].bbox
        assert (2 * box.size_x, 2 * box.size_y) == pytest.approx((width, height))
