"""From an engine directory, or the name of another package's engine, to an engine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
import os
from pathlib import Path

from kosmos_ros.engine.base import Engine, Report, ignore_progress
from kosmos_ros.engine.directory.directory import REFERENCE_FILE, EngineDirectory
from kosmos_ros.engine.directory.packaged import embedded_engine
from kosmos_ros.engine.directory.reference import LEVELS, ReferenceAnswers, self_check
from kosmos_ros.engine.kosmos2 import Kosmos2Engine
from kosmos_ros.engine.machine import gpu, this_machine
from kosmos_ros.engine.runners.runner import Runner
from kosmos_ros.errors import EngineError, EngineFileError, RunnerUnavailable
from kosmos_ros.limits import Limits
from kosmos_ros.model.expressions import quoted

# Packages that bring an engine of their own name a factory in this group of entry points.
ENTRY_POINT_GROUP = 'kosmos_ros.engines'
# Called with what stands behind the colon in NAME:ARGUMENT, the limits, and a report of progress.
EngineFactory = Callable[[str, Limits, Report], Engine]


@dataclass(frozen=True, slots=True)
class Backend:
    """One way to run an engine directory.

    :param name: for people.
    :param runner: the value of `runner` that asks for it.
    :param automatic_for: runners of recipes for which 'auto' tries it.
    :param open: loads a verified directory.
    """

    name: str
    runner: str
    automatic_for: tuple[str, ...]
    open: Callable[[EngineDirectory, Report], Runner]


@contextmanager
def requiring(cure: str = '') -> Iterator[None]:
    """Turn a missing Python package into an error that says how to get it.

    :param cure: what to do; '': install the package by pip.
    :raises RunnerUnavailable: when an import in this block fails.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or str(error)).partition('.')[0]
        raise RunnerUnavailable(
            f'the Python package {package} is missing ({cure or f"pip install {package}"})'
        ) from error


TORCH_CUDA_CURE = 'install PyTorch with CUDA, and safetensors, for this machine'


def _open_tensorrt(directory: EngineDirectory, report: Report) -> Runner:
    with requiring(TORCH_CUDA_CURE):
        from kosmos_ros.engine.runners.cuda import enough_gpu_memory
    machine = this_machine()
    # It imports TensorRT, which `this_machine` has found.
    from kosmos_ros.engine.tensorrt.checked_plans import open_tensorrt

    with enough_gpu_memory():
        return open_tensorrt(directory, machine, report)


def _open_torch_cuda(directory: EngineDirectory, report: Report) -> Runner:
    with requiring(TORCH_CUDA_CURE):
        from kosmos_ros.engine.runners.cuda import CudaDevice, enough_gpu_memory
        from kosmos_ros.engine.runners.torch_program import open_static_runner
    gpu()
    with enough_gpu_memory():
        return open_static_runner(directory, CudaDevice())


def _open_onnxruntime(directory: EngineDirectory, report: Report) -> Runner:
    with requiring():
        from kosmos_ros.engine.runners.onnxruntime import OnnxRuntimeRunner
    return OnnxRuntimeRunner(
        directory.path, directory.config, directory.vocabulary.image_open, directory.recipe
    )


def _open_torch_cpu(directory: EngineDirectory, report: Report) -> Runner:
    with requiring('install PyTorch, and safetensors, for this machine'):
        from kosmos_ros.engine.runners.torch import TorchRunner
        from kosmos_ros.model.network.weights import DTYPES, load_model
    network = load_model(directory.path, DTYPES[directory.recipe.activations])
    return TorchRunner(network, directory.vocabulary.image_open)


# Fastest first.
BACKENDS = (
    Backend('TensorRT', 'tensorrt', ('tensorrt',), _open_tensorrt),
    Backend('PyTorch on a GPU', 'torch', ('tensorrt',), _open_torch_cuda),
    Backend('ONNX Runtime', 'onnxruntime', ('tensorrt', 'onnxruntime'), _open_onnxruntime),
    Backend('PyTorch on the CPU', 'torch', ('tensorrt', 'onnxruntime'), _open_torch_cpu),
)
RUNNERS = ('auto', *dict.fromkeys(backend.runner for backend in BACKENDS))


