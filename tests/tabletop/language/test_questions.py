"""Every answer is verified by an independent computation from the things of the view."""

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
    name_text,
    parse_name,
    with_article,
)
from kosmos_ros.tabletop.language.questions import (
    JITTER,
    KINDS,
    Dialogue,
    DialogueTurn,
    Mention,
    sample_dialogue,
)
from kosmos_ros.tabletop.language.word_model import WORDS
from kosmos_ros.tabletop.training.segments import plain_text
from kosmos_ros.tabletop.world.pinhole import CAMERA
from kosmos_ros.tabletop.world.render import render
from kosmos_ros.tabletop.world.scenes import sample_scene
from tabletop.language.test_expressions import (
    RELATIONS,
    normalised,
    referents,
    things_named,
    views,
)

SINGULARS = {plural: noun for noun, plural in PLURALS.items()}
VIEWS = views(40)


def dialogues(kind: str, count: int = 200) -> list[tuple[int, Dialogue]]:
    """Return indices of views, with dialogues about them."""
    rng = np.random.default_rng(1)
    facts = [Facts.of(view) for view in VIEWS]
    sampled = [
        (i % len(facts), sample_dialogue(facts[i % len(facts)], rng, kind)) for i in range(count)
    ]
    return [(index, dialogue) for index, dialogue in sampled if dialogue is not None]


def turns(kind: str) -> list[tuple[int, DialogueTurn]]:
    return [(index, turn) for index, dialogue in dialogues(kind) for turn in dialogue.turns]


def singular(text: str) -> str:
    return ' '.join(SINGULARS.get(word, word) for word in text.split())


def match_question(text: str, *patterns: str) -> str:
    """Return the group of the first pattern that matches."""
    for pattern in patterns:
        match = re.fullmatch(pattern, text)
        if match:
            return match.group(1)
    raise AssertionError(text)


@pytest.mark.parametrize('kind', KINDS)
def test_all_words_are_known_and_nearly_every_view_has_questions(kind: str) -> None:
    sampled = turns(kind)
    assert len(dialogues(kind)) > 150
    for _, turn in sampled:
        text = f'{turn.ask.text} {plain_text(turn.answer)}'.lower()
        assert set(re.sub(r'[-.?]', ' ', text).split()) <= set(WORDS), text


def test_captions_are_true_relations() -> None:
    for index, turn in turns('caption'):
        first, between, second = turn.answer
        assert isinstance(first, Mention)
        assert isinstance(second, Mention)
        things = VIEWS[index].things
        for mention in (first, second):
            assert things_named(mention.phrase.removeprefix('an '), things) == list(mention.things)
        assert RELATIONS[str(between)](things[first.things[0]], things[second.things[0]])


def test_lists_have_all_things_from_left_to_right() -> None:
    tasks = Counter()
    for index, turn in turns('detailed'):
        tasks[turn.ask.task] += 1
        mentions = [part for part in turn.answer if isinstance(part, Mention)]
        things = VIEWS[index].things
        order = [mention.things[0] for mention in mentions]
        centres = [things[i].box_px[0] + things[i].box_px[2] for i in order]
        assert centres == sorted(centres)
        assert len(order) == len(things)
        for mention in mentions:
            assert things_named(mention.phrase.removeprefix('an '), things) == list(mention.things)
    assert set(tasks) == {Task.DETAILED_CAPTION, Task.QUESTION, Task.GROUNDED_QUESTION}


def test_counts_are_true() -> None:
    numbers = Counter()
    for index, turn in turns('count'):
        text = turn.ask.text
        colour = re.fullmatch(r'How many (.*) are (\w+)\?', text)
        if colour and colour.group(2) != 'there':
            words = f'{colour.group(2)} {singular(colour.group(1))}'
        else:
            words = singular(
                match_question(
                    text,
                    r'How many (.*) (?:are|do|can) .*',
                    r'What is the number of (.*)\?',
                    r'Count the (.*)\.',
                )
            )
        truth = things_named(normalised(words), VIEWS[index].things)
        number = turn.answer[0]
        assert number == NUMBERS[len(truth)], text
        numbers[number] += 1
        if turn.ask.task is Task.QUESTION or not truth:
            assert len(turn.answer) == 1
        else:
            mention = turn.answer[1]
            assert isinstance(mention, Mention)
            assert sorted(mention.things) == truth
            assert things_named(normalised(singular(mention.phrase)), VIEWS[index].things) == truth
            assert (mention.phrase.split()[-1] in SINGULARS) == (len(truth) != 1)
    assert set(NUMBERS[:5]) <= set(numbers)


ATTRIBUTE_PATTERNS = (
    r'.*the (?:colour|color|shape|size) of the (.*)[?.]',
    r'Is the (.*) (?:big or small|small or large)\?',
    r'.*? (?:is|does) the (.*?)(?: have)?\?',
)


