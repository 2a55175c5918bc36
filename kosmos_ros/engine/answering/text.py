"""Generated ids to an answer: text, and the boxes of its phrases."""

from collections.abc import Sequence
import math

from kosmos_ros.engine.base import Answer, PhraseGrounding, ScoredBox
from kosmos_ros.model.boxes import decode_box
from kosmos_ros.model.parsing import ParsedObject, parse
from kosmos_ros.model.vocabulary import Vocabulary

_UNKNOWN = '\N{REPLACEMENT CHARACTER}'


def answer_from_ids(
    ids: Sequence[int], location_probabilities: Sequence[float], vocabulary: Vocabulary
) -> Answer:
    """Return an answer without its tags.

    :param ids: as generated.
    :param location_probabilities: of each id that is a location token; of others, any number.
    :return: an answer whose text only grows at its end when `ids` do.
    """
    # Index in the text at which each id begins, and at which the last one ends.
    begins, text = [], ''
    for number in ids:
        begins.append(len(text))
        text += _words(number, text, vocabulary)
    begins.append(len(text))
    groundings = []
    for found in parse(ids, vocabulary):
        first, last = (begins[index] for index in found.span)
        phrase = text[first:last]
        # A phrase begins with the space in front of it.
        first += len(phrase) - len(phrase.lstrip())
        last = first + len(phrase.strip())
        groundings.append(
            PhraseGrounding(text[first:last], (first, last), _boxes(found, location_probabilities))
        )
    return Answer(text.rstrip(), tuple(groundings))


def _words(number: int, before: str, vocabulary: Vocabulary) -> str:
    """Return what an id adds to a text."""
    if number == vocabulary.unk:
        return _UNKNOWN
    if number == vocabulary.line_close:
        return '\n'
    if not vocabulary.is_text(number):
        return ''
    words = vocabulary.words(number)
    return words.lstrip() if not before or before[-1].isspace() else words


def _boxes(found: ParsedObject, probabilities: Sequence[float]) -> tuple[ScoredBox, ...]:
    """Return the boxes with P(top-left) P(bottom-right | top-left)."""
    first, last = found.span
    begin = last + (2 if first < last else 1)
    boxes = (decode_box(*corners) for corners in found.corners)
    return tuple(
        ScoredBox(box, math.prod(probabilities[begin + 3 * index : begin + 3 * index + 2]))
        for index, box in enumerate(boxes)
        if box.is_valid
    )
