"""Non-maximum suppression: several answers to one expression are about different objects."""

from collections.abc import Iterable

from kosmos_ros.engine.base import ScoredBox

# Boxes that overlap by more than this show the same object.
NMS_IOU = 0.5


def candidates_for(max_results: int) -> int:
    """Return how many boxes to ask an engine for, so that about `max_results` remain.

    Most of the best boxes show one object, a grid cell to the left or to the right.
    """
    return 1 if max_results == 1 else max(32, 4 * max_results)


def suppress(boxes: Iterable[ScoredBox], max_results: int) -> list[ScoredBox]:
    """Return the best boxes, none of which overlaps a better one by more than half.

    :param boxes: best first.
    """
    kept: list[ScoredBox] = []
    for one in boxes:
        if len(kept) == max_results:
            break
        if all(one.box_in_image.iou(better.box_in_image) <= NMS_IOU for better in kept):
            kept.append(one)
    return kept
