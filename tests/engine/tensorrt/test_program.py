"""From an engine directory to answers through TensorRT's own code paths, on a double of every
release: build, load, self-check, refer.
"""

from dataclasses import replace
from pathlib import Path
import shutil

import numpy as np
import pytest
import torch

from engine.cases import CLOSE, EXACT, Case, talk
from engine.tensorrt.double import Double
from engine.tensorrt.gpu_machine import build, damage, load
from engine.tensorrt.host_device import HostDevice
from kosmos_ros.console.main import main
from kosmos_ros.engine.base import ignore_progress
from kosmos_ros.engine.building.plans import build_plans
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.load import load_engine, open_runner
from kosmos_ros.engine.tensorrt.plans import stored_plans
from kosmos_ros.errors import EngineError, EngineFileError, RunnerUnavailable

EXPRESSIONS = ['the red ball', 'ring', 'the small green cone left of the large blue box']


@pytest.fixture(params=['fp32', 'fp16', 'int8'])
def directory(request: pytest.FixtureRequest, engines: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(engines[f'tensorrt-{request.param}'], tmp_path / 'engine'))


def test_checkpoint_to_boxes(gpu: Double, directory: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    engine, lines = build(directory, self_check='full')
    flavour = 'TensorRT for RTX' if gpu.is_rtx else 'TensorRT'
    assert f'{flavour} {gpu.__version__}, ' in engine.name
    assert engine.remarks == ()
    assert any('building decoder.plan' in line and '%' in line for line in lines)
    assert any('self-check full: decode 3' in line for line in lines)

    reference = load_engine(directory, 'onnxruntime')
    # Twice: the second time, everything comes from captured graphs.
    for _ in range(2):
        found = engine.locate(engine.encode_image(image), EXPRESSIONS * 3, top_k=2)
        wanted = reference.locate(reference.encode_image(image), EXPRESSIONS * 3, top_k=2)
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours[0].score == pytest.approx(theirs[0].score, rel=0.05)
            assert {one.box_in_image for one in ours} & {one.box_in_image for one in theirs}
    engine.close()


def test_a_conversation(gpu: Double, directory: Path) -> None:
    """Prompts in pieces, beams, and the questions of others between any two steps."""
    files = EngineDirectory.verified(directory)
    build_plans(files, ignore_progress)
    runner, _ = open_runner(files, 'tensorrt', level='off')
    exact = files.recipe.precision == 'fp32'
    talk(Case(files, runner, EXACT if exact else CLOSE))
    runner.close()


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        ('Runtime.deserialize_cuda_engine', 'vision.plan cannot be loaded'),
        ('ICudaEngine.create_execution_context', 'a context cannot be made'),
        ('IExecutionContext.set_optimization_profile_async', 'no profile 0'),
        ('IExecutionContext.set_input_shape', 'pixels cannot have shape'),
        ('IExecutionContext.set_tensor_address', 'pixels is refused'),
        ('IExecutionContext.execute_async_v3', 'vision.plan cannot be run'),
    ],
)
def test_every_refusal_of_tensorrt_is_an_error_with_its_words(
    gpu: Double, fp16: Path, call: str, message: str
) -> None:
    gpu.fail_next(call)
    with pytest.raises(EngineError, match=f'{message}.*TensorRT says: .') as caught:
        build(fp16)
    assert not isinstance(caught.value, (EngineFileError, RunnerUnavailable))
    # Those that were built here are gone.
    assert any(stored.complete for stored in stored_plans(fp16)) == gpu.is_rtx
    # Nothing of it stays in the way.
    build(fp16, self_check='full')[0].close()


def test_without_plans_it_says_what_to_run(gpu: Double, fp16: Path) -> None:
    with pytest.raises(RunnerUnavailable, match=f'kosmos_ros engine build --out {fp16}'):
        load(fp16)
    engine = load_engine(fp16)
    assert 'a fallback' in engine.name
    assert 'no TensorRT plans' in engine.remarks[0]


def test_what_tensorrt_refuses_others_run(gpu: Double, fp16: Path) -> None:
    build(fp16)[0].close()
    gpu.fail_next('IExecutionContext.execute_async_v3')
    engine = load_engine(fp16, self_check='quick')
    assert 'vision.plan cannot be run' in engine.remarks[0]
    assert 'a fallback' in engine.name
    # Not what is damaged: that is for a person to look at.
    (stored,) = stored_plans(fp16)
    damage(stored.folder / 'decoder.plan')
    with pytest.raises(EngineFileError, match='decoder.plan'):
        load_engine(fp16)


def test_a_gpu_with_too_little_memory_is_passed_over(
    gpu: Double, fp16: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(fp16)[0].close()

    def full(self: HostDevice, *_: object) -> None:
        raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0')

    monkeypatch.setattr(HostDevice, 'empty', full)
    engine = load_engine(fp16, self_check='quick')
    assert 'too small (CUDA out of memory)' in engine.remarks[0]
    with pytest.raises(RunnerUnavailable, match='too small'):
        load_engine(fp16, 'tensorrt')


def test_an_old_tensorrt_is_passed_over(gpu: Double, fp16: Path) -> None:
    gpu.__version__ = '1.6.0' if gpu.is_rtx else '8.6.1'
    remark = load_engine(fp16).remarks[0]
    assert 'supports TensorRT 10.3 and TensorRT for RTX 1.7, and above' in remark


# What comes before the plans is the same for all releases, and takes long.
@pytest.mark.parametrize('surface', ['11.4.0.106'], indirect=True)
@pytest.mark.engines
def test_one_command_from_checkpoint_to_plans(
    gpu: Double, checkpoint: Path, recipe: Recipe, tmp_path: Path
) -> None:
    target = tmp_path / 'mine.yaml'
    replace(recipe, runner='tensorrt', precision='fp16').write(target)
    out = tmp_path / 'engine'
    command = ['engine', 'build', '--checkpoint', str(checkpoint), '--recipe', str(target)]
    assert main([*command, '--out', str(out)]) == 0
    assert [stored.complete for stored in stored_plans(out)] == [True]
    load(out, self_check='quick')[0].close()
