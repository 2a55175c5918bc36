"""What the simulated camera shows for a seed, and what the demo asks about it.

Camera and demo run in different processes and share nothing but the seed.
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kosmos_ros.model.boxes import Box
from kosmos_ros.model.tasks import Ask, Region, Task
from kosmos_ros.tabletop.language.expressions import KINDS, choose, meanings, plainly
from kosmos_ros.tabletop.language.facts import NUMBERS, Facts, indefinite, spelled
from kosmos_ros.tabletop.world.pinhole import CAMERA
from kosmos_ros.tabletop.world.render import View, render
from kosmos_ros.tabletop.world.scenes import draw_scene

# Shown when nobody asks for another: all four shapes, and a red ball among them.
USUAL_SEED = 935
_FEWEST_THINGS = 5
# Apart from the seeds of training and of the held-out scenes.
_STREAM = 77_003


@dataclass(frozen=True, slots=True)
class Asked:
    """An expression and the attention_mask box of the one thing that it names, in pixels."""

    expression: str
    kind: str
    box_px: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Spoken:
    """A question with an answer in words, and the true answer; '' where there are many."""

    ask: Ask
    truth: str

    def is_right(self, text: str) -> bool | None:
        """Whether an answer is the true one; None where there are many."""
        return text.lower().strip(' .') == self.truth if self.truth else None


@lru_cache(maxsize=1)
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


def spoken_for(seed: int, described: Asked) -> list[Spoken]:
    """What the demo asks about the view of a seed in words: a caption, how many balls there are,
    and what the region of one of its expressions shows.
    """
    view = view_for(seed)
    facts = Facts.of(view)
    (index,) = (i for i, seen in enumerate(view.things) if seen.box_px == described.box_px)
    balls = sum(seen.thing.shape == 'ball' for seen in view.things)
    region = Region(Box.from_pixels(described.box_px, view.camera.width, view.camera.height))
    return [
        Spoken(Ask(Task.CAPTION, images=1), ''),
        Spoken(Ask(Task.QUESTION, 'How many balls are there?', images=1), NUMBERS[balls]),
        Spoken(
            Ask(Task.DESCRIBE_REGION, images=1, regions=(region,)),
            indefinite(spelled(facts.full_name(index))),
        ),
    ]
