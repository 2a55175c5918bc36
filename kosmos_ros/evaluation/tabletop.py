"""Referring expressions and questions on held-out scenes of the simulated tabletop.

Protocol of expressions: one new scene per expression at the camera's full size, kinds equally
often, the engine's best box as the engine reports it; a hit is IoU >= 0.5 with the visible box of
the object.

Protocol of questions: one new scene per question or chat, kinds equally often, greedy answers.
An answer is right when `kosmos_ros.tabletop.language.scoring` finds it true and to the point, a
chat when every answer in it is; each turn stands on the engine's own answers before it.
"""

from collections.abc import Sequence
import json

import numpy as np

from kosmos_ros.engine.base import Answer, Draft, Engine, ImageContext, Transcript
from kosmos_ros.errors import EngineError
from kosmos_ros.model.boxes import Box
from kosmos_ros.tabletop.language import questions as answers
from kosmos_ros.tabletop.language.dataset import HeldOutTalk, held_out, held_out_talks
from kosmos_ros.tabletop.language.expressions import KINDS
from kosmos_ros.tabletop.language.questions import Turn
from kosmos_ros.tabletop.language.scoring import Pointed, Said, is_right


def evaluate(engine: Engine, *, seed: int, scenes: int) -> int:
    """Print a table per kind of expression, one per kind of question and, last, one JSON line.

    :param scenes: how many for the expressions, and as many others for the questions.
    :return: the exit code 0.
    """
    print(f'{engine.name}\n{scenes} held-out scenes, seed {seed}\n')
    found = _expressions(engine, seed, scenes)
    print()
    answered = _questions(engine, seed, scenes)
    print(json.dumps({**found, **answered}))
    return 0


def _expressions(engine: Engine, seed: int, scenes: int) -> dict[str, object]:
    ious: dict[str, list[float]] = {kind: [] for kind in KINDS}
    scores: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for question in held_out(seed, scenes):
        height, width, _ = question.rgb.shape
        truth = Box.from_pixels(question.box_px, width, height)
        ((best,),) = engine.locate(engine.encode_image(question.rgb), [question.expression])
        ious[question.kind].append(best.box_in_image.iou(truth))
        scores[question.kind].append(best.score)
    print(f'{"expression":<12}{"n":>6}{"IoU>=0.5":>10}{"mean IoU":>10}{"mean score":>12}')
    for kind in KINDS:
        if ious[kind]:
            print(_row(kind, ious[kind], scores[kind]))
    everything = [iou for values in ious.values() for iou in values]
    print(_row('all', everything, [score for values in scores.values() for score in values]))
    return {
        'n': len(everything),
        'iou50': round(_hits(everything), 4),
        'by_kind': {kind: round(_hits(values), 4) for kind, values in ious.items() if values},
    }


def _questions(engine: Engine, seed: int, scenes: int) -> dict[str, object]:
    right: dict[str, list[bool]] = {kind: [] for kind in answers.KINDS}
    for held in held_out_talks(seed, scenes):
        right[held.talk.kind].append(_is_answered(engine, held))
    print(f'{"question":<12}{"n":>6}{"accuracy":>10}')
    shares = {kind: float(np.mean(values)) for kind, values in right.items() if values}
    for kind, share in shares.items():
        print(f'{kind:<12}{len(right[kind]):>6}{share:>10.3f}')
    everything = [value for values in right.values() for value in values]
    print(f'{"all":<12}{len(everything):>6}{np.mean(everything):>10.3f}')
    return {
        'asks': len(everything),
        'ask_accuracy': round(float(np.mean(everything)), 4),
        'ask_by_kind': {kind: round(share, 4) for kind, share in shares.items()},
    }


def _is_answered(engine: Engine, held: HeldOutTalk) -> bool:
    """Whether all turns are answered rightly."""
    contexts, past = [engine.encode_image(held.rgb)], None
    for turn in held.talk.turns:
        answer, past = _ask(engine, turn, contexts[: turn.ask.images], past)
        if not is_right(turn, held.facts, _said(answer)):
            return False
    return True


def _ask(
    engine: Engine, turn: Turn, contexts: Sequence[ImageContext], past: Transcript | None
) -> tuple[Answer, Transcript]:
    last: Draft | None = None
    for draft in engine.ask(turn.ask, contexts, past):
        last = draft
    if last is None:
        raise EngineError(f'{engine.name} gives no answers to questions')
    return last.read(), last.transcript()


def _said(answer: Answer) -> Said:
    pointed = tuple(
        Pointed(one.phrase, tuple(located.box_in_image for located in one.boxes))
        for one in answer.groundings
    )
    return Said(answer.text, pointed)


def _row(label: str, ious: list[float], scores: list[float]) -> str:
    means = f'{np.mean(ious):>10.3f}{np.mean(scores):>12.3f}'
    return f'{label:<12}{len(ious):>6}{_hits(ious):>10.3f}{means}'


def _hits(ious: list[float]) -> float:
    return float(np.mean(np.asarray(ious) >= 0.5))