@pytest.mark.parametrize('attribute', ['colour', 'shape', 'size'])
def test_attributes_are_true(attribute: str) -> None:
    for index, turn in turns(attribute):
        words = match_question(turn.ask.text, *ATTRIBUTE_PATTERNS)
        (target,) = referents(words, VIEWS[index])
        assert turn.answer == (getattr(VIEWS[index].things[target].thing, attribute),)
        assert turn.about == target


def test_existence_is_true_and_both_answers_are_frequent() -> None:
    answers = Counter()
    for index, turn in turns('existence'):
        words = match_question(
            turn.ask.text,
            r'(?:Is|Are) there (?:an?|any) (.*?)(?: on the table| in this picture)?\?',
            r'Are there (.*)\?',
            r'(?:Do|Can) you see (?:an?|any) (.*)\?',
        )
        there = things_named(normalised(singular(words)), VIEWS[index].things)
        assert turn.answer == ('yes' if there else 'no',), turn.ask.text
        answers[turn.answer[0]] += 1
    assert min(answers['yes'], answers['no']) > 60


def test_comparisons_are_true() -> None:
    answers = Counter()
    for index, turn in turns('comparison'):
        view = VIEWS[index]
        text = normalised(turn.ask.text.removeprefix('Is the ').removesuffix('?'))
        *before, last = text.split()
        claims = [f' {words} the ' for words in RELATIONS if f' {words} the ' in text]
        if turn.about is None:
            (claim,) = claims
            first, second = text.split(claim)
            (one,), (other,) = things_named(first, view.things), things_named(second, view.things)
            holds = RELATIONS[claim.strip().removesuffix(' the')](
                view.things[one], view.things[other]
            )
        else:
            words = ' '.join(word for word in before if word not in ('a', 'an'))
            assert referents(words, view) == [turn.about], turn.ask.text
            thing = view.things[turn.about].thing
            holds = last in (thing.shape, thing.colour, thing.size)
        assert turn.answer == ('yes' if holds else 'no',), turn.ask.text
        answers[turn.answer[0]] += 1
    assert min(answers['yes'], answers['no']) > 60


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
            name = parse_name(mention.phrase)
            assert name is not None
            assert facts.matching(name) == mention.things


def test_what_questions_identify_their_thing() -> None:
    bare = 0
    for index, turn in turns('what'):
        text = normalised(turn.ask.text)
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
        assert referents(words, VIEWS[index]) == [turn.about], turn.ask.text
    assert bare > 50


def test_plain_locations_are_true_relations() -> None:
    locations = [pair for pair in turns('where') if pair[1].ask.task is Task.QUESTION]
    assert len(locations) > 50
    for index, turn in locations:
        (text,) = turn.answer
        between, landmark = str(text).split(' the ')
        things = VIEWS[index].things
        (there,) = things_named(landmark, things)
        assert turn.about is not None
        assert RELATIONS[between](things[turn.about], things[there])


def test_regions_are_described_completely() -> None:
    for index, turn in turns('region'):
        (region,) = turn.ask.regions
        facts = Facts.of(VIEWS[index])
        ious = [box.iou(region.box_in_image) for box in facts.boxes]
        nearest = int(np.argmax(ious))
        assert ious[nearest] > (1 - 2 * JITTER) ** 2 / (1 + 2 * JITTER) ** 2
        assert turn.answer == (with_article(name_text(facts.full_name(nearest))),)


def test_chats_begin_with_their_image_and_it_refers_to_the_thing_before() -> None:
    followed = 0
    for index, dialogue in dialogues('chat'):
        assert 2 <= len(dialogue.turns) <= 3
        assert [turn.ask.images for turn in dialogue.turns] == [1, 0, 0][: len(dialogue.turns)]
        for before, turn in zip(dialogue.turns, dialogue.turns[1:], strict=False):
            assert turn.ask.task is Task.CHAT
            assert turn.grounded
            if ' it' in turn.ask.text:
                followed += 1
                assert turn.about == before.about is not None
                thing = VIEWS[index].things[turn.about].thing
                attributes = {(thing.colour,), (thing.shape,), (thing.size,)}
                assert turn.answer in attributes or turn.kind == 'where'
    assert followed > 50


def test_parse_name_inverts_name_text() -> None:
    for name in (
        Name('large', 'orange', 'box'),
        Name(None, 'red', 'ball'),
        Name(None, None, 'cone'),
    ):
        assert parse_name(with_article(name_text(name))) == name
        assert parse_name(f'the {name_text(name)}') == name
    assert with_article('orange box') == 'an orange box'
    for text in ('', 'the', 'a red', 'red ball', 'a red large ball', 'a ball ball', 'a red balls'):
        assert parse_name(text) is None


def test_relations_are_symmetric() -> None:
    view = render(sample_scene(np.random.default_rng(4)), CAMERA.scaled(128, 96))
    facts = Facts.of(view)
    opposite = {'left': 'right', 'right': 'left', 'near': 'far', 'far': 'near'}
    found = {(one.thing, one.direction, one.landmark) for one in facts.relations}
    assert found
    assert {(c, opposite[b], a) for a, b, c in found} == found
