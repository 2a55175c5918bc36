"""A goal as a job of the worker, with a fake engine."""

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
from kosmos_ros.node.ask.goal import ask_goal_from
from kosmos_ros.node.ask.job import AskJob, AskProgress, check_regions
from kosmos_ros.node.conversion.stamped_image import Instant, StampedImage
from kosmos_ros.node.engine import engine_worker as module
from kosmos_ros.node.engine.engine_worker import EngineWorker
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
def engine_worker(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineWorker]:
    monkeypatch.setattr(module, 'load_engine', lambda *_, **__: engine)
    engine_worker = EngineWorker(Limits(), [].append)
    engine_worker.load(SETTINGS, [].append)
    yield engine_worker
    engine_worker.close(ShuttingDown(), 5)


def image(width: int = 4, **fields: object) -> Image:
    step = 3 * width
    fields = {'step': step, 'encoding': 'rgb8', 'data': bytes(step * 2)} | fields
    return Image(width=width, height=2, **fields)


def stamped(message: Image) -> StampedImage:
    return StampedImage(message, Instant(0, 0.0))


def job_of(engine_worker: EngineWorker, turn=None, sources=None, **fields: object) -> AskJob:
    goal = ask_goal_from(Action.Goal(**fields), SETTINGS, Limits())
    if sources is None:
        messages = [stamped(message) for message in (*goal.example_images, *goal.images)]
        sources = [lambda one=one: engine_worker.decode(one) for one in messages]
    return AskJob(engine_worker, goal, sources, turn)


def run(engine_worker: EngineWorker, job: AskJob) -> AskJob:
    engine_worker.worker.start(job)
    assert job.wait(10)
    return job


def step(job: AskJob) -> AskProgress | None:
    """Take one step, as the worker does."""
    assert job.advance() is None
    return job.latest


def test_one_step_for_each_image_twice_and_one_for_each_token(engine_worker, engine) -> None:
    job = job_of(
        engine_worker,
        task=Task.QUESTION,
        text='this',
        images=[image(4), image(6)],
        examples=[Example(image=image(8), text='that')],
    )
    said = []
    while not said or said[-1] is None or said[-1].draft.finish is Finish.NONE:
        said.append(step(job))
    step(job)
    assert job.is_ending
    assert job.close() is None
    # Three are read, three are encoded, the prompt, three words.
    assert [None if one is None else one.draft.tokens for one in said] == [None] * 6 + [0, 1, 2, 3]
    assert engine.calls.order == ['encode'] * 3 + ['step'] * 4
    assert [one.shape[1] for one in engine.calls.encoded] == [8, 4, 6]
    assert (job.reference.width, job.reference.height, job.image.width) == (6, 2, 6)
    assert said[-1].tokens_per_second > 0 == said[7].tokens_per_second


def test_a_frame_is_encoded_once_for_everybody(engine_worker, engine) -> None:
    newest = stamped(image())
    for _ in range(2):
        job = run(
            engine_worker,
            job_of(engine_worker, sources=[lambda: engine_worker.decode_once(newest)]),
        )
        assert job.latest.draft.finish is Finish.END
        engine_worker.worker.call(lambda: engine_worker.locate(newest, ['a cup'], 1), 10)
    assert engine.calls.order.count('encode') == 1
    assert engine.calls.order.count('locate') == 2


def test_refer_has_its_turn_between_any_two_steps(engine_worker, engine) -> None:
    """Also while the images of a goal are read and encoded."""
    seen: list[int] = []

    def refer(number: int) -> None:
        engine_worker.locate(stamped(image()), ['a cup'], 1)
        seen.append(number)

    class Meddling(AskJob):
        made = 0

        def advance(self):
            self.made += 1
            number = self.made
            engine_worker.worker.run_in_background('refer', lambda: refer(number))
            return super().advance()

    goal = ask_goal_from(Action.Goal(images=[image(), image()]), SETTINGS, Limits())
    sources = [lambda: engine_worker.decode(stamped(image()))] * 2
    run(engine_worker, Meddling(engine_worker, goal, sources, None))
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
def test_what_is_refused_costs_no_step_of_the_engine(engine_worker, engine, fields, error) -> None:
    job = run(engine_worker, job_of(engine_worker, **{'images': [image()]} | fields))
    assert isinstance(job.error, error)
    assert engine.calls.order == []


def test_a_camera_without_frames(engine_worker) -> None:
    def none() -> None:
        raise NoImage('dark')

    assert isinstance(run(engine_worker, job_of(engine_worker, sources=[none])).error, NoImage)


