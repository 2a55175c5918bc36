"""What the simulated camera shows for a seed, and what the demo asks about it.

Camera and demo run in different processes and share nothing but the seed.
"""

from dataclasses import dataclass

import numpy as np

from kosmos_ros.tabletop.language import KINDS, choose, meanings, plainly
from kosmos_ros.tabletop.pinhole import CAMERA
from kosmos_ros.tabletop.render import View, render
from kosmos_ros.tabletop.world import draw_scene

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
    """`count` different expressions about the view of a seed, of as many kinds as it has, in plain
    words.
    """
    view, rng = view_for(seed), np.random.default_rng([_STREAM, seed, 1])
    found = meanings(view)
    asked: dict[str, Asked] = {}
    turn = 0
    while len(asked) < count:
        meaning = choose(found, rng, KINDS[turn % len(KINDS)])
        turn += 1
        if meaning is not None:
            text = plainly(meaning)
            asked.setdefault(text, Asked(text, meaning.kind, view.things[meaning.target].box_px))
    return list(asked.values())
