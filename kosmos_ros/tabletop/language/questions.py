"""Sampling of questions, captions and descriptions of a view, with true answers.

An answer consists of text and mentions of things.  In a grounded answer the boxes of the things
follow the phrase of the mention; a plain answer has the phrase alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from kosmos_ros.model.boxes import Box
from kosmos_ros.model.tasks import Ask, Region, Task
from kosmos_ros.tabletop.language.expressions import (
    NOUNS,
    RELATIONS,
    SIZES,
    Meaning,
    Name,
    sample_bare_wording,
    sample_meaning,
    sample_name_wording,
)
from kosmos_ros.tabletop.language.facts import (
    NUMBERS,
    OPPOSITES,
    PLURALS,
    Facts,
    name_text,
    with_article,
)
from kosmos_ros.tabletop.language.random_names import (
    sample_absent_name,
    sample_name_to_count,
    sample_present_name,
)
from kosmos_ros.tabletop.language.templates import TEMPLATES
from kosmos_ros.tabletop.world.things import COLOURS, SHAPES

KINDS = (
    'caption',
    'detailed',
    'count',
    'colour',
    'shape',
    'size',
    'existence',
    'comparison',
    'what',
    'where',
    'region',
    'chat',
)
# Regions are as inexact as if drawn by hand: the error of a corner, in widths and heights of the
# thing.
JITTER = 0.08


@dataclass(frozen=True, slots=True)
class Mention:
    """A phrase of an answer, and the things that it refers to, from left to right."""

    phrase: str
    things: tuple[int, ...]


AnswerParts = tuple[str | Mention, ...]


@dataclass(frozen=True, slots=True)
class DialogueTurn:
    """A question, its answer, and the thing that 'it' refers to in the next question."""

    kind: str
    ask: Ask
    answer: AnswerParts
    about: int | None = None

    @property
    def grounded(self) -> bool:
        """Return whether the answer has boxes."""
        return self.ask.task not in (Task.QUESTION, Task.DESCRIBE_REGION)


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One turn, or several turns of CHAT, the first of which has the image."""

    kind: str
    turns: tuple[DialogueTurn, ...]


def sample_dialogue(facts: Facts, rng: np.random.Generator, kind: str) -> Dialogue | None:
    """Sample a dialogue of a kind about a view; None if no question was found."""
    if kind == 'chat':
        turns = _chat(facts, rng)
        return Dialogue(kind, turns) if turns else None
    task = Task.QUESTION if rng.random() < 0.5 else Task.GROUNDED_QUESTION
    turn = (_NOT_IN_CHATS.get(kind) or _QUESTIONS[kind])(facts, rng, task)
    return Dialogue(kind, (turn,)) if turn else None


def _caption(facts: Facts, rng: np.random.Generator, task: Task) -> DialogueTurn | None:
    if not facts.relations:
        return None
    relation = facts.relations[int(rng.integers(len(facts.relations)))]
    thing, landmark = (_mention(facts, i) for i in (relation.thing, relation.landmark))
    between = RELATIONS[relation.direction][0]
    return DialogueTurn('caption', Ask(Task.CAPTION, images=1), (thing, between, landmark))


def _detailed(facts: Facts, rng: np.random.Generator, task: Task) -> DialogueTurn | None:
    """List all things from left to right, each with its size."""
    parts: list[str | Mention] = []
    for index in facts.matching(Name(None, None, None)):
        parts += ['and', Mention(with_article(name_text(facts.full_name(index))), (index,))]
    ask = Ask(Task.DETAILED_CAPTION, images=1)
    if rng.random() < 0.4:
        ask = Ask(task, _sample_template('list', rng), images=1)
    return DialogueTurn('detailed', ask, tuple(parts[1:]))


def _region(facts: Facts, rng: np.random.Generator, task: Task) -> DialogueTurn | None:
    index = int(rng.integers(len(facts.things)))
    region = Region(_jitter(facts.boxes[index], rng))
    words = with_article(name_text(facts.full_name(index)))
    return DialogueTurn('region', Ask(Task.DESCRIBE_REGION, images=1, regions=(region,)), (words,))


def _count(facts: Facts, rng: np.random.Generator, task: Task) -> DialogueTurn | None:
    name = sample_name_to_count(facts, rng)
    many, counted = _sample_plural(name, rng), facts.matching(name)
    if name.colour and not name.size and rng.random() < 0.2:
        noun = _sample_plural(Name(None, None, name.shape), rng)
        text = _sample_template('count of colour', rng).format(noun, name.colour)
    else:
        text = _sample_template('count', rng).format(many)
    answer: AnswerParts = (NUMBERS[len(counted)],)
    if counted and task is not Task.QUESTION:
        noun = name_text(replace(name, shape=name.shape or NOUNS[1]))
        answer += (Mention(noun if len(counted) == 1 else _plural(noun), counted),)
    return DialogueTurn('count', Ask(task, text, images=1), answer)


