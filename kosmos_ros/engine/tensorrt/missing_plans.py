"""An engine directory on TensorRT: its plans for this machine, built if they are wanted."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
import fcntl
from pathlib import Path
import shutil
from typing import TYPE_CHECKING

from kosmos_ros.engine.building.estimates import Sizes, check_disk, check_memory
from kosmos_ros.engine.directory.file_names import (
    DECODER_PLAN,
    GOLDEN_FILE,
    PLANS_FOLDER,
    VISION_GRAPH,
    VISION_PLAN,
    WEIGHTS_FILE,
    decoder_graph,
)
from kosmos_ros.engine.directory.recipe import Shape
from kosmos_ros.engine.directory.reference import Golden, self_check
from kosmos_ros.engine.machine import Machine
from kosmos_ros.engine.runners.cuda import CudaDevice
from kosmos_ros.engine.runners.embeddings import Tables
from kosmos_ros.engine.runners.runner import Runner
from kosmos_ros.engine.runners.static import StaticRunner
from kosmos_ros.engine.tensorrt.build import PlanRequest, build_plan
from kosmos_ros.engine.tensorrt.operators import tier_for
from kosmos_ros.engine.tensorrt.plans import PARTIAL, PlanKey, check_owner, read_plans, seal
from kosmos_ros.engine.tensorrt.profiles import profiles
from kosmos_ros.engine.tensorrt.program import TensorRTProgram
from kosmos_ros.errors import (
    EngineError,
    EngineFileError,
    RunnerUnavailable,
    SelfCheckFailed,
)

if TYPE_CHECKING:
    from kosmos_ros.engine.load import EngineFiles

Report = Callable[[str], None]
_LOCK = 'lock'


def plans_for(
    files: 'EngineFiles', machine: Machine, build: bool, report: Report
) -> dict[str, bytes]:
    """The plans for this machine, by name.

    :param build: whether to build those that are missing or damaged.
    :raises RunnerUnavailable: when there are none and none is to be built.
    :raises EngineFileError: when they are damaged and not to be built again.
    :raises SelfCheckFailed: when what was built gives other answers than the reference.
    """
    key = PlanKey.of(files.manifest, files.recipe, machine)
    if not build:
        return read_plans(files.directory, key)
    with _alone(key.folder(files.directory).parent, report):
        try:
            return read_plans(files.directory, key)
        except RunnerUnavailable as error:
            report(f'plans: {error}')
        except EngineFileError as error:
            report(f'plans: {error}')
            shutil.rmtree(key.folder(files.directory))
        return _build(files, machine, key, report)


def open_tensorrt(files: 'EngineFiles', plans: Mapping[str, bytes], machine: Machine) -> Runner:
    """A runner on these plans.

    :raises EngineError: when TensorRT does not take them.
    """
    device = CudaDevice()
    program = TensorRTProgram(plans, files.recipe, device)
    tables = Tables.from_file(
        files.directory / WEIGHTS_FILE, files.config.text, device.torch_device
    )
    image_token = files.vocabulary.image_open
    return StaticRunner(program, device, tables, files.config, files.recipe, image_token)


@contextmanager
def _alone(plans: Path, report: Report) -> Iterator[None]:
    """One process at a time: a robot may start several nodes on one engine."""
    try:
        plans.mkdir(mode=0o700, exist_ok=True)
        lock = (plans / _LOCK).open('w')
    except OSError as error:
        raise EngineFileError(
            f'plans cannot be written to {plans} ({error}); copy the engine to where they can'
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report('plans: waiting for another process that builds some')
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(
    files: 'EngineFiles', machine: Machine, key: PlanKey, report: Report
) -> dict[str, bytes]:
    """Build both plans, hold them to the reference, and only then give them their name."""
    folder = key.folder(files.directory)
    partial = folder.with_name(folder.name + PARTIAL)
    sizes = Sizes.of(files.config, files.recipe)
    partial.mkdir(mode=0o700, exist_ok=True)
    check_owner(partial)
    check_disk(partial, sizes.plans)
    check_memory(
        sizes.plan_memory,
        'building plans of this model',
        'end other programs, or add swap space',
    )
    report(f'plans: for {machine.describe()}')
    plans = {}
    for request in _requests(files, machine):
        path = partial / request.name
        # What an interrupted build has finished is whole: it got its name when it was.
        if path.is_file():
            report(f'plans: {request.name} was built before')
            plans[request.name] = path.read_bytes()
            continue
        timing_cache = files.directory / PLANS_FOLDER / f'{machine.key[:16]}.timing'
        plans[request.name] = build_plan(request, timing_cache, report)
        draft = path.with_suffix('.part')
        draft.write_bytes(plans[request.name])
        draft.replace(path)
    try:
        _check(files, plans, machine, report)
    except EngineError:
        # Who tries again must not get the same plans again.
        shutil.rmtree(partial)
        raise
    seal(partial, key)
    partial.rename(folder)
    report(f'plans: {folder} is ready')
    return plans


def _check(
    files: 'EngineFiles', plans: Mapping[str, bytes], machine: Machine, report: Report
) -> None:
    """Hold new plans to the reference."""
    golden = Golden.read(files.directory / GOLDEN_FILE)
    runner = open_tensorrt(files, plans, machine)
    try:
        for line in self_check(runner, golden, 'full', files.recipe.precision):
            report(f'self-check of the plans: {line}')
    except SelfCheckFailed as error:
        raise SelfCheckFailed(f'the plans built here are refused: {error}') from None
    finally:
        runner.close()


def _requests(files: 'EngineFiles', machine: Machine) -> list[PlanRequest]:
    text, recipe = files.config.text, files.recipe

    def decoder(shape: Shape) -> dict[str, tuple[int, ...]]:
        rows, tokens, slots = shape
        cache = (rows, text.attention_heads, slots, text.head_dim)
        layers = range(text.layers)
        return {
            'embeds': (rows, tokens, text.embed_dim),
            'mask': (rows, tokens, recipe.prefix + slots + tokens),
            'last': (rows,),
            **{f'cache.{index}.{part}': cache for index in layers for part in ('key', 'value')},
        }

    graph = decoder_graph(tier_for(machine.tensorrt).name)
    common = (recipe.optimization_level, recipe.workspace_mib)
    return [
        PlanRequest(VISION_PLAN, files.directory / VISION_GRAPH, (), lambda shape: {}, *common),
        PlanRequest(
            DECODER_PLAN,
            files.directory / graph,
            profiles(recipe, machine.tensorrt),
            decoder,
            *common,
        ),
    ]
