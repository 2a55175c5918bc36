"""Every answer is worked out again from the things of the view, by another way."""

from collections import Counter
import re

import numpy as np
import pytest

from kosmos_ros.model.tasks import Task
from kosmos_ros.tabletop.language.expressions import Name
from kosmos_ros.tabletop.language.facts import (
    NUMBERS,
    PLURALS,
    Facts,
    indefinite,
    name_from,
    spelled,
)
from kosmos_ros.tabletop.language.questions import JITTER, KINDS, Mention, Talk, Turn, draw_talk
from kosmos_ros.tabletop.language.word_model import WORDS
from kosmos_ros.tabletop.training.segments import plain_text
from kosmos_ros.tabletop.world.pinhole import CAMERA
from kosmos_ros.tabletop.world.render import render
from kosmos_ros.tabletop.world.scenes import draw_scene
from tabletop.language.test_expressions import RELATIONS, named, simple, understood, views

SINGULARS = {plural: noun for noun, plural in PLURALS.items()}
VIEWS = views(40)


def talks(kind: str, count: int = 200) -> list[tuple[int, Talk]]:
    """The index of a view, and something asked about it."""
    rng = np.random.default_rng(1)
    facts = [Facts.of(view) for view in VIEWS]
    drawn = [(i % len(facts), draw_talk(facts[i % len(facts)], rng, kind)) for i in range(count)]
    return [(index, talk) for index, talk in drawn if talk is not None]


def turns(kind: str) -> list[tuple[int, Turn]]:
    return [(index, turn) for index, talk in talks(kind) for turn in talk.turns]


def singular(text: str) -> str:
    return ' '.join(SINGULARS.get(word, word) for word in text.split())


def asked_for(text: str, *patterns: str) -> str:
    """What stands in the gap of the first pattern that fits."""
    for pattern in patterns:
        match = re.fullmatch(pattern, text)
        if match:
            return match.group(1)
    raise AssertionError(text)


@pytest.mark.parametrize('kind', KINDS)
def test_all_words_are_known_and_nearly_every_view_can_be_asked(kind: str) -> None:
    drawn = turns(kind)
    assert len(talks(kind)) > 150
    for _, turn in drawn:
        text = f'{turn.ask.text} {plain_text(turn.answer)}'.lower()
        assert set(re.sub(r'[-.?]', ' ', text).split()) <= set(WORDS), text


def test_captions_name_two_things_and_how_they_lie() -> None:
    for index, turn in turns('caption'):
        first, between, second = turn.answer
        assert isinstance(first, Mention)
        assert isinstance(second, Mention)
        things = VIEWS[index].things
        for mention in (first, second):
            assert named(mention.phrase.removeprefix('an '), things) == list(mention.things)
        assert RELATIONS[str(between)](things[first.things[0]], things[second.things[0]])


def test_lists_have_everything_from_left_to_right() -> None:
    tasks = Counter()
    for index, turn in turns('detailed'):
        tasks[turn.ask.task] += 1
        mentions = [part for part in turn.answer if isinstance(part, Mention)]
        things = VIEWS[index].things
        order = [mention.things[0] for mention in mentions]
        middles = [things[i].box_px[0] + things[i].box_px[2] for i in order]
        assert middles == sorted(middles)
        assert len(order) == len(things)
        for mention in mentions:
            assert named(mention.phrase.removeprefix('an '), things) == list(mention.things)
    assert set(tasks) == {Task.DETAILED_CAPTION, Task.QUESTION, Task.GROUNDED_QUESTION}


def test_counts_are_counted() -> None:
    numbers = Counter()
    for index, turn in turns('count'):
        text = turn.ask.text
        colour = re.fullmatch(r'How many (.*) are (\w+)\?', text)
        if colour and colour.group(2) != 'there':
            words = f'{colour.group(2)} {singular(colour.group(1))}'
        else:
            words = singular(
                asked_for(
                    text,
                    r'How many (.*) (?:are|do|can) .*',
                    r'What is the number of (.*)\?',
                    r'Count the (.*)\.',
                )
            )
        truth = named(simple(words), VIEWS[index].things)
        number = turn.answer[0]
        assert number == NUMBERS[len(truth)], text
        numbers[number] += 1
        if turn.ask.task is Task.QUESTION or not truth:
            assert len(turn.answer) == 1
        else:
            mention = turn.answer[1]
            assert isinstance(mention, Mention)
            assert sorted(mention.things) == truth
            assert named(simple(singular(mention.phrase)), VIEWS[index].things) == truth
            assert (mention.phrase.split()[-1] in SINGULARS) == (len(truth) != 1)
    assert set(NUMBERS[:5]) <= set(numbers)


LOOK_PATTERNS = (
    r'.*the (?:colour|color|shape|size) of the (.*)[?.]',
    r'Is the (.*) (?:big or small|small or large)\?',
    r'.*? (?:is|does) the (.*?)(?: have)?\?',
)


@pytest.mark.parametrize('look', ['colour', 'shape', 'size'])
def test_looks_are_those_of_the_one_thing(look: str) -> None:
    for index, turn in turns(look):
        words = asked_for(turn.ask.text, *LOOK_PATTERNS)
        (target,) = understood(words, VIEWS[index])
        assert turn.answer == (getattr(VIEWS[index].things[target].thing, look),)
        assert turn.about == target


