"""Everything that can truly be said about one thing in a view, and the many ways to say it.

A name is an article, at most one size, at most one colour and a noun (a shape, or 'object').  It
is used only where it means exactly one thing: alone, with 'left-most', 'nearest' and so on, or
with a relation to another thing that has a name of its own.  Left and right are the viewer's, by
the middle of the visible box; near and far are distances from the camera.  Where a comparison is
close, nothing is said.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kosmos_ros.tabletop.world.render import Seen, View
from kosmos_ros.tabletop.world.things import COLOURS, SHAPES

KINDS = ('attribute', 'shape', 'size', 'extreme', 'relation')
# Of the image's width: things whose middles are closer are neither left nor right of each other.
CLEAR_SIDE = 0.07
# Things whose distances are closer are neither in front of nor behind each other.
CLEAR_DEPTH_M = 0.07

EXTREMES: dict[str, tuple[str, ...]] = {
    'left': ('left-most', 'leftmost', 'left most'),
    'right': ('right-most', 'rightmost', 'right most'),
    'near': ('nearest', 'closest'),
    'far': ('farthest', 'furthest'),
}
RELATIONS: dict[str, tuple[str, ...]] = {
    'left': ('left of', 'to the left of'),
    'right': ('right of', 'to the right of'),
    'near': ('in front of',),
    'far': ('behind',),
}
SIZES: dict[str, tuple[str, ...]] = {'small': ('small', 'little'), 'large': ('large', 'big')}
NOUNS = ('object', 'thing')
# Second names of the shapes, used now and then.
ALSO: dict[str, str] = {'ball': 'sphere', 'box': 'cube', 'ring': 'donut', 'cone': 'cone'}
_ALSO_SHARE = 0.12
_NEEDED_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Name:
    """A size or none, a colour or none, a shape or none (then 'object')."""

    size: str | None
    colour: str | None
    shape: str | None

    def fits(self, seen: Seen) -> bool:
        """Whether the words are true of a thing."""
        thing = seen.thing
        return (
            self.size in (None, thing.size)
            and self.colour in (None, thing.colour)
            and self.shape in (None, thing.shape)
        )


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an expression says, whatever the synonyms."""

    kind: str
    name: Name
    target: int  # index of the thing in the view
    needed: bool  # False where fewer words would have done
    direction: str | None = None  # of an extreme or a relation: left, right, near, far
    landmark: Name | None = None  # the other thing of a relation


@dataclass(frozen=True, slots=True)
class Expression:
    """Words that name exactly one thing of a view."""

    text: str
    kind: str
    target: int


def meanings(view: View) -> list[Meaning]:
    """All that can be said of single things of a view."""
    names = _names(view.things)
    found: list[Meaning] = []
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
    articles = ('the', 'the', '') if meaning.kind == 'extreme' else ('the', 'the', 'the', '', 'a')
    return f'{rng.choice(articles)} {say_bare(meaning, rng)}'.strip()


def say_bare(meaning: Meaning, rng: np.random.Generator) -> str:
    """One of the ways to put a meaning into words, without the article in front."""
    words: list[str] = []
    if meaning.kind == 'extreme' and meaning.direction:
        words.append(str(rng.choice(EXTREMES[meaning.direction])))
    words.append(say_name(meaning.name, rng))
    if meaning.kind == 'relation' and meaning.direction and meaning.landmark:
        words += [
            str(rng.choice(RELATIONS[meaning.direction])),
            str(rng.choice(('the', 'the', 'the', ''))),
            say_name(meaning.landmark, rng),
        ]
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
    """A meaning of a kind, mostly one that needs all its words; None where there is none."""
    of_kind = [m for m in found if m.kind == kind]
    needed = [m for m in of_kind if m.needed]
    pool = (
        needed
        if needed and (len(needed) == len(of_kind) or rng.random() < _NEEDED_SHARE)
        else of_kind
    )
    return pool[int(rng.integers(len(pool)))] if pool else None


