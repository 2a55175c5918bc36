"""Facts about a view, and the vocabulary of answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from kosmos_ros.model.boxes import Box
from kosmos_ros.tabletop.language.expressions import Meaning, Name, direction_measures, meanings
from kosmos_ros.tabletop.world.render import RenderedView, VisibleThing
from kosmos_ros.tabletop.world.things import COLOURS, SHAPES, WIDTHS_M

NUMBERS = ('zero', 'one', 'two', 'three', 'four', 'five', 'six')
PLURALS = {
    'ball': 'balls',
    'sphere': 'spheres',
    'box': 'boxes',
    'cube': 'cubes',
    'cone': 'cones',
    'ring': 'rings',
    'donut': 'donuts',
    'object': 'objects',
    'thing': 'things',
}
OPPOSITES = {'left': 'right', 'right': 'left', 'near': 'far', 'far': 'near'}


@dataclass(frozen=True, slots=True)
class Relation:
    """A thing that is clearly in a direction (left, right, near, far) from another."""

    thing: int
    direction: str
    landmark: int


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about a view that questions need; the image itself is not kept."""

    things: tuple[VisibleThing, ...]
    boxes: tuple[Box, ...]  # the visible part of each thing, in fractions of the image
    meanings: tuple[Meaning, ...]
    relations: tuple[Relation, ...]

    @classmethod
    def of(cls, view: RenderedView) -> 'Facts':
        """Collect the facts of a view."""
        width, height = view.camera.width, view.camera.height
        boxes = tuple(Box.from_pixels(visible.box_px, width, height) for visible in view.things)
        return cls(view.things, boxes, tuple(meanings(view)), tuple(_relations(view)))

    def matching(self, name: Name) -> tuple[int, ...]:
        """Return all things that a name is true of, from left to right."""
        found = [index for index, visible in enumerate(self.things) if name.matches(visible)]
        return tuple(sorted(found, key=lambda i: self.boxes[i].x0 + self.boxes[i].x1))

    def distinct_name(self, index: int) -> Name:
        """Return colour and shape of a thing, with its size if they match other things too."""
        full = self.full_name(index)
        short = Name(None, full.colour, full.shape)
        return short if len(self.matching(short)) == 1 else full

    def full_name(self, index: int) -> Name:
        """Return size, colour and shape of a thing; they differ for all things of a scene."""
        thing = self.things[index].thing
        return Name(thing.size, thing.colour, thing.shape)


def name_text(name: Name) -> str:
    """Return the plain words of a name that has a shape, without an article."""
    return ' '.join(word for word in (name.size, name.colour, name.shape) if word)


def with_article(words: str) -> str:
    """Prefix words with 'a' or 'an'."""
    return f'an {words}' if words.startswith(('a', 'e', 'i', 'o', 'u')) else f'a {words}'


def parse_name(phrase: str) -> Name | None:
    """Parse a name such as 'a red ball': an article, an optional size and colour, and a shape.

    :return: None for any other words or another order.
    """
    article, *words = phrase.split() or ['']
    options: Sequence[Sequence[str]] = (tuple(WIDTHS_M), tuple(COLOURS), SHAPES)
    found: list[str | None] = []
    for known in options:
        found.append(words.pop(0) if words and words[0] in known else None)
    size, colour, shape = found
    if words or shape is None or article not in ('the', 'a', 'an'):
        return None
    return Name(size, colour, shape)


def _relations(view: RenderedView) -> list[Relation]:
    found = []
    for direction, (measure, clear) in direction_measures(view).items():
        values = [measure(visible) for visible in view.things]
        for index, here in enumerate(values):
            for landmark, there in enumerate(values):
                if there - here >= clear:
                    found.append(Relation(index, direction, landmark))
    return found
