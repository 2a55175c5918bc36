"""Scoring: whether a model's answer about a view is true."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kosmos_ros.model.boxes import Box
from kosmos_ros.model.parsing import parse
from kosmos_ros.model.tasks import Task
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.expressions import RELATIONS
from kosmos_ros.tabletop.language.facts import Facts, Relation, name_text, parse_name, with_article
from kosmos_ros.tabletop.language.questions import DialogueTurn, Mention
from kosmos_ros.tabletop.training.segments import plain_text

MIN_IOU = 0.5


@dataclass(frozen=True, slots=True)
class GroundedPhrase:
    """A phrase of an answer with its boxes."""

    phrase: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """An answer: its text without tags and with single spaces, and its phrases with boxes."""

    text: str
    groundings: tuple[GroundedPhrase, ...] = ()


def parse_answer(ids: Sequence[int], vocabulary: Vocabulary) -> ParsedAnswer:
    """Parse the ids of an answer."""
    text = vocabulary.decode(number for number in ids if vocabulary.is_text(number))
    found = parse(ids, vocabulary)
    return ParsedAnswer(text, tuple(GroundedPhrase(one.phrase, one.boxes) for one in found))


def is_correct(turn: DialogueTurn, facts: Facts, answer: ParsedAnswer) -> bool:
    """Return whether an answer to a turn's question is true of the view and complete.

    Captions and locations may differ from the turn's; boxes need an IoU of 0.5.
    """
    if turn.kind == 'caption':
        return _is_caption(facts, answer)
    if turn.kind == 'detailed':
        return _is_list(turn, facts, answer)
    if turn.kind == 'where' and turn.ask.task is Task.QUESTION:
        return _is_location(turn, facts, answer.text)
    mentions = [part for part in turn.answer if isinstance(part, Mention)]
    if turn.kind in ('what', 'where'):
        return _is_thing(turn, mentions[0], facts, answer)
    expected = mentions if turn.grounded else []
    return (
        answer.text == plain_text(turn.answer)
        and [one.phrase for one in answer.groundings] == [mention.phrase for mention in expected]
        and all(
            _are_boxes(facts, mention.things, one.boxes)
            for mention, one in zip(expected, answer.groundings, strict=True)
        )
    )


def _is_caption(facts: Facts, answer: ParsedAnswer) -> bool:
    """Return whether the answer is two phrases, true of their boxes, in a true relation."""
    if len(answer.groundings) != 2:
        return False
    first, second = answer.groundings
    things = [_thing_of(facts, one) for one in answer.groundings]
    return any(
        answer.text == f'{first.phrase} {between[0]} {second.phrase}'
        and Relation(things[0], direction, things[1]) in facts.relations
        for direction, between in RELATIONS.items()
        if things[0] is not None and things[1] is not None
    )


def _is_list(turn: DialogueTurn, facts: Facts, answer: ParsedAnswer) -> bool:
    """Return whether the answer lists every thing once, with its size and any boxes asked for."""
    names = [with_article(name_text(facts.full_name(i))) for i in range(len(facts.things))]
    if Counter(answer.text.split(' and ')) != Counter(names):
        return False
    if not turn.grounded:
        return not answer.groundings
    found = [_thing_of(facts, one) for one in answer.groundings]
    return Counter(found) == Counter(range(len(facts.things)))


def _is_location(turn: DialogueTurn, facts: Facts, text: str) -> bool:
    """Return whether the text is a true relation of the thing to another unique thing."""
    for direction, between in RELATIONS.items():
        if not text.startswith(f'{between[0]} the '):
            continue
        name = parse_name(text.removeprefix(f'{between[0]} '))
        there = facts.matching(name) if name else ()
        if turn.about is not None and len(there) == 1:
            return Relation(turn.about, direction, there[0]) in facts.relations
    return False


def _is_thing(turn: DialogueTurn, mention: Mention, facts: Facts, answer: ParsedAnswer) -> bool:
    """Return whether the answer names the thing truly, with its box if one is asked for."""
    name = parse_name(answer.text)
    if name is None or not set(mention.things) <= set(facts.matching(name)):
        return False
    if not turn.grounded:
        return not answer.groundings
    return (
        len(answer.groundings) == 1
        and answer.groundings[0].phrase == answer.text
        and _are_boxes(facts, mention.things, answer.groundings[0].boxes)
    )


def _thing_of(facts: Facts, phrase: GroundedPhrase) -> int | None:
    """Return the thing in the box of a phrase that is true of it; None if there is none."""
    name = parse_name(phrase.phrase)
    if name is None or len(phrase.boxes) != 1:
        return None
    for index in facts.matching(name):
        if facts.boxes[index].iou(phrase.boxes[0]) >= MIN_IOU:
            return index
    return None


def _are_boxes(facts: Facts, things: Iterable[int], boxes: Sequence[Box]) -> bool:
    """Return whether boxes are those of the things, one each, in any order."""
    left = list(boxes)
    for index in things:
        hit = next((box for box in left if facts.boxes[index].iou(box) >= MIN_IOU), None)
        if hit is None:
            return False
        left.remove(hit)
    return not left
