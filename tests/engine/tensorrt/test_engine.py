"""From an engine directory to answers through TensorRT's own code paths, on a double of every
release: build, load, self-check, refer.
"""

from collections.abc import Callable
from dataclasses import replace
import fcntl
import json
from pathlib import Path
import shutil
import sys
import threading
from typing import Any

import numpy as np
import pytest

from kosmos_ros.cli import main
from kosmos_ros.engine import machine
from kosmos_ros.engine.files import GOLDEN_FILE
from kosmos_ros.engine.golden import Golden
from kosmos_ros.engine.load import EngineFiles, load_engine, open_runner
from kosmos_ros.engine.machine import Gpu
from kosmos_ros.engine.plans import stored_plans
from kosmos_ros.engine.recipe import Recipe
from kosmos_ros.errors import EngineError, EngineFileError, RunnerUnavailable, SelfCheckFailed

from .double import Double
from .host_device import HostDevice

GPU = Gpu('a device', '8.7', 16, 64 << 30, '12.6', '12.6')
EXPRESSIONS = ['the red ball', 'ring', 'the small green cone left of the large blue box']
# These import TensorRT at their top, and must import this test's double.
USERS = (
    'kosmos_ros.engine.tensorrt_log',
    'kosmos_ros.engine.tensorrt_build',
    'kosmos_ros.engine.tensorrt_engine',
    'kosmos_ros.engine.runners.tensorrt',
)


