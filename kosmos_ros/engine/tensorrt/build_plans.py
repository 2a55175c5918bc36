"""Build the TensorRT plans that an engine directory lacks, inside it."""

from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
from pathlib import Path
import shutil
import time

from kosmos_ros.engine.base import Report
from kosmos_ros.engine.building.estimates import (
    PlanEstimates,
    check_disk,
    check_memory,
    gigabytes,
    return_freed_memory,
)
from kosmos_ros.engine.directory.directory import (
    DECODER_PLAN,
    PLANS_FOLDER,
    VISION_GRAPH,
    VISION_PLAN,
    EngineDirectory,
    decoder_graph,
)
from kosmos_ros.engine.directory.recipe import Recipe, Shape
from kosmos_ros.engine.machine import PlanTarget
from kosmos_ros.engine.tensorrt.builder import PlanRequest, build_plan
from kosmos_ros.engine.tensorrt.installed import Release
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
from kosmos_ros.model.config import Kosmos2Config

_LOCK = 'lock'


def build_missing_plans(directory: EngineDirectory, target: PlanTarget, report: Report) -> None:
    """Build the plans for a target, unless they are there and whole.

    They are marked as unchecked: `open_tensorrt` compares them with the reference answers before
    it uses them for the first time.

    :raises EngineError: when they cannot be built, with TensorRT's own words.
    :raises EngineFileError: when they cannot be written.
    """
    key = PlanKey.of(directory, target)
    folder = key.folder(directory.path)
    with _locked(folder.parent, report):
        try:
            read_plans(directory.path, key)
            return
        except RunnerUnavailable:
            # There are none yet.
            pass
        except EngineFileError as error:
            report(f'plans: {error}')
            shutil.rmtree(folder)
        _build(directory, target, key, report)


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


def _build(directory: EngineDirectory, target: PlanTarget, key: PlanKey, report: Report) -> None:
    """Build both plans in a folder of their own; it gets its name when both are there."""
    folder = key.folder(directory.path)
    partial = folder.with_name(folder.name + PARTIAL)
    estimates = PlanEstimates.of(directory.config, directory.recipe, target.tensorrt)
    report(
        f'plans: for {target.describe()}; up to {gigabytes(estimates.plans)}, built within '
        f'{gigabytes(estimates.memory)} of memory'
    )
    check_disk(folder.parent, estimates.plans, 'make room, or copy the engine to a larger disk')
    check_memory(
        estimates.memory,
        'building plans of this model',
        'end other programs, add swap space, or build on another machine with this TensorRT',
    )
    return_freed_memory()
    with _on_disk(partial):
        partial.mkdir(mode=0o700, exist_ok=True)
        check_owner(partial)
    requests = plan_requests(directory.path, directory.config, directory.recipe, target.tensorrt)
    for request in requests:
        path = partial / request.name
        # What an interrupted build has finished is whole: it got its name when it was.
        if path.is_file():
            report(f'plans: {request.name} was built before')
            continue
        begin = time.monotonic()
        timing_cache = directory.path / PLANS_FOLDER / f'{target.key[:16]}.timing'
        plan = build_plan(request, timing_cache, report)
        with _on_disk(partial):
            _write(path, plan)
        report(
            f'plans: {request.name} has {gigabytes(plan.nbytes)}, built in '
            f'{time.monotonic() - begin:.1f} s'
        )
    with _on_disk(partial):
        write_plan_manifest(partial, key)
        partial.rename(folder)
    report(f'plans: {folder} is ready')


@contextmanager
def _on_disk(partial: Path) -> Iterator[None]:
    """Say what to do when the disk is full, or cannot be written to."""
    try:
        yield
    except OSError as error:
        raise EngineFileError(
            f'plans cannot be written to {partial} ({error}); make room, or copy the engine to a '
            'disk that has some'
        ) from None


def _write(path: Path, plan: memoryview) -> None:
    """Write a plan that has its name when it is whole, or nothing."""
    draft = path.with_suffix('.part')
    try:
        draft.write_bytes(plan)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def plan_requests(
    folder: Path, config: Kosmos2Config, recipe: Recipe, release: Release
) -> list[PlanRequest]:
    """Return what to build of the graphs in a folder: the vision tower, and the decoder."""
    text = config.text

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

    graph = decoder_graph(tier_for(release, text.head_dim).name)
    common = (recipe.optimization_level, recipe.workspace_mib)
    shapes = profiles(recipe, release)
    return [
        PlanRequest(VISION_PLAN, folder / VISION_GRAPH, (), lambda shape: {}, *common),
        PlanRequest(DECODER_PLAN, folder / graph, shapes, decoder, *common),
    ]
