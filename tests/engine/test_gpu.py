"""On a machine with an NVIDIA GPU: PyTorch with and without CUDA graphs, and TensorRT itself where
it is installed.  `pytest -s` shows the times, for docs/log.md.
"""

from pathlib import Path
import shutil
import time

import numpy as np
import pytest
import torch

from kosmos_ros.engine.base import Image
from kosmos_ros.engine.building.plans import build_plans
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.directory.reference import TOLERANCES, ReferenceAnswers, self_check
from kosmos_ros.engine.kosmos2 import Kosmos2Engine
from kosmos_ros.engine.load import load_engine, open_runner
from kosmos_ros.engine.runners.cuda import CudaDevice
from kosmos_ros.engine.runners.runner import Runner
from kosmos_ros.engine.runners.torch_program import open_static_runner

from .cases import Case, talk

EXPRESSIONS = ['the red ball', 'ring', 'the small green cone left of the large blue box']

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason='PyTorch sees no NVIDIA GPU here'
)


@pytest.fixture
def image() -> Image:
    return np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)


def show_times(title: str, engine: Kosmos2Engine, image: Image) -> None:
    context = engine.encode_image(image)
    for name, work in (
        ('image', lambda: engine.encode_image(image)),
        ('expression', lambda: engine.locate(context, EXPRESSIONS[:1], top_k=8)),
    ):
        times = []
        for _ in range(30):
            begin = time.perf_counter()
            work()
            times.append(1e3 * (time.perf_counter() - begin))
        print(f'{title}: {name} {np.median(times):.2f} ms')


def long_answer(files: EngineDirectory, runner: Runner) -> None:
    """A prompt in pieces and 64 steps, and others' questions in between, against the reference."""
    case = Case(files, runner, TOLERANCES[files.recipe.precision])
    talk(case)
    pasts = case.fill(case.look(), 1, 40)
    rng = np.random.default_rng(1)
    begin = time.perf_counter()
    for _ in range(64):
        pasts = case.step(rng.integers(4, files.vocabulary.size, 1), pasts)
    print(f'{runner.name}: 64 steps beside the reference {time.perf_counter() - begin:.2f} s')


@pytest.mark.parametrize('graphs', [False, True], ids=['launched', 'captured'])
@pytest.mark.parametrize('name', ['tensorrt-fp16', 'tensorrt-bf16', 'tensorrt-int8'])
def test_pytorch(engines: dict[str, Path], name: str, graphs: bool, image: Image) -> None:
    files = EngineDirectory.verified(engines[name])
    runner = open_static_runner(files, CudaDevice(graphs))
    reference = ReferenceAnswers.read(files.path / 'reference.safetensors')
    # The second time, everything that can be is replayed.
    for _ in range(2):
        for line in self_check(runner, reference, 'full', files.recipe.precision):
            print(f'{name}: {line}')
    long_answer(files, runner)
    engine = Kosmos2Engine(name, runner, files.vocabulary, files.config)
    show_times(f'{name}, CUDA graphs {graphs}', engine, image)


def test_the_fallback_is_the_gpu(engines: dict[str, Path], image: Image) -> None:
    engine = load_engine(engines['tensorrt-fp16'], 'torch', self_check='full')
    reference = load_engine(engines['tensorrt-fp16'], 'onnxruntime')
    assert 'cuda' in engine.name
    found = engine.locate(engine.encode_image(image), EXPRESSIONS * 7, top_k=3)
    wanted = reference.locate(reference.encode_image(image), EXPRESSIONS * 7, top_k=3)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours[0].score == pytest.approx(theirs[0].score, rel=0.05)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    'name', ['tensorrt-fp32', 'tensorrt-fp16', 'tensorrt-bf16', 'tensorrt-int8']
)
def test_tensorrt(engines: dict[str, Path], tmp_path: Path, name: str, image: Image) -> None:
    directory = Path(shutil.copytree(engines[name], tmp_path / 'engine'))
    files = EngineDirectory.verified(directory)
    build_plans(files, print)
    runner, _ = open_runner(files, 'tensorrt', level='full', report=print)
    long_answer(files, runner)
    engine = Kosmos2Engine(name, runner, files.vocabulary, files.config)
    show_times(name, engine, image)
    runner.close()