@pytest.fixture
def gpu(trt: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """A machine with a GPU and the double as its TensorRT."""
    trt.device_name = GPU.name
    for name in USERS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(machine, 'gpu', lambda: GPU)
    monkeypatch.setattr('kosmos_ros.engine.runners.device.CudaDevice', lambda: HostDevice(trt))
    return trt


@pytest.fixture(params=['fp32', 'fp16', 'int8'])
def directory(request: pytest.FixtureRequest, engines: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(engines[f'tensorrt-{request.param}'], tmp_path / 'engine'))


@pytest.fixture
def fp16(engines: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(engines['tensorrt-fp16'], tmp_path / 'engine'))


def build(directory: Path, **options: Any) -> tuple[Any, list[str]]:
    lines: list[str] = []
    options = {'self_check': 'off', 'build_plans': 'missing'} | options
    engine = load_engine(directory, 'tensorrt', report=lines.append, **options)
    return engine, lines


def called(trt: Double, name: str) -> int:
    return sum(call.name == name for call in trt.calls)


def test_checkpoint_to_boxes(gpu: Double, directory: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    engine, lines = build(directory, self_check='full')
    assert f'TensorRT {gpu.__version__}' in engine.name
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


def test_plans_are_built_once(gpu: Double, fp16: Path) -> None:
    build(fp16)[0].close()
    assert called(gpu, 'Builder.build_serialized_network') == 2
    build(fp16, build_plans='never')[0].close()
    assert called(gpu, 'Builder.build_serialized_network') == 2
    (stored,) = stored_plans(fp16)
    assert stored.complete
    assert stored.machine == f'{GPU.name}, TensorRT {gpu.__version__}'


def test_the_network_alone_decides_precisions(gpu: Double, fp16: Path) -> None:
    build(fp16)[0].close()
    strong = 1 << int(gpu.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    flags = [call.arguments for call in gpu.calls if call.name == 'Builder.create_network']
    assert flags == [(strong,)] * 2
    assert not called(gpu, 'IBuilderConfig.set_flag')


def test_attention_may_be_decomposed(gpu: Double, fp16: Path) -> None:
    gpu.plain_layers = True
    build(fp16)[0].close()
    wanted = 2 if hasattr(gpu, 'IKVCacheUpdateLayer') else 0
    assert called(gpu, 'IAttention.decomposable=') == wanted


@pytest.mark.parametrize(
    'change',
    [
        {'name': 'another device'},
        {'capability': '11.0'},
        {'driver': '13.0'},
        {'multiprocessors': 20},
    ],
)
def test_plans_of_another_machine_are_not_looked_at(
    gpu: Double, fp16: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    build(fp16)[0].close()
    deserialized = called(gpu, 'Runtime.deserialize_cuda_engine')
    other = Gpu(**{name: getattr(GPU, name) for name in Gpu.__slots__} | change)
    monkeypatch.setattr(machine, 'gpu', lambda: other)
    with pytest.raises(RunnerUnavailable, match='no TensorRT plans for this machine .*1 other'):
        build(fp16, build_plans='never')
    assert called(gpu, 'Runtime.deserialize_cuda_engine') == deserialized
    gpu.device_name = other.name
    build(fp16)[0].close()
    assert len(stored_plans(fp16)) == 2


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


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
        build(fp16, build_plans='never')
    assert called(gpu, 'Runtime.deserialize_cuda_engine') == deserialized
    # Asked to, it builds them anew.
    build(fp16, self_check='quick')[0].close()


def test_plans_that_others_could_have_written_are_refused(gpu: Double, fp16: Path) -> None:
    build(fp16)[0].close()
    (stored,) = stored_plans(fp16)
    stored.folder.chmod(0o777)
    with pytest.raises(EngineFileError, match='others may write'):
        build(fp16, build_plans='never')


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        ('Builder.create_network', 'makes no network'),
        ('Builder.create_builder_config', 'makes no configuration'),
        ('Builder.create_optimization_profile', 'makes no profile'),
        ('IBuilderConfig.add_optimization_profile', 'refuses a profile of decoder.plan'),
        ('OnnxParser.parse_from_file', 'cannot read vision.onnx'),
        ('Builder.build_serialized_network', 'vision.plan cannot be built'),
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
    assert not any(stored.complete for stored in stored_plans(fp16))
    # Nothing of it stays in the way.
    build(fp16, self_check='full')[0].close()


def test_an_interrupted_build_goes_on(
    gpu: Double, fp16: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def report(line: str) -> None:
        if line.startswith('building decoder.plan') and '%' in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_engine(fp16, 'tensorrt', build_plans='missing', report=report)
    (stored,) = stored_plans(fp16)
    assert not stored.complete
    with pytest.raises(RunnerUnavailable):
        build(fp16, build_plans='never')
    gpu.calls.clear()
    _, lines = build(fp16)
    assert 'plans: vision.plan was built before' in lines
    assert called(gpu, 'Builder.build_serialized_network') == 1
    assert [stored.complete for stored in stored_plans(fp16)] == [True]


def test_two_processes_build_one_after_the_other(gpu: Double, fp16: Path) -> None:
    """The second one waits, and finds what the first one built."""
    lines: list[str] = []
    waiting = threading.Event()

    def report(line: str) -> None:
        lines.append(line)
        if 'waiting for another process' in line:
            waiting.set()

    second = threading.Thread(
        target=lambda: load_engine(fp16, 'tensorrt', build_plans='missing', report=report)
    )
    build(fp16)[0].close()
    (stored,) = stored_plans(fp16)
    built = called(gpu, 'Builder.build_serialized_network')
    with (stored.folder.parent / 'lock').open('w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second.start()
        assert waiting.wait(60)
    second.join(60)
    assert not second.is_alive()
    assert called(gpu, 'Builder.build_serialized_network') == built
    assert not any('building' in line for line in lines)


@pytest.mark.parametrize('stage', ['vision', 'prefill of the image', 'decode 1'])
def test_wrong_numbers_are_refused_with_their_stage(
    gpu: Double, fp16: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """The graph in the plan is not the one that the reference answers are of."""
    files = EngineFiles.verified(fp16)
    golden = Golden.read(fp16 / GOLDEN_FILE)
    name = {'vision': 'embeds', 'prefill of the image': 'image_hidden'}.get(stage, 'step_hidden')
    replace(golden, **{name: 2 * getattr(golden, name)}).write(fp16 / GOLDEN_FILE)
    with pytest.raises(SelfCheckFailed, match=f'plans built here are refused.*{stage} differs'):
        open_runner(
            files, 'tensorrt', level='off', build_plans='missing', report=lambda line: None
        )
    assert stored_plans(fp16) == []


def test_without_plans_it_says_what_to_run(gpu: Double, fp16: Path) -> None:
    with pytest.raises(RunnerUnavailable, match=f'kosmos_ros engine build --out {fp16}'):
        build(fp16, build_plans='never')
    engine = load_engine(fp16)
    assert 'a fallback' in engine.name
    assert 'no TensorRT plans' in engine.remarks[0]


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
    assert len(content['checks']) == 6
    assert content['failure'] == ''

    other = Gpu(**{name: getattr(GPU, name) for name in Gpu.__slots__} | {'driver': '13.0'})
    monkeypatch.setattr(machine, 'gpu', lambda: other)
    assert main(['engine', 'build', '--out', str(fp16)]) == 0
    assert main(['engine', 'info', str(fp16)]) == 0
    assert capsys.readouterr().out.count(f'plans: {GPU.name}, TensorRT') == 2
    assert main(['engine', 'prune', str(fp16)]) == 0
    assert capsys.readouterr().out.count('removed') == 1
    (kept,) = stored_plans(fp16)
    build(fp16, build_plans='never')[0].close()
    assert main(['engine', 'prune', str(fp16)]) == 0
    assert 'nothing to remove' in capsys.readouterr().out
    assert kept.folder.exists()
    assert main(['engine', 'prune', str(fp16), '--all']) == 0
    assert stored_plans(fp16) == []


# What comes before the plans is the same for all releases, and takes long.
@pytest.mark.parametrize('surface', ['11.4.0.106'], indirect=True)
def test_one_command_from_checkpoint_to_plans(
    gpu: Double, checkpoint: Path, recipe: Recipe, tmp_path: Path
) -> None:
    target = tmp_path / 'mine.yaml'
    replace(recipe, runner='tensorrt', precision='fp16').write(target)
    out = tmp_path / 'engine'
    command = ['engine', 'build', '--checkpoint', str(checkpoint), '--recipe', str(target)]
    assert main([*command, '--out', str(out)]) == 0
    assert [stored.complete for stored in stored_plans(out)] == [True]
    build(out, build_plans='never', self_check='quick')[0].close()


def test_asked_for_plans_only_it_falls_back_to_nothing(gpu: Double, fp16: Path) -> None:
    gpu.fail_next('Builder.build_serialized_network')
    with pytest.raises(EngineError, match=r'vision\.plan cannot be built'):
        load_engine(fp16, build_plans='only')
