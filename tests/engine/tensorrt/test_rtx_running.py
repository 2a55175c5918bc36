"""Plans for RTX on a GPU: checked on each machine, with kernels that are compiled there once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kosmos_ros.engine import machine
from kosmos_ros.engine.load import load_engine
from kosmos_ros.engine.tensorrt.plans import stored_plans
from kosmos_ros.errors import RunnerUnavailable

from .double import Double
from .gpu_machine import GPU, build, called, damage, load
from .running import UNSUPPORTED
from .surface import RTX

pytestmark = pytest.mark.parametrize('surface', [RTX], indirect=True)


def compiled(gpu: Double) -> int:
    """How many kernels have been compiled since the last call."""
    count = gpu.built.count('kernel')
    gpu.built.clear()
    return count


def use(gpu: Double, monkeypatch: pytest.MonkeyPatch, name: str, capability: str = '8.9') -> None:
    """Put another GPU into the machine."""
    other = replace(GPU, name=name, capability=capability)
    monkeypatch.setattr(machine, 'gpu', lambda: other)
    gpu.device_name = name


def test_kernels_are_compiled_once_on_each_machine(
    gpu: Double, fp16: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(fp16)[0].close()
    first = compiled(gpu)
    # One for the picture, and one for each shape: all before the first question.
    assert first > 5
    load(fp16)[0].close()
    assert compiled(gpu) == 0
    use(gpu, monkeypatch, 'another device')
    load(fp16)[0].close()
    assert compiled(gpu) == first
    load(fp16)[0].close()
    assert compiled(gpu) == 0
    # The plans are still the same, and the first machine knows its kernels.
    assert len(stored_plans(fp16)) == 1
    use(gpu, monkeypatch, GPU.name, GPU.capability)
    load(fp16)[0].close()
    assert compiled(gpu) == 0


@pytest.mark.parametrize(
    ('harm', 'message'),
    [
        (damage, 'decoder.plan does not have the content'),
        (lambda path: path.unlink(), 'cannot be read'),
        (lambda path: path.parent.chmod(0o777), 'others may write to it'),
    ],
    ids=['damaged', 'gone', 'open'],
)
def test_kernels_that_cannot_be_trusted_are_compiled_again(
    gpu: Double, fp16: Path, harm: Callable[[Path], None], message: str
) -> None:
    build(fp16)[0].close()
    first = compiled(gpu)
    (stored,) = stored_plans(fp16)
    (folder,) = stored.folder.glob('kernels-*')
    harm(folder / 'decoder.plan')
    engine, lines = load(fp16)
    engine.close()
    assert any('kernels are compiled again' in line and message in line for line in lines)
    assert compiled(gpu) == first
    load(fp16)[0].close()
    assert compiled(gpu) == 0


def test_a_gpu_that_it_does_not_support_is_passed_over(
    gpu: Double, fp16: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(fp16)[0].close()
    deserialized = called(gpu, 'Runtime.deserialize_cuda_engine')
    use(gpu, monkeypatch, UNSUPPORTED, '9.0')
    engine = load_engine(fp16)
    assert 'a fallback' in engine.name
    assert 'TensorRT for RTX does not support this GPU: PyTorch runs' in engine.remarks[0]
    assert called(gpu, 'Runtime.deserialize_cuda_engine') == deserialized
    # They may be for another machine.
    assert [stored.complete for stored in stored_plans(fp16)] == [True]


def test_an_old_gpu_is_passed_over(
    gpu: Double, fp16: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(fp16)[0].close()
    use(gpu, monkeypatch, 'a Turing', '7.5')
    with pytest.raises(RunnerUnavailable, match=r'compute capability 7\.5; .* needs 8\.0 or more'):
        load(fp16)


def test_plans_of_another_release_are_not_looked_at(gpu: Double, fp16: Path) -> None:
    build(fp16)[0].close()
    gpu.__version__ = '1.8.0.1'
    with pytest.raises(RunnerUnavailable, match='has some for any RTX GPU, TensorRT for RTX 1.7'):
        load(fp16)
