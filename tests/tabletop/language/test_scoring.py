"""Scoring accepts any true answer and rejects false ones."""

from dataclasses import replace

import pytest

from kosmos_ros.model.boxes import Box
from kosmos_ros.model.tasks import Ask, Task
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.dataset import held_out_dialogues
from kosmos_ros.tabletop.language.facts import Facts, Relation
from kosmos_ros.tabletop.language.questions import KINDS, DialogueTurn, Mention
from kosmos_ros.tabletop.language.scoring import (
    GroundedPhrase,
    ParsedAnswer,
    is_correct,
    parse_answer,
)
from kosmos_ros.tabletop.language.word_model import write_word_model
from kosmos_ros.tabletop.training.segments import SegmentWriter, plain_text
from kosmos_ros.tabletop.world.render import VisibleThing
from kosmos_ros.tabletop.world.things import Thing

RED, BLUE, SMALL, NOWHERE = (
    Box(0.1, 0.4, 0.3, 0.6),
    Box(0.5, 0.4, 0.7, 0.6),
    Box(0.8, 0.1, 0.9, 0.2),
    Box(0.4, 0.8, 0.5, 0.9),
)


def visible_thing(shape: str, colour: str, size: str) -> VisibleThing:
    thing = Thing(shape, colour, size, 0.1, 0.0, 0.0, 0.0, (0.5, 0.5, 0.5))
    return VisibleThing(thing, (0.0, 0.0, 1.0, 1.0), 1.0, 1.0)


# A red ball left of a large blue box, both left of a small blue box, which is behind.
FACTS = Facts(
    (
        visible_thing('ball', 'red', 'large'),
        visible_thing('box', 'blue', 'large'),
        visible_thing('box', 'blue', 'small'),
    ),
    (RED, BLUE, SMALL),
    (),
    (
        Relation(0, 'left', 1),
        Relation(1, 'right', 0),
        Relation(0, 'left', 2),
        Relation(2, 'right', 0),
        Relation(2, 'far', 1),
    ),
)
BALL, LARGE, LITTLE = 'a red ball', 'a large blue box', 'a small blue box'


def parsed(text: str, *groundings: tuple[str, Box]) -> ParsedAnswer:
    return ParsedAnswer(text, tuple(GroundedPhrase(phrase, (box,)) for phrase, box in groundings))


CAPTION = DialogueTurn(
    'caption',
    Ask(Task.CAPTION, images=1),
    (Mention(BALL, (0,)), 'left of', Mention(LARGE, (1,))),
)


@pytest.mark.parametrize(
    'caption',
    [
        parsed(f'{BALL} left of {LARGE}', (BALL, RED), (LARGE, BLUE)),
        parsed(f'{LARGE} right of {BALL}', (LARGE, BLUE), (BALL, RED)),
        parsed(f'{LITTLE} behind {LARGE}', (LITTLE, SMALL), (LARGE, BLUE)),
        parsed('a ball left of a blue box', ('a ball', RED), ('a blue box', SMALL)),
        parsed(f'{BALL} left of {LARGE}', (BALL, Box(0.12, 0.4, 0.3, 0.6)), (LARGE, BLUE)),
    ],
)
def test_true_captions_are_correct(caption: ParsedAnswer) -> None:
    assert is_correct(CAPTION, FACTS, caption)


@pytest.mark.parametrize(
    'caption',
    [
        parsed(''),
        parsed(f'{BALL} left of {LARGE}'),
        parsed(f'{BALL} left of {LARGE}', (BALL, RED)),
        parsed(f'{BALL} right of {LARGE}', (BALL, RED), (LARGE, BLUE)),
        parsed(f'{BALL} in front of {LARGE}', (BALL, RED), (LARGE, BLUE)),
        parsed(f'{BALL} left of {LARGE}', (BALL, BLUE), (LARGE, RED)),
        parsed(f'{BALL} left of {LARGE}', (BALL, RED), (LARGE, NOWHERE)),
        parsed(f'{LITTLE} right of {BALL}', (LITTLE, BLUE), (BALL, RED)),
        parsed('a green ball left of a blue box', ('a green ball', RED), ('a blue box', BLUE)),
        parsed('red ball left of a blue box', ('red ball', RED), ('a blue box', BLUE)),
        parsed(f'{BALL} {LARGE}', (BALL, RED), (LARGE, BLUE)),
        parsed(f'{BALL} left of left of {LARGE}', (BALL, RED), (LARGE, BLUE)),
    ],
)
def test_false_captions_are_not_correct(caption: ParsedAnswer) -> None:
    assert not is_correct(CAPTION, FACTS, caption)


