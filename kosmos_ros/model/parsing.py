"""Parsing of phrases and their boxes from token ids.

The parser works on ids because text may contain words that look like tags; a parser of text loses
such a phrase.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kosmos_ros.model.boxes import Box, decode_box
from kosmos_ros.model.vocabulary import Vocabulary

Corners = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ParsedObject:
    """One ``<object>`` of an answer, with the phrase before it.

    :param phrase: without surrounding spaces; '' if the object has none.
    :param span: the phrase's ids as indices (first, end), the end excluded.
    :param corners: pairs of cells as generated.
    :param boxes: the boxes of those pairs whose corners are in order.
    """

    phrase: str
    span: tuple[int, int]
    corners: tuple[Corners, ...]
    boxes: tuple[Box, ...]

    @property
    def dropped(self) -> int:
        """Return how many pairs of corners are not boxes."""
        return len(self.corners) - len(self.boxes)


def parse(ids: Sequence[int], vocabulary: Vocabulary) -> list[ParsedObject]:
    """Find the phrases and boxes in any sequence of ids.

    As in the published parser, an object is a complete ``<object> UL LR
    (</delimiter_of_multi_objects/> UL LR)* </object>``.  An object that is cut off, has an odd
    number of corners or ends with a delimiter is ignored.  A phrase belongs to the object that
    follows it directly.

    :param ids: any integers, including ones outside the vocabulary.
    :return: the objects in the order of the sequence, including those without any valid box.
    """
    objects: list[ParsedObject] = []
    index = 0
    while index < len(ids):
        corners: tuple[Corners, ...] = ()
        end = index + 1
        if ids[index] == vocabulary.object_open:
            corners, end = _corners(ids, index + 1, vocabulary)
        if corners:
            first, last = _phrase(ids, index, vocabulary)
            text = vocabulary.decode(ids[first:last]).strip()
            boxes = tuple(box for pair in corners if (box := decode_box(*pair)).is_valid)
            objects.append(ParsedObject(text, (first, last), corners, boxes))
        index = end
    return objects


def _corners(
    ids: Sequence[int], start: int, vocabulary: Vocabulary
) -> tuple[tuple[Corners, ...], int]:
    """Return the pairs from `start` on and the index after ``</object>``; none if malformed."""
    pairs: list[Corners] = []
    for index in range(start, len(ids) - 2, 3):
        upper_left = vocabulary.location_cell(ids[index])
        lower_right = vocabulary.location_cell(ids[index + 1])
        if upper_left is None or lower_right is None:
            break
        pairs.append((upper_left, lower_right))
        if ids[index + 2] == vocabulary.object_close:
            return tuple(pairs), index + 3
        if ids[index + 2] != vocabulary.delimiter:
            break
    return (), start


def _phrase(ids: Sequence[int], object_index: int, vocabulary: Vocabulary) -> tuple[int, int]:
    """Return the span of TEXT in ``<phrase>TEXT</phrase>`` before `object_index`, or empty."""
    none = (object_index, object_index)
    last = object_index - 1
    if last < 0 or ids[last] != vocabulary.phrase_close:
        return none
    first = last
    while first > 0 and vocabulary.is_text(ids[first - 1]):
        first -= 1
    if first == last or first == 0 or ids[first - 1] != vocabulary.phrase_open:
        return none
    return first, last
