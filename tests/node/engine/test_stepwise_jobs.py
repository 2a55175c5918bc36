"""Long work of the worker: in steps, between which others have their turn."""

from collections.abc import Callable, Generator
import threading

import pytest

from kosmos_ros.errors import Busy, EngineError, NotActive, ShuttingDown
from kosmos_ros.node.engine.stepwise_job import StepwiseJob
from kosmos_ros.node.engine.worker import Worker
from node.gates import Gate, until


class Walk(StepwiseJob[int]):
    """Long work: each step logs its name and number, and does what it is told."""

    def __init__(
        self,
        log: list[str],
        name: str = '',
        steps: int = 10**9,
        during: Callable[[int], None] = lambda number: None,
    ) -> None:
        super().__init__()
        self.log, self.name, self.steps, self.during = log, name, steps, during
        self.made = self.closed = 0

    def run(self) -> Generator[int, None, None]:
        while self.made < self.steps:
            self.made += 1
            self.log.append(f'{self.name}{self.made}')
            self.during(self.made)
            yield self.made

    def finish(self) -> None:
        assert threading.current_thread().name == 'engine'
        self.closed += 1


def started(worker: Worker, walk: Walk) -> Walk:
    worker.start(walk)
    return walk


def test_long_work_comes_to_its_end(worker) -> None:
    walk = Walk([], steps=5)
    job = started(worker, walk)
    assert job.wait(10)
    assert (job.latest, job.error) == (5, None)
    assert (walk.closed, worker.unfinished_jobs) == (1, 0)
    assert job.queue_s >= 0


def test_a_call_waits_for_one_step_at_most(worker, people) -> None:
    """A thousand steps, and a call that arrives in the middle of every tenth of them."""
    log: list[str] = []
    calls = []

    def arrive(number: int) -> None:
        if number % 10 == 0:
            before = len(log)
            calls.append(people.submit(worker.call, lambda: len(log) - before, 10))
            until(lambda: worker.waiting_calls == 1)

    job = started(worker, Walk(log, steps=1000, during=arrive))
    assert job.wait(60)
    # No further step was begun between the arrival and the call's turn.
    assert [call.result(10).value for call in calls] == [0] * 100
    assert job.latest == 1000


def test_long_works_take_turns(worker) -> None:
    log: list[str] = []
    gate = Gate()
    worker.run_in_background('first', gate)
    assert gate.begun.wait(10)
    jobs = [started(worker, Walk(log, name, steps=3)) for name in 'ab']
    gate.let.set()
    assert all(job.wait(10) for job in jobs)
    assert log == ['a1', 'b1', 'a2', 'b2', 'a3', 'b3']


def test_background_work_and_long_work_take_turns(worker) -> None:
    """Neither starves the other, however much comes."""
    log: list[str] = []

    gate = Gate()

    def more() -> None:
        log.append('-')
        worker.run_in_background('a', more)

    worker.run_in_background('first', gate)
    assert gate.begun.wait(10)
    worker.run_in_background('a', more)
    job = started(worker, Walk(log, steps=50))
    gate.let.set()
    assert job.wait(10)
    assert log[: log.index('50')] == [word for n in range(1, 50) for word in (str(n), '-')]


def test_long_work_is_counted_apart_from_calls(worker, people) -> None:
    jobs = [started(worker, Walk([])) for _ in range(2)]
    walk = Walk([])
    with pytest.raises(Busy, match='max_asks'):
        started(worker, walk)
    assert walk.closed == 0, 'it was never taken'
    assert [worker.call(lambda: 1, 10).value for _ in range(5)] == [1] * 5
    for job in jobs:
        job.cancel()
    assert all(job.wait(10) for job in jobs)
    assert started(worker, Walk([], steps=1)).wait(10)


def test_cancelling_ends_with_the_present_step(worker) -> None:
    job = None

    def cancel(number: int) -> None:
        if number == 7:
            job.cancel()

    gate = Gate()
    worker.run_in_background('first', gate)
    walk = Walk([], during=cancel)
    job = started(worker, walk)
    gate.let.set()
    assert job.wait(10)
    assert (walk.made, job.latest, job.error, walk.closed) == (7, 7, None, 1)


def test_what_is_cancelled_before_its_turn_is_closed_without_a_step(worker) -> None:
    gate = Gate()
    worker.run_in_background('first', gate)
    assert gate.begun.wait(10)
    walk = Walk([])
    job = started(worker, walk)
    job.cancel()
    gate.let.set()
    assert job.wait(10)
    assert (walk.made, walk.closed, job.latest, worker.unfinished_jobs) == (0, 1, None, 0)


@pytest.mark.parametrize('error', [ZeroDivisionError('dark'), SystemExit(3)])
def test_long_work_that_fails(worker, failures, error: BaseException) -> None:
    def fail(number: int) -> None:
        if number == 3:
            raise error

    walk = Walk([], during=fail)
    job = started(worker, walk)
    assert job.wait(10)
    assert job.latest == 2
    assert isinstance(job.error, ZeroDivisionError | EngineError)
    assert (walk.closed, worker.unfinished_jobs, failures) == (1, 0, [])
    assert worker.call(lambda: 1, 10).value == 1


def test_long_work_that_cannot_be_closed(worker) -> None:
    walk = Walk([], steps=2)
    walk.finish = lambda: 1 / 0
    job = started(worker, walk)
    assert job.wait(10)
    assert isinstance(job.error, ZeroDivisionError)
    assert worker.unfinished_jobs == 0


def test_rejected_long_work_ends_at_once_and_is_closed_later(worker, failures) -> None:
    gate = Gate()
    walks = [Walk([], during=lambda number: gate() if number == 2 else None), Walk([])]
    jobs = [started(worker, walk) for walk in walks]
    assert gate.begun.wait(10)
    worker.reject_all(NotActive('resting'))
    for job in jobs:
        assert job.wait(0)
        assert isinstance(job.error, NotActive)
    assert walks[0].closed == walks[1].closed == 0
    gate.let.set()
    until(lambda: worker.unfinished_jobs == 0)
    assert walks[0].closed == walks[1].closed == 1
    assert (jobs[0].latest, failures) == (2, [])
    assert started(worker, Walk([], steps=1)).wait(10)


def test_stop_closes_long_work_before_the_last_thing() -> None:
    worker, log = Worker(4, 2, [].append), []
    walk = Walk([])
    walk.finish = lambda: log.append('closed')
    job = started(worker, walk)
    until(lambda: job.latest)
    assert worker.stop(ShuttingDown('bye'), 10, last=lambda: log.append('last'))
    assert isinstance(job.error, ShuttingDown)
    assert log == ['closed', 'last']
    with pytest.raises(ShuttingDown):
        started(worker, Walk([]))


def test_storm_of_long_work_keeps_its_books(worker, people) -> None:
    """Whatever happens to a thousand of them, each is closed once and no place is lost."""
    walks = []

    def one(number: int) -> str:
        walk = Walk([], steps=number % 7)
        try:
            job = started(worker, walk)
        except Busy:
            return 'busy'
        walks.append(walk)
        if number % 3 == 0:
            job.cancel()
        if number % 50 == 0:
            worker.reject_all(NotActive())
        assert job.wait(10)
        return 'over'

    outcomes = list(people.map(one, range(1000)))
    assert 'over' in outcomes
    until(lambda: worker.unfinished_jobs == 0)
    assert {walk.closed for walk in walks} == {1}
