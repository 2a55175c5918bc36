"""What the simulated camera shows for a seed, and what the demo asks about it.

Camera and demo run in different processes and share nothing but the seed.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from kosmos_ros.tabletop.language import KINDS, choose, meanings, plainly
from kosmos_ros.tabletop.pinhole import CAMERA
from kosmos_ros.tabletop.render import View, render
from kosmos_ros.tabletop.world import draw_scene

# Shown when nobody asks for another: all four shapes, and a red ball among them.
USUAL_SEED = 935
_FEWEST_THINGS = 5
# Apart from the seeds of training and of the held-out scenes.
_STREAM = 77_003


@dataclass(frozen=True, slots=True)
class Asked:
    """An expression and the visible box of the one thing that it names, in pixels."""

    expression: str
    kind: str
    box_px: tuple[float, float, float, float]


def view_for(seed: int) -> View:
    """The picture of a seed, without sensor noise: a table with at least five things."""
    rng = np.random.default_rng([_STREAM, seed])
    while True:
        scene = draw_scene(rng, CAMERA)
        if len(scene.things) >= _FEWEST_THINGS:
            return render(scene, CAMERA, supersampling=2)


def questions_for(seed: int, count: int) -> list[Asked]:
    """`count` different expressions about the view of a seed, in plain words: its kinds in turn,
    and as many different things as possible.
    """
    view, rng = view_for(seed), np.random.default_rng([_STREAM, seed, 1])
    found = meanings(view)
    asked: dict[str, Asked] = {}
    turn = 0
    while len(asked) < count:
        already = Counter(question.box_px for question in asked.values())
        fewest = min(already[view.things[meaning.target].box_px] for meaning in found)
        fresh = [m for m in found if already[view.things[m.target].box_px] == fewest]
        kind = KINDS[turn % len(KINDS)]
        meaning = choose(fresh, rng, kind) or choose(found, rng, kind)
        turn += 1
        if meaning is not None:
            text = plainly(meaning)
            asked.setdefault(text, Asked(text, meaning.kind, view.things[meaning.target].box_px))
    return list(asked.values())
