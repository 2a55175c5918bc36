"""What engines are asked, and how long they take for it."""

import time
from unittest import mock

import numpy as np

from gpu_check.task import Accelerator, Findings, Task
from kosmos_ros.engine.base import Image, ImageContext
from kosmos_ros.engine.directory.directory import REFERENCE_FILE, EngineDirectory
from kosmos_ros.engine.directory.reference import ReferenceAnswers, self_check
from kosmos_ros.engine.kosmos2 import Kosmos2Engine
from kosmos_ros.engine.runners.runner import Runner
from kosmos_ros.engine.timing import Times, see, timed
from kosmos_ros.model import tasks

EXPRESSIONS = (
    'the red mug left of the laptop',
    'the small green box',
    'the person in the blue chair',
    'the second book from the left',
    'the dog behind the table',
    'the keys on the white paper',
    'the open door',
    'the bottle nearest to the window',
)
# Of captions that are not timed, and tokens of each.
_WARM_UPS = 2
_ANSWER_TOKENS = 48
# What a vocabulary needs for these and for a caption.
WORDS = tuple(dict.fromkeys(' '.join((*EXPRESSIONS, 'An image of')).split()))


def picture() -> Image:
    """Return a picture of nothing, as a camera would send it."""
    return np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)


def examine(
    runner: Runner,
    files: EngineDirectory,
    accelerator: Accelerator,
    task: Task,
    findings: Findings,
) -> None:
    """Hold a runner to the reference answers, time its answers, and hold it to them again.

    :raises SelfCheckFailed: when it gives other answers than the reference.
    """
    reference = ReferenceAnswers.read(files.path / REFERENCE_FILE)
    for line in self_check(runner, reference, 'full', files.recipe.precision):
        findings.line(f'self-check: {line}')
    engine = Kosmos2Engine(files.manifest.name, runner, files.vocabulary, files.config)
    findings.figure('engine', engine.name)
    _time(engine, runner, task, findings)
    # What hundreds of answers have left in its buffers must not count.
    for _ in self_check(runner, reference, 'full', files.recipe.precision):
        continue
    findings.line('self-check: the same after all questions')
    findings.figure('peak_bytes', accelerator.peak_bytes())


def _time(engine: Kosmos2Engine, runner: Runner, task: Task, findings: Findings) -> None:
    image, (one, *_) = picture(), EXPRESSIONS
    context = engine.encode_image(image)
    engine.locate(context, [one])
    with mock.patch.object(runner, 'decode', wraps=runner.decode) as decode:
        engine.locate(context, [one])
    findings.figure('steps', decode.call_count)
    for name, work in (
        ('image', lambda: see(engine, runner, image)),
        ('image_and_expression', lambda: engine.locate(engine.encode_image(image), [one])),
        ('expression', lambda: engine.locate(context, [one])),
        ('eight_expressions', lambda: engine.locate(context, EXPRESSIONS)),
    ):
        findings.figure(name, timed(work, task.runs, task.most_s).as_dict())
    tokens = _timed_tokens(engine, context, task)
    if tokens is not None:
        findings.figure('token', tokens.as_dict())


def _timed_tokens(engine: Kosmos2Engine, context: ImageContext, task: Task) -> Times | None:
    """Time each token of captions; None when the model's captions have no second token."""
    ask = tasks.Ask(tasks.Task.CAPTION, max_tokens=_ANSWER_TOKENS)
    for _ in range(_WARM_UPS):
        for _ in engine.ask(ask, [context]):
            continue
    seconds: list[float] = []
    end = time.perf_counter() + task.most_s
    while True:
        begin = time.perf_counter()
        for draft in engine.ask(ask, [context]):
            # The first token comes with the last piece of the prompt.
            if draft.tokens > 1:
                seconds.append(time.perf_counter() - begin)
            begin = time.perf_counter()
        if not seconds:
            return None
        if len(seconds) >= task.runs or time.perf_counter() >= end:
            return Times.of(seconds)
