"""Phrases and their boxes, read from token ids.

Ids, not text: text may contain what looks like a tag, and a text parser then loses the phrase.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kosmos_ros.model.boxes import Box, decode_box
from kosmos_ros.model.vocabulary import Vocabulary

Corners = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Grounded:
    """One ``<object>`` of an answer, with the phrase in front of it.

    `phrase` is without surrounding spaces, and '' where the model named none.  `span` says which
    ids the phrase's text is (first, behind the last).  `corners` are the cells as generated;
    `boxes` only those whose corners are in order.
    """

    phrase: str
    span: tuple[int, int]
    corners: tuple[Corners, ...]
    boxes: tuple[Box, ...]

    @property
    def dropped(self) -> int:
        """How many pairs of corners were no box."""
        return len(self.corners) - len(self.boxes)


def parse(ids: Sequence[int], vocabulary: Vocabulary) -> list[Grounded]:
    """Find the phrases and boxes in any sequence of ids.

    What counts as an object is what the published parser counts (``<object> UL LR
    (</delimiter_of_multi_objects/> UL LR)* </object>``, complete): one that is cut off, has an odd
    number of corners or ends with a delimiter gives nothing.  A phrase belongs to it when it
    stands directly in front.

    :param ids: any integers, also such as are not of the vocabulary.
    :return: in the order of the sequence; an object all of whose boxes were dropped is among them.
    """
    found: list[Grounded] = []
    place = 0
    while place < len(ids):
        corners: tuple[Corners, ...] = ()
        behind = place + 1
        if ids[place] == vocabulary.object_open:
            corners, behind = _corners(ids, place + 1, vocabulary)
        if corners:
            first, last = _phrase(ids, place, vocabulary)
            text = vocabulary.decode(ids[first:last]).strip()
            boxes = tuple(box for pair in corners if (box := decode_box(*pair)).is_valid)
            found.append(Grounded(text, (first, last), corners, boxes))
        place = behind
    return found


def _corners(
    ids: Sequence[int], start: int, vocabulary: Vocabulary
) -> tuple[tuple[Corners, ...], int]:
    """The pairs from `start` on, and the place behind ``</object>``; none if malformed."""
    pairs: list[Corners] = []
    for place in range(start, len(ids) - 2, 3):
        upper_left = vocabulary.location_cell(ids[place])
        lower_right = vocabulary.location_cell(ids[place + 1])
        if upper_left is None or lower_right is None:
            break
        pairs.append((upper_left, lower_right))
        if ids[place + 2] == vocabulary.object_close:
            return tuple(pairs), place + 3
        if ids[place + 2] != vocabulary.delimiter:
            break
    return (), start


def _phrase(ids: Sequence[int], object_place: int, vocabulary: Vocabulary) -> tuple[int, int]:
    """The span of TEXT in ``<phrase>TEXT</phrase>`` directly before `object_place`, or empty."""
    none = (object_place, object_place)
    last = object_place - 1
    if last < 0 or ids[last] != vocabulary.phrase_close:
        return none
    first = last
    while first > 0 and vocabulary.is_text(ids[first - 1]):
        first -= 1
    if first == last or first == 0 or ids[first - 1] != vocabulary.phrase_open:
        return none
    return first, last