def test_existence_is_true_and_both_answers_are_frequent() -> None:
    said = Counter()
    for index, turn in turns('existence'):
        words = asked_for(
            turn.ask.text,
            r'(?:Is|Are) there (?:an?|any) (.*?)(?: on the table| in this picture)?\?',
            r'Are there (.*)\?',
            r'(?:Do|Can) you see (?:an?|any) (.*)\?',
        )
        there = named(simple(singular(words)), VIEWS[index].things)
        assert turn.answer == ('yes' if there else 'no',), turn.ask.text
        said[turn.answer[0]] += 1
    assert min(said['yes'], said['no']) > 60


def test_comparisons_are_true() -> None:
    said = Counter()
    for index, turn in turns('comparison'):
        view = VIEWS[index]
        text = simple(turn.ask.text.removeprefix('Is the ').removesuffix('?'))
        *before, last = text.split()
        claims = [f' {words} the ' for words in RELATIONS if f' {words} the ' in text]
        if turn.about is None:
            (claim,) = claims
            first, second = text.split(claim)
            (one,), (other,) = named(first, view.things), named(second, view.things)
            holds = RELATIONS[claim.strip().removesuffix(' the')](
                view.things[one], view.things[other]
            )
        else:
            words = ' '.join(word for word in before if word not in ('a', 'an'))
            assert understood(words, view) == [turn.about], turn.ask.text
            thing = view.things[turn.about].thing
            holds = last in (thing.shape, thing.colour, thing.size)
        assert turn.answer == ('yes' if holds else 'no',), turn.ask.text
        said[turn.answer[0]] += 1
    assert min(said['yes'], said['no']) > 60


def test_what_and_where_have_one_answer() -> None:
    for kind, article in (('what', 'a'), ('where', 'the')):
        for index, turn in turns(kind):
            facts = Facts.of(VIEWS[index])
            if kind == 'where' and turn.ask.task is Task.QUESTION:
                continue
            (mention,) = turn.answer
            assert isinstance(mention, Mention)
            assert mention.things == (turn.about,)
            assert mention.phrase.startswith(article)
            name = name_from(mention.phrase)
            assert name is not None
            assert facts.fitting(name) == mention.things


def test_what_is_asked_for_is_what_the_words_lead_to() -> None:
    bare = 0
    for index, turn in turns('what'):
        text = simple(turn.ask.text)
        words = re.sub(
            r'^(What is the|Which is the|Show me the|What do you see|What is|Which|What) |[?.]$',
            '',
            text,
        )
        words = re.sub(r'^(thing|object) is ', '', words.replace('object is', 'is'))
        words = words.replace(' is ', ' ')
        if words.split()[0] in ('left', 'right', 'in', 'behind', 'is'):
            words = f'object {words.removeprefix("is ")}'
            bare += 1
        assert understood(words, VIEWS[index]) == [turn.about], turn.ask.text
    assert bare > 50


def test_plain_places_lead_from_another_thing() -> None:
    places = [pair for pair in turns('where') if pair[1].ask.task is Task.QUESTION]
    assert len(places) > 50
    for index, turn in places:
        (text,) = turn.answer
        between, landmark = str(text).split(' the ')
        things = VIEWS[index].things
        (there,) = named(landmark, things)
        assert turn.about is not None
        assert RELATIONS[between](things[turn.about], things[there])


def test_regions_are_about_things_and_say_all_of_their_looks() -> None:
    for index, turn in turns('region'):
        (region,) = turn.ask.regions
        facts = Facts.of(VIEWS[index])
        ious = [box.iou(region.box_in_image) for box in facts.boxes]
        nearest = int(np.argmax(ious))
        assert ious[nearest] > (1 - 2 * JITTER) ** 2 / (1 + 2 * JITTER) ** 2
        assert turn.answer == (indefinite(spelled(facts.full_name(nearest))),)


def test_chats_have_their_image_in_front_and_it_is_what_was_spoken_of() -> None:
    followed = 0
    for index, talk in talks('chat'):
        assert 2 <= len(talk.turns) <= 3
        assert [turn.ask.images for turn in talk.turns] == [1, 0, 0][: len(talk.turns)]
        for before, turn in zip(talk.turns, talk.turns[1:], strict=False):
            assert turn.ask.task is Task.CHAT
            assert turn.grounded
            if ' it' in turn.ask.text:
                followed += 1
                assert turn.about == before.about is not None
                thing = VIEWS[index].things[turn.about].thing
                looks = {(thing.colour,), (thing.shape,), (thing.size,)}
                assert turn.answer in looks or turn.kind == 'where'
    assert followed > 50


def test_names_are_read_as_they_are_spelled() -> None:
    for name in (
        Name('large', 'orange', 'box'),
        Name(None, 'red', 'ball'),
        Name(None, None, 'cone'),
    ):
        assert name_from(indefinite(spelled(name))) == name
        assert name_from(f'the {spelled(name)}') == name
    assert indefinite('orange box') == 'an orange box'
    for text in ('', 'the', 'a red', 'red ball', 'a red large ball', 'a ball ball', 'a red balls'):
        assert name_from(text) is None


def test_relations_are_clear_and_have_two_sides() -> None:
    view = render(draw_scene(np.random.default_rng(4)), CAMERA.scaled(128, 96))
    facts = Facts.of(view)
    opposite = {'left': 'right', 'right': 'left', 'near': 'far', 'far': 'near'}
    found = {(one.thing, one.direction, one.landmark) for one in facts.relations}
    assert found
    assert {(c, opposite[b], a) for a, b, c in found} == found