def test_lists_must_be_complete() -> None:
    names = ('a large red ball', LARGE, LITTLE)
    mentions = tuple(Mention(name, (index,)) for index, name in enumerate(names))
    answer = (mentions[0], 'and', mentions[1], 'and', mentions[2])
    turn = DialogueTurn('detailed', Ask(Task.DETAILED_CAPTION, images=1), answer)
    text, boxes = ' and '.join(names), (RED, BLUE, SMALL)
    assert is_correct(turn, FACTS, parsed(text, *zip(names, boxes, strict=True)))
    assert not is_correct(turn, FACTS, parsed(text, *zip(names, (RED, SMALL, BLUE), strict=True)))
    assert not is_correct(turn, FACTS, parsed(text, *zip(names[:2], boxes[:2], strict=True)))
    assert not is_correct(
        turn, FACTS, parsed(' and '.join(names[:2]), *zip(names, boxes, strict=True))
    )
    plain = replace(turn, ask=Ask(Task.QUESTION, 'What do you see?', images=1))
    assert is_correct(plain, FACTS, parsed(text))
    assert not is_correct(plain, FACTS, parsed(' and '.join(names[:2])))
    assert not is_correct(plain, FACTS, parsed(f'{text} and {LITTLE}'))
    assert not is_correct(plain, FACTS, parsed(text, *zip(names, boxes, strict=True)))


def test_counts_need_the_number_and_all_boxes() -> None:
    answer = ('two', Mention('boxes', (1, 2)))
    turn = DialogueTurn('count', Ask(Task.GROUNDED_QUESTION, 'How many boxes?', images=1), answer)

    def two(*boxes: Box) -> ParsedAnswer:
        return ParsedAnswer('two boxes', (GroundedPhrase('boxes', boxes),))

    assert is_correct(turn, FACTS, two(BLUE, SMALL))
    assert is_correct(turn, FACTS, two(SMALL, BLUE))
    assert not is_correct(turn, FACTS, two(BLUE))
    assert not is_correct(turn, FACTS, two(BLUE, BLUE))
    assert not is_correct(turn, FACTS, two(BLUE, SMALL, RED))
    assert not is_correct(turn, FACTS, ParsedAnswer('three boxes', two(BLUE, SMALL).groundings))
    assert not is_correct(turn, FACTS, parsed('two boxes'))
    plain = DialogueTurn('count', replace(turn.ask, task=Task.QUESTION), ('two',))
    assert is_correct(plain, FACTS, parsed('two'))
    assert not is_correct(plain, FACTS, parsed('one'))
    assert not is_correct(plain, FACTS, parsed('two two'))


def test_things_need_a_true_name_and_their_box() -> None:
    ask = Ask(Task.GROUNDED_QUESTION, 'What is behind the large box?', images=1)
    turn = DialogueTurn('what', ask, (Mention(LITTLE, (2,)),), about=2)
    assert is_correct(turn, FACTS, parsed(LITTLE, (LITTLE, SMALL)))
    assert not is_correct(turn, FACTS, parsed(LITTLE, (LITTLE, BLUE)))
    assert not is_correct(turn, FACTS, parsed(LITTLE))
    assert is_correct(turn, FACTS, parsed('a blue box', ('a blue box', SMALL)))
    assert not is_correct(turn, FACTS, parsed('a blue thing', ('a blue thing', SMALL)))
    assert not is_correct(turn, FACTS, parsed('a blue box', ('a small blue box', SMALL)))
    assert not is_correct(turn, FACTS, parsed(BALL, (BALL, SMALL)))
    plain = replace(turn, ask=replace(ask, task=Task.QUESTION))
    assert is_correct(plain, FACTS, parsed(LITTLE))
    assert not is_correct(plain, FACTS, parsed(BALL))
    assert not is_correct(plain, FACTS, parsed(''))


def test_locations_must_be_true_and_unambiguous() -> None:
    ask = Ask(Task.QUESTION, 'Where is the red ball?', images=1)
    turn = DialogueTurn('where', ask, ('left of the large blue box',), about=0)
    for text in ('left of the large blue box', 'left of the small blue box'):
        assert is_correct(turn, FACTS, parsed(text))
    for text in ('left of the blue box', 'behind the small blue box', 'left of', 'the red ball'):
        assert not is_correct(turn, FACTS, parsed(text))


def test_training_answers_are_correct_and_others_are_not(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The answers are parsed from ids, whose boxes are rounded to cells."""
    path = tmp_path_factory.mktemp('words') / 'sentencepiece.bpe.model'
    write_word_model(path)
    vocabulary = Vocabulary.from_file(path)
    segments = SegmentWriter(vocabulary, 64)
    for held in held_out_dialogues(3, 2 * len(KINDS)):
        *before, turn = held.dialogue.turns
        question = segments.question(held.dialogue, held.facts.boxes)
        segment = segments.segment(held.dialogue, held.facts.boxes)
        ids = segment.ids[len(question) - 67 :]
        assert question[67:] + ids == segment.ids
        answer = parse_answer(ids, vocabulary)
        assert answer.text == plain_text(turn.answer)
        assert is_correct(turn, held.facts, answer)
        assert not is_correct(turn, held.facts, replace(answer, text='six six'))
        assert segment.token_targets[-1] == (len(segment.ids) - 1, vocabulary.eos)
        assert len([token for _, token in segment.token_targets if token == vocabulary.eos]) == (
            len(before) + 1
        )
