"""Questions about a view, captions and descriptions, each with a true answer.

An answer is text and mentions.  Where an answer is grounded, the boxes of what a mention means
follow its phrase; a plain answer has the phrase alone.
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
    choose,
    say_bare,
    say_name,
)
from kosmos_ros.tabletop.language.facts import (
    NUMBERS,
    OPPOSITES,
    PLURALS,
    Facts,
    indefinite,
    spelled,
)
from kosmos_ros.tabletop.language.random_names import name_of_none, name_of_some, name_to_count
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
# Of the corners of a region that somebody drew, in widths and heights of the thing.
JITTER = 0.08


@dataclass(frozen=True, slots=True)
class Mention:
    """A phrase of an answer, and the things that it means, from left to right."""

    phrase: str
    things: tuple[int, ...]


Answer = tuple[str | Mention, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """A question, its answer, and the one thing that 'it' means in the next question."""

    kind: str
    ask: Ask
    answer: Answer
    about: int | None = None

    @property
    def grounded(self) -> bool:
        """Whether boxes belong to the answer."""
        return self.ask.task not in (Task.QUESTION, Task.DESCRIBE_REGION)


@dataclass(frozen=True, slots=True)
class Talk:
    """One turn, or a few of CHAT, the first of which has the image."""

    kind: str
    turns: tuple[Turn, ...]


def draw_talk(facts: Facts, rng: np.random.Generator, kind: str) -> Talk | None:
    """Something of a kind that can be asked of a view; None where nothing was found."""
    if kind == 'chat':
        turns = _chat(facts, rng)
        return Talk(kind, turns) if turns else None
    task = Task.QUESTION if rng.random() < 0.5 else Task.GROUNDED_QUESTION
    turn = (_ALONE.get(kind) or _QUESTIONS[kind])(facts, rng, task)
    return Talk(kind, (turn,)) if turn else None


def _caption(facts: Facts, rng: np.random.Generator, task: Task) -> Turn | None:
    if not facts.relations:
        return None
    relation = facts.relations[int(rng.integers(len(facts.relations)))]
    thing, landmark = (_mention(facts, i) for i in (relation.thing, relation.landmark))
    between = RELATIONS[relation.direction][0]
    return Turn('caption', Ask(Task.CAPTION, images=1), (thing, between, landmark))


def _detailed(facts: Facts, rng: np.random.Generator, task: Task) -> Turn | None:
    """All things from left to right, each with its size."""
    parts: list[str | Mention] = []
    for index in facts.fitting(Name(None, None, None)):
        parts += ['and', Mention(indefinite(spelled(facts.full_name(index))), (index,))]
    ask = Ask(Task.DETAILED_CAPTION, images=1)
    if rng.random() < 0.4:
        ask = Ask(task, _one_of('list', rng), images=1)
    return Turn('detailed', ask, tuple(parts[1:]))


def _region(facts: Facts, rng: np.random.Generator, task: Task) -> Turn | None:
    index = int(rng.integers(len(facts.things)))
    region = Region(_jittered(facts.boxes[index], rng))
    words = indefinite(spelled(facts.full_name(index)))
    return Turn('region', Ask(Task.DESCRIBE_REGION, images=1, regions=(region,)), (words,))


def _count(facts: Facts, rng: np.random.Generator, task: Task) -> Turn | None:
    name = name_to_count(facts, rng)
    many, counted = _said_of_many(name, rng), facts.fitting(name)
    if name.colour and not name.size and rng.random() < 0.2:
        noun = _said_of_many(Name(None, None, name.shape), rng)
        text = _one_of('count of colour', rng).format(noun, name.colour)
    else:
        text = _one_of('count', rng).format(many)
    answer: Answer = (NUMBERS[len(counted)],)
    if counted and task is not Task.QUESTION:
        noun = spelled(replace(name, shape=name.shape or NOUNS[1]))
        answer += (Mention(noun if len(counted) == 1 else _plural(noun), counted),)
    return Turn('count', Ask(task, text, images=1), answer)


def _colour(facts: Facts, rng: np.random.Generator, task: Task) -> Turn | None:
    return _look(facts, rng, task, 'colour')


def _shape(facts: Facts, rng: np.random.Generator, task: Task) -> Turn | None:
    return _look(facts, rng, task, 'shape')


def _size(facts: Facts, rng: np.random.Generator, task: Task) -> Turn | None:
    return _look(facts, rng, task, 'size')


def _look(facts: Facts, rng: np.random.Generator, task: Task, look: str) -> Turn | None:
    """Ask for the colour, shape or size of the one thing that words without it name."""
    found = [m for m in facts.meanings if getattr(m.name, look) is None]
    meaning = _some(found, rng)
    if meaning is None:
        return None
    text = _one_of(look, rng).format(say_bare(meaning, rng))
    answer = getattr(facts.full_name(meaning.target), look)
    return Turn(look, Ask(task, text, images=1), (answer,), meaning.target)


def _existence(facts: Facts, rng: np.random.Generator, task: Task) -> Turn | None:
    name = name_of_some(facts, rng) if rng.random() < 0.5 else name_of_none(facts, rng)
    if rng.random() < 0.3:
        text = _one_of('existence of many', rng).format(_said_of_many(name, rng))
    else:
        text = _one_of('existence', rng).format(indefinite(say_name(name, rng)))
    return Turn('existence', Ask(task, text, images=1), (_yes(bool(facts.fitting(name))),))


def _comparison(facts: Facts, rng: np.random.Generator, task: Task) -> Turn | None:
    """Whether one thing is left of another, or the one that is meant has a colour or shape."""
    is_so = rng.random() < 0.5
    if facts.relations and rng.random() < 0.6:
        relation = facts.relations[int(rng.integers(len(facts.relations)))]
        direction = relation.direction if is_so else OPPOSITES[relation.direction]
        thing, landmark = (
            say_name(facts.proper_name(i), rng) for i in (relation.thing, relation.landmark)
        )
        between = str(rng.choice(RELATIONS[direction]))
        text = _one_of('is it so', rng).format(thing, between, landmark)
        return Turn('comparison', Ask(task, text, images=1), (_yes(is_so),))
    look = str(rng.choice(('colour', 'shape', 'size')))
    meaning = _some([m for m in facts.meanings if getattr(m.name, look) is None], rng)
    if meaning is None:
        return None
    truth = getattr(facts.full_name(meaning.target), look)
    every = {'colour': tuple(COLOURS), 'shape': SHAPES, 'size': tuple(SIZES)}[look]
    there = [getattr(facts.full_name(i), look) for i in range(len(facts.things))]
    # What other things are is asked as often as what none is.
    others = [value for value in (*every, *there * 2) if value != truth]
    value = truth if is_so else str(rng.choice(others))
    told = indefinite(value) if look == 'shape' else value
    text = _one_of('has it', rng).format(say_bare(meaning, rng), told)
    return Turn('comparison', Ask(task, text, images=1), (_yes(is_so),), meaning.target)


def _what(facts: Facts, rng: np.random.Generator, task: Task) -> Turn | None:
    """The name of the one thing that a relation, or another thing to say, leads to."""
    found = [m for m in facts.meanings if m.name.colour is None or m.name.shape is None]
    related = [m for m in found if m.kind == 'relation']
    bare = [m for m in related if m.name == Name(None, None, None)]
    meaning = _some(bare, rng) if bare and rng.random() < 0.6 else _some(found, rng)
    if meaning is None:
        return None
    if meaning.name == Name(None, None, None) and meaning.landmark and meaning.direction:
        between = str(rng.choice(RELATIONS[meaning.direction]))
        text = _one_of('what', rng).format(between, say_name(meaning.landmark, rng))
    elif meaning.kind == 'relation' and meaning.landmark and meaning.direction:
        between = str(rng.choice(RELATIONS[meaning.direction]))
        thing, landmark = say_name(meaning.name, rng), say_name(meaning.landmark, rng)
        text = f'Which {thing} is {between} the {landmark}?'
    else:
        text = _one_of('which', rng).format(say_bare(meaning, rng))
    answer = (_mention(facts, meaning.target),)
    return Turn('what', Ask(task, text, images=1), answer, meaning.target)


def _where(facts: Facts, rng: np.random.Generator, task: Task) -> Turn | None:
    """Grounded, the box of the thing; plainly, where it is from another."""
    meaning = _some(list(facts.meanings), rng)
    if meaning is None:
        return None
    ask = Ask(task, _one_of('where', rng).format(say_bare(meaning, rng)), images=1)
    answer = _place(facts, rng, meaning.target, task)
    return Turn('where', ask, answer, meaning.target) if answer else None


def _place(facts: Facts, rng: np.random.Generator, index: int, task: Task) -> Answer | None:
    if task is not Task.QUESTION:
        return (Mention(f'the {spelled(facts.proper_name(index))}', (index,)),)
    relations = [relation for relation in facts.relations if relation.thing == index]
    if not relations:
        return None
    relation = relations[int(rng.integers(len(relations)))]
    landmark = spelled(facts.proper_name(relation.landmark))
    return (f'{RELATIONS[relation.direction][0]} the {landmark}',)


def _chat(facts: Facts, rng: np.random.Generator) -> tuple[Turn, ...]:
    """Two or three turns, often about what the turn before was about; empty if none was found."""
    turns: list[Turn] = []
    for number in range(int(rng.integers(2, 4))):
        about = turns[-1].about if turns else None
        if about is not None and rng.random() < 0.6:
            turn: Turn | None = _about_it(facts, rng, about)
        else:
            turn = _QUESTIONS[str(rng.choice(list(_QUESTIONS)))](facts, rng, Task.CHAT)
        if turn is None:
            return ()
        turns.append(replace(turn, ask=replace(turn.ask, images=int(number == 0))))
    return tuple(turns)


def _about_it(facts: Facts, rng: np.random.Generator, index: int) -> Turn:
    look = str(rng.choice(('colour', 'shape', 'size', 'place')))
    ask = Ask(Task.CHAT, _one_of(f'{look} of it', rng))
    if look == 'place':
        phrase = f'the {spelled(facts.proper_name(index))}'
        return Turn('where', ask, (Mention(phrase, (index,)),), index)
    return Turn(look, ask, (getattr(facts.full_name(index), look),), index)


Maker = Callable[[Facts, np.random.Generator, Task], Turn | None]
_ALONE: dict[str, Maker] = {'caption': _caption, 'detailed': _detailed, 'region': _region}
_QUESTIONS: dict[str, Maker] = {
    'count': _count,
    'colour': _colour,
    'shape': _shape,
    'size': _size,
    'existence': _existence,
    'comparison': _comparison,
    'what': _what,
    'where': _where,
}


def _one_of(kind: str, rng: np.random.Generator) -> str:
    return str(rng.choice(TEMPLATES[kind]))


def _some(found: list[Meaning], rng: np.random.Generator) -> Meaning | None:
    """A meaning of a kind that is there, each kind as often."""
    kinds = sorted({meaning.kind for meaning in found})
    return choose(found, rng, str(rng.choice(kinds))) if kinds else None


def _mention(facts: Facts, index: int) -> Mention:
    return Mention(indefinite(spelled(facts.proper_name(index))), (index,))


def _yes(is_so: bool) -> str:
    return 'yes' if is_so else 'no'


def _plural(words: str) -> str:
    *before, noun = words.split()
    return ' '.join([*before, PLURALS[noun]])


def _said_of_many(name: Name, rng: np.random.Generator) -> str:
    return _plural(say_name(name, rng))


def _jittered(box: Box, rng: np.random.Generator) -> Box:
    across, down = box.width * JITTER, box.height * JITTER
    x0, x1 = box.x0 + rng.uniform(-across, across), box.x1 + rng.uniform(-across, across)
    y0, y1 = box.y0 + rng.uniform(-down, down), box.y1 + rng.uniform(-down, down)
    return Box(x0, y0, x1, y1).clipped()
