"""Referring expressions and questions on held-out scenes of the simulated tabletop.

Protocol of expressions: one new scene per expression at the camera's full size, kinds equally
often, the engine's best box as the engine reports it.  A hit is IoU >= 0.5 with the visible box of
the object.

Protocol of questions: one new scene per dialogue, kinds equally often, greedy answers.  An answer
is correct if `kosmos_ros.tabletop.language.scoring` accepts it, a dialogue if all its answers are.
Each turn of a chat follows the engine's own answers to the turns before it.
"""

from collections.abc import Sequence
import json

import numpy as np

from kosmos_ros.engine.base import Answer, Draft, Engine, ImageContext, Transcript
from kosmos_ros.errors import EngineError
from kosmos_ros.model.boxes import Box
from kosmos_ros.tabletop.language import questions
from kosmos_ros.tabletop.language.dataset import (
    HeldOutDialogue,
    held_out_dialogues,
    held_out_expressions,
)
from kosmos_ros.tabletop.language.expressions import KINDS
from kosmos_ros.tabletop.language.questions import DialogueTurn
from kosmos_ros.tabletop.language.scoring import GroundedPhrase, ParsedAnswer, is_correct


def evaluate(engine: Engine, *, seed: int, scenes: int) -> int:
    """Print a table by kind of expression, one by kind of question, and last one JSON line.

    :param scenes: the number of expressions, and also of dialogues.
    :return: the exit code 0.
    """
    print(f'{engine.name}\n{scenes} held-out scenes, seed {seed}\n')
    expressions = _expressions(engine, seed, scenes)
    print()
    dialogues = _questions(engine, seed, scenes)
    print(json.dumps({**expressions, **dialogues}))
    return 0


def _expressions(engine: Engine, seed: int, scenes: int) -> dict[str, object]:
    ious: dict[str, list[float]] = {kind: [] for kind in KINDS}
    scores: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for expression in held_out_expressions(seed, scenes):
        height, width, _ = expression.rgb.shape
        truth = Box.from_pixels(expression.box_px, width, height)
        ((best,),) = engine.locate(engine.encode_image(expression.rgb), [expression.expression])
        ious[expression.kind].append(best.box_in_image.iou(truth))
        scores[expression.kind].append(best.score)
    print(f'{"expression":<12}{"n":>6}{"IoU>=0.5":>10}{"mean IoU":>10}{"mean score":>12}')
    for kind in KINDS:
        if ious[kind]:
            print(_row(kind, ious[kind], scores[kind]))
    every_value = [iou for values in ious.values() for iou in values]
    print(_row('all', every_value, [score for values in scores.values() for score in values]))
    return {
        'n': len(every_value),
        'iou50': round(_hits(every_value), 4),
        'by_kind': {kind: round(_hits(values), 4) for kind, values in ious.items() if values},
    }


def _questions(engine: Engine, seed: int, scenes: int) -> dict[str, object]:
    correct: dict[str, list[bool]] = {kind: [] for kind in questions.KINDS}
    for held in held_out_dialogues(seed, scenes):
        correct[held.dialogue.kind].append(_is_answered(engine, held))
    print(f'{"question":<12}{"n":>6}{"accuracy":>10}')
    fractions = {kind: float(np.mean(values)) for kind, values in correct.items() if values}
    for kind, fraction in fractions.items():
        print(f'{kind:<12}{len(correct[kind]):>6}{fraction:>10.3f}')
    every_value = [value for values in correct.values() for value in values]
    print(f'{"all":<12}{len(every_value):>6}{np.mean(every_value):>10.3f}')
    return {
        'asks': len(every_value),
        'ask_accuracy': round(float(np.mean(every_value)), 4),
        'ask_by_kind': {kind: round(fraction, 4) for kind, fraction in fractions.items()},
    }


def _is_answered(engine: Engine, held: HeldOutDialogue) -> bool:
    """Return whether all turns are answered correctly."""
    contexts, past = [engine.encode_image(held.rgb)], None
    for turn in held.dialogue.turns:
        answer, past = _ask(engine, turn, contexts[: turn.ask.images], past)
        if not is_correct(turn, held.facts, _parsed_answer(answer)):
            return False
    return True


def _ask(
    engine: Engine, turn: DialogueTurn, contexts: Sequence[ImageContext], past: Transcript | None
) -> tuple[Answer, Transcript]:
    last: Draft | None = None
    for draft in engine.ask(turn.ask, contexts, past):
        last = draft
    if last is None:
        raise EngineError(f'{engine.name} gives no answers to questions')
    return last.read(), last.transcript()


def _parsed_answer(answer: Answer) -> ParsedAnswer:
    groundings = tuple(
        GroundedPhrase(one.phrase, tuple(located.box_in_image for located in one.boxes))
        for one in answer.groundings
    )
    return ParsedAnswer(answer.text, groundings)


def _row(label: str, ious: list[float], scores: list[float]) -> str:
    means = f'{np.mean(ious):>10.3f}{np.mean(scores):>12.3f}'
    return f'{label:<12}{len(ious):>6}{_hits(ious):>10.3f}{means}'


def _hits(ious: list[float]) -> float:
    return float(np.mean(np.asarray(ious) >= 0.5))
