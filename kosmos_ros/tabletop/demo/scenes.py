"""The scene of a seed for the simulated camera, and the demo's questions about it.

Camera and demo run in different processes and share only the seed.
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from kosmos_ros.model.boxes import Box
from kosmos_ros.model.tasks import Ask, Region, Task
from kosmos_ros.tabletop.language.expressions import KINDS, meanings, plain_wording, sample_meaning
from kosmos_ros.tabletop.language.facts import NUMBERS, Facts, name_text, with_article
from kosmos_ros.tabletop.world.pinhole import CAMERA
from kosmos_ros.tabletop.world.render import RenderedView, render
from kosmos_ros.tabletop.world.scenes import sample_scene

# This scene has all four shapes, among them a red ball.
DEFAULT_SEED = 935
_MIN_THINGS = 5
# A random stream other than those of training and of the held-out scenes.
_STREAM = 77_003


@dataclass(frozen=True, slots=True)
class ReferQuestion:
    """An expression, and the visible box of the one thing that it identifies, in pixels."""

    expression: str
    kind: str
    box_px: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class AskQuestion:
    """A question with its true answer; '' if it has several."""

    ask: Ask
    truth: str

    def is_correct(self, text: str) -> bool | None:
        """Return whether an answer is the true one; None if there are several."""
        return text.lower().strip(' .') == self.truth if self.truth else None


@lru_cache(maxsize=1)
def view_for(seed: int) -> RenderedView:
    """Render the scene of a seed without noise; it has at least five things."""
    rng = np.random.default_rng([_STREAM, seed])
    while True:
        scene = sample_scene(rng, CAMERA)
        if len(scene.things) >= _MIN_THINGS:
            return render(scene, CAMERA, supersampling=2)


def refer_questions_for(seed: int, count: int) -> list[ReferQuestion]:
    """Return `count` different plain expressions about the scene of a seed.

    Their kinds take turns, and they are about as many different things as possible.
    """
    view, rng = view_for(seed), np.random.default_rng([_STREAM, seed, 1])
    every_meaning = meanings(view)
    questions: dict[str, ReferQuestion] = {}
    attempt = 0
    while len(questions) < count:
        uses = Counter(question.box_px for question in questions.values())
        fewest = min(uses[view.things[meaning.target].box_px] for meaning in every_meaning)
        preferred = [m for m in every_meaning if uses[view.things[m.target].box_px] == fewest]
        kind = KINDS[attempt % len(KINDS)]
        meaning = sample_meaning(preferred, rng, kind) or sample_meaning(every_meaning, rng, kind)
        attempt += 1
        if meaning is not None:
            text = plain_wording(meaning)
            box_px = view.things[meaning.target].box_px
            questions.setdefault(text, ReferQuestion(text, meaning.kind, box_px))
    return list(questions.values())


def ask_questions_for(seed: int, described: ReferQuestion) -> list[AskQuestion]:
    """Return the demo's questions about the scene of a seed.

    They ask for a caption, for the number of balls, and for a description of the region of the
    expression `described`.
    """
    view = view_for(seed)
    facts = Facts.of(view)
    (index,) = (i for i, visible in enumerate(view.things) if visible.box_px == described.box_px)
    balls = sum(visible.thing.shape == 'ball' for visible in view.things)
    region = Region(Box.from_pixels(described.box_px, view.camera.width, view.camera.height))
    return [
        AskQuestion(Ask(Task.CAPTION, images=1), ''),
        AskQuestion(Ask(Task.QUESTION, 'How many balls are there?', images=1), NUMBERS[balls]),
        AskQuestion(
            Ask(Task.DESCRIBE_REGION, images=1, regions=(region,)),
            with_article(name_text(facts.full_name(index))),
        ),
    ]