def load_engine(
    engine: str | Path | None = None,
    runner: str = 'auto',
    limits: Limits | None = None,
    *,
    self_check: str = 'off',
    report: Report = ignore_progress,
) -> Engine:
    """Verify an engine directory, then load it; or load the engine of another package.

    :param engine: a directory; or NAME or NAME:ARGUMENT, where an installed package has an entry
        point NAME in the group ``kosmos_ros.engines``; None: the embedded tabletop engine.
    :param runner: 'auto' (the fastest that works here), 'tensorrt', 'torch' or 'onnxruntime'.
    :param self_check: 'off', 'quick' or 'full': whether the engine must first give its stored
        reference answers.
    :param report: is told how far loading has come, in short lines.
    :return: close it, or use it in a ``with`` statement.
    :raises ValueError: when `runner` or `self_check` is none of these.
    :raises EngineFileError: when there is no such engine, or a file of it is missing or damaged.
    :raises RunnerUnavailable: when this machine cannot run it.
    :raises SelfCheckFailed: when it gives other answers than the reference.
    """
    limits = limits or Limits()
    _check_choice('runner', runner, RUNNERS)
    _check_choice('self_check', self_check, LEVELS)
    entry_point, argument = _entry_point(engine)
    if entry_point is not None:
        if runner != 'auto':
            raise EngineFileError(
                f'the engine {entry_point.name!r} brings its own runner; leave runner at auto'
            )
        return _load_factory(entry_point)(argument, limits, report)
    report('checking the files')
    directory = EngineDirectory.verified(Path(engine) if engine else embedded_engine())
    loaded, remarks = open_runner(directory, runner, level=self_check, report=report)
    return Kosmos2Engine(
        directory.manifest.name, loaded, directory.vocabulary, directory.config, limits, remarks
    )


def open_runner(
    directory: EngineDirectory, runner: str, *, level: str, report: Report = ignore_progress
) -> tuple[Runner, tuple[str, ...]]:
    """Open the fastest runner that works here.

    :param level: of the self-check, as in `load_engine`.
    :return: the runner, and for each backend that was passed over, which and why.
    :raises RunnerUnavailable: when none works.
    :raises EngineFileError: when a file of the engine is damaged.
    :raises EngineError: why the last backend failed; SelfCheckFailed when it gives other answers
        than the reference.
    """
    if runner == 'tensorrt' and directory.recipe.runner != runner:
        raise RunnerUnavailable(
            f'{directory.path} was made for {directory.recipe.runner}; build one by a recipe for '
            'TensorRT, such as desktop'
        )
    candidates = [
        backend
        for backend in BACKENDS
        if runner in (backend.runner, 'auto')
        and (runner != 'auto' or directory.recipe.runner in backend.automatic_for)
    ]
    remarks: list[str] = []
    for backend in candidates:
        report(f'loading by {backend.name}')
        try:
            loaded = backend.open(directory, report)
            _check(loaded, directory, level, report)
        except EngineFileError:
            # What is damaged is damaged for all of them.
            raise
        except EngineError as error:
            if backend is candidates[-1] and not isinstance(error, RunnerUnavailable):
                raise
            remarks.append(f'not by {backend.name}: {error}')
            continue
        return loaded, tuple(remarks)
    raise RunnerUnavailable(f'{directory.path} cannot be run here: {"; ".join(remarks)}')


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f'{name} is {value!r}; it must be one of {", ".join(choices)}')


def _entry_point(engine: str | Path | None) -> tuple[EntryPoint | None, str]:
    """Return another package's engine and its argument, if `engine` names one.

    :raises EngineFileError: when it is neither a path nor the name of such an engine.
    """
    if not isinstance(engine, str) or not engine or os.path.exists(engine):
        return None, ''
    name, _, argument = engine.partition(':')
    for found in entry_points(group=ENTRY_POINT_GROUP, name=name):
        return found, argument
    if os.path.dirname(name):
        return None, ''
    installed = ', '.join(sorted(entry_points(group=ENTRY_POINT_GROUP).names)) or 'none'
    raise EngineFileError(
        f'{quoted(engine)} is no engine directory here, and no installed package brings an engine '
        f'of this name (installed: {installed}); correct it, or install the package'
    )


def _load_factory(entry_point: EntryPoint) -> EngineFactory:
    try:
        factory: EngineFactory = entry_point.load()
    except (ImportError, AttributeError) as error:
        raise RunnerUnavailable(
            f'the engine {entry_point.name!r} cannot be imported from {entry_point.value}: {error}'
        ) from error
    return factory


def _check(loaded: Runner, directory: EngineDirectory, level: str, report: Report) -> None:
    """Hold a runner to the reference answers; close it when it gives others.

    :raises SelfCheckFailed: when it gives other answers than the reference.
    """
    if level == 'off':
        return
    reference = ReferenceAnswers.read(directory.path / REFERENCE_FILE)
    try:
        for line in self_check(loaded, reference, level, directory.recipe.precision):
            report(f'self-check {level}: {line}')
        report(f'self-check {level} passed')
    except EngineError:
        loaded.close()
        raise
