"""The action `ask`: answers, cancellations, conversations, and each status of the contract."""

import math

from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from kosmos_ros_msgs.action import Ask
from kosmos_ros_msgs.msg import Example, Region
import pytest
from robot import image_of, picture, wait_until
from sensor_msgs.msg import Image
from vision_msgs.msg import BoundingBox2D, Detection2DArray

from kosmos_ros.errors import Status

GOAL, RESULT = Ask.Goal, Ask.Result
IMAGE = image_of(picture(100, 80), frame_id='eye')
SOON = Duration(nanosec=300_000_000)


def corners(box: BoundingBox2D) -> tuple[float, float, float, float]:
    x, y = box.center.position.x, box.center.position.y
    return x - box.size_x / 2, y - box.size_y / 2, x + box.size_x / 2, y + box.size_y / 2


def region(x: float, y: float, width: float, height: float, phrase: str = '', theta: float = 0.0):
    # The generated C code ends the process at an int.
    box = BoundingBox2D(size_x=float(width), size_y=float(height))
    box.center.position.x, box.center.position.y = float(x), float(y)
    box.center.theta = theta
    return Region(box=box, phrase=phrase)


def good_goal_works(robot) -> None:
    result = robot.answer(task=GOAL.QUESTION, text='anything?', images=[IMAGE])
    assert (result.status, result.text) == (Status.OK, 'a fake answer'), result.message


def test_a_caption_has_boxes_in_pixels_of_its_image(robot) -> None:
    arrays = robot.listen(Detection2DArray, 'kosmos/detections')
    goal = robot.begin(task=GOAL.CAPTION, images=[image_of(picture()), IMAGE])
    result = goal.result()
    assert goal.state == GoalStatus.STATUS_SUCCEEDED
    assert (result.status, result.finish_reason) == (Status.OK, RESULT.FINISH_END)
    assert (result.text, result.tokens) == ('a dog beside two cats', 5)
    assert result.header == IMAGE.header
    assert result.engine == 'a fake'
    assert result.conversation_id == ''
    dog, cats = result.groundings
    assert result.text[dog.first : dog.last] == dog.phrase == 'dog'
    assert result.text[cats.first : cats.last] == cats.phrase == 'cats'
    assert corners(dog.boxes[0]) == pytest.approx((0, 0, 50, 40))
    assert [corners(box) for box in cats.boxes] == [
        pytest.approx((50, 0, 100, 40)),
        pytest.approx((50, 40, 100, 80)),
    ]
    assert list(cats.scores) == pytest.approx([0.8, 0.7])
    timing = result.timing
    assert 0 < timing.queue_ms + timing.preprocess_ms + timing.inference_ms <= timing.total_ms
    wait_until(lambda: arrays, 'detections')
    names = [one.results[0].hypothesis.class_id for one in arrays[-1].detections]
    assert names == ['dog', 'cats', 'cats']
    assert [one.bbox for one in arrays[-1].detections] == [*dog.boxes, *cats.boxes]
    assert arrays[-1].header == IMAGE.header


def test_the_camera_s_newest_frame(robot) -> None:
    with robot.streaming(image_of(picture(), frame_id='camera eye')):
        robot.wait_for_status(Status.OK)
        result = robot.answer(task=GOAL.CAPTION)
        assert (result.status, result.header.frame_id) == (Status.OK, 'camera eye')
        assert corners(result.groundings[0].boxes[0]) == pytest.approx((0, 0, 32, 24))
        result = robot.answer(task=GOAL.CHAT, text='hello', camera='camera')
        assert (result.status, result.header.frame_id) == (Status.OK, 'camera eye')
        result = robot.answer(task=GOAL.COMPLETE, text='once upon')
        assert (result.status, result.header.frame_id) == (Status.OK, '')
        outside = region(70, 20, 10, 10, 'this')
        result = robot.answer(task=GOAL.QUESTION, text='What is this?', regions=[outside])
        assert result.status == Status.BAD_EXPRESSION
        inside = region(60, 20, 10, 10, 'this')
        result = robot.answer(task=GOAL.QUESTION, text='What is this?', regions=[inside])
        assert result.status == Status.OK, result.message