def test_turns_follow_each_other(engine_worker, engine) -> None:
    conversations = engine_worker.conversations
    turn = conversations.turn('')
    run(engine_worker, job_of(engine_worker, turn, task=Task.CHAT, text='one', images=[image(6)]))
    name = turn.conversation_id
    turn = conversations.turn(name)
    job = job_of(engine_worker, turn, task=Task.CHAT, text='before')
    run(engine_worker, job)
    assert job.latest.draft.read().text == 'one'
    assert (job.reference.width, job.image) == (6, None)
    turn = conversations.turn(name)
    # Each question by its number, and its answer.
    assert turn.history.ids == (0, -1, -2, -3, 1, -1)
    assert len(turn.history.images) == 1
    assert conversations.nbytes == 100


def test_a_turn_that_fails_leaves_no_trace(engine_worker) -> None:
    conversations = engine_worker.conversations
    turn = conversations.turn('')
    run(engine_worker, job_of(engine_worker, turn, task=Task.CHAT, text='before'))
    name = turn.conversation_id
    for text in ('fails', '<s>'):
        turn = conversations.turn(name)
        job = run(engine_worker, job_of(engine_worker, turn, task=Task.CHAT, text=text))
        assert isinstance(job.error, RuntimeError | BadExpression)
        turn = conversations.turn(name)
        assert turn.history.ids == (0, -1)
        turn.roll_back(begun=False)
    # What the engine may have changed is not used again.
    assert conversations.nbytes == 0


def test_a_turn_that_is_cancelled_stays_with_its_part(engine_worker) -> None:
    turn = engine_worker.conversations.turn('')
    job = job_of(engine_worker, turn, task=Task.CHAT, text='one')
    assert [step(job).draft.tokens for _ in range(3)] == [0, 1, 2]
    job.close()
    assert engine_worker.conversations.turn(turn.conversation_id).history.ids == (0, -1, -2)


@pytest.mark.parametrize('made', [0, 1])
def test_a_turn_that_is_cancelled_before_its_first_word_leaves_nothing(
    engine_worker, made: int
) -> None:
    turn = engine_worker.conversations.turn('')
    job = job_of(engine_worker, turn, task=Task.CHAT, text='one')
    for _ in range(made):
        step(job)
    job.close()
    assert (turn.conversation_id, engine_worker.conversations.count) == ('', 0)


def test_a_transcript_that_fails_fails_the_turn(engine_worker, engine, monkeypatch) -> None:
    def ask(*_: object) -> Iterator[Draft]:
        yield Draft(1, Finish.END, lambda: Answer('one'), lambda: 1 // 0)

    monkeypatch.setattr(engine, 'ask', ask)
    turn = engine_worker.conversations.turn('')
    job = run(engine_worker, job_of(engine_worker, turn, task=Task.CHAT, text='one'))
    assert isinstance(job.error, ZeroDivisionError)
    assert engine_worker.conversations.count == 0


def test_a_senseless_answer_is_no_turn(engine_worker, engine, monkeypatch) -> None:
    def ask(*_: object) -> Iterator[Draft]:
        groundings = (PhraseGrounding('this', (0, 99), ()),)
        answer = Answer('this', groundings)
        yield Draft(1, Finish.END, lambda: answer, lambda: Transcript((1,)))

    monkeypatch.setattr(engine, 'ask', ask)
    turn = engine_worker.conversations.turn('')
    job = run(engine_worker, job_of(engine_worker, turn, task=Task.CHAT, text='one'))
    assert isinstance(job.error, EngineError)
    assert engine_worker.conversations.count == 0


def test_an_engine_that_stops_in_the_middle(engine_worker, engine, monkeypatch) -> None:
    monkeypatch.setattr(engine, 'ask', lambda *_: iter(()))
    job = run(engine_worker, job_of(engine_worker, task=Task.COMPLETE, text='one'))
    assert isinstance(job.error, EngineError)


def test_regions_need_an_image(engine_worker) -> None:
    from node.ask.test_goal import region

    this = {'text': 'this', 'regions': [region(1.0, 1.0, 1.0, 1.0, 'this')]}
    blind = ask_goal_from(Action.Goal(task=Task.CHAT, **this), SETTINGS, Limits())
    with pytest.raises(BadExpression, match='no image'):
        check_regions(blind, None)
    seeing = job_of(engine_worker, task=Task.CHAT, images=[image()], **this)
    job = run(engine_worker, seeing)
    assert job.error is None
    check_regions(blind, seeing.reference)
    assert np.all(seeing.image.pixels == 0)
