"""A machine with a GPU, as far as the engine can tell, and engines on it."""

from pathlib import Path
from typing import Any

from kosmos_ros.engine.building.plans import build_plans
from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.load import load_engine
from kosmos_ros.engine.machine import Gpu

from .double import Double

GPU = Gpu('a device', '8.7', 16, 64 << 30, '12.6', '12.6')
# These import TensorRT at their top, and must import this test's double.
USERS = (
    'kosmos_ros.engine.tensorrt.flavours',
    'kosmos_ros.engine.tensorrt.log',
    'kosmos_ros.engine.tensorrt.builder',
    'kosmos_ros.engine.tensorrt.build_plans',
    'kosmos_ros.engine.tensorrt.checked_plans',
    'kosmos_ros.engine.tensorrt.program',
)


def build(directory: Path, **options: Any) -> tuple[Any, list[str]]:
    """Build the plans that are missing, then load the engine by TensorRT; return it and what was
    reported.
    """
    lines: list[str] = []
    build_plans(EngineDirectory.verified(directory), lines.append)
    engine, loading = load(directory, **options)
    return engine, lines + loading


def load(directory: Path, **options: Any) -> tuple[Any, list[str]]:
    """Load the engine by TensorRT, with the plans that are there; return it and what was
    reported.
    """
    lines: list[str] = []
    engine = load_engine(directory, 'tensorrt', report=lines.append, **options)
    return engine, lines


def built(trt: Double) -> int:
    """How many plans were built."""
    return sum(name.endswith('.plan') for name in trt.built)


def called(trt: Double, name: str) -> int:
    """How often the double was called so."""
    return sum(call.name == name for call in trt.calls)


def damage(path: Path) -> None:
    """Change one bit."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
