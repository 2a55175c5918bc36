"""An independent parser reads every expression; it must identify exactly one thing."""

import re

import numpy as np
import pytest

from kosmos_ros.tabletop.language.expressions import (
    KINDS,
    WORDS,
    meanings,
    plain_expressions,
    plain_wording,
    sample_meaning,
    sample_wording,
)
from kosmos_ros.tabletop.world.pinhole import CAMERA
from kosmos_ros.tabletop.world.render import RenderedView, VisibleThing, render
from kosmos_ros.tabletop.world.scenes import sample_scene
from kosmos_ros.tabletop.world.things import COLOURS

SYNONYMS = {
    'leftmost': 'left most',
    'rightmost': 'right most',
    'closest': 'nearest',
    'furthest': 'farthest',
    'little': 'small',
    'big': 'large',
    'thing': 'object',
    'sphere': 'ball',
    'cube': 'box',
    'donut': 'ring',
}
ORDERS = {
    'left most': lambda visible: visible.box_px[0] + visible.box_px[2],
    'right most': lambda visible: -visible.box_px[0] - visible.box_px[2],
    'nearest': lambda visible: visible.distance_m,
    'farthest': lambda visible: -visible.distance_m,
}
RELATIONS = {
    'left of': lambda a, b: centre(a) < centre(b),
    'right of': lambda a, b: centre(a) > centre(b),
    'in front of': lambda a, b: a.distance_m < b.distance_m,
    'behind': lambda a, b: a.distance_m > b.distance_m,
}


def centre(visible: VisibleThing) -> float:
    return visible.box_px[0] + visible.box_px[2]


def views(count: int, seed: int = 3) -> list[RenderedView]:
    rng = np.random.default_rng(seed)
    return [render(sample_scene(rng), CAMERA.scaled(128, 96)) for _ in range(count)]


def normalised(text: str) -> str:
    words = text.replace('-', ' ').split()
    plain = ' '.join(SYNONYMS.get(word, word) for word in words)
    return re.sub(r'\b(to the) (left|right) of', r'\2 of', plain)


def things_named(words: str, things: tuple[VisibleThing, ...]) -> list[int]:
    """Return all things that the words of a name are true of."""
    wanted = [word for word in words.split() if word not in ('the', 'a', 'object')]
    return [
        index
        for index, visible in enumerate(things)
        if set(wanted) <= {visible.thing.shape, visible.thing.colour, visible.thing.size}
    ]


def referents(text: str, view: RenderedView) -> list[int]:
    """Return all things that an expression can refer to."""
    text = normalised(text)
    for words, holds in RELATIONS.items():
        if f' {words} ' in text:
            subject, landmark = text.split(f' {words} ')
            (there,) = things_named(landmark, view.things)
            return [
                index
                for index in things_named(subject, view.things)
                if index != there and holds(view.things[index], view.things[there])
            ]
    for words, order in ORDERS.items():
        if words in text:
            matching = things_named(text.replace(words, ''), view.things)
            least = min(order(view.things[index]) for index in matching)
            return [index for index in matching if order(view.things[index]) == least]
    return things_named(text, view.things)


@pytest.mark.parametrize('seed', range(4))
def test_every_expression_identifies_one_thing(seed: int) -> None:
    for view in views(25, seed):
        for expression in plain_expressions(view):
            assert referents(expression.text, view) == [expression.target], expression.text


def test_every_wording_identifies_the_same_thing() -> None:
    rng = np.random.default_rng(0)
    known = set(WORDS)
    for view in views(25):
        for meaning in meanings(view):
            text = sample_wording(meaning, rng)
            assert referents(text, view) == [meaning.target], text
            assert set(text.replace('-', ' ').split()) <= known


def test_close_comparisons_are_not_used() -> None:
    for view in views(25):
        for meaning in meanings(view):
            if meaning.direction is None:
                continue
            target = view.things[meaning.target]
            for index in things_named(
                normalised(plain_wording(meaning)).split(' of ')[0], view.things
            ):
                if meaning.kind == 'extreme' and index != meaning.target:
                    other = view.things[index]
                    sideways = abs(centre(target) - centre(other)) / 2 / view.camera.width
                    apart = {'left': sideways, 'right': sideways}.get(
                        meaning.direction, abs(target.distance_m - other.distance_m)
                    )
                    assert apart >= 0.07 - 1e-9


def test_all_kinds_occur_and_most_need_all_their_words() -> None:
    found = [meaning for view in views(40) for meaning in meanings(view)]
    rng = np.random.default_rng(0)
    assert {meaning.kind for meaning in found} == set(KINDS)
    for kind in KINDS:
        chosen = [sample_meaning(found, rng, kind) for _ in range(50)]
        assert np.mean([meaning.needed for meaning in chosen if meaning]) > 0.6
    assert sample_meaning([], rng, 'shape') is None


def test_distractors_are_frequent() -> None:
    """In most scenes, a colour or a shape is not enough to identify a thing."""
    shared = [0, 0]
    scenes = views(60)
    for view in scenes:
        shapes = [visible.thing.shape for visible in view.things]
        colours = [visible.thing.colour for visible in view.things]
        shared[0] += len(set(shapes)) < len(shapes)
        shared[1] += len(set(colours)) < len(colours)
    assert min(shared) > 0.5 * len(scenes)


def test_words_are_few_and_include_all_colours() -> None:
    assert set(COLOURS) <= set(WORDS)
    assert len(WORDS) == len(set(WORDS)) < 61
