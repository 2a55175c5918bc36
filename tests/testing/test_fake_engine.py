"""The shipped fake does what its script says."""

from collections.abc import Callable
import json
import threading

import numpy as np
import pytest

from kosmos_ros.engine.base import Engine, Finish, ImageContext, ScoredBox, Transcript
from kosmos_ros.errors import BadExpression, EngineError, EngineFileError
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.tasks import Ask, Example, Region, Task
from kosmos_ros.testing.fake_engine import FakeEngine
from kosmos_ros.testing.script import MIDDLE, Act, Speech

IMAGE = np.zeros((20, 40, 3), np.uint8)


def test_answers_by_expression_and_in_order() -> None:
    other = ScoredBox(Box(0, 0, 0.5, 0.5), 0.1)
    fake = FakeEngine(
        {'two': Act((MIDDLE, other))}, otherwise=Act(()), steps=[Act((other,)), Act((MIDDLE,))]
    )
    engine: Engine = fake
    context = engine.encode_image(IMAGE)
    assert engine.locate(context, ['two', 'two']) == [(other,), (MIDDLE,)]
    assert engine.locate(context, ['two', 'none'], top_k=2) == [(MIDDLE, other), ()]
    assert engine.locate(context, ['two']) == [(MIDDLE,)]
    assert fake.calls.located == [('two', 'two'), ('two', 'none'), ('two',)]
    assert fake.calls.top_k == [1, 2, 1]
    engine.close()
    assert fake.calls.closed == 1


def test_sees_colours() -> None:
    image = IMAGE.copy()
    image[5:10, 20:30] = (250, 3, 3)
    fake = FakeEngine(otherwise=Act(colour=(255, 0, 0)))
    ((located,),) = fake.locate(fake.encode_image(image), ['red'])
    assert located.box_in_image == Box(0.5, 0.25, 0.75, 0.5)
    assert fake.locate(fake.encode_image(IMAGE), ['red']) == [()]


@pytest.mark.parametrize(
    ('image', 'error'),
    [
        (IMAGE.astype(np.float32), TypeError),
        ([[0]], TypeError),
        (IMAGE[:, :, :2], ValueError),
        (IMAGE[0], ValueError),
        (IMAGE[:0], ValueError),
    ],
)
def test_refuses_what_is_no_image(image: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        FakeEngine().encode_image(image)  # type: ignore[arg-type]


def test_checks_expressions_as_engines_do() -> None:
    FakeEngine().check_expression('the ball')
    with pytest.raises(BadExpression):
        FakeEngine().check_expression('<image>')


def test_hangs_until_released_and_tells_two_threads_apart() -> None:
    fake = FakeEngine(otherwise=Act(hangs=True))
    context = fake.encode_image(IMAGE)
    fake.entered.clear()
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(fake.locate(context, ['x'])))
    thread.start()
    assert fake.entered.wait(10)
    with pytest.raises(RuntimeError, match='two threads'):
        fake.locate(context, ['x'])
    fake.release.set()
    thread.join(10)
    assert answers == [[(MIDDLE,)]]


def test_speaks_one_word_a_step() -> None:
    fake = FakeEngine(
        speeches={
            'CAPTION': Speech(('a', 'mug'), {'mug': (MIDDLE,)}),
            'go on': Speech(('on', 'and'), endless=True),
        }
    )
    engine: Engine = fake
    drafts = list(engine.ask(Ask(Task.CAPTION, images=1), [engine.encode_image(IMAGE)]))
    assert [(draft.tokens, draft.finish) for draft in drafts] == [
        (0, Finish.NONE),
        (1, Finish.NONE),
        (2, Finish.END),
    ]
    # Each draft tells what was said then, whenever it is read.
    assert [draft.read().text for draft in drafts] == ['', 'a', 'a mug']
    (grounding,) = drafts[-1].read().groundings
    assert (grounding.phrase, grounding.span, grounding.boxes) == ('mug', (2, 5), (MIDDLE,))
    drafts = list(engine.ask(Ask(Task.COMPLETE, 'go on', max_tokens=3), []))
    assert (drafts[-1].read().text, drafts[-1].finish) == ('on and on', Finish.LENGTH)
    assert len(list(engine.ask(Ask(Task.COMPLETE, 'go on'), []))) == 1 + 128
    assert [ask.task for ask in fake.calls.asked] == [Task.CAPTION] + [Task.COMPLETE] * 2
    assert fake.calls.order == ['encode'] + ['step'] * (3 + 4 + 129)


def test_remembers_a_conversation() -> None:
    engine = FakeEngine(speeches={'what?': Speech(('{before}', '{steps}'), nbytes=8)})
    context = engine.encode_image(IMAGE)
    (*_, last) = engine.ask(Ask(Task.CHAT, 'hello', images=1), [context])
    first = last.transcript()
    assert (first.ids, first.images) == ((0, -1, -2, -3), (context,))
    (*_, last) = engine.ask(Ask(Task.CHAT, 'and?'), [], first)
    (*_, last) = engine.ask(Ask(Task.CHAT, 'what?'), [], last.transcript())
    assert last.read().text == 'hello+and? 8'
    assert (last.transcript().ids, last.transcript().nbytes) == (
        (0, -1, -2, -3, 1, -1, -2, -3, 2, -1, -2), 8,
    )  # fmt: skip
    steps = engine.ask(Ask(Task.CHAT, 'hello'), [])
    draft = next(steps)
    next(steps)
    with pytest.raises(RuntimeError, match='further step'):
        draft.transcript()


