"""Everything that can truly be said about one thing in a view, and the many ways to say it.

A name is an article, at most one size, at most one colour and a noun (a shape, or 'object').  It is used only when it
names exactly one thing, alone or with 'left-most', 'nearest', ... or with a relation to another thing that has a name
of its own.  Left and right are the viewer's, by the middle of the visible box; near and far are distances from the
camera.  Where a comparison is close, nothing is said.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kosmos_ros.tabletop.render import Seen, View
from kosmos_ros.tabletop.world import COLOURS, SHAPES

KINDS = ('attribute', 'shape', 'size', 'extreme', 'relation')
CLEAR_SIDE = .07                # of the image width: closer middles are neither left nor right of each other
CLEAR_DEPTH_M = .07             # closer distances are neither in front nor behind

EXTREMES: dict[str, tuple[str, ...]] = {
    'left': ('left-most', 'leftmost', 'left most'), 'right': ('right-most', 'rightmost', 'right most'),
    'near': ('nearest', 'closest'), 'far': ('farthest', 'furthest')}
RELATIONS: dict[str, tuple[str, ...]] = {
    'left': ('left of', 'to the left of'), 'right': ('right of', 'to the right of'),
    'near': ('in front of',), 'far': ('behind',)}
SIZES: dict[str, tuple[str, ...]] = {'small': ('small', 'little'), 'large': ('large', 'big')}
NOUNS = ('object', 'thing')
ALSO: dict[str, str] = {'ball': 'sphere', 'box': 'cube', 'ring': 'donut', 'cone': 'cone'}
"""Second names of the shapes, used now and then."""


@dataclass(frozen=True, slots=True)
class Name:
    """A size or none, a colour or none, a shape or none (then 'object')."""

    size: str | None
    colour: str | None
    shape: str | None

    def fits(self, seen: Seen) -> bool:
        """Whether the words are true of a thing."""
        thing = seen.thing
        return (self.size in (None, thing.size) and self.colour in (None, thing.colour)
                and self.shape in (None, thing.shape))


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an expression says, apart from the choice among synonyms; `target` indexes the view's things.

    `needed` is False where a shorter expression would have done.
    """

    kind: str
    name: Name
    target: int
    needed: bool
    direction: str | None = None         # of an extreme or a relation: left, right, near, far
    landmark: Name | None = None         # the other thing of a relation


@dataclass(frozen=True, slots=True)
class Expression:
    """Words that name exactly one thing of a view."""

    text: str
    kind: str
    target: int


def meanings(view: View) -> list[Meaning]:
    """All that can be said of single things of a view."""
    names = _names(view.things)
    found = list[Meaning]()
    for name, fitting in names.items():
        if len(fitting) == 1:
            kind, needed = _kind_of_name(name, names)
            if kind:
                found.append(Meaning(kind, name, fitting[0], needed))
        found.extend(_extremes(view, name, fitting))
        found.extend(_relations(view, name, fitting, names))
    return found


def say(meaning: Meaning, rng: np.random.Generator) -> str:
    """One of the ways to put a meaning into words."""
    words = [str(rng.choice(('the', 'the', 'the', '', 'a')))] if meaning.kind != 'extreme' else \
        [str(rng.choice(('the', 'the', '')))]
    if meaning.kind == 'extreme' and meaning.direction:
        words.append(str(rng.choice(EXTREMES[meaning.direction])))
    words.append(_say_name(meaning.name, rng))
    if meaning.kind == 'relation' and meaning.direction and meaning.landmark:
        words += [str(rng.choice(RELATIONS[meaning.direction])), str(rng.choice(('the', 'the', 'the', ''))),
                  _say_name(meaning.landmark, rng)]
    return ' '.join(word for word in words if word)


def plainly(meaning: Meaning) -> str:
    """The most usual way to put a meaning into words."""
    words = ['the']
    if meaning.kind == 'extreme' and meaning.direction:
        words.append(EXTREMES[meaning.direction][0])
    words += _plain_name(meaning.name)
    if meaning.kind == 'relation' and meaning.direction and meaning.landmark:
        words += [RELATIONS[meaning.direction][0], 'the', *_plain_name(meaning.landmark)]
    return ' '.join(words)


def expressions(view: View) -> list[Expression]:
    """Every meaning of a view in its most usual words."""
    return [Expression(plainly(m), m.kind, m.target) for m in meanings(view)]


