"""The worker alone: order, bounds, and ends."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
import threading
import time

import pytest

from kosmos_ros.errors import Busy, EngineError, NotActive, ShuttingDown, TimedOut
from kosmos_ros.node.worker import Worker


@pytest.fixture
def failures():
    return []


@pytest.fixture
def worker(failures):
    worker = Worker(2, 2, failures.append)
    yield worker
    worker.stop(ShuttingDown(), 5)


@pytest.fixture
def people():
    with ThreadPoolExecutor(16) as threads:
        yield threads


class Gate:
    """Work that ends when it is let."""

    def __init__(self, log=None, name=''):
        self.begun, self.let = threading.Event(), threading.Event()
        self.log, self.name = log, name

    def __call__(self):
        self.begun.set()
        assert self.let.wait(10)
        if self.log is not None:
            self.log.append(self.name)
        return self.name


def until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_gives_the_value_and_the_wait(worker, people) -> None:
    gate = Gate()
    first = people.submit(worker.call, gate, 10)
    assert gate.begun.wait(10)
    second = people.submit(worker.call, lambda: 7, 10)
    until(lambda: worker.waiting == 1)
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
    until(lambda: worker.waiting == 2)
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
    assert worker.waiting == 0
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
    worker.offer('a', fail)
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
        worker.offer('a camera', lambda name=name: log.append(name))
    worker.offer('another camera', lambda: log.append('other'))
    call = people.submit(worker.call, lambda: log.append('call'), 10)
    until(lambda: worker.waiting == 1)
    gate.let.set()
    running.result(10)
    call.result(10)
    until(lambda: len(log) == 3)
    assert log == ['call', 'new', 'other']


def test_background_work_takes_no_places(worker, people) -> None:
    gate = Gate()
    worker.offer('a', gate)
    assert gate.begun.wait(10)
    calls = [people.submit(worker.call, lambda: 1, 10) for _ in range(3)]
    until(lambda: worker.waiting == 3)
    with pytest.raises(Busy):
        worker.call(lambda: 1, 10)
    gate.let.set()
    assert [call.result(10).value for call in calls] == [1, 1, 1]


def test_stop_answers_everybody(people) -> None:
    worker, gate, last = Worker(4, 2, [].append), Gate(), []
    calls = [people.submit(worker.call, gate, 60)]
    assert gate.begun.wait(10)
    calls += [people.submit(worker.call, lambda: 1, 60) for _ in range(4)]
    until(lambda: worker.waiting == 4)
    assert not worker.stop(ShuttingDown('bye'), 0.01, last=lambda: last.append(1))
    for call in calls:
        with pytest.raises(ShuttingDown, match='bye'):
            call.result(10)
    with pytest.raises(ShuttingDown):
        worker.call(lambda: 1, 1)
    worker.offer('a', lambda: last.append('never'))
    gate.let.set()
    assert worker.join(10)
    assert last == [1]


def test_dismiss_leaves_the_worker_usable(worker, people) -> None:
    gate = Gate()
    calls = [people.submit(worker.call, gate, 60) for _ in range(3)]
    until(lambda: worker.waiting == 2)
    worker.dismiss(NotActive('resting'))
    for call in calls:
        with pytest.raises(NotActive, match='resting'):
            call.result(10)
    gate.let.set()
    assert worker.call(lambda: 5, 10).value == 5
    until(lambda: worker.running_s == 0)
    assert worker.waiting == 0


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


class Walk:
    """Long work: each step tells its name and number, and does what it is told."""

    def __init__(
        self,
        log: list[str],
        name: str = '',
        steps: int = 10**9,
        during: Callable[[int], None] = lambda number: None,
    ) -> None:
        self.log, self.name, self.steps, self.during = log, name, steps, during
        self.made = self.closed = 0

    def __next__(self) -> int:
        if self.made == self.steps:
            raise StopIteration
        self.made += 1
        self.log.append(f'{self.name}{self.made}')
        self.during(self.made)
        return self.made

    def close(self) -> None:
        assert threading.current_thread().name == 'engine'
        self.closed += 1


def test_long_work_comes_to_its_end(worker) -> None:
    walk = Walk([], steps=5)
    course = worker.begin(walk)
    assert course.wait(10)
    assert (course.latest, course.error) == (5, None)
    assert (walk.closed, worker.under_way) == (1, 0)
    assert course.queue_s >= 0


def test_a_call_waits_for_one_step_at_most(worker, people) -> None:
    """A thousand steps, and a call that arrives in the middle of every tenth of them."""
    log: list[str] = []
    calls = []

    def arrive(number: int) -> None:
        if number % 10 == 0:
            before = len(log)
            calls.append(people.submit(worker.call, lambda: len(log) - before, 10))
            until(lambda: worker.waiting == 1)

    course = worker.begin(Walk(log, steps=1000, during=arrive))
    assert course.wait(60)
    # No further step was begun between the arrival and the call's turn.
    assert [call.result(10).value for call in calls] == [0] * 100
    assert course.latest == 1000


def test_long_works_take_turns(worker) -> None:
    log: list[str] = []
    gate = Gate()
    worker.offer('first', gate)
    assert gate.begun.wait(10)
    courses = [worker.begin(Walk(log, name, steps=3)) for name in 'ab']
    gate.let.set()
    assert all(course.wait(10) for course in courses)
    assert log == ['a1', 'b1', 'a2', 'b2', 'a3', 'b3']


def test_background_work_and_long_work_take_turns(worker) -> None:
    """Neither starves the other, however much comes."""
    log: list[str] = []

    gate = Gate()

    def more() -> None:
        log.append('-')
        worker.offer('a', more)

    worker.offer('first', gate)
    assert gate.begun.wait(10)
    worker.offer('a', more)
    course = worker.begin(Walk(log, steps=50))
    gate.let.set()
    assert course.wait(10)
    assert log[: log.index('50')] == [word for n in range(1, 50) for word in (str(n), '-')]


def test_places_for_long_work_are_its_own(worker, people) -> None:
    courses = [worker.begin(Walk([])) for _ in range(2)]
    walk = Walk([])
    with pytest.raises(Busy, match='max_asks'):
        worker.begin(walk)
    assert walk.closed == 0, 'it was never taken'
    assert [worker.call(lambda: 1, 10).value for _ in range(5)] == [1] * 5
    for course in courses:
        course.cancel()
    assert all(course.wait(10) for course in courses)
    assert worker.begin(Walk([], steps=1)).wait(10)


def test_cancelling_ends_with_the_present_step(worker) -> None:
    course = None

    def cancel(number: int) -> None:
        if number == 7:
            course.cancel()

    gate = Gate()
    worker.offer('first', gate)
    walk = Walk([], during=cancel)
    course = worker.begin(walk)
    gate.let.set()
    assert course.wait(10)
    assert (walk.made, course.latest, course.error, walk.closed) == (7, 7, None, 1)


def test_what_is_cancelled_before_its_turn_is_closed_without_a_step(worker) -> None:
    gate = Gate()
    worker.offer('first', gate)
    assert gate.begun.wait(10)
    walk = Walk([])
    course = worker.begin(walk)
    course.cancel()
    gate.let.set()
    assert course.wait(10)
    assert (walk.made, walk.closed, course.latest, worker.under_way) == (0, 1, None, 0)


@pytest.mark.parametrize('error', [ZeroDivisionError('dark'), SystemExit(3)])
def test_long_work_that_fails(worker, failures, error: BaseException) -> None:
    def fail(number: int) -> None:
        if number == 3:
            raise error

    walk = Walk([], during=fail)
    course = worker.begin(walk)
    assert course.wait(10)
    assert course.latest == 2
    assert isinstance(course.error, ZeroDivisionError | EngineError)
    assert (walk.closed, worker.under_way, failures) == (1, 0, [])
    assert worker.call(lambda: 1, 10).value == 1


def test_long_work_that_cannot_be_closed(worker) -> None:
    walk = Walk([], steps=2)
    walk.close = lambda: 1 / 0
    course = worker.begin(walk)
    assert course.wait(10)
    assert isinstance(course.error, ZeroDivisionError)
    assert worker.under_way == 0


def test_dismissed_long_work_ends_at_once_and_is_closed_later(worker, failures) -> None:
    gate = Gate()
    walks = [Walk([], during=lambda number: gate() if number == 2 else None), Walk([])]
    courses = [worker.begin(walk) for walk in walks]
    assert gate.begun.wait(10)
    worker.dismiss(NotActive('resting'))
    for course in courses:
        assert course.wait(0)
        assert isinstance(course.error, NotActive)
    assert walks[0].closed == walks[1].closed == 0
    gate.let.set()
    until(lambda: worker.under_way == 0)
    assert walks[0].closed == walks[1].closed == 1
    assert (courses[0].latest, failures) == (2, [])
    assert worker.begin(Walk([], steps=1)).wait(10)


def test_stop_closes_long_work_before_the_last_thing() -> None:
    worker, log = Worker(4, 2, [].append), []
    walk = Walk([])
    walk.close = lambda: log.append('closed')
    course = worker.begin(walk)
    until(lambda: course.latest)
    assert worker.stop(ShuttingDown('bye'), 10, last=lambda: log.append('last'))
    assert isinstance(course.error, ShuttingDown)
    assert log == ['closed', 'last']
    with pytest.raises(ShuttingDown):
        worker.begin(Walk([]))


def test_storm_of_long_work_keeps_its_books(worker, people) -> None:
    """Whatever happens to a thousand of them, each is closed once and no place is lost."""
    walks = []

    def one(number: int) -> str:
        walk = Walk([], steps=number % 7)
        try:
            course = worker.begin(walk)
        except Busy:
            return 'busy'
        walks.append(walk)
        if number % 3 == 0:
            course.cancel()
        if number % 50 == 0:
            worker.dismiss(NotActive())
        assert course.wait(10)
        return 'over'

    outcomes = list(people.map(one, range(1000)))
    assert 'over' in outcomes
    until(lambda: worker.under_way == 0)
    assert {walk.closed for walk in walks} == {1}
