"""Whether what a model said of a view is true."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kosmos_ros.model.boxes import Box
from kosmos_ros.model.parsing import parse
from kosmos_ros.model.tasks import Task
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.expressions import RELATIONS
from kosmos_ros.tabletop.language.facts import Facts, Relation, indefinite, name_from, spelled
from kosmos_ros.tabletop.language.questions import Mention, Turn
from kosmos_ros.tabletop.training.segments import plain_text

LEAST_IOU = 0.5


@dataclass(frozen=True, slots=True)
class Pointed:
    """A phrase of an answer, and the boxes behind it."""

    phrase: str
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: its text without tags and with single spaces, and what of it has boxes."""

    text: str
    pointed: tuple[Pointed, ...] = ()


def said_by(ids: Sequence[int], vocabulary: Vocabulary) -> Said:
    """Read the ids of an answer, up to the end of it."""
    text = vocabulary.decode(number for number in ids if vocabulary.is_text(number))
    found = parse(ids, vocabulary)
    return Said(text, tuple(Pointed(one.phrase, one.boxes) for one in found))


def is_right(turn: Turn, facts: Facts, said: Said) -> bool:
    """Whether an answer to a turn's question is true of the view, and says what was asked for.

    Captions and places may be others than the turn's; boxes need an IoU of 0.5.
    """
    if turn.kind == 'caption':
        return _is_caption(facts, said)
    if turn.kind == 'detailed':
        return _is_list(turn, facts, said)
    if turn.kind == 'where' and turn.ask.task is Task.QUESTION:
        return _is_place(turn, facts, said.text)
    mentions = [part for part in turn.answer if isinstance(part, Mention)]
    if turn.kind in ('what', 'where'):
        return _is_thing(turn, mentions[0], facts, said)
    wanted = mentions if turn.grounded else []
    return (
        said.text == plain_text(turn.answer)
        and [one.phrase for one in said.pointed] == [mention.phrase for mention in wanted]
        and all(
            _are_boxes(facts, mention.things, one.boxes)
            for mention, one in zip(wanted, said.pointed, strict=True)
        )
    )


def _is_caption(facts: Facts, said: Said) -> bool:
    """Two phrases that are true of what they point at, and a relation that is clearly true."""
    if len(said.pointed) != 2:
        return False
    first, second = said.pointed
    things = [_thing_of(facts, one) for one in said.pointed]
    return any(
        said.text == f'{first.phrase} {between[0]} {second.phrase}'
        and Relation(things[0], direction, things[1]) in facts.relations
        for direction, between in RELATIONS.items()
        if things[0] is not None and things[1] is not None
    )


def _is_list(turn: Turn, facts: Facts, said: Said) -> bool:
    """Every thing once, with its size; where boxes are asked for, each with its own."""
    names = [indefinite(spelled(facts.full_name(i))) for i in range(len(facts.things))]
    if Counter(said.text.split(' and ')) != Counter(names):
        return False
    if not turn.grounded:
        return not said.pointed
    found = [_thing_of(facts, one) for one in said.pointed]
    return Counter(found) == Counter(range(len(facts.things)))


def _is_place(turn: Turn, facts: Facts, text: str) -> bool:
    """Where a thing clearly is from another that is named unmistakably."""
    for direction, between in RELATIONS.items():
        if not text.startswith(f'{between[0]} the '):
            continue
        name = name_from(text.removeprefix(f'{between[0]} '))
        there = facts.fitting(name) if name else ()
        if turn.about is not None and len(there) == 1:
            return Relation(turn.about, direction, there[0]) in facts.relations
    return False


def _is_thing(turn: Turn, mention: Mention, facts: Facts, said: Said) -> bool:
    """A shape and looks that are true of the thing, and where boxes are asked for its box."""
    name = name_from(said.text)
    if name is None or not set(mention.things) <= set(facts.fitting(name)):
        return False
    if not turn.grounded:
        return not said.pointed
    return (
        len(said.pointed) == 1
        and said.pointed[0].phrase == said.text
        and _are_boxes(facts, mention.things, said.pointed[0].boxes)
    )


def _thing_of(facts: Facts, pointed: Pointed) -> int | None:
    """The thing under the one box of a phrase that is true of it; None for all else."""
    name = name_from(pointed.phrase)
    if name is None or len(pointed.boxes) != 1:
        return None
    for index in facts.fitting(name):
        if facts.boxes[index].iou(pointed.boxes[0]) >= LEAST_IOU:
            return index
    return None


def _are_boxes(facts: Facts, things: Iterable[int], boxes: Sequence[Box]) -> bool:
    """Whether boxes are those of things, one each, in any order."""
    left = list(boxes)
    for index in things:
        hit = next((box for box in left if facts.boxes[index].iou(box) >= LEAST_IOU), None)
        if hit is None:
            return False
        left.remove(hit)
    return not left
