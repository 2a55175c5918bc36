"""The steps of a goal, with a fake engine in its room."""

from collections.abc import Iterator

from kosmos_ros_msgs.action import Ask as Action
from kosmos_ros_msgs.msg import Example
import numpy as np
import pytest
from sensor_msgs.msg import Image

from kosmos_ros.engine.base import Answer, Draft, Finish, PhraseGrounding, Transcript
from kosmos_ros.errors import BadExpression, BadImage, EngineError, NoImage, ShuttingDown
from kosmos_ros.limits import Limits
from kosmos_ros.model.tasks import Task
from kosmos_ros.node.ask.goal import goal_from
from kosmos_ros.node.ask.job import AskSteps, check_regions
from kosmos_ros.node.conversion.stamped_image import Instant, Shot
from kosmos_ros.node.engine import engine_worker as module
from kosmos_ros.node.engine.engine_worker import EngineRoom
from kosmos_ros.node.parameters import TABLE, settings_from
from kosmos_ros.testing.fake_engine import FakeEngine
from kosmos_ros.testing.script import Act, Speech

SETTINGS = settings_from({row.name: row.default for row in TABLE})
SPEECHES = {
    'fails': Speech(('one', 'two', 'three'), act=Act(failure=RuntimeError('dark')), after=2),
    'before': Speech(('{before}',), nbytes=100),
}


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(speeches=SPEECHES)


@pytest.fixture
def room(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineRoom]:
    monkeypatch.setattr(module, 'load_engine', lambda *_, **__: engine)
    room = EngineRoom(Limits(), [].append)
    room.load(SETTINGS, [].append)
    yield room
    room.close(ShuttingDown(), 5)


def image(width: int = 4, **fields: object) -> Image:
    step = 3 * width
    fields = {'step': step, 'encoding': 'rgb8', 'data': bytes(step * 2)} | fields
    return Image(width=width, height=2, **fields)


def shot(message: Image) -> Shot:
    return Shot(message, Instant(0, 0.0))


def steps_of(room: EngineRoom, turn=None, sources=None, **fields: object) -> AskSteps:
    goal = goal_from(Action.Goal(**fields), SETTINGS, Limits())
    if sources is None:
        shots = [shot(message) for message in (*goal.example_images, *goal.images)]
        sources = [lambda one=one: room.read(one) for one in shots]
    return AskSteps(room, goal, sources, turn)


def run(room: EngineRoom, steps: AskSteps):
    course = room.worker.begin(steps)
    assert course.wait(10)
    return course


def test_one_step_for_each_image_twice_and_one_for_each_token(room, engine) -> None:
    steps = steps_of(
        room,
        task=Task.QUESTION,
        text='this',
        images=[image(4), image(6)],
        examples=[Example(image=image(8), text='that')],
    )
    said = []
    while not said or said[-1] is None or said[-1].draft.finish is Finish.NONE:
        said.append(next(steps))
    with pytest.raises(StopIteration):
        next(steps)
    steps.close()
    # Three are read, three are encoded, the prompt, three words.
    assert [None if one is None else one.draft.tokens for one in said] == [None] * 6 + [0, 1, 2, 3]
    assert engine.calls.order == ['encode'] * 3 + ['step'] * 4
    assert [one.shape[1] for one in engine.calls.encoded] == [8, 4, 6]
    assert (steps.scene.width, steps.scene.height, steps.frame.width) == (6, 2, 6)
    assert said[-1].tokens_per_second > 0 == said[7].tokens_per_second


def test_a_frame_is_encoded_once_for_everybody(room, engine) -> None:
    newest = shot(image())
    for _ in range(2):
        course = run(room, steps_of(room, sources=[lambda: room.view(newest)]))
        assert course.latest.draft.finish is Finish.END
        room.worker.call(lambda: room.look(newest, ['a cup'], 1), 10)
    assert engine.calls.order.count('encode') == 1
    assert engine.calls.order.count('locate') == 2


def test_refer_has_its_turn_between_any_two_steps(room, engine) -> None:
    """Also while the images of a goal are read and encoded."""
    seen: list[int] = []

    def refer(number: int) -> None:
        room.look(shot(image()), ['a cup'], 1)
        seen.append(number)

    class Meddling(AskSteps):
        made = 0

        def __next__(self):
            self.made += 1
            number = self.made
            room.worker.offer('refer', lambda: refer(number))
            return super().__next__()

    goal = goal_from(Action.Goal(images=[image(), image()]), SETTINGS, Limits())
    sources = [lambda: room.read(shot(image()))] * 2
    course = room.worker.begin(Meddling(room, goal, sources, None))
    assert course.wait(10)
    # Two are read, two encoded, the prompt, three words, and the end.
    assert seen[:8] == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ('fields', 'error'),
    [
        ({'images': [image(), image(data=b'')]}, BadImage),
        ({'task': Task.QUESTION}, BadExpression),
        ({'task': Task.QUESTION, 'text': '<image>'}, BadExpression),
    ],
)
def test_what_is_refused_costs_no_step_of_the_engine(room, engine, fields, error) -> None:
    course = run(room, steps_of(room, **{'images': [image()]} | fields))
    assert isinstance(course.error, error)
    assert engine.calls.order == []


