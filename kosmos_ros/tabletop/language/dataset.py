"""Held-out expressions and dialogues, about scenes that training never uses."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kosmos_ros.tabletop.language import questions
from kosmos_ros.tabletop.language.expressions import (
    KINDS,
    meanings,
    plain_wording,
    sample_meaning,
    sample_wording,
)
from kosmos_ros.tabletop.language.facts import Facts
from kosmos_ros.tabletop.language.questions import Dialogue, sample_dialogue
from kosmos_ros.tabletop.world.pinhole import CAMERA
from kosmos_ros.tabletop.world.render import Bytes, add_sensor_noise, render
from kosmos_ros.tabletop.world.scenes import sample_scene

# Precedes the seed, so that training samples from other random streams.
_STREAM = 1_000_003
_DIALOGUE_STREAM = 1_000_033


@dataclass(frozen=True, slots=True)
class HeldOutExpression:
    """An expression about a frame uint8[480, 640, 3], with the true box in pixels."""

    rgb: Bytes
    expression: str
    kind: str
    box_px: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class HeldOutDialogue:
    """A dialogue about a frame uint8[480, 640, 3] that `facts` describes."""

    rgb: Bytes
    dialogue: Dialogue
    facts: Facts


def held_out_expressions(seed: int, count: int) -> Iterator[HeldOutExpression]:
    """Yield `count` expressions, each about a new full-size frame, all kinds equally often.

    Half of them have their plain wording, the others a random one.
    """
    rng = np.random.default_rng([_STREAM, seed])
    for i in range(count):
        kind, meaning = KINDS[i % len(KINDS)], None
        while meaning is None:
            view = render(sample_scene(rng), CAMERA)
            meaning = sample_meaning(meanings(view), rng, kind)
        text = (
            plain_wording(meaning) if (i // len(KINDS)) % 2 == 0 else sample_wording(meaning, rng)
        )
        box = view.things[meaning.target].box_px
        yield HeldOutExpression(add_sensor_noise(view.rgb, rng), text, kind, box)


def held_out_dialogues(seed: int, count: int) -> Iterator[HeldOutDialogue]:
    """Yield `count` dialogues, each about a new full-size frame, all kinds equally often."""
    rng = np.random.default_rng([_DIALOGUE_STREAM, seed])
    for i in range(count):
        kind, dialogue = questions.KINDS[i % len(questions.KINDS)], None
        while dialogue is None:
            view = render(sample_scene(rng), CAMERA)
            facts = Facts.of(view)
            dialogue = sample_dialogue(facts, rng, kind)
        yield HeldOutDialogue(add_sensor_noise(view.rgb, rng), dialogue, facts)
