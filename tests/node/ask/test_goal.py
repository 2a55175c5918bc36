"""A goal, read and checked."""

import math

from builtin_interfaces.msg import Duration
from kosmos_ros_msgs.action import Ask as Action
from kosmos_ros_msgs.msg import Example, Region
import pytest
from sensor_msgs.msg import Image
from vision_msgs.msg import BoundingBox2D

from kosmos_ros.errors import BadExpression
from kosmos_ros.limits import Limits
from kosmos_ros.model import tasks as asking
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.tasks import Ask, Task
from kosmos_ros.node.ask.goal import AskGoal, ask_goal_from
from kosmos_ros.node.parameters import TABLE, settings_from

SETTINGS = settings_from({row.name: row.default for row in TABLE})
LIMITS = Limits()


def read(**fields: object) -> AskGoal:
    return ask_goal_from(Action.Goal(**fields), SETTINGS, LIMITS)


def region(
    x: float, y: float, width: float, height: float, phrase: str = '', theta: float = 0.0
) -> Region:
    box = BoundingBox2D(size_x=width, size_y=height)
    box.center.position.x, box.center.position.y, box.center.theta = x, y, theta
    return Region(box=box, phrase=phrase)


def test_zeros_are_defaults() -> None:
    goal = read()
    assert (goal.task, goal.beams, goal.max_tokens) == (Task.CAPTION, 1, 0)
    assert goal.timeout_s == SETTINGS.ask_timeout == 60.0
    assert goal.max_image_age_s == SETTINGS.max_image_age
    assert goal.ask(None, []) == Ask(Task.CAPTION, images=1)


@pytest.mark.parametrize(
    ('fields', 'images', 'needs_camera'),
    [
        ({'task': Task.CAPTION}, 1, True),
        ({'task': Task.CAPTION, 'images': [Image(), Image()]}, 2, False),
        ({'task': Task.CAPTION, 'images': [Image()], 'camera': 'left'}, 1, False),
        ({'task': Task.COMPLETE}, 0, False),
        ({'task': Task.CHAT}, 0, False),
        ({'task': Task.CHAT, 'camera': 'left'}, 1, True),
        ({'task': Task.COMPLETE, 'images': [Image()]}, 1, False),
        ({'task': Task.QUESTION, 'examples': [Example()]}, 1, True),
    ],
)
def test_which_images(fields: dict[str, object], images: int, needs_camera: bool) -> None:
    goal = read(**fields)
    assert goal.needs_camera == needs_camera
    assert goal.ask(None, [None] * len(goal.examples)).images == images


def test_regions_are_shares_once_sizes_are_known() -> None:
    example = Example(text='a mug', regions=[region(10.0, 5.0, 20.0, 10.0, 'mug')])
    goal = read(
        task=Task.QUESTION,
        text='this',
        regions=[region(50.0, 40.0, 50.0, 40.0, 'this')],
        examples=[example],
        phrases=['a', 'b'],
        max_tokens=7,
        beams=3,
    )
    everything = asking.Region(Box(0, 0, 1, 1), 'this')
    assert goal.ask(None, [None]).regions == (everything,)
    ask = goal.ask((100, 80), [(40, 20)])
    assert ask.regions == (asking.Region(Box(0.25, 0.25, 0.75, 0.75), 'this'),)
    assert ask.examples == (asking.Example('a mug', (asking.Region(Box(0, 0, 0.5, 0.5), 'mug'),)),)
    assert (ask.phrases, ask.max_tokens, ask.beams) == (('a', 'b'), 7, 3)


@pytest.mark.parametrize(
    ('fields', 'word'),
    [
        ({'task': 9}, '8 CHAT'),
        ({'task': Task.QUESTION, 'conversation_id': 'abc'}, 'conversation_id'),
        ({'images': [Image()] * 17}, '17 images'),
        ({'images': [Image()] * 10, 'examples': [Example()] * 7}, '17 images'),
        ({'timeout': Duration(sec=-1)}, 'timeout'),
        ({'timeout': Duration(sec=600, nanosec=1_000_000)}, 'timeout'),
        ({'max_image_age': Duration(sec=-1)}, 'max_image_age'),
        ({'regions': [region(math.nan, 1.0, 1.0, 1.0)]}, 'finite'),
        ({'regions': [region(1.0, -math.inf, 1.0, 1.0)]}, 'finite'),
        ({'regions': [region(1.0, 1.0, math.inf, 1.0)]}, 'finite'),
        ({'regions': [region(1.0, 1.0, 1.0, math.nan)]}, 'finite'),
        ({'regions': [region(1.0, 1.0, 0.0, 1.0, 'this')]}, "'this' is 0 x 1"),
        ({'regions': [region(1.0, 1.0, 1.0, -1.0)]}, 'positive'),
        ({'regions': [region(1.0, 1.0, 1.0, 1.0, theta=0.1)]}, 'rotated'),
        ({'regions': [region(1.0, 1.0, 1.0, 1.0, theta=math.nan)]}, 'rotated'),
        ({'examples': [Example(regions=[region(1.0, 1.0, 0.0, 1.0)])]}, 'positive'),
    ],
)
def test_refused(fields: dict[str, object], word: str) -> None:
    with pytest.raises(BadExpression, match=word):
        read(**fields)
