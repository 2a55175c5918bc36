"""The command and its processes, on a machine that lacks things."""

import json
from pathlib import Path

import pytest
import torch

from gpu_check.__main__ import main
from gpu_check.attempt import attempt
from gpu_check.check import check
from gpu_check.own_process import in_own_process
from gpu_check.report import CheckReport, State
from gpu_check.task import Findings, Found, Message, Part, Task
from kosmos_ros.errors import EngineError, RunnerUnavailable, SelfCheckFailed
from kosmos_ros.model.config import Kosmos2Config


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(tmp_path, Kosmos2Config(), accelerator='gpu_check.host:Host')


@pytest.mark.parametrize(
    ('work', 'limit_s', 'state', 'words'),
    [
        ('finds_and_hangs', 2, State.REFUSED, 'stopped after 2 s, its share of the time'),
        ('chatters', 2, State.REFUSED, 'stopped after 2 s, its share of the time'),
        ('crashes', 60, State.FAILED, 'its process ended without a word: SIGSEGV'),
        ('is_killed', 60, State.REFUSED, 'killed, as when the memory of the machine is too small'),
        ('lacks_a_package', 60, State.REFUSED, "No module named 'no_such_package'"),
        ('runs', 60, State.OK, ''),
    ],
)
def test_a_process_of_its_own(
    task: Task, work: str, limit_s: float, state: State, words: str
) -> None:
    ended = in_own_process(
        Part('x', f'gpu_check.misbehaving:{work}', 1), task, limit_s, lambda message: None
    )
    assert (ended.state, ended.words) == (state, words)


def test_what_was_found_before_a_kill_is_kept(task: Task) -> None:
    received: list[Message] = []
    part = Part('x', 'gpu_check.misbehaving:finds_and_hangs', 1)
    # On a busy machine, its process may need longer than this to begin.
    for limit_s in (3, 30):
        in_own_process(part, task, limit_s, received.append)
        if received:
            break
    assert received[0] == Found('found', 1.0)


@pytest.mark.parametrize(
    ('error', 'state'),
    [
        (RunnerUnavailable('no GPU'), State.REFUSED),
        (ImportError('no torch'), State.REFUSED),
        (MemoryError(), State.REFUSED),
        (torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to'), State.REFUSED),
        (RuntimeError('The NVIDIA driver on your system is too old'), State.REFUSED),
        (RuntimeError('CUDA error: no kernel image is available'), State.REFUSED),
        (RuntimeError('CUDA error: an illegal memory access was encountered'), State.FAILED),
        (SelfCheckFailed('vision differs'), State.FAILED),
        (EngineError('scores that are not numbers'), State.FAILED),
        (TypeError('a mistake'), State.FAILED),
    ],
    ids=repr,
)
def test_verdicts(
    task: Task, error: Exception, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(task: Task, findings: Findings) -> None:
        raise error

    monkeypatch.setattr('gpu_check.misbehaving.runs', fails)
    ended = attempt(Part('x', 'gpu_check.misbehaving:runs', 1), task, Findings(lambda found: None))
    assert ended.state is state
    assert ended.words


@pytest.mark.skipif(torch.cuda.is_available(), reason='here is a GPU')
def test_without_a_gpu_every_part_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / 'report.json'
    assert main(['--report', str(path), '--layers', '1', '--folder', str(tmp_path)]) == 0
    parts = json.loads(path.read_text())['parts']
    assert len(parts) == 7
    for part in parts:
        assert part['state'] == 'refused'
        assert 'sees no NVIDIA GPU' in part['words']
    shown = capsys.readouterr().out
    assert f'all figures: {path}' in shown
    # The model in its folder is gone.
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_check_leaves_its_report(task: Task, tmp_path: Path) -> None:
    """All parts are in it from the beginning."""
    path = tmp_path / 'report.json'

    def killed(*ignored: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check([Part('gpu', '', 1)], task, CheckReport(), path, 60, killed)  # type: ignore[arg-type]
    assert json.loads(path.read_text())['parts'][0]['state'] == 'not run'