def _colour(facts: Facts, rng: np.random.Generator, task: Task) -> DialogueTurn | None:
    return _attribute(facts, rng, task, 'colour')


def _shape(facts: Facts, rng: np.random.Generator, task: Task) -> DialogueTurn | None:
    return _attribute(facts, rng, task, 'shape')


def _size(facts: Facts, rng: np.random.Generator, task: Task) -> DialogueTurn | None:
    return _attribute(facts, rng, task, 'size')


def _attribute(
    facts: Facts, rng: np.random.Generator, task: Task, attribute: str
) -> DialogueTurn | None:
    """Ask for a colour, shape or size of a thing that is identified without it."""
    found = [m for m in facts.meanings if getattr(m.name, attribute) is None]
    meaning = _sample_any(found, rng)
    if meaning is None:
        return None
    text = _sample_template(attribute, rng).format(sample_bare_wording(meaning, rng))
    answer = getattr(facts.full_name(meaning.target), attribute)
    return DialogueTurn(attribute, Ask(task, text, images=1), (answer,), meaning.target)


def _existence(facts: Facts, rng: np.random.Generator, task: Task) -> DialogueTurn | None:
    name = (
        sample_present_name(facts, rng) if rng.random() < 0.5 else sample_absent_name(facts, rng)
    )
    if rng.random() < 0.3:
        text = _sample_template('existence of several', rng).format(_sample_plural(name, rng))
    else:
        text = _sample_template('existence', rng).format(
            with_article(sample_name_wording(name, rng))
        )
    return DialogueTurn(
        'existence', Ask(task, text, images=1), (_yes_no(bool(facts.matching(name))),)
    )


def _comparison(facts: Facts, rng: np.random.Generator, task: Task) -> DialogueTurn | None:
    """Ask whether a relation holds, or whether a thing has a colour, shape or size."""
    is_true = rng.random() < 0.5
    if facts.relations and rng.random() < 0.6:
        relation = facts.relations[int(rng.integers(len(facts.relations)))]
        direction = relation.direction if is_true else OPPOSITES[relation.direction]
        thing, landmark = (
            sample_name_wording(facts.distinct_name(i), rng)
            for i in (relation.thing, relation.landmark)
        )
        between = str(rng.choice(RELATIONS[direction]))
        text = _sample_template('relation claim', rng).format(thing, between, landmark)
        return DialogueTurn('comparison', Ask(task, text, images=1), (_yes_no(is_true),))
    attribute = str(rng.choice(('colour', 'shape', 'size')))
    meaning = _sample_any([m for m in facts.meanings if getattr(m.name, attribute) is None], rng)
    if meaning is None:
        return None
    truth = getattr(facts.full_name(meaning.target), attribute)
    every = {'colour': tuple(COLOURS), 'shape': SHAPES, 'size': tuple(SIZES)}[attribute]
    present = [getattr(facts.full_name(i), attribute) for i in range(len(facts.things))]
    # Repeats attributes of things in the view: they are claimed about as often as absent ones.
    others = [value for value in (*every, *present * 2) if value != truth]
    value = truth if is_true else str(rng.choice(others))
    claimed = with_article(value) if attribute == 'shape' else value
    text = _sample_template('attribute claim', rng).format(
        sample_bare_wording(meaning, rng), claimed
    )
    return DialogueTurn(
        'comparison', Ask(task, text, images=1), (_yes_no(is_true),), meaning.target
    )


def _what(facts: Facts, rng: np.random.Generator, task: Task) -> DialogueTurn | None:
    """Ask for the name of a thing that a relation or another description identifies."""
    found = [m for m in facts.meanings if m.name.colour is None or m.name.shape is None]
    related = [m for m in found if m.kind == 'relation']
    bare = [m for m in related if m.name == Name(None, None, None)]
    meaning = _sample_any(bare, rng) if bare and rng.random() < 0.6 else _sample_any(found, rng)
    if meaning is None:
        return None
    if meaning.name == Name(None, None, None) and meaning.landmark and meaning.direction:
        between = str(rng.choice(RELATIONS[meaning.direction]))
        text = _sample_template('what', rng).format(
            between, sample_name_wording(meaning.landmark, rng)
        )
    elif meaning.kind == 'relation' and meaning.landmark and meaning.direction:
        between = str(rng.choice(RELATIONS[meaning.direction]))
        thing, landmark = (
            sample_name_wording(meaning.name, rng),
            sample_name_wording(meaning.landmark, rng),
        )
        text = f'Which {thing} is {between} the {landmark}?'
    else:
        text = _sample_template('which', rng).format(sample_bare_wording(meaning, rng))
    answer = (_mention(facts, meaning.target),)
    return DialogueTurn('what', Ask(task, text, images=1), answer, meaning.target)


