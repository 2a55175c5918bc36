"""Build the TensorRT plans that this machine lacks, inside an engine directory."""

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
from pathlib import Path
import shutil

from kosmos_ros.engine.base import Report
from kosmos_ros.engine.building.estimates import Estimates, check_disk, check_memory
from kosmos_ros.engine.directory.directory import (
    DECODER_PLAN,
    PLANS_FOLDER,
    VISION_GRAPH,
    VISION_PLAN,
    EngineDirectory,
    decoder_graph,
)
from kosmos_ros.engine.directory.recipe import Shape
from kosmos_ros.engine.machine import Machine
from kosmos_ros.engine.tensorrt.builder import PlanRequest, build_plan
from kosmos_ros.engine.tensorrt.plans import (
    PARTIAL,
    PlanKey,
    check_owner,
    read_plans,
    write_plan_manifest,
)
from kosmos_ros.engine.tensorrt.profiles import profiles
from kosmos_ros.engine.tensorrt.tiers import tier_for
from kosmos_ros.errors import EngineFileError, RunnerUnavailable

_LOCK = 'lock'


def build_missing_plans(directory: EngineDirectory, machine: Machine, report: Report) -> None:
    """Build the plans for this machine, unless they are there and whole.

    They are marked as unchecked: `open_tensorrt` compares them with the reference answers before
    it uses them for the first time.

    :raises EngineError: when they cannot be built, with TensorRT's own words.
    :raises EngineFileError: when they cannot be written.
    """
    key = PlanKey.of(directory.manifest, directory.recipe, machine)
    folder = key.folder(directory.path)
    with _locked(folder.parent, report):
        try:
            read_plans(directory.path, key)
            return
        except RunnerUnavailable as error:
            report(f'plans: {error}')
        except EngineFileError as error:
            report(f'plans: {error}')
            shutil.rmtree(folder)
        _build(directory, machine, key, report)


@contextmanager
def _locked(plans: Path, report: Report) -> Iterator[None]:
    """Let one process at a time build: a robot may start several nodes on one engine."""
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


def _build(directory: EngineDirectory, machine: Machine, key: PlanKey, report: Report) -> None:
    """Build both plans in a folder of their own; it gets its name when both are there."""
    folder = key.folder(directory.path)
    partial = folder.with_name(folder.name + PARTIAL)
    estimates = Estimates.of(directory.config, directory.recipe)
    partial.mkdir(mode=0o700, exist_ok=True)
    check_owner(partial)
    check_disk(partial, estimates.plans)
    check_memory(
        estimates.plan_memory,
        'building plans of this model',
        'end other programs, or add swap space',
    )
    report(f'plans: for {machine.describe()}')
    for request in _requests(directory, machine):
        path = partial / request.name
        # What an interrupted build has finished is whole: it got its name when it was.
        if path.is_file():
            report(f'plans: {request.name} was built before')
            continue
        timing_cache = directory.path / PLANS_FOLDER / f'{machine.key[:16]}.timing'
        plan = build_plan(request, timing_cache, report)
        draft = path.with_suffix('.part')
        draft.write_bytes(plan)
        draft.replace(path)
    write_plan_manifest(partial, key, checked=False)
    partial.rename(folder)
    report(f'plans: {folder} is ready')


def _requests(directory: EngineDirectory, machine: Machine) -> list[PlanRequest]:
    text, recipe = directory.config.text, directory.recipe

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
        PlanRequest(VISION_PLAN, directory.path / VISION_GRAPH, (), lambda shape: {}, *common),
        PlanRequest(
            DECODER_PLAN,
            directory.path / graph,
            profiles(recipe, machine.tensorrt),
            decoder,
            *common,
        ),
    ]