def test_feedback_streams_and_is_not_too_frequent(robot) -> None:
    goal = robot.begin(task=GOAL.COMPLETE, text='how long?', max_tokens=60)
    result = goal.result()
    assert (result.status, result.finish_reason) == (Status.OK, RESULT.FINISH_LENGTH)
    assert result.tokens == len(result.text.split()) == 60
    assert 'max_tokens' in result.message
    texts = [one.text for one in goal.feedback]
    assert 2 <= len(texts) <= 1 + result.timing.total_ms / 100
    assert all(result.text.startswith(text) for text in texts)
    assert [len(text) for text in texts] == sorted({len(text) for text in texts})
    assert goal.feedback[-1].tokens_per_second > 0
    goal = robot.begin(task=GOAL.CAPTION, images=[IMAGE])
    assert all(one.groundings or 'dog' not in one.text for one in goal.feedback)
    goal.result()


def steps_so_far(robot) -> int:
    return int(robot.answer(task=GOAL.COMPLETE, text='how far?').text)


def test_cancel_stops_within_one_token(robot) -> None:
    before = steps_so_far(robot)
    goal = robot.begin(task=GOAL.COMPLETE, text='how slowly?').expect()
    goal.wait_for_words()
    assert len(goal.cancel().result().goals_canceling) == 1
    result = goal.result()
    assert goal.state == GoalStatus.STATUS_CANCELED
    assert (result.status, result.finish_reason) == (Status.OK, RESULT.FINISH_CANCELLED)
    assert result.text.startswith('one')
    assert len(result.text.split()) == result.tokens
    # Of what was computed, one step was for the prompt and all others are in the result: none was
    # begun after the cancellation.  The question for the steps took two itself.
    assert steps_so_far(robot) - before == 2 + 1 + result.tokens
    assert len(goal.cancel().result().goals_canceling) == 0
    good_goal_works(robot)


def test_timeout_has_the_part_so_far(robot) -> None:
    goal = robot.begin(task=GOAL.COMPLETE, text='how long?', timeout=SOON)
    result = goal.result()
    assert goal.state == GoalStatus.STATUS_ABORTED
    assert (result.status, result.finish_reason) == (Status.TIMEOUT, RESULT.FINISH_TIMEOUT)
    assert result.tokens == len(result.text.split()) > 0
    assert 'max_tokens' in result.message
    good_goal_works(robot)


def test_busy_at_once_and_never_for_refer(robot) -> None:
    goals = [robot.begin(task=GOAL.COMPLETE, text='how long?').expect() for _ in range(4)]
    for goal in goals:
        goal.wait_for_words()
    refused = robot.begin(task=GOAL.COMPLETE, text='how long?')
    result = refused.result()
    assert refused.state == GoalStatus.STATUS_ABORTED
    assert result.status == Status.BUSY
    assert 'max_asks' in result.message
    calls = [robot.send(expression='the red ball', image=IMAGE) for _ in range(4)]
    assert {call.result().status for call in calls} == {Status.OK}
    for goal in goals:
        goal.cancel()
    assert {goal.result().finish_reason for goal in goals} == {RESULT.FINISH_CANCELLED}
    # All of them were going on at the same time.
    assert all(goal.result().tokens > 1 for goal in goals)
    good_goal_works(robot)


