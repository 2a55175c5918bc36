"""Which TensorRT is installed: TensorRT itself, or TensorRT for RTX.

Both have the same Python interface under different names.  TensorRT itself comes first: it covers
Jetson, Hopper and servers, which TensorRT for RTX does not run on.
"""

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from kosmos_ros.errors import RunnerUnavailable

CLASSIC = 'TensorRT'
RTX = 'TensorRT for RTX'
# Names of the modules.  NVIDIA's archives bring `tensorrt_rtx`, the wheels its bindings alone.
_MODULES = ((CLASSIC, 'tensorrt'), (RTX, 'tensorrt_rtx'), (RTX, 'tensorrt_rtx_bindings'))
_INSTALL = (
    "install NVIDIA's Python package tensorrt for this machine, or, for RTX cards, "
    "pip install 'kosmos_ros[rtx]'"
)


@dataclass(frozen=True, slots=True)
class Release:
    """One release of TensorRT.

    :param flavour: `CLASSIC` or `RTX`.
    :param version: as the module states it.
    """

    flavour: str
    version: str

    def __str__(self) -> str:
        return f'{self.flavour} {self.version}'

    @property
    def is_rtx(self) -> bool:
        """Whether it is TensorRT for RTX."""
        return self.flavour == RTX


@dataclass(frozen=True, slots=True)
class InstalledTensorRT:
    """A release and its module."""

    release: Release
    module: ModuleType


def installed_tensorrt() -> InstalledTensorRT:
    """Import TensorRT.

    :raises RunnerUnavailable: when there is none, or it does not load, with what to install.
    """
    faults = []
    for flavour, name in _MODULES:
        try:
            module = import_module(name)
        except ImportError as error:
            if error.name != name:
                faults.append(f'{flavour} does not load ({error})')
            continue
        if flavour == RTX and (fault := _fault_of_rtx()):
            faults.append(fault)
            continue
        return InstalledTensorRT(Release(flavour, module.__version__), module)
    if fault := _fault_of_rtx():
        # It says more than the error of the import.
        faults = [fault]
    raise RunnerUnavailable('; '.join(faults) or f'TensorRT is not installed; {_INSTALL}')


def _fault_of_rtx() -> str:
    """Return what is wrong with the wheels of TensorRT for RTX, and the cure; '' when nothing is.

    pip checks none of this: the bindings do not name the libraries as what they need, and the
    wheels for both versions of CUDA write into the same folders.
    """
    found = {
        f'tensorrt-rtx-{cuda}-{part}': release
        for cuda in ('cu12', 'cu13')
        for part in ('bindings', 'libs')
        if (release := _version(f'tensorrt-rtx-{cuda}-{part}'))
    }
    if len({name.split('-')[2] for name in found}) > 1:
        return (
            f'TensorRT for RTX is installed for two versions of CUDA; pip uninstall '
            f"{' '.join(found)}, then pip install 'kosmos_ros[rtx]'"
        )
    for name, release in found.items():
        package, _, part = name.rpartition('-')
        other = f'{package}-{"bindings" if part == "libs" else "libs"}'
        if found.get(other) != release:
            return (
                f'TensorRT for RTX has {name} {release} without {other} of the same version; '
                f'pip install {other}=={release}'
            )
    return ''


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ''
