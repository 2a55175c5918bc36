"""What is true of a view, and the words that answers are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from kosmos_ros.model.boxes import Box
from kosmos_ros.tabletop.language.expressions import Meaning, Name, meanings, orders
from kosmos_ros.tabletop.world.render import Seen, View
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
    """That a thing lies clearly in a direction (left, right, near, far) of another."""

    thing: int
    direction: str
    landmark: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What questions about a view need; it does not hold on to the picture."""

    things: tuple[Seen, ...]
    boxes: tuple[Box, ...]  # what is visible of each thing, in shares of the image
    meanings: tuple[Meaning, ...]
    relations: tuple[Relation, ...]

    @classmethod
    def of(cls, view: View) -> 'Facts':
        """All that is clear in a view."""
        width, height = view.camera.width, view.camera.height
        boxes = tuple(Box.from_pixels(seen.box_px, width, height) for seen in view.things)
        return cls(view.things, boxes, tuple(meanings(view)), tuple(_relations(view)))

    def fitting(self, name: Name) -> tuple[int, ...]:
        """All things that a name is true of, from left to right."""
        found = [index for index, seen in enumerate(self.things) if name.fits(seen)]
        return tuple(sorted(found, key=lambda i: self.boxes[i].x0 + self.boxes[i].x1))

    def proper_name(self, index: int) -> Name:
        """Colour and shape of a thing, and its size where they are true of others as well."""
        full = self.full_name(index)
        short = Name(None, full.colour, full.shape)
        return short if len(self.fitting(short)) == 1 else full

    def full_name(self, index: int) -> Name:
        """Size, colour and shape of a thing; no two things of a scene have the same."""
        thing = self.things[index].thing
        return Name(thing.size, thing.colour, thing.shape)


def spelled(name: Name) -> str:
    """The usual words of a name that has a shape, without an article."""
    return ' '.join(word for word in (name.size, name.colour, name.shape) if word)


def indefinite(words: str) -> str:
    """Words behind 'a' or 'an'."""
    return f'an {words}' if words.startswith(('a', 'e', 'i', 'o', 'u')) else f'a {words}'


def name_from(phrase: str) -> Name | None:
    """Read 'a red ball': an article, a size or none, a colour or none, and a shape.

    :return: None for what is none of the usual words in this order.
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


def _relations(view: View) -> list[Relation]:
    found = []
    for direction, (measure, clear) in orders(view).items():
        places = [measure(seen) for seen in view.things]
        for index, here in enumerate(places):
            for landmark, there in enumerate(places):
                if there - here >= clear:
                    found.append(Relation(index, direction, landmark))
    return found
