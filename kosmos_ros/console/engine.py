"""The commands `kosmos_ros engine ...`."""

import argparse
from pathlib import Path
import time
from typing import TYPE_CHECKING

from kosmos_ros.errors import EngineFileError, RunnerUnavailable

if TYPE_CHECKING:
    from kosmos_ros.engine.directory.directory import EngineDirectory
    from kosmos_ros.engine.tensorrt.plans import PlanKey

_EVERY_S = 1.0


# Each command imports what it needs: `engine info` must load neither ROS nor torch.


def add_engine_commands(commands: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    """Declare the commands."""
    info = commands.add_parser('info', help='what an engine directory contains')
    info.add_argument('path', type=Path)
    info.set_defaults(run=_info)

    build = commands.add_parser(
        'build',
        help='make an engine from a checkpoint of Kosmos-2, and its TensorRT plans',
        description='From a Hugging Face checkpoint to an engine directory.  Without '
        '--checkpoint, TensorRT plans are added to the engine directory --out.  TensorRT for RTX '
        'builds them without a GPU, and they run on any RTX GPU; TensorRT itself builds them for '
        'this machine.',
    )
    build.add_argument(
        '--checkpoint',
        help='directory with config.json, *.safetensors, and sentencepiece.bpe.model or '
        'tokenizer.json; or an id of the Hugging Face hub, as microsoft/kosmos-2-patch14-224',
    )
    build.add_argument(
        '--revision', help='commit, tag or branch to fetch from the hub; see docs/checkpoints.md'
    )
    build.add_argument('--out', type=Path, required=True, help='the engine directory')
    build.add_argument(
        '--recipe',
        help='rtx, desktop, jetson-orin, jetson-thor or cpu (the default), or a YAML file',
    )
    build.add_argument(
        '--precision',
        choices=('fp32', 'fp16', 'bf16', 'int8'),
        help="default: the recipe's; int8: of the decoder's weights",
    )
    build.add_argument('--name', help='how the engine calls itself; default: Kosmos-2')
    build.set_defaults(run=_build)

    verify = commands.add_parser(
        'verify', help='check every byte of an engine, load it, compare it with its reference'
    )
    verify.add_argument('path', type=Path)
    verify.add_argument(
        '--runner', choices=('auto', 'tensorrt', 'torch', 'onnxruntime'), default='auto'
    )
    verify.add_argument(
        '--golden',
        type=Path,
        metavar='SNOWMAN',
        help='also the golden answers, which are published for the released model and this '
        "picture, Kosmos-2's snowman.png",
    )
    verify.add_argument('--report', type=Path, metavar='FILE', help='write the report as JSON')
    verify.set_defaults(run=_verify)

    prune = commands.add_parser(
        'prune', help='remove TensorRT plans that are not for this machine and this engine'
    )
    prune.add_argument('path', type=Path)
    prune.add_argument('--all', action='store_true', help='remove all plans')
    prune.set_defaults(run=_prune)


class Console:
    """Prints lines as they come, those that end in a percentage at most once a second."""

    def __init__(self) -> None:
        self._shown_s = 0.0

    def __call__(self, line: str) -> None:
        now_s = time.monotonic()
        if not line.endswith('%') or now_s - self._shown_s >= _EVERY_S:
            self._shown_s = now_s
            print(line, flush=True)


def _info(options: argparse.Namespace) -> int:
    from kosmos_ros.engine.directory.directory import RECIPE_FILE
    from kosmos_ros.engine.directory.manifest import Manifest
    from kosmos_ros.engine.directory.recipe import Recipe
    from kosmos_ros.engine.tensorrt.plans import stored_plans

    manifest = Manifest.read(options.path)
    recipe = Recipe.from_yaml(options.path / RECIPE_FILE)
    print(f'{manifest.name}: for {recipe.description}, {manifest.runner}, {manifest.precision}')
    print(f'model {manifest.model}\nmade by {manifest.made_by}')
    shapes = ', '.join(f'{rows}x{tokens}x{slots}' for rows, tokens, slots in recipe.shapes)
    print(f'prefix {recipe.prefix}; rows x tokens x slots: {shapes}')
    for name, entry in manifest.files.items():
        print(f'{entry.bytes:>13,}  {entry.sha256[:16]}  {name}')
    for plans in stored_plans(options.path):
        print(f'{plans.bytes:>13,}  {plans.folder.name:16}  plans: {plans.target}')
    return 0


def _build(options: argparse.Namespace) -> int:
    from kosmos_ros.engine.building.plans import build_plans
    from kosmos_ros.engine.directory.directory import EngineDirectory
    from kosmos_ros.engine.directory.recipe import Recipe, recipe_named
    from kosmos_ros.engine.load import open_runner, requiring

    console = Console()
    if options.checkpoint is not None:
        with requiring():
            from kosmos_ros.engine.building.build import build_engine, check_absent
        from kosmos_ros.engine.building.hub import find_checkpoint

        wanted = options.recipe or 'cpu'
        own = wanted.endswith('.yaml')
        recipe = Recipe.from_yaml(Path(wanted)) if own else recipe_named(wanted)
        if options.precision:
            recipe = recipe.with_precision(options.precision)
        name = options.name or 'Kosmos-2'
        check_absent(options.out)
        found = find_checkpoint(options.checkpoint, options.revision, console)
        checkpoint, source = found.directory, found.source
        build_engine(checkpoint, options.out, recipe, name=name, source=source, report=console)
    elif options.recipe or options.precision or options.name or options.revision:
        raise EngineFileError(
            '--recipe, --precision, --name and --revision belong to --checkpoint; without it, '
            'plans are added to an engine that has been made'
        )
    directory = EngineDirectory.verified(options.out)
    if directory.recipe.runner != 'tensorrt':
        if options.checkpoint is None:
            print(f'{options.out} needs no plans: it is for {directory.recipe.runner}')
        return 0
    try:
        build_plans(directory, console)
    except RunnerUnavailable as error:
        if options.checkpoint is None:
            raise
        print(
            f'no plans were built: {error}\n'
            'this directory may be copied to the machine that will run it; run there:\n'
            f'kosmos_ros engine build --out {options.out.name}'
        )
        return 0
    try:
        # New plans are compared with the reference answers when they are loaded.
        runner, _ = open_runner(directory, 'tensorrt', level='off', report=console)
    except RunnerUnavailable as error:
        print(
            f'the plans are not checked: {error}\n'
            'this directory may be copied to a machine that runs them; its first start compares '
            'them with the reference answers'
        )
        return 0
    runner.close()
    return 0


def _verify(options: argparse.Namespace) -> int:
    from kosmos_ros.engine.verify import VerificationReport, verify_engine
    from kosmos_ros.limits import Limits
    from kosmos_ros.model.images import image_from

    image = None if options.golden is None else image_from(options.golden, Limits())
    report = VerificationReport()
    try:
        for line in verify_engine(options.path, options.runner, report, image):
            print(line, flush=True)
    finally:
        if options.report is not None:
            report.write(options.report)
    return 0


def _prune(options: argparse.Namespace) -> int:
    from kosmos_ros.engine.building.estimates import gigabytes
    from kosmos_ros.engine.directory.directory import EngineDirectory
    from kosmos_ros.engine.tensorrt.plans import prune

    directory = EngineDirectory.verified(options.path)
    removed = prune(options.path, None if options.all else _present_key(directory))
    for plans in removed:
        print(f'removed {plans.folder} ({plans.target}), {gigabytes(plans.bytes)}')
    if not removed:
        print('nothing to remove')
    return 0


def _present_key(directory: 'EngineDirectory') -> 'PlanKey':
    from kosmos_ros.engine.machine import plan_target
    from kosmos_ros.engine.tensorrt.plans import PlanKey

    try:
        return PlanKey.of(directory, plan_target())
    except RunnerUnavailable as error:
        raise RunnerUnavailable(
            f'which plans are in use is not known here ({error}); --all removes all of them'
        ) from None
