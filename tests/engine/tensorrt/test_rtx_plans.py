"""Plans for RTX in an engine directory, built by NVIDIA's builder: whole, or not there."""

import errno
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys

import pytest

from kosmos_ros.console.main import main
from kosmos_ros.engine.base import ignore_progress
from kosmos_ros.engine.building import estimates
from kosmos_ros.engine.building.plans import build_plans
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.load import load_engine
from kosmos_ros.engine.machine import plan_target
from kosmos_ros.engine.tensorrt.plans import PlanKey, read_plans, stored_plans
from kosmos_ros.errors import EngineError, EngineFileError

from .gpu_machine import damage

pytestmark = pytest.mark.usefixtures('rtx')


def test_they_are_built_without_a_gpu_and_may_be_copied(fp16: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    build_plans(EngineDirectory.verified(fp16), lines.append)
    text = '\n'.join(lines)
    assert re.search(r'plans: for any RTX GPU, TensorRT for RTX [\d.]+; up to .* of memory', text)
    assert re.search(r'building decoder.plan: .*, \d+ %', text)
    assert re.search(r'plans: decoder.plan has [\d.]+ MB, built in [\d.]+ s', text)
    (stored,) = stored_plans(fp16)
    assert stored.target.startswith('any RTX GPU, TensorRT for RTX ')
    copy = EngineDirectory.verified(Path(shutil.copytree(fp16, tmp_path / 'copy')))
    plans = read_plans(copy.path, PlanKey.of(copy, plan_target()))
    assert set(plans.contents) == {'vision.plan', 'decoder.plan'}
    assert plans.checked_on == ()
    # A second build finds them.
    lines.clear()
    build_plans(copy, lines.append)
    assert lines == []


def test_the_command_says_what_comes_next(fp16: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(['engine', 'build', '--out', str(fp16)]) == 0
    said = capsys.readouterr().out
    assert 'the plans are not checked: ' in said
    assert 'may be copied to a machine that runs them' in said
    assert main(['engine', 'info', str(fp16)]) == 0
    assert 'plans: any RTX GPU, TensorRT for RTX ' in capsys.readouterr().out
    assert main(['engine', 'prune', str(fp16)]) == 0
    assert 'nothing to remove' in capsys.readouterr().out
    # Without a GPU, others run it.
    engine = load_engine(fp16)
    assert 'ONNX Runtime' in engine.name
    assert 'sees no NVIDIA GPU' in engine.remarks[0]
    engine.close()


def test_a_flipped_byte_is_refused_and_built_again(
    fp16: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = EngineDirectory.verified(fp16)
    build_plans(files, ignore_progress)
    (stored,) = stored_plans(fp16)
    assert main(['engine', 'verify', str(fp16)]) == 0
    assert 'plans    ok: any RTX GPU, TensorRT for RTX ' in capsys.readouterr().out
    damage(stored.folder / 'decoder.plan')
    with pytest.raises(EngineFileError, match='decoder.plan does not have the content'):
        read_plans(fp16, PlanKey.of(files, plan_target()))
    # Where nothing would load it, too.
    assert main(['engine', 'verify', str(fp16)]) == 1
    assert 'decoder.plan does not have the content' in capsys.readouterr().err
    lines: list[str] = []
    build_plans(files, lines.append)
    assert 'decoder.plan does not have the content' in lines[0]
    read_plans(fp16, PlanKey.of(files, plan_target()))


def test_nvidias_runtime_tells_what_is_no_plan(fp16: Path) -> None:
    """It is asked before a plan is loaded; without a driver it knows as much."""
    from kosmos_ros.engine.tensorrt.flavours import FLAVOUR, trt
    from kosmos_ros.engine.tensorrt.log import TensorRTLog
    from kosmos_ros.errors import RunnerUnavailable

    build_plans(EngineDirectory.verified(fp16), ignore_progress)
    (stored,) = stored_plans(fp16)
    whole = (stored.folder / 'decoder.plan').read_bytes()
    runtime = trt.Runtime(TensorRTLog())
    for content in (b'no plan' * 100, b'', b'x' + whole[1:]):
        with pytest.raises(RunnerUnavailable, match='decoder.plan does not run here: it is damag'):
            FLAVOUR.check_plan(runtime, 'decoder.plan', content)


@pytest.mark.timeout(300)
def test_ctrl_c_leaves_nothing_that_loads(fp16: Path) -> None:
    command = [sys.executable, '-m', 'kosmos_ros', 'engine', 'build', '--out', str(fp16)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith('building decoder.plan'):
                process.send_signal(signal.SIGINT)
        assert process.wait(240) == 130
    assert not any(stored.complete for stored in stored_plans(fp16))
    assert not list(fp16.rglob('*.part'))
    # The next build goes on where it was.
    lines: list[str] = []
    build_plans(EngineDirectory.verified(fp16), lines.append)
    assert 'plans: vision.plan was built before' in lines
    assert [stored.complete for stored in stored_plans(fp16)] == [True]


def test_what_a_report_raises_ends_the_build(fp16: Path) -> None:
    def report(line: str) -> None:
        if line.startswith('building decoder.plan'):
            raise BrokenPipeError(errno.EPIPE, 'closed')

    with pytest.raises(BrokenPipeError, match='closed'):
        build_plans(EngineDirectory.verified(fp16), report)
    assert [stored.complete for stored in stored_plans(fp16)] == [False]


@pytest.mark.timeout(300)
def test_two_builds_at_once_build_one(fp16: Path) -> None:
    command = [sys.executable, '-m', 'kosmos_ros', 'engine', 'build', '--out', str(fp16)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum('plans: decoder.plan has' in text for text in said) == 1
    assert [stored.complete for stored in stored_plans(fp16)] == [True]


def test_a_full_disk_leaves_nothing_half(fp16: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.write_bytes

    def write(path: Path, content: bytes) -> int:
        if path.name != 'decoder.part':
            return real(path, content)
        real(path, content[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, 'write_bytes', write)
        with pytest.raises(EngineFileError, match='No space left on device.*; make room, or copy'):
            build_plans(EngineDirectory.verified(fp16), ignore_progress)
    assert not list(fp16.rglob('*.part'))
    assert not any(stored.complete for stored in stored_plans(fp16))
    build_plans(EngineDirectory.verified(fp16), ignore_progress)
    assert [stored.complete for stored in stored_plans(fp16)] == [True]


def test_little_memory_is_told_before(fp16: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, 'available_memory', lambda: 1_000_000_000)
    with pytest.raises(EngineError, match=r'building plans .* 1\.0 GB are available; end other'):
        build_plans(EngineDirectory.verified(fp16), ignore_progress)
    assert stored_plans(fp16) == []


def test_a_read_only_engine_says_so(fp16: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, 'mkdir', refuse)
    with pytest.raises(EngineFileError, match='Read-only file system.*copy the engine to where'):
        build_plans(EngineDirectory.verified(fp16), ignore_progress)
