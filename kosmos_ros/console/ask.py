"""`kosmos_ros ask`: an answer in words about picture files."""

from collections.abc import Sequence
from dataclasses import dataclass
import json
import os
from pathlib import Path
import sys
import time

from kosmos_ros.console.engines import opened_engine
from kosmos_ros.console.pictures import SUFFIXES, output_path, read_picture, write_picture
from kosmos_ros.console.printing import corners_px, print_boxes, shown
from kosmos_ros.drawing.poster import AnsweredQuestion, captioned
from kosmos_ros.engine.base import Answer, Draft, Engine, Finish, Image
from kosmos_ros.errors import BadExpression, BadImage, EngineError
from kosmos_ros.limits import Limits
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.expressions import quoted
from kosmos_ros.model.prompts import check_task
from kosmos_ros.model.tasks import TEXT_TASKS, Ask, Example, Region, Task


@dataclass(frozen=True, slots=True)
class AskArguments:
    """The arguments of the command.

    :param words: picture files and, last, the text, if there is one.
    :param task: None: what fits the rest.
    :param regions: corners in pixels of the last picture, and a phrase of the text or ''.
    :param examples: picture files and their texts.
    """

    words: tuple[str, ...]
    task: Task | None
    phrases: tuple[str, ...]
    regions: tuple[tuple[tuple[float, float, float, float], str], ...]
    examples: tuple[tuple[Path, str], ...]
    max_tokens: int
    beams: int


def ask(
    arguments: AskArguments, *, stream: bool, engine: str | None, runner: str, out: Path | None
) -> int:
    """Print the answer, where its phrases are and, last, one JSON line; draw the picture, if there
    is one.

    :param stream: print the answer as it grows.
    :return: the exit code: 0, or 130 for an answer that Ctrl-C has ended.
    :raises KosmosError: when an argument cannot be used.
    """
    limits = Limits()
    if stream and arguments.beams > 1:
        raise BadExpression(
            'With --beams an answer may change until its end, so it cannot be printed as it grows;'
            ' leave out --beams or --stream.'
        )
    own, text = pictures_and_text(arguments.words)
    # In the order of the prompt: regions and boxes are about the last of them.
    paths = [*(path for path, _ in arguments.examples), *own]
    images = [read_picture(path, limits) for path in paths]
    last = images[-1] if images else None
    asked = _ask(arguments, text, len(own), last)
    if out is not None and not paths:
        raise BadExpression('--out needs an image to draw on.')
    drawn = output_path(out, paths[-1], 'ask') if paths else None
    with opened_engine(engine, runner, limits) as answering:
        answering.check_ask(asked)
        begin_s = time.monotonic()
        draft, finish = _answer(answering, asked, images, stream)
        ms = 1e3 * (time.monotonic() - begin_s)
        name = answering.name
    answer = draft.read()
    if not stream:
        print(shown(answer.text))
    if finish is Finish.LENGTH:
        print(
            f'kosmos_ros: the answer was cut off after {draft.tokens} tokens; '
            '--max-tokens N allows more',
            file=sys.stderr,
        )
    summary: dict[str, object] = {
        'task': asked.task.name,
        'text': answer.text,
        'groundings': [],
        'tokens': draft.tokens,
        'finish': finish.name,
        'ms': round(ms, 2),
        'engine': name,
    }
    if last is not None and drawn is not None:
        if answer.groundings:
            print()
            print_boxes('phrase', [(one.phrase, one.boxes) for one in answer.groundings], last)
        write_picture(captioned(last, AnsweredQuestion.of(asked, answer)), drawn)
        summary['groundings'] = _groundings(answer, last)
        summary['image'] = str(drawn.resolve())
    print(json.dumps(summary), flush=True)
    return 130 if finish is Finish.CANCELLED else 0


def pictures_and_text(words: Sequence[str]) -> tuple[list[Path], str]:
    """Separate pictures from the text, which is the last word, unless that is a file or named like
    one.

    :raises BadImage: for a word in front that is no file.
    """
    *front, last = words
    called_so = last.lower().endswith(SUFFIXES) and not any(c.isspace() for c in last)
    if os.path.isfile(last) or called_so:
        front, last = [*front, last], ''
    for word in front:
        if not os.path.exists(word):
            raise BadImage(
                f'there is no file {word}; pictures come first, then one text, in quotes'
            )
    return [Path(word) for word in front], last


def _ask(arguments: AskArguments, text: str, images: int, last: Image | None) -> Ask:
    """Make the question.

    :param images: how many the question is about.
    :param last: the last image of all, if there is one.
    :raises BadExpression: when the task needs something else.
    """
    task = arguments.task
    if task is None:
        task = _fitting_task(arguments, text)
    if not images and task not in TEXT_TASKS:
        raise BadExpression(f'{task.name} needs an image, and {quoted(text)} is no file.')
    regions = []
    for corners, phrase in arguments.regions:
        if last is None:
            raise BadExpression('--region needs an image to be a part of.')
        height, width, _ = last.shape
        regions.append(Region(Box.from_pixels(corners, width, height), phrase))
    asked = Ask(
        task,
        text,
        arguments.phrases,
        images,
        tuple(regions),
        tuple(Example(words) for _, words in arguments.examples),
        arguments.max_tokens,
        arguments.beams,
    )
    check_task(asked)
    return asked


def _fitting_task(arguments: AskArguments, text: str) -> Task:
    if arguments.phrases:
        return Task.GROUND_CAPTION
    if text:
        return Task.GROUNDED_QUESTION
    return Task.DESCRIBE_REGION if arguments.regions else Task.CAPTION


def _answer(
    engine: Engine, asked: Ask, images: Sequence[Image], stream: bool
) -> tuple[Draft, Finish]:
    """Return the last draft, and why it is the last.

    :raises KeyboardInterrupt: when Ctrl-C comes before the first token.
    """
    draft: Draft | None = None
    printed = ''
    try:
        for draft in engine.ask(asked, [engine.encode_image(image) for image in images]):
            if stream:
                text = draft.read().text
                print(shown(text[len(printed) :]), end='', flush=True)
                printed = text
    except KeyboardInterrupt:
        if draft is None or not draft.tokens:
            raise
        return draft, Finish.CANCELLED
    finally:
        if printed:
            print(flush=True)
    if draft is None:
        raise EngineError(f'{engine.name} ended without an answer.')
    return draft, draft.finish


def _groundings(answer: Answer, image: Image) -> list[dict[str, object]]:
    return [
        {
            'phrase': one.phrase,
            'span': one.span,
            'boxes_px': [corners_px(box.box_in_image, image) for box in one.boxes],
            'scores': [round(box.score, 4) for box in one.boxes],
        }
        for one in answer.groundings
    ]
