"""A request, read and checked."""

import math

from builtin_interfaces.msg import Duration
from kosmos_ros_msgs.srv import Refer
import pytest
from sensor_msgs.msg import Image

from kosmos_ros.errors import BadExpression
from kosmos_ros.limits import Limits
from kosmos_ros.node.parameters import TABLE, settings_from
from kosmos_ros.node.refer.query import ReferQuery, refer_query_from

SETTINGS = settings_from({row.name: row.default for row in TABLE})
LIMITS = Limits()


def read(expression: str = 'the ball', **fields: object) -> ReferQuery:
    return refer_query_from(Refer.Request(expression=expression, **fields), SETTINGS, LIMITS)


def test_zeros_are_defaults() -> None:
    assert read('  the \t ball ') == ReferQuery(
        expression='the ball',
        camera='',
        image=None,
        score_threshold=0.0,
        max_results=1,
        max_image_age_s=SETTINGS.max_image_age,
        timeout_s=SETTINGS.timeout,
    )


def test_what_is_said_counts() -> None:
    question = read(
        score_threshold=0.5,
        max_results=3,
        timeout=Duration(nanosec=500_000_000),
        max_image_age=Duration(sec=3600),
    )
    assert (question.score_threshold, question.max_results) == (0.5, 3)
    assert (question.timeout_s, question.max_image_age_s) == (0.5, 3600)


@pytest.mark.parametrize('fields', [{'width': 1}, {'height': 1}, {'data': b'x'}])
def test_any_sign_of_an_image_is_an_image(fields: dict[str, object]) -> None:
    assert read(image=Image(**fields)).image is not None


@pytest.mark.parametrize(
    ('fields', 'word'),
    [
        ({'score_threshold': math.nan}, 'score_threshold'),
        ({'score_threshold': 1.5}, 'score_threshold'),
        ({'score_threshold': -0.5}, 'score_threshold'),
        ({'max_results': 65}, 'max_results'),
        ({'timeout': Duration(sec=-1)}, 'timeout'),
        ({'timeout': Duration(sec=60, nanosec=1_000_000)}, 'timeout'),
        ({'timeout': Duration(sec=59, nanosec=4_000_000_000)}, 'timeout'),
        ({'max_image_age': Duration(sec=-1, nanosec=999_999_999)}, 'max_image_age'),
    ],
)
def test_refused(fields: dict[str, object], word: str) -> None:
    with pytest.raises(BadExpression, match=word):
        read(**fields)