def choose(found: Sequence[Meaning], rng: np.random.Generator, kind: str) -> Meaning | None:
    """One meaning of a kind, mostly one that needs all its words; None where the view has none of that kind."""
    of_kind = [m for m in found if m.kind == kind]
    needed = [m for m in of_kind if m.needed]
    pool = needed if needed and (len(needed) == len(of_kind) or rng.random() < .8) else of_kind
    return pool[int(rng.integers(len(pool)))] if pool else None


def _names(things: Sequence[Seen]) -> dict[Name, list[int]]:
    """All names that fit at least one thing, and the things they fit."""
    names = dict.fromkeys(Name(size, colour, shape) for seen in things for size in (None, seen.thing.size)
                          for colour in (None, seen.thing.colour) for shape in (None, seen.thing.shape))
    return {name: [i for i, seen in enumerate(things) if name.fits(seen)] for name in names}


def _kind_of_name(name: Name, names: dict[Name, list[int]]) -> tuple[str, bool]:
    """Which kind a name of one thing is, and whether all its words are needed."""
    if name.size:
        needed = len(names[Name(None, name.colour, name.shape)]) > 1
        return 'size' if name.shape else '', needed
    if name.colour:
        return 'attribute', name.shape is None or len(names[Name(None, None, name.shape)]) > 1
    return 'shape' if name.shape else '', True


def _orders(view: View) -> dict[str, tuple[Callable[[Seen], float], float]]:
    """For each direction: what is least for the thing that lies most in that direction, and what is a clear difference."""
    clear_px = CLEAR_SIDE * view.camera.width
    return {'left': (lambda s: (s.box_px[0] + s.box_px[2]) / 2, clear_px),
            'right': (lambda s: -(s.box_px[0] + s.box_px[2]) / 2, clear_px),
            'near': (lambda s: s.distance_m, CLEAR_DEPTH_M), 'far': (lambda s: -s.distance_m, CLEAR_DEPTH_M)}


def _extremes(view: View, name: Name, fitting: list[int]) -> list[Meaning]:
    if len(fitting) < 2 or name.size:
        return []
    found = list[Meaning]()
    for direction, (measure, clear) in _orders(view).items():
        first, second = sorted(fitting, key=lambda i: measure(view.things[i]))[:2]
        if measure(view.things[second]) - measure(view.things[first]) >= clear:
            found.append(Meaning('extreme', name, first, True, direction))
    return found


def _relations(view: View, name: Name, fitting: list[int], names: dict[Name, list[int]]) -> list[Meaning]:
    """Only where one fitting thing is clearly on that side of the landmark and every other clearly is not."""
    found = list[Meaning]()
    for landmark, marked in names.items():
        if len(marked) != 1 or landmark.shape is None or marked == fitting:
            continue
        others = [i for i in fitting if i != marked[0]]
        for direction, (measure, clear) in _orders(view).items():
            before = {i: measure(view.things[marked[0]]) - measure(view.things[i]) for i in others}
            sure = [i for i in others if before[i] >= clear]
            if len(sure) == 1 and all(before[i] <= 0 for i in others if i != sure[0]):
                needed = len(fitting) > 1 and not (landmark.size and len(names[Name(None, landmark.colour,
                                                                                    landmark.shape)]) == 1)
                if name.size is None and (name.shape or len(others) > 1):
                    found.append(Meaning('relation', name, sure[0], needed, direction, landmark))
    return found


def _say_name(name: Name, rng: np.random.Generator) -> str:
    words = [str(rng.choice(SIZES[name.size]))] if name.size else []
    noun = str(rng.choice(NOUNS)) if name.shape is None else name.shape if rng.random() < .88 else ALSO[name.shape]
    return ' '.join([*words, *([name.colour] if name.colour else []), noun])


def _plain_name(name: Name) -> list[str]:
    return [word for word in (name.size, name.colour, name.shape or NOUNS[0]) if word]


WORDS: tuple[str, ...] = tuple(dict.fromkeys(
    word for phrase in ('the', 'a', *COLOURS, *SHAPES, *ALSO.values(), *NOUNS, *sum(SIZES.values(), ()), *sum(EXTREMES.values(), ()),
                        *sum(RELATIONS.values(), ())) for word in phrase.replace('-', ' ').split()))
"""Every word of the language, after normalisation (a hyphen is a space)."""
