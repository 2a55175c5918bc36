"""What compiled plans depend on: the GPU, its driver, and TensorRT."""

import ctypes
from dataclasses import asdict, dataclass
import hashlib
import json
from pathlib import Path
import platform

from kosmos_ros.engine.tensorrt.installed import Release, installed_tensorrt
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
    """Everything that code for a GPU must have been compiled on, and for."""

    tensorrt: Release
    gpu: Gpu
    architecture: str

    @property
    def key(self) -> str:
        """The same for machines that may exchange compiled code, and for no others."""
        return _key(self)

    def describe(self) -> str:
        """Return one line for people."""
        gpu = self.gpu
        return (
            f'{gpu.name} (compute capability {gpu.capability}, driver {gpu.driver}), '
            f'{self.tensorrt}'
        )


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """What a plan is for.

    :param machine: where it was built; None: it runs on every GPU that the release supports, and
        can be built without any.
    """

    tensorrt: Release
    machine: Machine | None

    @classmethod
    def of(cls, machine: Machine) -> 'PlanTarget':
        """Return what the plans of a machine are for."""
        release = machine.tensorrt
        return cls(release, None if release.is_rtx else machine)

    @property
    def key(self) -> str:
        """The same for equal targets, and for no others."""
        return _key(self)

    def describe(self) -> str:
        """Return one line for people."""
        return f'any RTX GPU, {self.tensorrt}' if self.machine is None else self.machine.describe()


def _key(what: Machine | PlanTarget) -> str:
    return hashlib.sha256(json.dumps(asdict(what), sort_keys=True).encode()).hexdigest()


def this_machine() -> Machine:
    """Describe this machine.

    :raises RunnerUnavailable: when there is no NVIDIA GPU that torch can use, or no TensorRT.
    """
    return Machine(installed_tensorrt().release, gpu(), platform.machine())


def plan_target() -> PlanTarget:
    """Return what plans that are built here are for.

    :raises RunnerUnavailable: when there is no TensorRT, or it needs a GPU to build and there is
        none.
    """
    release = installed_tensorrt().release
    return PlanTarget(release, None) if release.is_rtx else PlanTarget.of(this_machine())


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
