"""Several answers to one question, each about another thing."""

from collections.abc import Iterable

from kosmos_ros.engine.base import ScoredBox

# Boxes that share more than this are about the same thing.
SAME_THING_IOU = 0.5


def wanted_top_k(max_results: int) -> int:
    """How many boxes to ask an engine for, so that about `max_results` different ones are there.

    The most probable boxes are mostly one and the same, a grid cell to the left or to the right.
    """
    return 1 if max_results == 1 else max(32, 4 * max_results)


def distinct(located: Iterable[ScoredBox], max_results: int) -> list[ScoredBox]:
    """The best boxes, none of which overlaps a better one by more than half.

    :param located: best first.
    """
    kept: list[ScoredBox] = []
    for one in located:
        if len(kept) == max_results:
            break
        if all(one.box_in_image.iou(better.box_in_image) <= SAME_THING_IOU for better in kept):
            kept.append(one)
    return kept
