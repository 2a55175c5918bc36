"""The worker alone: order, bounds, and ends of calls."""

import time

import pytest

from kosmos_ros.errors import Busy, EngineError, NotActive, ShuttingDown, TimedOut
from kosmos_ros.node.engine.worker import Worker
from node.gates import Gate, until


def test_gives_the_value_and_the_wait(worker, people) -> None:
    gate = Gate()
    first = people.submit(worker.call, gate, 10)
    assert gate.begun.wait(10)
    second = people.submit(worker.call, lambda: 7, 10)
    until(lambda: worker.waiting_calls == 1)
    begin = time.monotonic()
    until(lambda: time.monotonic() > begin + 0.01)
    gate.let.set()
    assert second.result(10).value == 7
    assert second.result().queue_s > 0.01
    assert first.result().queue_s >= 0


def test_is_busy_at_once_and_exactly_when_full(worker, people) -> None:
    gate = Gate()
    running = people.submit(worker.call, gate, 10)
    assert gate.begun.wait(10)
    waiting = [people.submit(worker.call, lambda: None, 10) for _ in range(2)]
    until(lambda: worker.waiting_calls == 2)
    for _ in range(3):
        with pytest.raises(Busy, match='max_waiting'):
            worker.call(lambda: None, 10)
    gate.let.set()
    for one in (running, *waiting):
        one.result(10)
    # Every place is free again.
    for _ in range(10):
        assert worker.call(lambda: 1, 10).value == 1


def test_what_nobody_waits_for_any_more_is_not_begun(worker, people) -> None:
    gate, begun = Gate(), []
    running = people.submit(worker.call, gate, 10)
    assert gate.begun.wait(10)
    with pytest.raises(TimedOut, match='other calls'):
        worker.call(lambda: begun.append(1), 0.01)
    assert worker.waiting_calls == 0
    gate.let.set()
    running.result(10)
    worker.call(lambda: None, 10)
    assert begun == []


def test_work_that_takes_too_long_keeps_its_place(worker, failures) -> None:
    gate = Gate()
    with pytest.raises(TimedOut, match='engine'):
        worker.call(gate, 0.05)
    assert worker.running_s > 0
    gate.let.set()
    assert worker.call(lambda: 3, 10).value == 3
    assert worker.running_s == 0
    assert failures == []


def test_passes_failures_on(worker, failures) -> None:
    def fail():
        raise ZeroDivisionError('of the engine')

    def leave():
        raise SystemExit(3)

    with pytest.raises(ZeroDivisionError, match='of the engine'):
        worker.call(fail, 10)
    with pytest.raises(EngineError, match='SystemExit'):
        worker.call(leave, 10)
    assert worker.call(lambda: 1, 10).value == 1
    worker.run_in_background('a', fail)
    until(lambda: failures)
    assert isinstance(failures[0], ZeroDivisionError)
    assert worker.call(lambda: 1, 10).value == 1


def test_reports_a_failure_after_its_caller_has_gone(worker, failures) -> None:
    gate = Gate()

    def fail():
        gate()
        raise ZeroDivisionError

    with pytest.raises(TimedOut):
        worker.call(fail, 0.05)
    gate.let.set()
    until(lambda: failures)


def test_calls_come_before_background_work(worker, people) -> None:
    log, gate = [], Gate()
    running = people.submit(worker.call, gate, 10)
    assert gate.begun.wait(10)
    for name in ('old', 'new'):
        worker.run_in_background('a camera', lambda name=name: log.append(name))
    worker.run_in_background('another camera', lambda: log.append('other'))
    call = people.submit(worker.call, lambda: log.append('call'), 10)
    until(lambda: worker.waiting_calls == 1)
    gate.let.set()
    running.result(10)
    call.result(10)
    until(lambda: len(log) == 3)
    assert log == ['call', 'new', 'other']


def test_background_work_takes_no_places(worker, people) -> None:
    gate = Gate()
    worker.run_in_background('a', gate)
    assert gate.begun.wait(10)
    calls = [people.submit(worker.call, lambda: 1, 10) for _ in range(3)]
    until(lambda: worker.waiting_calls == 3)
    with pytest.raises(Busy):
        worker.call(lambda: 1, 10)
    gate.let.set()
    assert [call.result(10).value for call in calls] == [1, 1, 1]


def test_stop_answers_everybody(people) -> None:
    worker, gate, last = Worker(4, 2, [].append), Gate(), []
    calls = [people.submit(worker.call, gate, 60)]
    assert gate.begun.wait(10)
    calls += [people.submit(worker.call, lambda: 1, 60) for _ in range(4)]
    until(lambda: worker.waiting_calls == 4)
    assert not worker.stop(ShuttingDown('bye'), 0.01, last=lambda: last.append(1))
    for call in calls:
        with pytest.raises(ShuttingDown, match='bye'):
            call.result(10)
    with pytest.raises(ShuttingDown):
        worker.call(lambda: 1, 1)
    worker.run_in_background('a', lambda: last.append('never'))
    gate.let.set()
    assert worker.join(10)
    assert last == [1]


def test_dismiss_leaves_the_worker_usable(worker, people) -> None:
    gate = Gate()
    calls = [people.submit(worker.call, gate, 60) for _ in range(3)]
    until(lambda: worker.waiting_calls == 2)
    worker.reject_all(NotActive('resting'))
    for call in calls:
        with pytest.raises(NotActive, match='resting'):
            call.result(10)
    gate.let.set()
    assert worker.call(lambda: 5, 10).value == 5
    until(lambda: worker.running_s == 0)
    assert worker.waiting_calls == 0


def test_storm_keeps_its_books(worker, people) -> None:
    """Whatever happens to a thousand calls, each is answered and no place is lost."""

    def one(number: int) -> str:
        try:
            worker.call(lambda: time.sleep(0.0005), 0.004 if number % 3 else 10)
            return 'ok'
        except (Busy, TimedOut) as error:
            return type(error).__name__

    outcomes = list(people.map(one, range(1000)))
    assert len(outcomes) == 1000
    assert 'ok' in outcomes
    for _ in range(5):
        assert worker.call(lambda: 1, 10).value == 1
