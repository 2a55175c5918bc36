"""Near-duplicates of an exact top k."""

from hypothesis import given
from hypothesis import strategies as st

from kosmos_ros.engine.base import ScoredBox
from kosmos_ros.model.boxes import Box
from kosmos_ros.node.refer.nms import NMS_IOU, candidates_for, suppress

A = ScoredBox(Box(0, 0, 0.5, 0.5), 0.5)
NEAR_A = ScoredBox(Box(0, 0, 0.5, 0.53), 0.4)
B = ScoredBox(Box(0.5, 0.5, 1, 1), 0.2)
HALF_A = ScoredBox(Box(0, 0, 0.25, 0.5), 0.1)


def test_keeps_the_best_of_each_thing() -> None:
    assert suppress([A, NEAR_A, B, HALF_A], 8) == [A, B, HALF_A]
    assert suppress([A, NEAR_A, B], 1) == [A]
    assert suppress([], 3) == []


def test_one_is_asked_for_one() -> None:
    assert candidates_for(1) == 1
    assert candidates_for(2) == 32
    assert candidates_for(64) >= 64


SHARES = st.floats(0, 1)
SPANS = st.tuples(st.integers(0, 15), st.integers(16, 32))
BOXES = st.builds(lambda x, y: Box(x[0] / 32, y[0] / 32, x[1] / 32, y[1] / 32), SPANS, SPANS)


@given(st.lists(st.builds(ScoredBox, BOXES, SHARES), max_size=12), st.integers(1, 5))
def test_no_two_overlap(located: list[ScoredBox], most: int) -> None:
    kept = suppress(located, most)
    assert len(kept) <= most
    assert kept[:1] == located[:1]
    for i, one in enumerate(kept):
        for other in kept[:i]:
            assert one.box_in_image.iou(other.box_in_image) <= NMS_IOU
