"""The commands `kosmos_ros engine ...`."""

import argparse
from pathlib import Path
import time
from typing import TYPE_CHECKING

from kosmos_ros.errors import EngineFileError, RunnerUnavailable

if TYPE_CHECKING:
    from kosmos_ros.engine.base import Image
    from kosmos_ros.engine.directory.manifest import Manifest
    from kosmos_ros.engine.tensorrt.plans import PlanKey

_EVERY_S = 1.0


# Each command imports what it needs: `engine info` must load neither ROS nor torch.


def add_engine_commands(commands: 'argparse._SubParsersAction[argparse.ArgumentParser]') -> None:
    """Declare them."""
    info = commands.add_parser('info', help='what an engine directory contains')
    info.add_argument('path', type=Path)
    info.set_defaults(run=_info)

    build = commands.add_parser(
        'build',
        help='make an engine from a checkpoint of Kosmos-2, and its TensorRT plans',
        description='From a Hugging Face checkpoint to an engine directory.  Without '
        '--checkpoint, TensorRT plans for this machine are added to the engine directory --out.',
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
        '--recipe', help='jetson-orin, jetson-thor, desktop or cpu (the default), or a YAML file'
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
        help="also the published answers of the released model about this picture, Kosmos-2's "
        'snowman.png',
    )
    verify.add_argument('--report', type=Path, metavar='FILE', help='write the findings as JSON')
    verify.set_defaults(run=_verify)

    prune = commands.add_parser(
        'prune', help='remove TensorRT plans that are not for this machine and this engine'
    )
    prune.add_argument('path', type=Path)
    prune.add_argument('--all', action='store_true', help='remove all plans')
    prune.set_defaults(run=_prune)


class Console:
    """Prints lines as they come, those of a percentage not oftener than every second."""

    def __init__(self) -> None:
        self._shown_s = 0.0

    def __call__(self, line: str) -> None:
        now_s = time.monotonic()
        if not line.endswith('%') or now_s - self._shown_s >= _EVERY_S:
            self._shown_s = now_s
            print(line, flush=True)


def _info(options: argparse.Namespace) -> int:
    from kosmos_ros.engine.directory.file_names import RECIPE_FILE
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
        print(f'{plans.bytes:>13,}  {plans.folder.name:16}  plans: {plans.machine}')
    return 0


def _build(options: argparse.Namespace) -> int:
    from kosmos_ros.engine.directory.recipe import Recipe, recipe_named
    from kosmos_ros.engine.load import EngineFiles, need, open_runner

    console = Console()
    if options.checkpoint is not None:
        for module in ('torch', 'safetensors', 'onnx', 'onnxscript'):
            need(module, f'building from a checkpoint needs it: pip install {module}')
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
    files = EngineFiles.verified(options.out)
    if files.recipe.runner != 'tensorrt':
        if options.checkpoint is None:
            print(f'{options.out} needs no plans: it is for {files.recipe.runner}')
        return 0
    try:
        runner, _ = open_runner(files, 'tensorrt', level='off', build_plans='only', report=console)
    except RunnerUnavailable as error:
        if options.checkpoint is None:
            raise
        print(
            f'no plans were built: {error}\n'
            'this directory may be copied to the machine that will run it; run there:\n'
            f'kosmos_ros engine build --out {options.out.name}'
        )
        return 0
    runner.close()
    return 0


def _verify(options: argparse.Namespace) -> int:
    from kosmos_ros.engine.verify import Findings, verify_engine

    image = None if options.golden is None else _picture(options.golden)
    findings = Findings()
    try:
        for line in verify_engine(options.path, options.runner, findings, image):
            print(line, flush=True)
    finally:
        if options.report is not None:
            findings.write(options.report)
    return 0


def _prune(options: argparse.Namespace) -> int:
    from kosmos_ros.engine.building.estimates import gigabytes
    from kosmos_ros.engine.directory.manifest import Manifest
    from kosmos_ros.engine.tensorrt.plans import prune

    manifest = Manifest.read(options.path)
    keep = None if options.all else _present_key(options.path, manifest)
    removed = prune(options.path, keep)
    for plans in removed:
        print(f'removed {plans.folder} ({plans.machine}), {gigabytes(plans.bytes)}')
    if not removed:
        print('nothing to remove')
    return 0


def _present_key(path: Path, manifest: 'Manifest') -> 'PlanKey':
    from kosmos_ros.engine.directory.file_names import RECIPE_FILE
    from kosmos_ros.engine.directory.recipe import Recipe
    from kosmos_ros.engine.machine import this_machine
    from kosmos_ros.engine.tensorrt.plans import PlanKey

    recipe = Recipe.from_yaml(path / RECIPE_FILE)
    try:
        return PlanKey.of(manifest, recipe, this_machine())
    except RunnerUnavailable as error:
        raise RunnerUnavailable(
            f'which plans are in use cannot be told here ({error}); --all removes all of them'
        ) from None


def _picture(path: Path) -> 'Image':
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert('RGB'))
    except (OSError, UnidentifiedImageError) as error:
        raise EngineFileError(f'{path} cannot be read as a picture: {error}') from None
