"""Sampling of names of things that are in a view, and of things that are not."""

import numpy as np

from kosmos_ros.tabletop.language.expressions import SIZES, Name
from kosmos_ros.tabletop.language.facts import Facts
from kosmos_ros.tabletop.world.things import COLOURS, SHAPES


def sample_name_to_count(facts: Facts, rng: np.random.Generator) -> Name:
    """Sample a name to count, mostly of things in the view, and mostly short."""
    if rng.random() < 0.1:
        return Name(None, None, None)
    return (
        sample_present_name(facts, rng) if rng.random() < 0.8 else sample_absent_name(facts, rng)
    )


def sample_present_name(facts: Facts, rng: np.random.Generator) -> Name:
    """Sample a name of a thing in the view."""
    full = facts.full_name(int(rng.integers(len(facts.things))))
    return _sample_shortened(full, rng)


def sample_absent_name(facts: Facts, rng: np.random.Generator) -> Name:
    """Sample a name that matches nothing in the view, often combined from different things.

    After ten attempts the name may match a thing.
    """
    name = sample_present_name(facts, rng)
    for _ in range(10):
        one, other, third = (
            facts.full_name(int(i)) for i in rng.integers(len(facts.things), size=3)
        )
        mixed = Name(one.size, other.colour, third.shape)
        if rng.random() < 0.5:
            size, colour = str(rng.choice(list(SIZES))), str(rng.choice(list(COLOURS)))
            mixed = Name(size, colour, str(rng.choice(SHAPES)))
        name = _sample_shortened(mixed, rng)
        if not facts.matching(name):
            break
    return name


def _sample_shortened(name: Name, rng: np.random.Generator) -> Name:
    """Sample one to three words of a complete name."""
    kept = {
        'shape': Name(None, None, name.shape),
        'colour': Name(None, name.colour, None),
        'size': Name(name.size, None, None),
        'colour and shape': Name(None, name.colour, name.shape),
        'size and shape': Name(name.size, None, name.shape),
        'all': name,
    }
    return kept[str(rng.choice(list(kept), p=(0.3, 0.22, 0.05, 0.25, 0.1, 0.08)))]
