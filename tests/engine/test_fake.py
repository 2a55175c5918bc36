"""The shipped fake does what its script says."""

import json
import threading

import numpy as np
import pytest

from kosmos_ros.engine.base import Engine, Located
from kosmos_ros.engine.fake import MIDDLE, Act, FakeEngine
from kosmos_ros.engine.load import load_engine
from kosmos_ros.errors import BadExpression, EngineError, EngineFileError
from kosmos_ros.model.boxes import Box

IMAGE = np.zeros((20, 40, 3), np.uint8)


def test_answers_by_expression_and_in_order() -> None:
    other = Located(Box(0, 0, 0.5, 0.5), 0.1)
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


def test_from_a_file(tmp_path) -> None:
    script = {
        'name': 'scripted',
        'acts': {
            'bad': {'failure': 'MemoryError: 12 GB'},
            'ours': {'failure': 'EngineError: dark'},
            'box': {'boxes': [[0, 0, 0.5, 0.5, 0.25]], 'latency_s': 0.001},
        },
    }
    path = tmp_path / 'script.json'
    path.write_text(json.dumps(script))
    fake = load_engine(path, 'fake')
    assert fake.name == 'scripted'
    context = fake.encode_image(IMAGE)
    with pytest.raises(MemoryError, match='12 GB'):
        fake.locate(context, ['bad'])
    with pytest.raises(EngineError, match='dark'):
        fake.locate(context, ['ours'])
    assert fake.locate(context, ['box']) == [(Located(Box(0, 0, 0.5, 0.5), 0.25),)]


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
    ['', '[]', '{"acts": {"x": {"word": 1}}}', '{"otherwise": {"failure": "Nothing: x"}}',
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
