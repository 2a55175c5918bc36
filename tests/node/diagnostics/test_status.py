"""The engine's line on /diagnostics, for each thing that an operator should know of it."""

import json

from diagnostic_msgs.msg import DiagnosticStatus
import pytest

from kosmos_ros.engine.base import Transcript
from kosmos_ros.errors import ShuttingDown, Status
from kosmos_ros.limits import Limits
from kosmos_ros.node.diagnostics.counters import Counters
from kosmos_ros.node.diagnostics.status import diagnostics_from
from kosmos_ros.node.engine.engine_worker import EngineWorker
from kosmos_ros.node.parameters import TABLE, settings_from

REMARK = 'tensorrt was passed over: decoder.plan is missing'


@pytest.fixture
def engine_worker_with(tmp_path):
    made = []

    def load(*remarks: str) -> EngineWorker:
        path = tmp_path / 'script.json'
        path.write_text(json.dumps({'name': 'a fake', 'remarks': remarks}))
        values = {row.name: row.default for row in TABLE}
        made.append(EngineWorker(Limits(), [].append))
        made[-1].load(settings_from(values | {'engine': f'fake:{path}'}), [].append)
        return made[-1]

    yield load
    for engine_worker in made:
        engine_worker.close(ShuttingDown(), 5)


def engine(
    engine_worker=None, why='', progress='', counters=None, name='kosmos: engine'
) -> DiagnosticStatus:
    message = diagnostics_from(
        node='kosmos',
        why_not_active=why,
        progress=progress,
        engine_worker=engine_worker,
        cameras=[],
        max_image_age_s=1.0,
        counters=counters or Counters(),
    )
    (status,) = (one for one in message.status if one.name == name)
    return status


def values(status: DiagnosticStatus) -> dict[str, str]:
    return {pair.key: pair.value for pair in status.values}


def test_while_it_is_loaded() -> None:
    status = engine(why='it is loading its engine: building: 3 %', progress='building: 3 %')
    assert status.level == DiagnosticStatus.WARN
    assert status.message == 'not active: it is loading its engine: building: 3 %'
    assert values(status) == {'progress': 'building: 3 %'}
    assert values(engine(why='it is not configured')) == {}


def test_as_it_should_be(engine_worker_with) -> None:
    status = engine(engine_worker_with())
    assert (status.level, status.message) == (DiagnosticStatus.OK, 'active')
    assert not any(key.startswith('remark') for key in values(status))


def test_a_runner_that_was_passed_over_is_seen(engine_worker_with) -> None:
    engine_worker = engine_worker_with(REMARK, 'two\nlines')
    status = engine(engine_worker)
    assert status.level == DiagnosticStatus.WARN
    assert status.message == f'active, but {REMARK}; two\\x0alines'
    assert values(status)['remark_1'] == REMARK
    assert values(status)['remark_2'] == 'two\\x0alines'
    resting = engine(engine_worker, why='it was deactivated')
    assert resting.message == 'not active: it was deactivated'
    assert values(resting)['remark_1'] == REMARK


def test_failures_come_before_remarks(engine_worker_with) -> None:
    counters, engine_worker = Counters(), engine_worker_with(REMARK)
    counters.count(Status.ENGINE_ERROR, 'broken', 1.0)
    status = engine(engine_worker, counters=counters)
    assert status.message == 'the last answer failed'
    assert values(status)['remark_1'] == REMARK


def test_goals_and_conversations(engine_worker_with) -> None:
    counters, engine_worker = Counters(), engine_worker_with()
    for status in (Status.OK, Status.TIMEOUT, Status.OK):
        counters.count_ask(status, '')
    turn = engine_worker.conversations.turn('')
    turn.commit(Transcript((1,), (), object(), 3 << 20), None)
    status = engine(engine_worker, counters=counters, name='kosmos: asks')
    assert status.message == '3 answered'
    told = values(status)
    assert (told['OK'], told['TIMEOUT'], told['NO_CONVERSATION']) == ('2', '1', '0')
    assert (told['under_way'], told['conversations']) == ('0', '1')
    assert told['conversations_mib'] == '3.0'
    assert values(engine(name='kosmos: asks'))['conversations'] == '0'
    # Their durations say nothing about those of calls.
    assert (
        values(engine(engine_worker, counters=counters, name='kosmos: calls'))['total_ms_p99']
        == '0.0'
    )


def test_failed_goals_are_failures_of_the_engine(engine_worker_with) -> None:
    counters, engine_worker = Counters(), engine_worker_with()
    counters.count_ask(Status.ENGINE_ERROR, 'broken')
    status = engine(engine_worker, counters=counters)
    assert (status.message, values(status)['last_failure']) == ('the last answer failed', 'broken')
    counters.count_ask(Status.OK, '')
    assert engine(engine_worker, counters=counters).message == 'active'
