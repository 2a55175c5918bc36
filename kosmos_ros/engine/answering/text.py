"""Generated ids as text, and the boxes of its phrases."""

from collections.abc import Sequence
import math

from kosmos_ros.engine.base import Answer, Located, PhraseGrounding
from kosmos_ros.model.boxes import decode_box
from kosmos_ros.model.parsing import ParsedObject, parse
from kosmos_ros.model.vocabulary import Vocabulary

_UNKNOWN = '\N{REPLACEMENT CHARACTER}'


def read(ids: Sequence[int], places: Sequence[float], vocabulary: Vocabulary) -> Answer:
    """An answer, without its tags.

    :param ids: as generated.
    :param places: for each id that is a location, its probability.
    :return: what grows with `ids` only at its end.
    """
    # Where in the text each id begins, and where the last one ends.
    begins, text = [], ''
    for number in ids:
        begins.append(len(text))
        text += _words(number, text, vocabulary)
    begins.append(len(text))
    groundings = []
    for found in parse(ids, vocabulary):
        first, last = (begins[place] for place in found.span)
        phrase = text[first:last]
        # A phrase begins with the space in front of it.
        first += len(phrase) - len(phrase.lstrip())
        last = first + len(phrase.strip())
        groundings.append(PhraseGrounding(text[first:last], (first, last), _boxes(found, places)))
    return Answer(text.rstrip(), tuple(groundings))


def _words(number: int, before: str, vocabulary: Vocabulary) -> str:
    """What an id adds to a text."""
    if number == vocabulary.unk:
        return _UNKNOWN
    if number == vocabulary.line_close:
        return '\n'
    if not vocabulary.is_text(number):
        return ''
    words = vocabulary.words(number)
    return words.lstrip() if not before or before[-1].isspace() else words


def _boxes(found: ParsedObject, places: Sequence[float]) -> tuple[Located, ...]:
    """The boxes with P(top-left) P(bottom-right | top-left)."""
    first, last = found.span
    begin = last + (2 if first < last else 1)
    boxes = (decode_box(*corners) for corners in found.corners)
    return tuple(
        Located(box, math.prod(places[begin + 3 * index : begin + 3 * index + 2]))
        for index, box in enumerate(boxes)
        if box.is_valid
    )
