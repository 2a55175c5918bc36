"""What a compiled plan depends on: the GPU, its driver, and TensorRT."""

import ctypes
from dataclasses import asdict, dataclass
import hashlib
from importlib import import_module
import json
from pathlib import Path
import platform
from typing import Any

from kosmos_ros.errors import RunnerUnavailable

_DRIVER_FILE = Path('/proc/driver/nvidia/version')


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU and what drives it.

    :param capability: compute capability, as in '8.7'.
    :param driver: newest CUDA version that the driver knows, and the driver's own version where
        the system states it.
    """

    name: str
    capability: str
    multiprocessors: int
    memory_bytes: int
    driver: str
    cuda: str


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that a plan must have been built on, and for."""

    tensorrt: str
    gpu: Gpu
    architecture: str

    @property
    def key(self) -> str:
        """The same for machines that may exchange timing caches, and for no others."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def describe(self) -> str:
        """Return one line for people."""
        gpu = self.gpu
        return (
            f'{gpu.name} (compute capability {gpu.capability}, driver {gpu.driver}), '
            f'TensorRT {self.tensorrt}'
        )


def this_machine() -> Machine:
    """Describe this machine.

    :raises RunnerUnavailable: when there is no NVIDIA GPU that torch can use, or no TensorRT.
    """
    return Machine(tensorrt().__version__, gpu(), platform.machine())


def tensorrt() -> Any:
    """Import TensorRT.

    :raises RunnerUnavailable: when it is not there or does not load.
    """
    try:
        return import_module('tensorrt')
    except ImportError as error:
        raise RunnerUnavailable(
            f'TensorRT cannot be imported ({error}); install its Python package for this machine'
        ) from None


def gpu() -> Gpu:
    """Describe the GPU that torch would use.

    :raises RunnerUnavailable: when there is none.
    """
    try:
        import torch
    except ImportError as error:
        raise RunnerUnavailable(f'PyTorch cannot be imported ({error})') from None
    if not torch.cuda.is_available():
        raise RunnerUnavailable(f'PyTorch {torch.__version__} sees no NVIDIA GPU')
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return Gpu(
        name=properties.name,
        capability=f'{properties.major}.{properties.minor}',
        multiprocessors=properties.multi_processor_count,
        memory_bytes=properties.total_memory,
        driver=_driver(),
        cuda=str(torch.version.cuda),
    )


def _driver() -> str:
    number = ctypes.c_int()
    try:
        known = ctypes.CDLL('libcuda.so.1').cuDriverGetVersion(ctypes.byref(number)) == 0
    except OSError:
        known = False
    version = f'{number.value // 1000}.{number.value % 1000 // 10}' if known else 'unknown'
    try:
        # Not on every Jetson.
        first_line = _DRIVER_FILE.read_text(encoding='ascii', errors='replace').splitlines()[0]
    except (OSError, IndexError):
        return version
    return f'{version}, {" ".join(first_line.split())}'
