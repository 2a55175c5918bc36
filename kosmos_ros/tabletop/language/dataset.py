"""Questions about scenes that no training has seen."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kosmos_ros.tabletop.language import questions as answers
from kosmos_ros.tabletop.language.expressions import KINDS, choose, meanings, plainly, say
from kosmos_ros.tabletop.language.facts import Facts
from kosmos_ros.tabletop.language.questions import Talk, draw_talk
from kosmos_ros.tabletop.world.pinhole import CAMERA
from kosmos_ros.tabletop.world.render import Bytes, add_sensor_noise, render
from kosmos_ros.tabletop.world.scenes import draw_scene

# In front of the seed: training draws from other streams.
_STREAM = 1_000_003
_STREAM_OF_TALKS = 1_000_033


@dataclass(frozen=True, slots=True)
class Question:
    """An expression of a kind about a frame uint8[480, 640, 3], and the true box in its pixels."""

    rgb: Bytes
    expression: str
    kind: str
    box_px: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class HeldOutTalk:
    """Questions about a frame uint8[480, 640, 3] of which `facts` are true."""

    rgb: Bytes
    talk: Talk
    facts: Facts


def held_out(seed: int, count: int) -> Iterator[Question]:
    """`count` questions, each about a new scene at the camera's full size, all kinds equally.

    Half of them are in plain words, the others in any words of the language.
    """
    rng = np.random.default_rng([_STREAM, seed])
    for i in range(count):
        kind, meaning = KINDS[i % len(KINDS)], None
        while meaning is None:
            view = render(draw_scene(rng), CAMERA)
            meaning = choose(meanings(view), rng, kind)
        text = plainly(meaning) if (i // len(KINDS)) % 2 == 0 else say(meaning, rng)
        box = view.things[meaning.target].box_px
        yield Question(add_sensor_noise(view.rgb, rng), text, kind, box)


def held_out_talks(seed: int, count: int) -> Iterator[HeldOutTalk]:
    """`count` talks, each about a new scene at the camera's full size, all kinds equally."""
    rng = np.random.default_rng([_STREAM_OF_TALKS, seed])
    for i in range(count):
        kind, talk = answers.KINDS[i % len(answers.KINDS)], None
        while talk is None:
            view = render(draw_scene(rng), CAMERA)
            facts = Facts.of(view)
            talk = draw_talk(facts, rng, kind)
        yield HeldOutTalk(add_sensor_noise(view.rgb, rng), talk, facts)
