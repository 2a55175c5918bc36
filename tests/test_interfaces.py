"""The interfaces that were built are the ones that were promised."""

import json
import os
from pathlib import Path
import sys

import pytest

from kosmos_ros.engine.base import Finish
from kosmos_ros.environment import child_environment, is_wheel_home
from kosmos_ros.errors import Status
from kosmos_ros.model.tasks import Task

# Of vision_msgs 4.1.1. Two nodes understand each other only if these agree.
VISION_HASHES = {
    'BoundingBox2D': '008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f',
    'BoundingBox2DArray': '2464e82838009386d371b523211c21c91d74d313fcdd6788223c531d621cf691',
    'BoundingBox3D': 'bbb73a65c163d7f9bb29009c7bde9f7faa576bd2d23299c4511d19230dab4698',
    'BoundingBox3DArray': 'a81938db9576b10c2eecd7c5a5da3eac496efd00221b25ed051dfbc81fb56da6',
    'Classification': 'f74db28d0eaef3afb78f48bf2161cd709a1383a0309d3454383b25be11345143',
    'Detection2D': '0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea',
    'Detection2DArray': '214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968',
    'Detection3D': 'ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b',
    'Detection3DArray': '793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018',
    'LabelInfo': '3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783',
    'ObjectHypothesis': '51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90',
    'ObjectHypothesisWithPose': '41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc',
    'Point2D': 'eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247',
    'Pose2D': 'b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648',
    'VisionClass': '1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a',
    'VisionInfo': '95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284',
}

REQUEST = {
    'expression': 'string',
    'camera': 'string',
    'image': 'sensor_msgs/Image',
    'score_threshold': 'float',
    'max_results': 'uint16',
    'max_image_age': 'builtin_interfaces/Duration',
    'timeout': 'builtin_interfaces/Duration',
}
RESPONSE = {
    'status': 'uint8',
    'message': 'string',
    'detections': 'vision_msgs/Detection2DArray',
    'detections_3d': 'vision_msgs/Detection3DArray',
    'timing': 'kosmos_ros_msgs/Timing',
    'engine': 'string',
}
STATUSES = (
    'OK',
    'NO_MATCH',
    'NO_IMAGE',
    'STALE_IMAGE',
    'BAD_IMAGE',
    'BAD_EXPRESSION',
    'BUSY',
    'TIMEOUT',
    'NOT_ACTIVE',
    'ENGINE_ERROR',
    'SHUTTING_DOWN',
)
GOAL = {
    'task': 'uint8',
    'text': 'string',
    'phrases': 'sequence<string>',
    'camera': 'string',
    'images': 'sequence<sensor_msgs/Image>',
    'regions': 'sequence<kosmos_ros_msgs/Region>',
    'examples': 'sequence<kosmos_ros_msgs/Example>',
    'conversation_id': 'string',
    'max_tokens': 'uint32',
    'beams': 'uint8',
    'max_image_age': 'builtin_interfaces/Duration',
    'timeout': 'builtin_interfaces/Duration',
}
RESULT = {
    'status': 'uint8',
    'message': 'string',
    'text': 'string',
    'groundings': 'sequence<kosmos_ros_msgs/PhraseGrounding>',
    'header': 'std_msgs/Header',
    'tokens': 'uint32',
    'finish_reason': 'uint8',
    'conversation_id': 'string',
    'timing': 'kosmos_ros_msgs/Timing',
    'engine': 'string',
}
FEEDBACK = {
    'text': 'string',
    'groundings': 'sequence<kosmos_ros_msgs/PhraseGrounding>',
    'tokens_per_second': 'float',
}
PARTS = {
    'Region': {'box': 'vision_msgs/BoundingBox2D', 'phrase': 'string'},
    'Example': {
        'image': 'sensor_msgs/Image',
        'regions': 'sequence<kosmos_ros_msgs/Region>',
        'text': 'string',
    },
    'PhraseGrounding': {
        'phrase': 'string',
        'first': 'uint32',
        'last': 'uint32',
        'boxes': 'sequence<vision_msgs/BoundingBox2D>',
        'scores': 'sequence<float>',
    },
}
PARTS_OF_TIME = ('queue_ms', 'preprocess_ms', 'inference_ms', 'total_ms', 'image_age_ms')


@pytest.mark.skipif(
    not is_wheel_home(Path(sys.prefix)), reason="here vision_msgs is the distribution's own"
)
@pytest.mark.parametrize('message', sorted(VISION_HASHES))
def test_type_hash_of_vision_msgs(message: str) -> None:
    described = json.loads((_share('vision_msgs') / 'msg' / f'{message}.json').read_text())
    hashes = {entry['type_name']: entry['hash_string'] for entry in described['type_hashes']}

    assert hashes[f'vision_msgs/msg/{message}'] == f'RIHS01_{VISION_HASHES[message]}'


def test_stand_in_has_no_other_messages() -> None:
    folder = Path(__file__).parents[1] / 'msg' / 'vision_msgs' / 'msg'

    assert sorted(path.stem for path in folder.iterdir()) == sorted(VISION_HASHES)


def test_refer_has_the_fields_of_the_contract_in_order() -> None:
    from kosmos_ros_msgs.srv import Refer

    assert list(Refer.Request.get_fields_and_field_types().items()) == list(REQUEST.items())
    assert list(Refer.Response.get_fields_and_field_types().items()) == list(RESPONSE.items())


def test_refer_numbers_its_statuses_from_zero() -> None:
    from kosmos_ros_msgs.srv import Refer

    assert [getattr(Refer.Response, name) for name in STATUSES] == list(range(len(STATUSES)))


def test_ask_has_the_fields_of_the_contract_in_order() -> None:
    from kosmos_ros_msgs.action import Ask

    for kind, fields in ((Ask.Goal, GOAL), (Ask.Result, RESULT), (Ask.Feedback, FEEDBACK)):
        assert list(kind.get_fields_and_field_types().items()) == list(fields.items())


@pytest.mark.parametrize('name', PARTS)
def test_parts_of_ask(name: str) -> None:
    import kosmos_ros_msgs.msg

    kind = getattr(kosmos_ros_msgs.msg, name)
    assert list(kind.get_fields_and_field_types().items()) == list(PARTS[name].items())


def test_ask_numbers_as_the_code_does() -> None:
    from kosmos_ros_msgs.action import Ask

    assert {task.name: getattr(Ask.Goal, task.name) for task in Task} == {
        task.name: task.value for task in Task
    }
    for finish in Finish:
        assert getattr(Ask.Result, f'FINISH_{finish.name}') == finish
    names = (*STATUSES, 'NO_CONVERSATION')
    assert [getattr(Ask.Result, name) for name in names] == list(range(len(names)))
    assert [status.name for status in Status] == list(names)


def test_timing_is_in_milliseconds() -> None:
    from kosmos_ros_msgs.msg import Timing

    assert Timing.get_fields_and_field_types() == dict.fromkeys(PARTS_OF_TIME, 'float')


def _share(package: str) -> Path:
    prefixes = child_environment()['AMENT_PREFIX_PATH'].split(os.pathsep)
    shares = [Path(prefix, 'share', package) for prefix in prefixes]
    return next(share for share in shares if share.is_dir())