def test_fails_and_hangs_behind_so_many_words() -> None:
    dark = Act(failure=EngineError('dark'))
    engine = FakeEngine(speech=Speech(('a', 'b', 'c'), act=dark, after=2))
    steps = engine.ask(Ask(Task.COMPLETE, 'x'), [])
    assert [next(steps).tokens for _ in range(3)] == [0, 1, 2]
    with pytest.raises(EngineError, match='dark'):
        next(steps)
    engine = FakeEngine(speech=Speech(('a', 'b', 'c'), act=Act(hangs=True), after=1))
    steps = engine.ask(Ask(Task.COMPLETE, 'x'), [])
    assert [next(steps).tokens for _ in range(2)] == [0, 1]
    engine.entered.clear()
    thread = threading.Thread(target=next, args=(steps,))
    thread.start()
    assert engine.entered.wait(10)
    with pytest.raises(RuntimeError, match='two threads'):
        engine.encode_image(IMAGE)
    engine.release.set()
    thread.join(10)


QUESTION = Ask(Task.QUESTION, 'What is this?', images=1)
OUTSIDE = Region(Box(2, 2, 3, 3), 'this')


@pytest.mark.parametrize(
    'ask',
    [
        Ask(Task.QUESTION, '', images=1),
        Ask(Task.QUESTION, 'What is this?'),
        Ask(Task.QUESTION, '<image>', images=1),
        Ask(Task.CAPTION, images=20),
        Ask(Task.GROUND_CAPTION, 'a mug', ('a cup',), images=1),
        Ask(Task.QUESTION, 'What is this?', images=1, regions=(OUTSIDE,)),
        Ask(Task.QUESTION, 'this', images=1, examples=(Example('this', (OUTSIDE,)),)),
        Ask(Task.CAPTION, images=1, max_tokens=10**9),
    ],
)
def test_refuses_questions_as_engines_do(ask: Ask) -> None:
    with pytest.raises(BadExpression):
        FakeEngine().check_ask(ask)


@pytest.mark.parametrize(
    'call',
    [
        lambda engine: engine.check_ask('What is this?'),
        lambda engine: engine.check_ask(Ask(3, 'What is this?', images=1)),
        lambda engine: engine.check_ask(Ask(Task.CAPTION, images=1, regions=[])),
        lambda engine: engine.check_ask(QUESTION, (1, 2)),
        lambda engine: engine.ask(QUESTION, []),
        lambda engine: engine.ask(QUESTION, [IMAGE]),
        lambda engine: engine.ask(QUESTION, [ImageContext(None)]),
        lambda engine: engine.ask(Ask(Task.CHAT, 'x', max_tokens=2048), [], Transcript((1,))),
    ],
)
def test_refuses_what_is_no_question(call: Callable[[FakeEngine], object]) -> None:
    with pytest.raises((TypeError, ValueError, BadExpression)):
        call(FakeEngine())


def test_from_a_file(tmp_path) -> None:
    script = {
        'name': 'scripted',
        'acts': {
            'bad': {'failure': 'MemoryError: 12 GB'},
            'ours': {'failure': 'EngineError: dark'},
            'box': {'boxes': [[0, 0, 0.5, 0.5, 0.25]], 'latency_s': 0.001},
        },
        'speeches': {'x': {'words': 'a mug', 'boxes': {'mug': [0, 0, 0.5, 0.5, 0.25]}}},
        'speech': {'words': 'b c', 'after': 1, 'act': {'failure': 'EngineError: dark'}},
    }
    path = tmp_path / 'script.json'
    path.write_text(json.dumps(script))
    fake = FakeEngine.from_file(path)
    assert fake.name == 'scripted'
    context = fake.encode_image(IMAGE)
    with pytest.raises(MemoryError, match='12 GB'):
        fake.locate(context, ['bad'])
    with pytest.raises(EngineError, match='dark'):
        fake.locate(context, ['ours'])
    box = ScoredBox(Box(0, 0, 0.5, 0.5), 0.25)
    assert fake.locate(context, ['box']) == [(box,)]
    (*_, last) = fake.ask(Ask(Task.COMPLETE, 'x'), [])
    assert last.read().text == 'a mug'
    assert last.read().groundings[0].boxes == (box,)
    with pytest.raises(EngineError, match='dark'):
        list(fake.ask(Ask(Task.COMPLETE, 'y'), []))


def test_tells_how_far_it_is_and_what_to_know(tmp_path) -> None:
    script = {
        'progress': [['building: 1 %', 0.001], ['building: 99 %', 0.0]],
        'remarks': ['tensorrt: no plan', 'torch: no GPU'],
    }
    path = tmp_path / 'script.json'
    path.write_text(json.dumps(script))
    lines: list[str] = []
    engine: Engine = FakeEngine.from_file(path, lines.append)
    assert lines == ['building: 1 %', 'building: 99 %']
    assert engine.remarks == ('tensorrt: no plan', 'torch: no GPU')
    assert FakeEngine().remarks == ()


@pytest.mark.parametrize(
    'text',
    ['', '[]', '{"speech": {"words": "x", "boxes": 3}}', '{"speeches": {"x": {"word": 1}}}',
     '{"acts": {"x": {"word": 1}}}', '{"otherwise": {"failure": "Nothing: x"}}',
     '{"otherwise": {"boxes": [1, 2]}}', '{"progress": ["building"]}', '{"remarks": 3}'],
)  # fmt: skip
def test_a_senseless_script_is_refused(tmp_path, text: str) -> None:
    path = tmp_path / 'script.json'
    path.write_text(text)
    with pytest.raises(EngineFileError, match='no script'):
        FakeEngine.from_file(path)


def test_no_script_is_refused(tmp_path) -> None:
    with pytest.raises(EngineFileError, match='no script'):
        FakeEngine.from_file(tmp_path / 'none.json')
