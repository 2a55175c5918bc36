"""Referring expressions: the meanings that identify one thing in a view, and their wordings.

A name is an article, at most one size, at most one colour and a noun (a shape, or 'object').  It
is used only where it identifies exactly one thing: alone, with 'left-most', 'nearest' and so on,
or with a relation to another thing that has a unique name.  Left and right are the viewer's, by
the centre of the visible box; near and far are distances from the camera.  Close comparisons are
not used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kosmos_ros.tabletop.world.render import RenderedView, VisibleThing
from kosmos_ros.tabletop.world.things import COLOURS, SHAPES

KINDS = ('attribute', 'shape', 'size', 'extreme', 'relation')
# In image widths: things whose centres are closer are neither left nor right of each other.
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
# Second names of the shapes, used with a low probability.
SHAPE_SYNONYMS: dict[str, str] = {'ball': 'sphere', 'box': 'cube', 'ring': 'donut', 'cone': 'cone'}
_SYNONYM_PROBABILITY = 0.12
_NEEDED_PROBABILITY = 0.8


@dataclass(frozen=True, slots=True)
class Name:
    """A description of a thing; None leaves out size, colour or shape (then 'object')."""

    size: str | None
    colour: str | None
    shape: str | None

    def matches(self, visible: VisibleThing) -> bool:
        """Return whether the name is true of a thing."""
        thing = visible.thing
        return (
            self.size in (None, thing.size)
            and self.colour in (None, thing.colour)
            and self.shape in (None, thing.shape)
        )


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of an expression, independent of its wording."""

    kind: str
    name: Name
    target: int  # index of the thing in the view
    needed: bool  # False if fewer words would identify the thing too
    direction: str | None = None  # of an extreme or a relation: left, right, near, far
    landmark: Name | None = None  # the other thing of a relation


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that identifies exactly one thing of a view."""

    text: str
    kind: str
    target: int


def meanings(view: RenderedView) -> list[Meaning]:
    """Return all meanings that identify one thing of a view."""
    names = _names(view.things)
    found: list[Meaning] = []
    for name, matching in names.items():
        if len(matching) == 1:
            kind, needed = _kind_of_name(name, names)
            if kind:
                found.append(Meaning(kind, name, matching[0], needed))
        found.extend(_extremes(view, name, matching))
        found.extend(_relations(view, name, matching, names))
    return found


def sample_wording(meaning: Meaning, rng: np.random.Generator) -> str:
    """Sample a wording of a meaning."""
    articles = ('the', 'the', '') if meaning.kind == 'extreme' else ('the', 'the', 'the', '', 'a')
    return f'{rng.choice(articles)} {sample_bare_wording(meaning, rng)}'.strip()


def sample_bare_wording(meaning: Meaning, rng: np.random.Generator) -> str:
    """Sample a wording of a meaning, without the leading article."""
    words: list[str] = []
    if meaning.kind == 'extreme' and meaning.direction:
        words.append(str(rng.choice(EXTREMES[meaning.direction])))
    words.append(sample_name_wording(meaning.name, rng))
    if meaning.kind == 'relation' and meaning.direction and meaning.landmark:
        words += [
            str(rng.choice(RELATIONS[meaning.direction])),
            str(rng.choice(('the', 'the', 'the', ''))),
            sample_name_wording(meaning.landmark, rng),
        ]
    return ' '.join(word for word in words if word)


def plain_wording(meaning: Meaning) -> str:
    """Return the plain wording of a meaning."""
    words = ['the']
    if meaning.kind == 'extreme' and meaning.direction:
        words.append(EXTREMES[meaning.direction][0])
    words += _plain_name(meaning.name)
    if meaning.kind == 'relation' and meaning.direction and meaning.landmark:
        words += [RELATIONS[meaning.direction][0], 'the', *_plain_name(meaning.landmark)]
    return ' '.join(words)


def plain_expressions(view: RenderedView) -> list[Expression]:
    """Return every meaning of a view in its plain wording."""
    return [Expression(plain_wording(m), m.kind, m.target) for m in meanings(view)]


def sample_meaning(
    found: Sequence[Meaning], rng: np.random.Generator, kind: str
) -> Meaning | None:
    """Sample a meaning of a kind, mostly one that needs all its words; None if there is none."""
    of_kind = [m for m in found if m.kind == kind]
    needed = [m for m in of_kind if m.needed]
    pool = (
        needed
        if needed and (len(needed) == len(of_kind) or rng.random() < _NEEDED_PROBABILITY)
        else of_kind
    )
    return pool[int(rng.integers(len(pool)))] if pool else None


def _names(things: Sequence[VisibleThing]) -> dict[Name, list[int]]:
    """Return all names that match at least one thing, and the things that they match."""
    names = dict.fromkeys(
        Name(size, colour, shape)
        for visible in things
        for size in (None, visible.thing.size)
        for colour in (None, visible.thing.colour)
        for shape in (None, visible.thing.shape)
    )
    return {
        name: [i for i, visible in enumerate(things) if name.matches(visible)] for name in names
    }


def _kind_of_name(name: Name, names: dict[Name, list[int]]) -> tuple[str, bool]:
    """Return the kind of a name of one thing, and whether all its words are needed."""
    if name.size:
        needed = len(names[Name(None, name.colour, name.shape)]) > 1
        return 'size' if name.shape else '', needed
    if name.colour:
        return 'attribute', name.shape is None or len(names[Name(None, None, name.shape)]) > 1
    return 'shape' if name.shape else '', True


def direction_measures(
    view: RenderedView,
) -> dict[str, tuple[Callable[[VisibleThing], float], float]]:
    """Return, for each direction, a measure and the smallest difference that counts as clear.

    The measure is lowest for the thing that is furthest in that direction.
    """
    clear_px = CLEAR_SIDE * view.camera.width
    return {
        'left': (_centre_px, clear_px),
        'right': (lambda visible: -_centre_px(visible), clear_px),
        'near': (lambda visible: visible.distance_m, CLEAR_DEPTH_M),
        'far': (lambda visible: -visible.distance_m, CLEAR_DEPTH_M),
    }


def _centre_px(visible: VisibleThing) -> float:
    return (visible.box_px[0] + visible.box_px[2]) / 2


def _extremes(view: RenderedView, name: Name, matching: list[int]) -> list[Meaning]:
    if len(matching) < 2 or name.size:
        return []
    found: list[Meaning] = []
    for direction, (measure, clear) in direction_measures(view).items():
        first, second = sorted(matching, key=lambda i: measure(view.things[i]))[:2]
        if measure(view.things[second]) - measure(view.things[first]) >= clear:
            found.append(Meaning('extreme', name, first, True, direction))
    return found


def _relations(
    view: RenderedView, name: Name, matching: list[int], names: dict[Name, list[int]]
) -> list[Meaning]:
    """Return relations where exactly one matching thing is on that side of a landmark."""
    found: list[Meaning] = []
    if name.size:
        return found
    for landmark, landmark_indices in names.items():
        if len(landmark_indices) != 1 or landmark.shape is None or landmark_indices == matching:
            continue
        others = [i for i in matching if i != landmark_indices[0]]
        if name.shape is None and len(others) < 2:
            continue
        shorter = Name(None, landmark.colour, landmark.shape)
        needed = len(matching) > 1 and not (landmark.size and len(names[shorter]) == 1)
        for direction, (measure, clear) in direction_measures(view).items():
            here = measure(view.things[landmark_indices[0]])
            before = [here - measure(view.things[i]) for i in others]
            sure = [i for i, lead in zip(others, before, strict=True) if lead >= clear]
            if len(sure) == 1 and sum(lead > 0 for lead in before) == 1:
                found.append(Meaning('relation', name, sure[0], needed, direction, landmark))
    return found


def sample_name_wording(name: Name, rng: np.random.Generator) -> str:
    """Sample a wording of a name, without an article."""
    words = [str(rng.choice(SIZES[name.size]))] if name.size else []
    if name.colour:
        words.append(name.colour)
    if name.shape is None:
        words.append(str(rng.choice(NOUNS)))
    else:
        words.append(
            SHAPE_SYNONYMS[name.shape] if rng.random() >= 1 - _SYNONYM_PROBABILITY else name.shape
        )
    return ' '.join(words)


def _plain_name(name: Name) -> list[str]:
    return [word for word in (name.size, name.colour, name.shape or NOUNS[0]) if word]


def _all_words() -> tuple[str, ...]:
    synonyms = [*SIZES.values(), *EXTREMES.values(), *RELATIONS.values()]
    phrases = ['the', 'a', *COLOURS, *SHAPES, *SHAPE_SYNONYMS.values(), *NOUNS]
    phrases += [phrase for group in synonyms for phrase in group]
    return tuple(dict.fromkeys(' '.join(phrases).replace('-', ' ').split()))


# Every word of the expressions; hyphens count as spaces.
WORDS = _all_words()
