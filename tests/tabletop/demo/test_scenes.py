"""The demo's questions, whose answers the simulated world knows."""

import pytest

from kosmos_ros.model.boxes import Box
from kosmos_ros.model.prompts import check_task
from kosmos_ros.model.tasks import Task
from kosmos_ros.tabletop.demo.scenes import (
    DEFAULT_SEED,
    ask_questions_for,
    refer_questions_for,
    view_for,
)


@pytest.mark.parametrize('seed', [DEFAULT_SEED, 1])
def test_refer_questions_identify_things(seed: int) -> None:
    questions = refer_questions_for(seed, 6)
    boxes = [visible.box_px for visible in view_for(seed).things]
    assert len({question.expression for question in questions}) == 6
    assert {question.box_px for question in questions} <= set(boxes)
    assert len({question.box_px for question in questions}) >= min(5, len(boxes))


@pytest.mark.parametrize('seed', [DEFAULT_SEED, 1])
def test_ask_questions_and_their_true_answers(seed: int) -> None:
    described = refer_questions_for(seed, 6)[3]
    caption, count, region = ask_questions_for(seed, described)
    things = view_for(seed).things
    (thing,) = (visible.thing for visible in things if visible.box_px == described.box_px)
    balls = sum(visible.thing.shape == 'ball' for visible in things)
    for question in (caption, count, region):
        check_task(question.ask)
    assert (caption.ask.task, caption.truth) == (Task.CAPTION, '')
    assert count.truth == ('zero', 'one', 'two', 'three', 'four', 'five', 'six')[balls]
    assert region.truth.split()[1:] == [thing.size, thing.colour, thing.shape]
    assert region.truth.split()[0] in ('a', 'an')
    assert region.ask.regions[0].box_in_image == Box.from_pixels(described.box_px, 640, 480)


def test_correct_answers() -> None:
    caption, count, _ = ask_questions_for(DEFAULT_SEED, refer_questions_for(DEFAULT_SEED, 6)[3])
    assert count.is_correct('Three.') is True
    assert count.is_correct('two') is False
    assert count.is_correct('') is False
    assert caption.is_correct('a red ball') is None
