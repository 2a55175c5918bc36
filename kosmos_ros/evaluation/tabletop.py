"""Referring expressions on held-out scenes of the simulated tabletop.

Protocol: one new scene per question at the camera's full size, kinds of expression equally often,
the engine's best box as the engine reports it; a hit is IoU >= 0.5 with the visible box of the
object.
"""

import json

import numpy as np

from kosmos_ros.engine.base import Engine
from kosmos_ros.model.boxes import Box
from kosmos_ros.tabletop.dataset import held_out
from kosmos_ros.tabletop.language import KINDS


def evaluate(engine: Engine, *, seed: int, scenes: int) -> int:
    """Print a table per kind of expression and, last, one JSON line; returns the exit code 0."""
    ious: dict[str, list[float]] = {kind: [] for kind in KINDS}
    scores: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for question in held_out(seed, scenes):
        height, width, _ = question.rgb.shape
        truth = Box.from_pixels(question.box_px, width, height)
        ((best,),) = engine.locate(engine.encode_image(question.rgb), [question.expression])
        ious[question.kind].append(best.box_in_image.iou(truth))
        scores[question.kind].append(best.score)
    print(f'{engine.name}\n{scenes} held-out scenes, seed {seed}\n')
    print(f'{"expression":<12}{"n":>6}{"IoU>=0.5":>10}{"mean IoU":>10}{"mean score":>12}')
    for kind in KINDS:
        if ious[kind]:
            print(_row(kind, ious[kind], scores[kind]))
    everything = [iou for values in ious.values() for iou in values]
    print(_row('all', everything, [score for values in scores.values() for score in values]))
    by_kind = {kind: round(_hits(values), 4) for kind, values in ious.items() if values}
    print(
        json.dumps(
            {'n': len(everything), 'iou50': round(_hits(everything), 4), 'by_kind': by_kind}
        )
    )
    return 0


def _row(label: str, ious: list[float], scores: list[float]) -> str:
    means = f'{np.mean(ious):>10.3f}{np.mean(scores):>12.3f}'
    return f'{label:<12}{len(ious):>6}{_hits(ious):>10.3f}{means}'


def _hits(ious: list[float]) -> float:
    return float(np.mean(np.asarray(ious) >= 0.5))
