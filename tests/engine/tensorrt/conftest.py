"""Doubles of TensorRT, one for each release that the project is for."""

from collections.abc import Iterator
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
from .program import Lines, engine_of, parsed
from .surface import VERSIONS, Surface, obtain


@pytest.fixture(scope='session', params=VERSIONS)
def surface(request: pytest.FixtureRequest) -> Surface:
    """What is known of a release."""
    return obtain(request.param)


@pytest.fixture
def trt(surface: Surface, monkeypatch: pytest.MonkeyPatch) -> Iterator[Double]:
    """The double, which `import tensorrt` gives too."""
    double = make(surface.path)
    monkeypatch.setitem(sys.modules, 'tensorrt', double)
    yield double
    assert not double.failures, f'asked for, but never called: {double.failures}'


@pytest.fixture
def device(trt: Double) -> HostDevice:
    """Memory and stream for the double."""
    return HostDevice(trt)


@pytest.fixture
def lines(trt: Double) -> Lines:
    """What the double says."""
    return Lines(trt)


@pytest.fixture
def builder(trt: Double, lines: Lines) -> Any:
    return trt.Builder(lines.logger)


@pytest.fixture
def network(trt: Double, lines: Lines, builder: Any, tmp_path: Path) -> Any:
    """Writes into a cache of its own."""
    return parsed(trt, lines.logger, builder, scatter_elements(tmp_path))


@pytest.fixture
def engine(trt: Double, lines: Lines, tmp_path: Path) -> Any:
    """Of that network, with two profiles."""
    return engine_of(trt, lines.logger, scatter_elements(tmp_path), profiles=2)


@pytest.fixture
def context(engine: Any) -> Any:
    return engine.create_execution_context()


@pytest.fixture
def gpu(trt: Double, monkeypatch: pytest.MonkeyPatch) -> Double:
    """A machine with a GPU and the double as its TensorRT."""
    trt.device_name = GPU.name
    for name in USERS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(machine, 'gpu', lambda: GPU)
    monkeypatch.setattr('kosmos_ros.engine.runners.cuda.CudaDevice', lambda: HostDevice(trt))
    return trt


@pytest.fixture
def fp16(engines: dict[str, Path], tmp_path: Path) -> Path:
    """An engine directory without plans, to do anything to."""
    return Path(shutil.copytree(engines['tensorrt-fp16'], tmp_path / 'engine'))