def test_a_camera_without_frames(room) -> None:
    def none() -> None:
        raise NoImage('dark')

    assert isinstance(run(room, steps_of(room, sources=[none])).error, NoImage)


def test_turns_follow_each_other(room, engine) -> None:
    conversations = room.conversations
    turn = conversations.turn('')
    run(room, steps_of(room, turn, task=Task.CHAT, text='one', images=[image(6)]))
    name = turn.conversation_id
    turn = conversations.turn(name)
    steps = steps_of(room, turn, task=Task.CHAT, text='before')
    course = run(room, steps)
    assert course.latest.draft.read().text == 'one'
    assert (steps.scene.width, steps.frame) == (6, None)
    turn = conversations.turn(name)
    # Each question by its number, and its answer.
    assert turn.past.ids == (0, -1, -2, -3, 1, -1)
    assert len(turn.past.images) == 1
    assert conversations.nbytes == 100


def test_a_turn_that_fails_leaves_no_trace(room) -> None:
    conversations = room.conversations
    turn = conversations.turn('')
    run(room, steps_of(room, turn, task=Task.CHAT, text='before'))
    name = turn.conversation_id
    for text in ('fails', '<s>'):
        turn = conversations.turn(name)
        course = run(room, steps_of(room, turn, task=Task.CHAT, text=text))
        assert isinstance(course.error, RuntimeError | BadExpression)
        turn = conversations.turn(name)
        assert turn.past.ids == (0, -1)
        turn.leave(begun=False)
    # What the engine may have changed is not used again.
    assert conversations.nbytes == 0


def test_a_turn_that_is_cancelled_stays_with_its_part(room) -> None:
    turn = room.conversations.turn('')
    steps = steps_of(room, turn, task=Task.CHAT, text='one')
    assert [next(steps).draft.tokens for _ in range(3)] == [0, 1, 2]
    steps.close()
    assert room.conversations.turn(turn.conversation_id).past.ids == (0, -1, -2)


@pytest.mark.parametrize('made', [0, 1])
def test_a_turn_that_is_cancelled_before_its_first_word_leaves_nothing(room, made: int) -> None:
    turn = room.conversations.turn('')
    steps = steps_of(room, turn, task=Task.CHAT, text='one')
    for _ in range(made):
        next(steps)
    steps.close()
    assert (turn.conversation_id, room.conversations.count) == ('', 0)


def test_a_transcript_that_fails_fails_the_turn(room, engine, monkeypatch) -> None:
    def ask(*_: object) -> Iterator[Draft]:
        yield Draft(1, Finish.END, lambda: Answer('one'), lambda: 1 // 0)

    monkeypatch.setattr(engine, 'ask', ask)
    turn = room.conversations.turn('')
    course = run(room, steps_of(room, turn, task=Task.CHAT, text='one'))
    assert isinstance(course.error, ZeroDivisionError)
    assert room.conversations.count == 0


def test_a_senseless_answer_is_no_turn(room, engine, monkeypatch) -> None:
    def ask(*_: object) -> Iterator[Draft]:
        groundings = (PhraseGrounding('this', (0, 99), ()),)
        answer = Answer('this', groundings)
        yield Draft(1, Finish.END, lambda: answer, lambda: Transcript((1,)))

    monkeypatch.setattr(engine, 'ask', ask)
    turn = room.conversations.turn('')
    course = run(room, steps_of(room, turn, task=Task.CHAT, text='one'))
    assert isinstance(course.error, EngineError)
    assert room.conversations.count == 0


def test_an_engine_that_stops_in_the_middle(room, engine, monkeypatch) -> None:
    monkeypatch.setattr(engine, 'ask', lambda *_: iter(()))
    course = run(room, steps_of(room, task=Task.COMPLETE, text='one'))
    assert isinstance(course.error, EngineError)


def test_regions_need_an_image(room) -> None:
    from node.ask.test_goal import region

    this = {'text': 'this', 'regions': [region(1.0, 1.0, 1.0, 1.0, 'this')]}
    blind = goal_from(Action.Goal(task=Task.CHAT, **this), SETTINGS, Limits())
    with pytest.raises(BadExpression, match='no image'):
        check_regions(blind, None)
    seeing = steps_of(room, task=Task.CHAT, images=[image()], **this)
    course = run(room, seeing)
    assert course.error is None
    check_regions(blind, seeing.scene)
    assert np.all(seeing.frame.image == 0)