WITH_IMAGE = {'task': GOAL.QUESTION, 'text': 'What is this?', 'images': [IMAGE]}
THIS = {'task': GOAL.DESCRIBE_REGION, 'images': [IMAGE]}
BAD_GOALS = {
    'unknown task': {**WITH_IMAGE, 'task': 9},
    'largest task': {**WITH_IMAGE, 'task': 255},
    'no text': {**WITH_IMAGE, 'text': ' '},
    'long text': {**WITH_IMAGE, 'text': 'word ' * 1000},
    'tags': {**WITH_IMAGE, 'text': 'What is <phrase>this</phrase><object><patch_index_0000>?'},
    'ANSI': {**WITH_IMAGE, 'text': 'What is \x1b[31mthis?'},
    'tag in an example': {
        **WITH_IMAGE, 'examples': [Example(image=IMAGE, text='<grounding> a mug')]
    },
    'tag in a phrase': {'task': GOAL.GROUND_CAPTION, 'images': [IMAGE],
                        'text': 'a mug', 'phrases': ['<box>']},
    'phrase that is not there': {'task': GOAL.GROUND_CAPTION, 'images': [IMAGE],
                                 'text': 'a mug', 'phrases': ['a cup']},
    'no phrases': {'task': GOAL.GROUND_CAPTION, 'images': [IMAGE], 'text': 'a mug'},
    'text for a caption': {'task': GOAL.CAPTION, 'images': [IMAGE], 'text': 'a mug'},
    'no region': THIS,
    'region outside': {**THIS, 'regions': [region(150, 40, 10, 10)]},
    'region without size': {**THIS, 'regions': [region(50, 40, 0, 10)]},
    'inverted region': {**THIS, 'regions': [region(50, 40, 10, -10)]},
    'NaN region': {**THIS, 'regions': [region(math.nan, 40, 10, 10)]},
    'infinite region': {**THIS, 'regions': [region(50, 40, math.inf, 10)]},
    'rotated region': {**THIS, 'regions': [region(50, 40, 10, 10, theta=0.5)]},
    'NaN angle': {**THIS, 'regions': [region(50, 40, 10, 10, theta=math.nan)]},
    'example region outside': {**WITH_IMAGE, 'examples': [
        Example(image=IMAGE, text='a mug', regions=[region(500, 40, 10, 10, 'a mug')])]},
    'region of no image': {'task': GOAL.CHAT, 'text': 'this', 'regions': [region(5, 5, 5, 5)]},
    '20 images': {**WITH_IMAGE, 'images': [IMAGE] * 20},
    '65 regions': {**THIS, 'regions': [region(50, 40, 10, 10)] * 65},
    'too many tokens': {**WITH_IMAGE, 'max_tokens': 10**9},
    'too many beams': {**WITH_IMAGE, 'beams': 255},
    'negative timeout': {**WITH_IMAGE, 'timeout': Duration(sec=-1)},
    'endless timeout': {**WITH_IMAGE, 'timeout': Duration(sec=2**31 - 1)},
    'negative age': {**WITH_IMAGE, 'max_image_age': Duration(sec=-1)},
    'conversation of another task': {**WITH_IMAGE, 'conversation_id': 'abc'},
}  # fmt: skip


@pytest.mark.parametrize('name', BAD_GOALS)
def test_bad_goal(robot, name: str) -> None:
    goal = robot.begin(**BAD_GOALS[name])
    result = goal.result()
    assert result.status == Status.BAD_EXPRESSION, result.message
    assert goal.state == GoalStatus.STATUS_ABORTED
    assert result.finish_reason == RESULT.FINISH_NONE
    assert result.message.isprintable()
    assert 20 < len(result.message) <= 400


def test_bad_images(robot) -> None:
    cut = Image(width=8, height=8, step=24, encoding='rgb8', data=bytes(100))
    for images in ([Image()], [cut], [cut, IMAGE], [IMAGE, cut]):
        result = robot.answer(task=GOAL.CAPTION, images=images)
        assert result.status == Status.BAD_IMAGE, result.message
    example = Example(image=cut, text='a mug')
    assert robot.answer(**WITH_IMAGE, examples=[example]).status == Status.BAD_IMAGE
    result = robot.answer(task=GOAL.CAPTION, camera='the third eye')
    assert result.status == Status.NO_IMAGE
    assert 'there is camera' in result.message
    good_goal_works(robot)


def test_an_engine_that_fails_in_the_middle(robot) -> None:
    goal = robot.begin(task=GOAL.COMPLETE, text='what fails?')
    result = goal.result()
    assert goal.state == GoalStatus.STATUS_ABORTED
    assert (result.status, result.finish_reason) == (Status.ENGINE_ERROR, RESULT.FINISH_NONE)
    assert result.text == 'one two three'
    assert 'the fan is stuck' in result.message
    result = robot.answer(**{**WITH_IMAGE, 'text': 'what is senseless?'})
    assert result.status == Status.ENGINE_ERROR
    good_goal_works(robot)


