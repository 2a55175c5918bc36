"""All parts on a CPU, with a tiny model: doubles stand at the edge of the GPU alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace
import json
from pathlib import Path

from engine.tiny import DEEP, RECIPE
import pytest
import torch

from gpu_check.attempt import attempt
from gpu_check.check import PARTS, SECONDS, check
from gpu_check.report import CheckReport, State
from gpu_check.table import table
from gpu_check.task import Ended, Findings, Message, Part, Task

CONFIG = replace(
    DEEP,
    text=replace(DEEP.text, layers=2, max_position_embeddings=128),
    vision=replace(DEEP.vision, num_hidden_layers=2),
)
QUESTIONS = ('image', 'image_and_expression', 'expression', 'eight_expressions', 'token')

pytestmark = [
    pytest.mark.engines,
    pytest.mark.parity,
    # Twenty seconds, most of it in the exporter: on a busy machine, minutes.
    pytest.mark.timeout(480),
]


def here(part: Part, task: Task, limit_s: float, receive: Callable[[Message], None]) -> Ended:
    """In this process, so that nothing is imported again."""
    assert limit_s > part.share / 2
    return attempt(part, task, Findings(receive))


@pytest.fixture(scope='module')
def task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Task]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Task(
        tmp_path_factory.mktemp('check'),
        CONFIG,
        replace(RECIPE, runner='tensorrt', precision='fp16'),
        'gpu_check.host:Host',
        runs=6,
        most_s=60.0,
    )
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def path(task: Task) -> Path:
    return task.folder / 'report.json'


@pytest.fixture(scope='module')
def report(task: Task, path: Path) -> CheckReport:
    made = CheckReport()
    check(PARTS, task, made, path, SECONDS, here)
    return made


@pytest.mark.parametrize('name', [part.name for part in PARTS if part.name != 'TensorRT'])
def test_runs(report: CheckReport, name: str) -> None:
    part = report.part(name)
    assert (part.state, part.words) == (State.OK, '')
    assert part.figures
    assert part.lines


def test_tensorrt_says_what_it_lacks(report: CheckReport) -> None:
    part = report.part('TensorRT')
    if part.state is not State.OK:
        assert part.state is State.REFUSED
        assert 'TensorRT' in part.words or 'GPU' in part.words


@pytest.mark.parametrize('name', ['PyTorch captured', 'PyTorch launched'])
def test_engines_are_timed(report: CheckReport, name: str) -> None:
    part = report.part(name)
    for question in QUESTIONS:
        times = part.figures[question]
        assert isinstance(times, dict)
        assert 0 < times['p50_ms'] <= times['p95_ms']
        assert times['runs'] >= 6
    # As the trained model does, and as the least time supposes.
    assert part.figures['steps'] == 1
    assert {'load_s', 'peak_bytes', 'grown_bytes'} <= set(part.figures)
    assert part.lines[-1] == 'self-check: the same after all questions'


def test_transformers_gives_the_same(report: CheckReport) -> None:
    part = report.part('transformers')
    compared = [line for line in part.lines if 'cosine' in line]
    assert len(compared) == 4
    assert {'expression', 'image_and_expression'} <= set(part.figures)


def test_the_bytes_of_a_pass(report: CheckReport) -> None:
    width, inner = 32, 64
    # Each with its bias; norms have a weight and a bias.
    linear = 4 * (width + 1) * width + (width + 1) * inner + (inner + 1) * width
    norms = 2 * (3 * width + inner)
    numbers = 2 * (linear + norms) + 2 * width + 1024 * width
    assert report.part('model').figures['bytes_of_a_pass'] == 2 * numbers


def test_goals_are_ratios_of_what_was_measured(report: CheckReport) -> None:
    ours = report.part('PyTorch captured')
    took = ours.number('expression')
    theirs = report.part('transformers').number('expression')
    rate = report.part('bandwidth').number('bytes_per_s')
    read = report.part('model').number('bytes_of_a_pass')
    assert took
    assert theirs
    assert rate
    assert read
    least, speedup = (goal for goal in report.goals if goal.part == ours.name)
    assert least.ratio == pytest.approx(took / (2e3 * read / rate))
    assert speedup.ratio == pytest.approx(theirs / took)
    assert (least.met, speedup.met) == (least.ratio <= 2, speedup.ratio >= 20)


def test_the_report_is_complete(report: CheckReport, path: Path) -> None:
    content = json.loads(path.read_text())
    assert [part['name'] for part in content['parts']] == [part.name for part in PARTS]
    assert {part['state'] for part in content['parts']} <= {'ok', 'refused'}
    assert content['parts'][3]['figures']['expression']['p95_ms'] > 0
    assert content['versions']['torch']
    assert content['goals']
    assert report.exit_code == 0


def test_the_table_is_complete(report: CheckReport) -> None:
    lines = list(table(report))
    print('\n'.join(lines))
    for part in report.parts:
        assert any(line.startswith(part.name) for line in lines)
    assert sum('PyTorch captured, one expression' in line for line in lines) == 2
    assert lines[0].startswith('a CPU')


def test_a_wrong_number_fails(report: CheckReport, task: Task, path: Path) -> None:
    """Whatever fails, the rest goes on."""
    done = ('model', 'TensorRT')
    parts = [
        replace(part, work='gpu_check.misbehaving:runs') if part.name in done else part
        for part in PARTS
    ]
    forgetful = replace(task, accelerator='gpu_check.host:Forgetful')
    made = CheckReport()
    check(parts, forgetful, made, path.with_name('wrong.json'), SECONDS, here)
    states = {part.name: part.state for part in made.parts}
    assert states.pop('PyTorch captured') is State.FAILED
    assert 'self-check' in made.part('PyTorch captured').words
    assert set(states.values()) == {State.OK}
    assert made.exit_code == 1