def _names(things: Sequence[Seen]) -> dict[Name, list[int]]:
    """All names that fit at least one thing, and the things they fit."""
    names = dict.fromkeys(
        Name(size, colour, shape)
        for seen in things
        for size in (None, seen.thing.size)
        for colour in (None, seen.thing.colour)
        for shape in (None, seen.thing.shape)
    )
    return {name: [i for i, seen in enumerate(things) if name.fits(seen)] for name in names}


def _kind_of_name(name: Name, names: dict[Name, list[int]]) -> tuple[str, bool]:
    """Which kind a name of one thing is, and whether all its words are needed."""
    if name.size:
        needed = len(names[Name(None, name.colour, name.shape)]) > 1
        return 'size' if name.shape else '', needed
    if name.colour:
        return 'attribute', name.shape is None or len(names[Name(None, None, name.shape)]) > 1
    return 'shape' if name.shape else '', True


def orders(view: View) -> dict[str, tuple[Callable[[Seen], float], float]]:
    """For each direction a measure, least for the thing that lies furthest that way, and what
    counts as a clear difference.
    """
    clear_px = CLEAR_SIDE * view.camera.width
    return {
        'left': (_middle_px, clear_px),
        'right': (lambda seen: -_middle_px(seen), clear_px),
        'near': (lambda seen: seen.distance_m, CLEAR_DEPTH_M),
        'far': (lambda seen: -seen.distance_m, CLEAR_DEPTH_M),
    }


def _middle_px(seen: Seen) -> float:
    return (seen.box_px[0] + seen.box_px[2]) / 2


def _extremes(view: View, name: Name, fitting: list[int]) -> list[Meaning]:
    if len(fitting) < 2 or name.size:
        return []
    found: list[Meaning] = []
    for direction, (measure, clear) in orders(view).items():
        first, second = sorted(fitting, key=lambda i: measure(view.things[i]))[:2]
        if measure(view.things[second]) - measure(view.things[first]) >= clear:
            found.append(Meaning('extreme', name, first, True, direction))
    return found


def _relations(
    view: View, name: Name, fitting: list[int], names: dict[Name, list[int]]
) -> list[Meaning]:
    """Where one fitting thing is clearly on that side of a landmark, and all others are not."""
    found: list[Meaning] = []
    if name.size:
        return found
    for landmark, marked in names.items():
        if len(marked) != 1 or landmark.shape is None or marked == fitting:
            continue
        others = [i for i in fitting if i != marked[0]]
        if name.shape is None and len(others) < 2:
            continue
        plainer = Name(None, landmark.colour, landmark.shape)
        needed = len(fitting) > 1 and not (landmark.size and len(names[plainer]) == 1)
        for direction, (measure, clear) in orders(view).items():
            here = measure(view.things[marked[0]])
            before = [here - measure(view.things[i]) for i in others]
            sure = [i for i, lead in zip(others, before, strict=True) if lead >= clear]
            if len(sure) == 1 and sum(lead > 0 for lead in before) == 1:
                found.append(Meaning('relation', name, sure[0], needed, direction, landmark))
    return found


def say_name(name: Name, rng: np.random.Generator) -> str:
    """One of the ways to say a name, without an article."""
    words = [str(rng.choice(SIZES[name.size]))] if name.size else []
    if name.colour:
        words.append(name.colour)
    if name.shape is None:
        words.append(str(rng.choice(NOUNS)))
    else:
        words.append(ALSO[name.shape] if rng.random() >= 1 - _ALSO_SHARE else name.shape)
    return ' '.join(words)


def _plain_name(name: Name) -> list[str]:
    return [word for word in (name.size, name.colour, name.shape or NOUNS[0]) if word]


def _all_words() -> tuple[str, ...]:
    synonyms = [*SIZES.values(), *EXTREMES.values(), *RELATIONS.values()]
    phrases = ['the', 'a', *COLOURS, *SHAPES, *ALSO.values(), *NOUNS]
    phrases += [phrase for group in synonyms for phrase in group]
    return tuple(dict.fromkeys(' '.join(phrases).replace('-', ' ').split()))


# Every word of the language, a hyphen being a space.
WORDS = _all_words()
