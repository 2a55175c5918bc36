"""Every expression is read back by a reader of its own, and must be true of exactly one thing."""

import re

import numpy as np
import pytest

from kosmos_ros.tabletop.language.expressions import (
    KINDS,
    WORDS,
    choose,
    expressions,
    meanings,
    plainly,
    say,
)
from kosmos_ros.tabletop.world.pinhole import CAMERA
from kosmos_ros.tabletop.world.render import Seen, View, render
from kosmos_ros.tabletop.world.scenes import draw_scene
from kosmos_ros.tabletop.world.things import COLOURS

SIMPLER = {
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
    'left most': lambda seen: seen.box_px[0] + seen.box_px[2],
    'right most': lambda seen: -seen.box_px[0] - seen.box_px[2],
    'nearest': lambda seen: seen.distance_m,
    'farthest': lambda seen: -seen.distance_m,
}
RELATIONS = {
    'left of': lambda a, b: centre(a) < centre(b),
    'right of': lambda a, b: centre(a) > centre(b),
    'in front of': lambda a, b: a.distance_m < b.distance_m,
    'behind': lambda a, b: a.distance_m > b.distance_m,
}


def centre(seen: Seen) -> float:
    return seen.box_px[0] + seen.box_px[2]


def views(count: int, seed: int = 3) -> list[View]:
    rng = np.random.default_rng(seed)
    return [render(draw_scene(rng), CAMERA.scaled(128, 96)) for _ in range(count)]


def simple(text: str) -> str:
    words = text.replace('-', ' ').split()
    plain = ' '.join(SIMPLER.get(word, word) for word in words)
    return re.sub(r'\b(to the) (left|right) of', r'\2 of', plain)


def named(words: str, things: tuple[Seen, ...]) -> list[int]:
    """All things that the words of a name are true of."""
    wanted = [word for word in words.split() if word not in ('the', 'a', 'object')]
    return [
        index
        for index, seen in enumerate(things)
        if set(wanted) <= {seen.thing.shape, seen.thing.colour, seen.thing.size}
    ]


def understood(text: str, view: View) -> list[int]:
    """All things that an expression can mean."""
    text = simple(text)
    for words, holds in RELATIONS.items():
        if f' {words} ' in text:
            subject, landmark = text.split(f' {words} ')
            (there,) = named(landmark, view.things)
            return [
                index
                for index in named(subject, view.things)
                if index != there and holds(view.things[index], view.things[there])
            ]
    for words, order in ORDERS.items():
        if words in text:
            fitting = named(text.replace(words, ''), view.things)
            least = min(order(view.things[index]) for index in fitting)
            return [index for index in fitting if order(view.things[index]) == least]
    return named(text, view.things)


@pytest.mark.parametrize('seed', range(4))
def test_every_expression_is_true_of_one_thing(seed: int) -> None:
    for view in views(25, seed):
        for expression in expressions(view):
            assert understood(expression.text, view) == [expression.target], expression.text


def test_every_way_to_say_it_means_the_same() -> None:
    rng = np.random.default_rng(0)
    known = set(WORDS)
    for view in views(25):
        for meaning in meanings(view):
            text = say(meaning, rng)
            assert understood(text, view) == [meaning.target], text
            assert set(text.replace('-', ' ').split()) <= known


def test_close_calls_are_not_spoken_of() -> None:
    for view in views(25):
        for meaning in meanings(view):
            if meaning.direction is None:
                continue
            target = view.things[meaning.target]
            for index in named(simple(plainly(meaning)).split(' of ')[0], view.things):
                if meaning.kind == 'extreme' and index != meaning.target:
                    other = view.things[index]
                    sideways = abs(centre(target) - centre(other)) / 2 / view.camera.width
                    apart = {'left': sideways, 'right': sideways}.get(
                        meaning.direction, abs(target.distance_m - other.distance_m)
                    )
                    assert apart >= 0.07 - 1e-9


def test_all_kinds_are_there_and_most_need_their_words() -> None:
    found = [meaning for view in views(40) for meaning in meanings(view)]
    rng = np.random.default_rng(0)
    assert {meaning.kind for meaning in found} == set(KINDS)
    for kind in KINDS:
        chosen = [choose(found, rng, kind) for _ in range(50)]
        assert np.mean([meaning.needed for meaning in chosen if meaning]) > 0.6
    assert choose([], rng, 'shape') is None


def test_distractors_are_frequent() -> None:
    """In most scenes a colour, a shape or both are not enough to find a thing."""
    shared = [0, 0]
    scenes = views(60)
    for view in scenes:
        shapes = [seen.thing.shape for seen in view.things]
        colours = [seen.thing.colour for seen in view.things]
        shared[0] += len(set(shapes)) < len(shapes)
        shared[1] += len(set(colours)) < len(colours)
    assert min(shared) > 0.5 * len(scenes)


def test_words_are_few_and_include_all_colours() -> None:
    assert set(COLOURS) <= set(WORDS)
    assert len(WORDS) == len(set(WORDS)) < 61