def test_a_conversation(robot) -> None:
    first = robot.answer(task=GOAL.CHAT, text='one', images=[IMAGE])
    assert (first.status, len(first.conversation_id)) == (Status.OK, 16)
    chat = {'task': GOAL.CHAT, 'conversation_id': first.conversation_id}
    second = robot.answer(**chat, text='what before?')
    assert (second.status, second.text) == (Status.OK, 'one')
    # Boxes would be about the conversation's last image.
    assert second.header == IMAGE.header
    assert second.conversation_id == first.conversation_id
    # A turn that is refused or fails leaves no trace; one that is cancelled or late does.
    assert robot.answer(**chat, text='<s>').status == Status.BAD_EXPRESSION
    failed = robot.answer(**chat, text='what fails?')
    assert (failed.status, failed.conversation_id) == (Status.ENGINE_ERROR, first.conversation_id)
    outside = region(150, 40, 10, 10, 'this')
    assert robot.answer(**chat, text='this', regions=[outside]).status == Status.BAD_EXPRESSION
    assert robot.answer(**chat, text='how long?', timeout=SOON).status == Status.TIMEOUT
    goal = robot.begin(**chat, text='how slowly?').expect()
    goal.wait_for_words()
    # Two at once: the second one is told, and nothing happens to the first one.
    assert robot.answer(**chat, text='two at once').status == Status.BUSY
    goal.cancel()
    assert goal.result().finish_reason == RESULT.FINISH_CANCELLED
    last = robot.answer(**chat, text='what before?')
    assert last.text == 'one+what before?+how long?+how slowly?'
    inside = region(50, 40, 10, 10, 'this')
    assert robot.answer(**chat, text='this', regions=[inside]).status == Status.OK
    other = image_of(picture(), frame_id='another eye')
    assert robot.answer(**chat, text='and this?', images=[other]).header == other.header
    assert robot.answer(**chat, text='again?').header == other.header


def test_no_conversation(robot) -> None:
    for name in ('0123456789abcdef', 'x' * 10_000, '\x1b[2J'):
        goal = robot.begin(task=GOAL.CHAT, text='hello', conversation_id=name)
        result = goal.result()
        assert goal.state == GoalStatus.STATUS_ABORTED
        assert result.status == Status.NO_CONVERSATION
        assert result.message.isprintable()
        assert result.conversation_id == ''
    failed = robot.answer(task=GOAL.CHAT, text='what fails?')
    assert (failed.status, failed.conversation_id) == (Status.ENGINE_ERROR, '')


def test_a_long_answer_and_refer_share_the_engine(robot) -> None:
    goal = robot.begin(task=GOAL.COMPLETE, text='how long?', max_tokens=100).expect()
    goal.wait_for_words()
    for _ in range(5):
        assert robot.call(image=IMAGE).status == Status.OK
    assert goal.result().tokens == 100


def test_a_storm_of_cancellations(robot) -> None:
    """Whatever meets whatever, each goal has one result."""
    goals = [
        robot.begin(task=GOAL.CHAT, text='how long?', max_tokens=20 + number)
        for number in range(40)
    ]
    for goal in goals:
        goal.expect()
    answers = [goal.cancel() for goal in goals for _ in range(2)]
    results = [goal.result() for goal in goals]
    for goal, result in zip(goals, results, strict=True):
        if goal.state == GoalStatus.STATUS_CANCELED:
            assert (result.status, result.finish_reason) == (Status.OK, RESULT.FINISH_CANCELLED)
        elif goal.state == GoalStatus.STATUS_ABORTED:
            assert result.status == Status.BUSY
        else:
            assert (goal.state, result.finish_reason) == (
                GoalStatus.STATUS_SUCCEEDED, RESULT.FINISH_LENGTH,
            )  # fmt: skip
    for answer in answers:
        answer.result()
    good_goal_works(robot)
