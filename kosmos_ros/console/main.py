"""The command `kosmos_ros`: what can be done without writing ROS code."""

import argparse
from collections.abc import Sequence
import os
from pathlib import Path
import sys

from kosmos_ros import __version__
from kosmos_ros.console.commands import add_question_commands
from kosmos_ros.console.engine import add_engine_commands
from kosmos_ros.environment import has_ros
from kosmos_ros.errors import KosmosError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit code.

    What users can solve is one line on standard error, never a traceback.
    """
    try:
        options = _options(arguments)
        return int(options.run(options))
    except KosmosError as error:
        print(f'kosmos_ros: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output is gone; Python must not complain when it flushes the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    # argparse itself takes words only up to the first option: ask IMAGE --task question "Why?"
    if rest and ('words' not in options or any(word.startswith('-') for word in rest)):
        parser.error(f'unrecognized arguments: {" ".join(rest)}')
    if rest:
        options.words += rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='kosmos_ros', description='Language-grounded perception for robots.'
    )
    parser.add_argument('--version', action='version', version=f'kosmos_ros {__version__}')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')

    demo = commands.add_parser(
        'demo', help='simulated camera, node and questions, live; draws a picture'
    )
    demo.add_argument('--seed', type=_seed, help='which scene is asked about')
    demo.add_argument(
        '--image', type=Path, default=Path('demo.png'), help='where the picture goes'
    )
    demo.set_defaults(run=_demo)

    add_question_commands(commands)

    engine = commands.add_parser('engine', help='engine directories')
    add_engine_commands(engine.add_subparsers(required=True, metavar='COMMAND'))

    train = commands.add_parser('train', help='train an embedded model')
    trainings = train.add_subparsers(required=True, metavar='WORLD')
    tabletop = trainings.add_parser('tabletop', help='on simulated scenes')
    tabletop.add_argument('--minutes', type=float, default=90)
    tabletop.add_argument('--seed', type=_seed, default=0)
    tabletop.add_argument(
        '--start',
        type=Path,
        default=None,
        help='checkpoint or engine directory to begin with; default: random weights',
    )
    tabletop.add_argument('--out', type=Path, required=True, help='directory for the checkpoint')
    tabletop.set_defaults(run=_train_tabletop)

    evaluate = commands.add_parser('eval', help='benchmarks')
    benchmarks = evaluate.add_subparsers(required=True, metavar='BENCHMARK')
    scenes = benchmarks.add_parser('tabletop', help='held-out scenes of the simulated tabletop')
    scenes.add_argument('--seed', type=_seed, default=0)
    scenes.add_argument('--scenes', type=_count, default=1000)
    scenes.add_argument(
        '--engine',
        default=None,
        help='engine directory, or the name of an installed engine; default: the embedded one',
    )
    scenes.set_defaults(run=_eval_tabletop)
    return parser


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError('must be 0 or more')
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError('must be 1 or more')
    return value


# Each command imports what it needs: `engine info` must not load ROS, and the demo must not load
# torch.


def _demo(options: argparse.Namespace) -> int:
    if not has_ros('kosmos_ros'):
        return 2
    from kosmos_ros.tabletop.demo.demo import run_demo
    from kosmos_ros.tabletop.demo.scenes import DEFAULT_SEED

    seed = DEFAULT_SEED if options.seed is None else options.seed
    return run_demo(seed, options.image)


def _train_tabletop(options: argparse.Namespace) -> int:
    from kosmos_ros.tabletop.training.train import train

    train(options.out, minutes=options.minutes, seed=options.seed, start=options.start)
    return 0


def _eval_tabletop(options: argparse.Namespace) -> int:
    from kosmos_ros.engine.load import load_engine
    from kosmos_ros.evaluation.tabletop import evaluate

    return evaluate(load_engine(options.engine), seed=options.seed, scenes=options.scenes)
