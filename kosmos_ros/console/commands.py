"""The commands `kosmos_ros refer` and `kosmos_ros ask`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from kosmos_ros.limits import Limits
from kosmos_ros.model.tasks import Task

_LIMITS = Limits()
_RUNNERS = ('auto', 'tensorrt', 'torch', 'onnxruntime')
_ASK_HELP = """\
examples:
  kosmos_ros ask photo.png
  kosmos_ros ask photo.png "Question: What is the dog doing?" --stream
  kosmos_ros ask before.png after.png "What has changed?" --task question
  kosmos_ros ask photo.png --region 120,80,300,260
  kosmos_ros ask photo.png "a man with a hat" --phrase "a man" --phrase "a hat"
  kosmos_ros ask "A robot is" --task complete
  kosmos_ros ask photo.png "What is it?" --example mug.png "Question: What is it? Answer: a mug"
"""


# Each command imports what it needs: `kosmos_ros --help` must not load NumPy and a model's code.


def add_question_commands(
    commands: 'argparse._SubParsersAction[argparse.ArgumentParser]',
) -> None:
    """Declare the commands."""
    refer = commands.add_parser(
        'refer', help='where something is in a picture', description='Boxes for expressions.'
    )
    refer.add_argument('image', type=Path, metavar='IMAGE')
    refer.add_argument('expressions', nargs='+', metavar='EXPR', help="such as 'the red mug'")
    refer.add_argument(
        '--max-results',
        type=_whole(1, _LIMITS.max_results),
        default=1,
        metavar='N',
        help='boxes for each expression, best first; default: 1',
    )
    _add_engine_and_picture(refer, 'NAME.refer.png')
    refer.set_defaults(run=_refer)

    ask = commands.add_parser(
        'ask',
        help='what is in pictures, in words',
        description='A caption without a text, an answer with one.  Boxes are about the last '
        'image.',
        epilog=_ASK_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ask.add_argument(
        'words',
        nargs='+',
        metavar='IMAGE|TEXT',
        help='picture files, then the text, unless the task needs none',
    )
    ask.add_argument(
        '--task',
        type=_task,
        help=f'{", ".join(_name(task) for task in Task)}; default: what fits the other arguments',
    )
    ask.add_argument(
        '--phrase',
        dest='phrases',
        action='append',
        default=[],
        metavar='PHRASE',
        help='words of the text to be found',
    )
    ask.add_argument(
        '--region',
        dest='regions',
        type=_region,
        action='append',
        default=[],
        metavar='X0,Y0,X1,Y1[=PHRASE]',
        help='a part of the last image, in pixels, and the words of the text that mean it',
    )
    ask.add_argument(
        '--example',
        dest='examples',
        nargs=2,
        action='append',
        default=[],
        metavar=('IMAGE', 'TEXT'),
        help='what a question and its answer look like, with an image of its own',
    )
    ask.add_argument('--max-tokens', type=_whole(1), default=0, metavar='N', help='of the answer')
    ask.add_argument(
        '--beams',
        type=_whole(1, _LIMITS.max_beams),
        default=1,
        metavar='N',
        help='more than 1: beam search',
    )
    ask.add_argument('--stream', action='store_true', help='print the answer as it grows')
    _add_engine_and_picture(ask, 'NAME.ask.png')
    ask.set_defaults(run=_ask)


def _add_engine_and_picture(parser: argparse.ArgumentParser, usual: str) -> None:
    parser.add_argument(
        '--engine',
        metavar='ENGINE',
        help='engine directory, or the name of an installed engine; default: the embedded one',
    )
    parser.add_argument(
        '--runner',
        choices=_RUNNERS,
        default='auto',
        metavar='RUNNER',
        help=f'{", ".join(_RUNNERS)}; default: the fastest here',
    )
    parser.add_argument(
        '--out',
        type=_png,
        metavar='PNG',
        help=f'where the annotated picture goes; default: {usual} in this directory',
    )


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return a reader of whole numbers within bounds."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f'{text!r} is not a whole number') from None
        if value < least or (most is not None and value > most):
            bounds = f'{least} or more' if most is None else f'{least} to {most}'
            raise argparse.ArgumentTypeError(f'must be {bounds}')
        return value

    return read


def _name(task: Task) -> str:
    return task.name.lower()


def _task(text: str) -> Task:
    try:
        return Task[text.upper().replace('-', '_')]
    except KeyError:
        known = ', '.join(_name(task) for task in Task)
        raise argparse.ArgumentTypeError(f'there is no task {text!r}; there is {known}') from None


def _region(text: str) -> tuple[tuple[float, float, float, float], str]:
    """Read corners in pixels, and the phrase."""
    numbers, _, phrase = text.partition('=')
    try:
        x0, y0, x1, y1 = map(float, numbers.split(','))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not X0,Y0,X1,Y1 or X0,Y0,X1,Y1=PHRASE'
        ) from None
    return (x0, y0, x1, y1), phrase


def _png(text: str) -> Path:
    if Path(text).suffix.lower() != '.png':
        raise argparse.ArgumentTypeError(f'{text!r} does not end in .png')
    return Path(text)


def _refer(options: argparse.Namespace) -> int:
    from kosmos_ros.console.refer import refer

    return refer(
        options.image,
        options.expressions,
        max_results=options.max_results,
        engine=options.engine,
        runner=options.runner,
        out=options.out,
    )


def _ask(options: argparse.Namespace) -> int:
    from kosmos_ros.console.ask import AskArguments, ask

    arguments = AskArguments(
        tuple(options.words),
        options.task,
        tuple(options.phrases),
        tuple(options.regions),
        tuple((Path(image), text) for image, text in options.examples),
        options.max_tokens,
        options.beams,
    )
    return ask(
        arguments,
        stream=options.stream,
        engine=options.engine,
        runner=options.runner,
        out=options.out,
    )
