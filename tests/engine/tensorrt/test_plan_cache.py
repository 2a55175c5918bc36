"""Plans in an engine directory: built once for a machine, and trusted only as what they are."""

from collections.abc import Callable
from dataclasses import replace
import fcntl
import json
from pathlib import Path
import threading
from typing import Any

import pytest

from kosmos_ros.console.main import main
from kosmos_ros.engine import machine
from kosmos_ros.engine.base import ignore_progress
from kosmos_ros.engine.building.plans import build_plans
from kosmos_ros.engine.directory.directory import REFERENCE_FILE, EngineDirectory
from kosmos_ros.engine.directory.reference import ReferenceAnswers
from kosmos_ros.engine.load import open_runner
from kosmos_ros.engine.tensorrt import plans
from kosmos_ros.engine.tensorrt.plans import stored_plans
from kosmos_ros.errors import EngineFileError, RunnerUnavailable, SelfCheckFailed

from .double import Double
from .gpu_machine import GPU, build, built, called, damage, load
from .surface import RTX

# What is tested here is ours; the oldest release does, and the newest for RTX.
pytestmark = pytest.mark.parametrize('surface', ['10.3.0', RTX], indirect=True)


def test_plans_are_built_once(gpu: Double, fp16: Path) -> None:
    build(fp16)[0].close()
    assert built(gpu) == 2
    load(fp16)[0].close()
    assert built(gpu) == 2
    (stored,) = stored_plans(fp16)
    assert stored.complete
    assert stored.target.endswith(
        f'any RTX GPU, TensorRT for RTX {RTX}' if gpu.is_rtx else f'TensorRT {gpu.__version__}'
    )


def test_new_plans_are_checked_once_and_loaded_once(gpu: Double, fp16: Path) -> None:
    engine, lines = build(fp16)
    assert sum(line.startswith('self-check of the plans') for line in lines) == 7
    assert called(gpu, 'Runtime.deserialize_cuda_engine') == 2
    engine.close()
    engine, lines = load(fp16)
    assert not any(line.startswith('self-check') for line in lines)
    engine.close()


