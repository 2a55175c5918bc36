"""Names drawn at random, of what is in a view and of what is not."""

import numpy as np

from kosmos_ros.tabletop.language.expressions import SIZES, Name
from kosmos_ros.tabletop.language.facts import Facts
from kosmos_ros.tabletop.world.things import COLOURS, SHAPES


def name_to_count(facts: Facts, rng: np.random.Generator) -> Name:
    """Mostly of something that is there, and few words rather than many."""
    if rng.random() < 0.1:
        return Name(None, None, None)
    return name_of_some(facts, rng) if rng.random() < 0.8 else name_of_none(facts, rng)


def name_of_some(facts: Facts, rng: np.random.Generator) -> Name:
    """Of something that is there."""
    full = facts.full_name(int(rng.integers(len(facts.things))))
    return _shortened(full, rng)


def name_of_none(facts: Facts, rng: np.random.Generator) -> Name:
    """A name that fits nothing, if one is found soon; often of looks that are there, but not
    together.
    """
    name = name_of_some(facts, rng)
    for _ in range(10):
        one, other, third = (
            facts.full_name(int(i)) for i in rng.integers(len(facts.things), size=3)
        )
        mixed = Name(one.size, other.colour, third.shape)
        if rng.random() < 0.5:
            size, colour = str(rng.choice(list(SIZES))), str(rng.choice(list(COLOURS)))
            mixed = Name(size, colour, str(rng.choice(SHAPES)))
        name = _shortened(mixed, rng)
        if not facts.fitting(name):
            break
    return name


def _shortened(name: Name, rng: np.random.Generator) -> Name:
    """One to three of the words of a name that has them all."""
    kept = {
        'shape': Name(None, None, name.shape),
        'colour': Name(None, name.colour, None),
        'size': Name(name.size, None, None),
        'colour and shape': Name(None, name.colour, name.shape),
        'size and shape': Name(name.size, None, name.shape),
        'all': name,
    }
    return kept[str(rng.choice(list(kept), p=(0.3, 0.22, 0.05, 0.25, 0.1, 0.08)))]