def _where(facts: Facts, rng: np.random.Generator, task: Task) -> DialogueTurn | None:
    """Ask where a thing is; the answer is its box if grounded, else a relation to another."""
    meaning = _sample_any(list(facts.meanings), rng)
    if meaning is None:
        return None
    text = _sample_template('where', rng).format(sample_bare_wording(meaning, rng))
    answer = _location(facts, rng, meaning.target, task)
    if answer is None:
        return None
    return DialogueTurn('where', Ask(task, text, images=1), answer, meaning.target)


def _location(
    facts: Facts, rng: np.random.Generator, index: int, task: Task
) -> AnswerParts | None:
    if task is not Task.QUESTION:
        return (Mention(f'the {name_text(facts.distinct_name(index))}', (index,)),)
    relations = [relation for relation in facts.relations if relation.thing == index]
    if not relations:
        return None
    relation = relations[int(rng.integers(len(relations)))]
    landmark = name_text(facts.distinct_name(relation.landmark))
    return (f'{RELATIONS[relation.direction][0]} the {landmark}',)


def _chat(facts: Facts, rng: np.random.Generator) -> tuple[DialogueTurn, ...]:
    """Sample two or three turns, often about the previous turn's thing; empty if this fails."""
    turns: list[DialogueTurn] = []
    for number in range(int(rng.integers(2, 4))):
        about = turns[-1].about if turns else None
        if about is not None and rng.random() < 0.6:
            turn: DialogueTurn | None = _follow_up(facts, rng, about)
        else:
            turn = _QUESTIONS[str(rng.choice(list(_QUESTIONS)))](facts, rng, Task.CHAT)
        if turn is None:
            return ()
        turns.append(replace(turn, ask=replace(turn.ask, images=int(number == 0))))
    return tuple(turns)


def _follow_up(facts: Facts, rng: np.random.Generator, index: int) -> DialogueTurn:
    attribute = str(rng.choice(('colour', 'shape', 'size', 'location')))
    ask = Ask(Task.CHAT, _sample_template(f'{attribute} of it', rng))
    if attribute == 'location':
        phrase = f'the {name_text(facts.distinct_name(index))}'
        return DialogueTurn('where', ask, (Mention(phrase, (index,)),), index)
    return DialogueTurn(attribute, ask, (getattr(facts.full_name(index), attribute),), index)


TurnSampler = Callable[[Facts, np.random.Generator, Task], DialogueTurn | None]
_NOT_IN_CHATS: dict[str, TurnSampler] = {
    'caption': _caption,
    'detailed': _detailed,
    'region': _region,
}
_QUESTIONS: dict[str, TurnSampler] = {
    'count': _count,
    'colour': _colour,
    'shape': _shape,
    'size': _size,
    'existence': _existence,
    'comparison': _comparison,
    'what': _what,
    'where': _where,
}


def _sample_template(kind: str, rng: np.random.Generator) -> str:
    return str(rng.choice(TEMPLATES[kind]))


def _sample_any(found: list[Meaning], rng: np.random.Generator) -> Meaning | None:
    """Sample a meaning; each kind that occurs is equally likely."""
    kinds = sorted({meaning.kind for meaning in found})
    return sample_meaning(found, rng, str(rng.choice(kinds))) if kinds else None


def _mention(facts: Facts, index: int) -> Mention:
    return Mention(with_article(name_text(facts.distinct_name(index))), (index,))


def _yes_no(is_true: bool) -> str:
    return 'yes' if is_true else 'no'


def _plural(words: str) -> str:
    *before, noun = words.split()
    return ' '.join([*before, PLURALS[noun]])


def _sample_plural(name: Name, rng: np.random.Generator) -> str:
    return _plural(sample_name_wording(name, rng))


def _jitter(box: Box, rng: np.random.Generator) -> Box:
    across, down = box.width * JITTER, box.height * JITTER
    x0, x1 = box.x0 + rng.uniform(-across, across), box.x1 + rng.uniform(-across, across)
    y0, y1 = box.y0 + rng.uniform(-down, down), box.y1 + rng.uniform(-down, down)
    return Box(x0, y0, x1, y1).clipped()