def test_on_a_read_only_engine_new_plans_are_checked_at_every_load(
    gpu: Double, fp16: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError('read-only file system')

    build_plans(EngineDirectory.verified(fp16), ignore_progress)
    monkeypatch.setattr(plans, 'write_plan_manifest', refuse)
    for _ in range(2):
        engine, lines = load(fp16)
        assert any('checked and prepared at every start' in line for line in lines)
        engine.close()


@pytest.mark.parametrize(
    'change',
    [
        {'name': 'another device'},
        {'capability': '11.0'},
        {'driver': '13.0'},
        {'multiprocessors': 20},
    ],
)
def test_plans_of_another_machine(
    gpu: Double, fp16: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    build(fp16)[0].close()
    deserialized = called(gpu, 'Runtime.deserialize_cuda_engine')
    other = replace(GPU, **change)
    monkeypatch.setattr(machine, 'gpu', lambda: other)
    gpu.device_name = other.name
    if gpu.is_rtx:
        # They run there, too, once they have given the reference answers there.
        engine, lines = load(fp16)
        assert any(line.startswith('self-check of the plans') for line in lines)
        engine.close()
        assert len(stored_plans(fp16)) == 1
        return
    with pytest.raises(RunnerUnavailable, match='no TensorRT plans for this machine .*some for a'):
        load(fp16)
    assert called(gpu, 'Runtime.deserialize_cuda_engine') == deserialized
    build(fp16)[0].close()
    assert len(stored_plans(fp16)) == 2


@pytest.mark.parametrize('name', ['vision.plan', 'decoder.plan', 'plan.json'])
@pytest.mark.parametrize(
    'harm', [damage, Path.unlink, lambda path: path.write_bytes(b'')], ids=['bit', 'gone', 'empty']
)
def test_damaged_plans_reach_no_loader(
    gpu: Double, fp16: Path, name: str, harm: Callable[[Path], None]
) -> None:
    build(fp16)[0].close()
    deserialized = called(gpu, 'Runtime.deserialize_cuda_engine')
    (stored,) = stored_plans(fp16)
    harm(stored.folder / name)
    with pytest.raises(EngineFileError, match=str(stored.folder)):
        load(fp16)
    assert called(gpu, 'Runtime.deserialize_cuda_engine') == deserialized
    # A build replaces them.
    build(fp16, self_check='quick')[0].close()


def test_plans_that_others_could_have_written_are_refused(gpu: Double, fp16: Path) -> None:
    build(fp16)[0].close()
    (stored,) = stored_plans(fp16)
    stored.folder.chmod(0o777)
    with pytest.raises(EngineFileError, match='others may write'):
        load(fp16)


def test_two_processes_build_one_after_the_other(gpu: Double, fp16: Path) -> None:
    """The second one waits, and finds what the first one built."""
    lines: list[str] = []
    waiting = threading.Event()

    def report(line: str) -> None:
        lines.append(line)
        if 'waiting for another process' in line:
            waiting.set()

    second = threading.Thread(target=lambda: build_plans(EngineDirectory.verified(fp16), report))
    build(fp16)[0].close()
    (stored,) = stored_plans(fp16)
    before = built(gpu)
    with (stored.folder.parent / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second.start()
        assert waiting.wait(60)
    second.join(60)
    assert not second.is_alive()
    assert built(gpu) == before
    assert not any('building' in line for line in lines)


@pytest.mark.parametrize('stage', ['vision', 'prefill of the image', 'decode 1'])
def test_wrong_numbers_are_refused_with_their_stage(
    gpu: Double, fp16: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """The graph in the plan is not the one that the reference answers are of."""
    directory = EngineDirectory.verified(fp16)
    build_plans(directory, ignore_progress)
    reference = ReferenceAnswers.read(fp16 / REFERENCE_FILE)
    name = {'vision': 'embeds', 'prefill of the image': 'image_hidden'}.get(stage, 'step_hidden')
    replace(reference, **{name: 2 * getattr(reference, name)}).write(fp16 / REFERENCE_FILE)
    with pytest.raises(SelfCheckFailed, match=f'new plans are refused.*{stage} differs'):
        open_runner(directory, 'tensorrt', level='off')
    # Those that were built elsewhere are for their owner to remove.
    assert len(stored_plans(fp16)) == gpu.is_rtx


def test_the_commands_build_show_verify_and_prune(
    gpu: Double,
    fp16: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(['engine', 'build', '--out', str(fp16)]) == 0
    assert 'building decoder.plan' in capsys.readouterr().out
    report = tmp_path / 'report.json'
    assert main(['engine', 'verify', str(fp16), '--report', str(report)]) == 0
    assert 'load     ok: TensorRT' in capsys.readouterr().out
    content = json.loads(report.read_text())
    assert GPU.name in content['device']
    assert len(content['checks']) == 7
    assert content['failure'] == ''

    other = replace(GPU, driver='13.0')
    monkeypatch.setattr(machine, 'gpu', lambda: other)
    assert main(['engine', 'build', '--out', str(fp16)]) == 0
    assert main(['engine', 'info', str(fp16)]) == 0
    shown = 'any RTX GPU, TensorRT for RTX' if gpu.is_rtx else GPU.name
    assert capsys.readouterr().out.count(f'plans: {shown}') == (1 if gpu.is_rtx else 2)
    assert main(['engine', 'prune', str(fp16)]) == 0
    assert capsys.readouterr().out.count('removed') == (0 if gpu.is_rtx else 1)
    (kept,) = stored_plans(fp16)
    load(fp16)[0].close()
    assert main(['engine', 'prune', str(fp16)]) == 0
    assert 'nothing to remove' in capsys.readouterr().out
    assert kept.folder.exists()
    assert main(['engine', 'prune', str(fp16), '--all']) == 0
    assert stored_plans(fp16) == []
