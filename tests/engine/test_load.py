"""Which runner an engine gets, and what a person is told about it."""

from collections.abc import Callable
from pathlib import Path
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from kosmos_ros.engine.base import Engine, ignore_progress
from kosmos_ros.engine.building.plans import build_plans
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.load import load_engine
from kosmos_ros.engine.runners.onnxruntime import OnnxRuntimeRunner
from kosmos_ros.engine.runners.torch import TorchRunner
from kosmos_ros.environment import child_environment
from kosmos_ros.errors import RunnerUnavailable, SelfCheckFailed

NO_TENSORRT = 'not by TensorRT: TensorRT is not installed; install .* Python package tensorrt'
NO_GPU = r'not by PyTorch on a GPU: PyTorch \S+ sees no NVIDIA GPU'
NO_BF16 = 'not by ONNX Runtime: ONNX Runtime has no bfloat16 on the CPU'
ALL = ('onnxruntime-fp32', 'onnxruntime-int8', 'tensorrt-fp16', 'tensorrt-int8', 'tensorrt-bf16')


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a GPU nor TensorRT, whatever machine this is."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    hide(monkeypatch, 'tensorrt', 'tensorrt_rtx', 'tensorrt_rtx_bindings')


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """They cannot be imported any more."""
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def forget_runners(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are imported again, and with them what they need."""
    for name in [name for name in sys.modules if name.startswith('kosmos_ros.engine.runners.')]:
        monkeypatch.delitem(sys.modules, name)


def load(directory: Path, runner: str = 'auto', **options: Any) -> tuple[Engine, list[str]]:
    lines: list[str] = []
    engine = load_engine(directory, runner, report=lines.append, **options)
    assert lines.pop(0) == 'checking the files'
    return engine, lines


def remarks_are(found: tuple[str, ...], *wanted: str) -> bool:
    assert len(found) == len(wanted)
    for remark, pattern in zip(found, wanted, strict=True):
        assert re.match(pattern, remark), remark
        assert '\n' not in remark
    return True


def off(real: Callable[..., Any]) -> Callable[..., Any]:
    """As `real`, which gives an array, but off by half of it."""
    return lambda self, value: 1.5 * real(self, value)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runners that gave their memory back."""
    names: list[str] = []
    for kind in (OnnxRuntimeRunner, TorchRunner):

        def close(self: Any, real: Callable[[Any], None] = kind.close) -> None:
            names.append(type(self).__name__)
            real(self)

        monkeypatch.setattr(kind, 'close', close)
    return names


def test_for_onnxruntime_nothing_else_is_tried(engines: dict[str, Path]) -> None:
    for precision in ('fp32', 'int8'):
        engine, lines = load(engines[f'onnxruntime-{precision}'])
        assert lines == ['loading by ONNX Runtime']
        assert engine.remarks == ()
        assert re.fullmatch(rf'tiny on ONNX Runtime [\d.]+, CPU, {precision}', engine.name)
        engine.close()


@pytest.mark.parametrize('precision', ['fp16', 'int8'])
def test_for_tensorrt_it_falls_back_and_says_why(engines: dict[str, Path], precision: str) -> None:
    engine, lines = load(engines[f'tensorrt-{precision}'])
    assert lines == [
        'loading by TensorRT',
        'loading by PyTorch on a GPU',
        'loading by ONNX Runtime',
    ]
    assert remarks_are(engine.remarks, NO_TENSORRT, NO_GPU)
    assert re.fullmatch(rf'tiny on ONNX Runtime [\d.]+, CPU, {precision}, a fallback', engine.name)
    engine.close()


def test_bfloat16_is_left_to_torch(engines: dict[str, Path]) -> None:
    engine, lines = load(engines['tensorrt-bf16'], self_check='full')
    assert remarks_are(engine.remarks, NO_TENSORRT, NO_GPU, NO_BF16)
    assert re.fullmatch(r'tiny on PyTorch \S+, cpu, bfloat16, a fallback', engine.name)
    assert lines[3] == 'loading by PyTorch on the CPU'
    with pytest.raises(RunnerUnavailable, match=NO_BF16):
        load(engines['tensorrt-bf16'], 'onnxruntime')


@pytest.mark.parametrize('name', ALL)
def test_forced_to_torch_it_takes_the_cpu_without_a_gpu(
    engines: dict[str, Path], name: str
) -> None:
    engine, lines = load(engines[name], 'torch', self_check='full')
    assert remarks_are(engine.remarks, NO_GPU)
    assert re.fullmatch(r'tiny on PyTorch \S+, cpu, (b?float\d\d), a fallback', engine.name)
    assert [line for line in lines if line.startswith('loading')] == [
        'loading by PyTorch on a GPU',
        'loading by PyTorch on the CPU',
    ]


@pytest.mark.parametrize('name', ['onnxruntime-fp32', 'tensorrt-fp16'])
def test_forced_to_onnxruntime_it_is_no_fallback(engines: dict[str, Path], name: str) -> None:
    engine, lines = load(engines[name], 'onnxruntime')
    assert lines == ['loading by ONNX Runtime']
    assert engine.remarks == ()
    assert 'fallback' not in engine.name


def test_forced_to_tensorrt_it_falls_back_to_nothing(engines: dict[str, Path]) -> None:
    directory = engines['tensorrt-fp16']
    with pytest.raises(RunnerUnavailable, match=f'{directory} cannot be run.*{NO_TENSORRT}'):
        load(directory, 'tensorrt')
    with pytest.raises(RunnerUnavailable, match='was made for onnxruntime; build one'):
        load(engines['onnxruntime-fp32'], 'tensorrt')


def test_tensorrt_without_a_gpu_says_so(
    engines: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = type(sys)('tensorrt')
    module.__version__ = '10.3.0'  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, 'tensorrt', module)
    engine, _ = load(engines['tensorrt-fp16'])
    assert remarks_are(engine.remarks, r'not by TensorRT: PyTorch \S+ sees no NVIDIA GPU', NO_GPU)


def test_other_names_are_not_runners(engines: dict[str, Path]) -> None:
    for runner in ('cuda', 'TensorRT', ''):
        with pytest.raises(ValueError, match=f'runner is {runner!r}; .*auto, tensorrt, torch'):
            load(engines['onnxruntime-fp32'], runner)
    with pytest.raises(ValueError, match="self_check is 'some'; .*off, quick, full"):
        load(engines['onnxruntime-fp32'], self_check='some')


@pytest.mark.parametrize('level', ['quick', 'full'])
def test_the_check_is_reported(engines: dict[str, Path], level: str) -> None:
    _, lines = load(engines['onnxruntime-fp32'], self_check=level)
    assert lines[0] == 'loading by ONNX Runtime'
    assert lines[-1] == f'self-check {level} passed'
    stages = [line.split(': ')[1] for line in lines[1:-1]]
    assert all(line.startswith(f'self-check {level}: ') for line in lines[1:-1])
    assert stages[:4] == ['vision', 'prefill of the image', 'prefill of prompts', 'decode 1']
    assert len(stages) == {'quick': 4, 'full': 7}[level]


def test_who_fails_the_check_is_passed_over(
    engines: dict[str, Path], monkeypatch: pytest.MonkeyPatch, closed: list[str]
) -> None:
    monkeypatch.setattr(OnnxRuntimeRunner, 'fetch', off(OnnxRuntimeRunner.fetch))
    failed = (
        r'not by ONNX Runtime: self-check: vision differs from the reference.*'
        r'norm off by 0\.(5|499)'
    )
    engine, lines = load(engines['onnxruntime-fp32'], self_check='quick')
    assert remarks_are(engine.remarks, failed)
    assert re.fullmatch(r'tiny on PyTorch \S+, cpu, float32, a fallback', engine.name)
    assert lines[:2] == ['loading by ONNX Runtime', 'loading by PyTorch on the CPU']
    assert closed == ['OnnxRuntimeRunner']
    # Unasked, nobody checks.
    assert load(engines['onnxruntime-fp32'])[0].remarks == ()
    engine, _ = load(engines['tensorrt-fp16'], self_check='full')
    assert remarks_are(engine.remarks, NO_TENSORRT, NO_GPU, failed)


def test_forced_who_fails_the_check_is_refused(
    engines: dict[str, Path], monkeypatch: pytest.MonkeyPatch, closed: list[str]
) -> None:
    monkeypatch.setattr(OnnxRuntimeRunner, 'fetch', off(OnnxRuntimeRunner.fetch))
    with pytest.raises(SelfCheckFailed, match='vision differs'):
        load(engines['onnxruntime-fp32'], 'onnxruntime', self_check='quick')
    assert closed == ['OnnxRuntimeRunner']


def test_when_all_fail_the_check_it_is_a_failed_check(
    engines: dict[str, Path], monkeypatch: pytest.MonkeyPatch, closed: list[str]
) -> None:
    for kind in (OnnxRuntimeRunner, TorchRunner):
        monkeypatch.setattr(kind, 'fetch', off(kind.fetch))
    for runner in ('auto', 'torch'):
        with pytest.raises(SelfCheckFailed, match='vision differs'):
            load(engines['onnxruntime-fp32'], runner, self_check='quick')
    assert closed == ['OnnxRuntimeRunner', 'TorchRunner', 'TorchRunner']


def test_when_nothing_is_left_all_reasons_are_told(
    engines: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, 'torch', 'onnxruntime')
    forget_runners(monkeypatch)
    directory = engines['tensorrt-fp16']
    with pytest.raises(RunnerUnavailable) as caught:
        load(directory)
    text = str(caught.value)
    assert text.startswith(f'{directory} cannot be run here: not by TensorRT: ')
    assert '\n' not in text
    reasons = text.split('; not by ')
    assert [reason.split(': ')[0] for reason in reasons[1:]] == [
        'PyTorch on a GPU',
        'ONNX Runtime',
        'PyTorch on the CPU',
    ]
    assert [reason.split('package ')[1].split()[0] for reason in reasons] == [
        'torch',
        'torch',
        'onnxruntime',
        'torch',
    ]
    with pytest.raises(RunnerUnavailable, match='onnxruntime is missing .pip install onnxruntime'):
        load(engines['onnxruntime-fp32'], 'onnxruntime')


@pytest.mark.parametrize('missing', ['torch', 'onnxruntime'])
def test_one_missing_package_is_no_reason_to_give_up(
    engines: dict[str, Path], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    hide(monkeypatch, missing)
    forget_runners(monkeypatch)
    engine, _ = load(engines['tensorrt-fp16'])
    assert any(f'package {missing} is missing' in remark for remark in engine.remarks)
    assert {'torch': 'ONNX Runtime', 'onnxruntime': 'PyTorch'}[missing] in engine.name


def test_a_failure_in_the_check_is_not_taken_for_a_missing_runner(
    engines: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not even look like an answer is an error to be seen, not to be passed over."""

    def fetch(self: object, value: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(OnnxRuntimeRunner, 'fetch', fetch)
    with pytest.raises(ZeroDivisionError):
        load(engines['onnxruntime-fp32'], self_check='quick')


def test_an_engine_without_plans_says_so(engines: dict[str, Path]) -> None:
    lines: list[str] = []
    build_plans(EngineDirectory.verified(engines['onnxruntime-fp32']), lines.append)
    assert lines == ['plans: this engine is not run by TensorRT, so it has none']


def test_plans_that_cannot_be_built_are_an_error(engines: dict[str, Path]) -> None:
    with pytest.raises(RunnerUnavailable, match='^TensorRT is not installed'):
        build_plans(EngineDirectory.verified(engines['tensorrt-fp16']), ignore_progress)


ON_A_ROBOT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {'torch', 'onnx', 'onnx_ir', 'onnxscript', 'transformers'}:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Refuse())
from pathlib import Path
import numpy
from kosmos_ros.engine.load import load_engine

engine = load_engine(Path(sys.argv[1]), self_check='full')
image = numpy.zeros((48, 64, 3), numpy.uint8)
((located,),) = engine.locate(engine.encode_image(image), ['the red ball'])
print(engine.name, *engine.remarks, located, sep='\\n')
"""


@pytest.mark.parametrize(
    ('name', 'remarks'),
    [
        ('onnxruntime-fp32', 0),
        ('onnxruntime-int8', 0),
        # TensorRT, and PyTorch on a GPU.
        ('tensorrt-fp16', 2),
    ],
)
def test_on_a_robot_without_torch_it_answers(
    engines: dict[str, Path], name: str, remarks: int
) -> None:
    done = subprocess.run(
        [sys.executable, '-W', 'error', '-c', ON_A_ROBOT, str(engines[name])],
        capture_output=True,
        env=child_environment(),
        text=True,
        timeout=60,
    )
    assert (done.stderr, done.returncode) == ('', 0)
    first, *between, last = done.stdout.splitlines()
    assert first.startswith('tiny on ONNX Runtime ')
    assert len(between) == remarks
    assert all('the Python package torch is missing' in remark for remark in between)
    engine = load_engine(engines[name])
    image = np.zeros((48, 64, 3), np.uint8)
    ((located,),) = engine.locate(engine.encode_image(image), ['the red ball'])
    assert last == str(located)
