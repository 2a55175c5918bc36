"""Held-out questions, and what the location grid can express of their boxes."""

from collections import Counter

import numpy as np

from kosmos_ros.model.boxes import Box, decode_box, encode_box
from kosmos_ros.tabletop.language import questions as answers
from kosmos_ros.tabletop.language.dataset import held_out, held_out_talks
from kosmos_ros.tabletop.language.expressions import KINDS
from kosmos_ros.tabletop.world.pinhole import CAMERA
from kosmos_ros.tabletop.world.render import render
from kosmos_ros.tabletop.world.scenes import draw_scene


def test_seed_decides_the_questions() -> None:
    first, again = list(held_out(7, 3)), list(held_out(7, 3))
    for one, two in zip(first, again, strict=True):
        assert (one.expression, one.kind, one.box_px) == (two.expression, two.kind, two.box_px)
        assert np.array_equal(one.rgb, two.rgb)
    assert [one.expression for one in first] != [one.expression for one in held_out(8, 3)]


def test_kinds_are_balanced_and_frames_full_size() -> None:
    questions = list(held_out(0, 10))
    assert Counter(question.kind for question in questions) == dict.fromkeys(KINDS, 2)
    for question in questions:
        assert question.rgb.shape == (480, 640, 3)
        x0, y0, x1, y1 = question.box_px
        assert 0 <= x0 < x1 <= 640
        assert 0 <= y0 < y1 <= 480


def test_talks_are_balanced_and_decided_by_their_seed() -> None:
    count = len(answers.KINDS)
    first, again = list(held_out_talks(7, count)), list(held_out_talks(7, count))
    assert [held.talk.kind for held in first] == list(answers.KINDS)
    assert [held.talk for held in first] == [held.talk for held in again]
    assert [held.talk for held in first] != [held.talk for held in held_out_talks(8, count)]
    for one, two in zip(first, again, strict=True):
        assert one.rgb.shape == (480, 640, 3)
        assert np.array_equal(one.rgb, two.rgb)


def test_the_location_grid_can_say_every_box() -> None:
    """Official encoder, then official decoder: no box falls below IoU 0.5 by rounding."""
    rng = np.random.default_rng(2)
    ious = []
    for _ in range(100):
        for seen in render(draw_scene(rng), CAMERA.scaled(160, 120)).things:
            x0, y0, x1, y1 = seen.box_px
            box = Box(x0 / 160, y0 / 120, x1 / 160, y1 / 120)
            ious.append(decode_box(*encode_box(box)).iou(box))
    assert min(ious) >= 0.5
    assert np.mean(ious) > 0.75
