"""What the demo asks: expressions and questions whose answers the simulated world knows."""

import pytest

from kosmos_ros.model.boxes import Box
from kosmos_ros.model.prompts import check_task
from kosmos_ros.model.tasks import Task
from kosmos_ros.tabletop.demo.scenes import USUAL_SEED, questions_for, spoken_for, view_for


@pytest.mark.parametrize('seed', [USUAL_SEED, 1])
def test_questions_name_what_they_frame(seed: int) -> None:
    questions = questions_for(seed, 6)
    boxes = [seen.box_px for seen in view_for(seed).things]
    assert len({question.expression for question in questions}) == 6
    assert {question.box_px for question in questions} <= set(boxes)
    assert len({question.box_px for question in questions}) >= min(5, len(boxes))


@pytest.mark.parametrize('seed', [USUAL_SEED, 1])
def test_spoken_questions_and_their_true_answers(seed: int) -> None:
    described = questions_for(seed, 6)[3]
    caption, count, region = spoken_for(seed, described)
    things = view_for(seed).things
    (thing,) = (seen.thing for seen in things if seen.box_px == described.box_px)
    balls = sum(seen.thing.shape == 'ball' for seen in things)
    for spoken in (caption, count, region):
        check_task(spoken.ask)
    assert (caption.ask.task, caption.truth) == (Task.CAPTION, '')
    assert count.truth == ('zero', 'one', 'two', 'three', 'four', 'five', 'six')[balls]
    assert region.truth.split()[1:] == [thing.size, thing.colour, thing.shape]
    assert region.truth.split()[0] in ('a', 'an')
    assert region.ask.regions[0].box_in_image == Box.from_pixels(described.box_px, 640, 480)


def test_which_answers_are_right() -> None:
    caption, count, _ = spoken_for(USUAL_SEED, questions_for(USUAL_SEED, 6)[3])
    assert count.is_right('Three.') is True
    assert count.is_right('two') is False
    assert count.is_right('') is False
    assert caption.is_right('a red ball') is None
