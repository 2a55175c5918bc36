"""A runner on the plans of this machine, once they have given the reference answers."""

import shutil

from packaging.version import Version

from kosmos_ros.engine.base import Report
from kosmos_ros.engine.directory.directory import (
    REFERENCE_FILE,
    WEIGHTS_FILE,
    EngineDirectory,
)
from kosmos_ros.engine.directory.reference import ReferenceAnswers, self_check
from kosmos_ros.engine.machine import Machine, PlanTarget
from kosmos_ros.engine.runners.cuda import CudaDevice
from kosmos_ros.engine.runners.embeddings import EmbeddingTables
from kosmos_ros.engine.runners.runner import Runner
from kosmos_ros.engine.runners.static import StaticRunner
from kosmos_ros.engine.tensorrt.plans import (
    PlanKey,
    Plans,
    read_kernels,
    read_plans,
    write_kernels,
)
from kosmos_ros.engine.tensorrt.program import TensorRTProgram
from kosmos_ros.errors import EngineError, EngineFileError, RunnerUnavailable, SelfCheckFailed

# TensorRT for RTX computes zeros with some dynamic shapes on 7.5.
_FIRST_CAPABILITY = Version('8.0')


def open_tensorrt(directory: EngineDirectory, machine: Machine, report: Report) -> Runner:
    """Load the plans for this machine.

    Plans that are new here are first compared with the reference answers in full.  Those that were
    built here and that TensorRT does not take, or that give other answers, are removed.

    :raises RunnerUnavailable: when there are no plans that run on this machine.
    :raises EngineFileError: when the plans are damaged, or others could have written them.
    :raises SelfCheckFailed: when new plans give other answers than the reference.
    :raises EngineError: when TensorRT does not take them.
    """
    target = PlanTarget.of(machine)
    if target.machine is None and Version(machine.gpu.capability) < _FIRST_CAPABILITY:
        raise RunnerUnavailable(
            f'{machine.gpu.name} has compute capability {machine.gpu.capability}; '
            f'{machine.tensorrt} needs {_FIRST_CAPABILITY} or more'
        )
    key = PlanKey.of(directory, target)
    plans = read_plans(directory.path, key)
    is_new = machine.key not in plans.checked_on
    try:
        kernels = _kernels(plans, key, machine, report)
        runner, program = _loaded(directory, plans, kernels)
        if is_new:
            _check(runner, directory, report)
    except RunnerUnavailable:
        raise
    except EngineError:
        if is_new and target.machine is not None:
            # The next build must not find them again.
            shutil.rmtree(plans.folder)
        raise
    try:
        if not kernels and (compiled := program.compiled()):
            write_kernels(plans, key, machine, compiled)
        if is_new:
            plans.checked(key, machine)
    except OSError as error:
        report(
            f'plans: they are checked and prepared at every start, as {plans.folder} cannot be '
            f'written to ({error})'
        )
    return runner


def _kernels(plans: Plans, key: PlanKey, machine: Machine, report: Report) -> dict[str, bytes]:
    """Return what an earlier start has compiled, if that can be trusted."""
    try:
        return read_kernels(plans, key, machine)
    except EngineFileError as error:
        report(f'plans: kernels are compiled again ({error})')
        return {}


def _loaded(
    directory: EngineDirectory, plans: Plans, kernels: dict[str, bytes]
) -> tuple[StaticRunner, TensorRTProgram]:
    device = CudaDevice()
    program = TensorRTProgram(plans.contents, kernels, directory.recipe, device)
    tables = EmbeddingTables.from_file(
        directory.path / WEIGHTS_FILE, directory.config.text, device.torch_device
    )
    image_token = directory.vocabulary.image_open
    runner = StaticRunner(program, device, tables, directory.config, directory.recipe, image_token)
    return runner, program


def _check(runner: StaticRunner, directory: EngineDirectory, report: Report) -> None:
    reference = ReferenceAnswers.read(directory.path / REFERENCE_FILE)
    try:
        for line in self_check(runner, reference, 'full', directory.recipe.precision):
            report(f'self-check of the plans: {line}')
    except BaseException as error:
        runner.close()
        if isinstance(error, SelfCheckFailed):
            raise SelfCheckFailed(f'new plans are refused: {error}') from None
        raise
