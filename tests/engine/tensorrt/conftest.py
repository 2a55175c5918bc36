"""Doubles of TensorRT, one for each release that the project is for."""

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
import shutil
import sys
from typing import Any

import pytest

from kosmos_ros.engine import machine

from .double import Double, make
from .gpu_machine import GPU, USERS
from .graphs import scatter_elements
from .host_device import HostDevice
from .plan import build_plan
from .program import Lines, context_of, engine_of
from .surface import RTX, Surface, obtain


# The oldest, the newest, and the other flavour; pyright looks at those between, too.
@pytest.fixture(scope='session', params=['10.3.0', '11.4.0.106', RTX])
def surface(request: pytest.FixtureRequest) -> Surface:
    """What is known of a release."""
    return obtain(request.param)


def forget_tensorrt() -> None:
    """Let our modules import TensorRT again."""
    for name in USERS:
        sys.modules.pop(name, None)


@pytest.fixture
def trt(surface: Surface, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    """The double, which our modules import, too."""
    double = make(surface.path)
    # None is what cannot be imported.
    monkeypatch.setitem(sys.modules, 'tensorrt', None if double.is_rtx else double)
    monkeypatch.setitem(sys.modules, 'tensorrt_rtx', double)
    forget_tensorrt()
    yield double
    forget_tensorrt()
    assert not double.failures, f'asked for, but never called: {double.failures}'


@pytest.fixture
def rtx(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """NVIDIA's TensorRT for RTX, whatever else this machine has."""
    for name in ('tensorrt', 'tensorrt_rtx'):
        monkeypatch.setitem(sys.modules, name, None)
    forget_tensorrt()
    yield
    forget_tensorrt()


@pytest.fixture
def device(trt: Double) -> HostDevice:
    """Memory and stream for the double."""
    return HostDevice(trt)


@pytest.fixture
def lines(trt: Double) -> Lines:
    """What the double says."""
    return Lines(trt)


@pytest.fixture
def engine(trt: Double, lines: Lines, tmp_path: Path) -> Any:
    """Writes into a cache of its own; with two profiles."""
    return engine_of(trt, lines.logger, scatter_elements(tmp_path), profiles=2)


@pytest.fixture
def context(trt: Double, engine: Any) -> Any:
    return context_of(trt, engine)


@pytest.fixture
def gpu(trt: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """A machine with a GPU and the double as its TensorRT."""
    trt.device_name = GPU.name
    monkeypatch.setattr(machine, 'gpu', lambda: GPU)
    build_plans = import_module('kosmos_ros.engine.tensorrt.build_plans')
    monkeypatch.setattr(build_plans, 'build_plan', partial(build_plan, trt))
    # Not by their names: other tests let modules be imported again.
    cuda = import_module('kosmos_ros.engine.runners.cuda')
    monkeypatch.setattr(cuda, 'CudaDevice', lambda: HostDevice(trt))
    return trt


@pytest.fixture
def fp16(engines: dict[str, Path], tmp_path: Path) -> Path:
    """An engine directory without plans, to do anything to."""
    return Path(shutil.copytree(engines['tensorrt-fp16'], tmp_path / 'engine'))
