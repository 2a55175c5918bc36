"""Held-out expressions and dialogues, and how exactly the location grid encodes their boxes."""

from collections import Counter

import numpy as np

from kosmos_ros.model.boxes import Box, decode_box, encode_box
from kosmos_ros.tabletop.language import questions
from kosmos_ros.tabletop.language.dataset import held_out_dialogues, held_out_expressions
from kosmos_ros.tabletop.language.expressions import KINDS
from kosmos_ros.tabletop.world.pinhole import CAMERA
from kosmos_ros.tabletop.world.render import render
from kosmos_ros.tabletop.world.scenes import sample_scene


def test_the_seed_determines_the_expressions() -> None:
    first, again = list(held_out_expressions(7, 3)), list(held_out_expressions(7, 3))
    for one, two in zip(first, again, strict=True):
        assert (one.expression, one.kind, one.box_px) == (two.expression, two.kind, two.box_px)
        assert np.array_equal(one.rgb, two.rgb)
    assert [one.expression for one in first] != [
        one.expression for one in held_out_expressions(8, 3)
    ]


def test_kinds_are_balanced_and_frames_full_size() -> None:
    expressions = list(held_out_expressions(0, 10))
    assert Counter(expression.kind for expression in expressions) == dict.fromkeys(KINDS, 2)
    for expression in expressions:
        assert expression.rgb.shape == (480, 640, 3)
        x0, y0, x1, y1 = expression.box_px
        assert 0 <= x0 < x1 <= 640
        assert 0 <= y0 < y1 <= 480


def test_dialogues_are_balanced_and_determined_by_their_seed() -> None:
    count = len(questions.KINDS)
    first, again = list(held_out_dialogues(7, count)), list(held_out_dialogues(7, count))
    assert [held.dialogue.kind for held in first] == list(questions.KINDS)
    assert [held.dialogue for held in first] == [held.dialogue for held in again]
    assert [held.dialogue for held in first] != [
        held.dialogue for held in held_out_dialogues(8, count)
    ]
    for one, two in zip(first, again, strict=True):
        assert one.rgb.shape == (480, 640, 3)
        assert np.array_equal(one.rgb, two.rgb)


def test_the_location_grid_can_encode_every_box() -> None:
    """Official encoder, then official decoder: no box falls below IoU 0.5 by rounding."""
    rng = np.random.default_rng(2)
    ious = []
    for _ in range(100):
        for visible in render(sample_scene(rng), CAMERA.scaled(160, 120)).things:
            x0, y0, x1, y1 = visible.box_px
            box = Box(x0 / 160, y0 / 120, x1 / 160, y1 / 120)
            ious.append(decode_box(*encode_box(box)).iou(box))
    assert min(ious) >= 0.5
    assert np.mean(ious) > 0.75
