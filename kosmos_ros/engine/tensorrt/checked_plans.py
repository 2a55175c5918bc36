"""A runner on the plans of this machine, once they have given the reference answers."""

import shutil

from kosmos_ros.engine.base import Report
from kosmos_ros.engine.directory.directory import (
    REFERENCE_FILE,
    WEIGHTS_FILE,
    EngineDirectory,
)
from kosmos_ros.engine.directory.reference import ReferenceAnswers, self_check
from kosmos_ros.engine.machine import Machine
from kosmos_ros.engine.runners.cuda import CudaDevice
from kosmos_ros.engine.runners.embeddings import EmbeddingTables
from kosmos_ros.engine.runners.runner import Runner
from kosmos_ros.engine.runners.static import StaticRunner
from kosmos_ros.engine.tensorrt.plans import PlanKey, Plans, read_plans, write_plan_manifest
from kosmos_ros.engine.tensorrt.program import TensorRTProgram
from kosmos_ros.errors import EngineError, SelfCheckFailed


def open_tensorrt(directory: EngineDirectory, machine: Machine, report: Report) -> Runner:
    """Load the plans of this machine.

    New plans are first compared with the reference answers in full; those that TensorRT does not
    take, or that give other answers, are removed.

    :raises RunnerUnavailable: when there are no plans for this machine.
    :raises EngineFileError: when the plans are damaged, or others could have written them.
    :raises SelfCheckFailed: when new plans give other answers than the reference.
    :raises EngineError: when TensorRT does not take them.
    """
    key = PlanKey.of(directory.manifest, directory.recipe, machine)
    plans = read_plans(directory.path, key)
    if plans.checked:
        return _runner(directory, plans)
    try:
        runner = _checked_runner(directory, plans, report)
    except EngineError:
        # The next build must not find them again.
        shutil.rmtree(plans.folder)
        raise
    _mark_checked(plans, key, report)
    return runner


def _runner(directory: EngineDirectory, plans: Plans) -> StaticRunner:
    device = CudaDevice()
    program = TensorRTProgram(plans.contents, directory.recipe, device)
    tables = EmbeddingTables.from_file(
        directory.path / WEIGHTS_FILE, directory.config.text, device.torch_device
    )
    image_token = directory.vocabulary.image_open
    return StaticRunner(program, device, tables, directory.config, directory.recipe, image_token)


def _checked_runner(directory: EngineDirectory, plans: Plans, report: Report) -> StaticRunner:
    reference = ReferenceAnswers.read(directory.path / REFERENCE_FILE)
    runner = _runner(directory, plans)
    try:
        for line in self_check(runner, reference, 'full', directory.recipe.precision):
            report(f'self-check of the plans: {line}')
    except BaseException as error:
        runner.close()
        if isinstance(error, SelfCheckFailed):
            raise SelfCheckFailed(f'the plans built here are refused: {error}') from None
        raise
    return runner


def _mark_checked(plans: Plans, key: PlanKey, report: Report) -> None:
    try:
        write_plan_manifest(plans.folder, key, checked=True)
    except OSError as error:
        report(f'plans: they are checked at every start, as {plans.folder} is read-only ({error})')
