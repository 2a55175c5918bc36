"""True answers are right, whatever was expected; false ones are refused."""

from dataclasses import replace

import pytest

from kosmos_ros.model.boxes import Box
from kosmos_ros.model.tasks import Ask, Task
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.dataset import held_out_talks
from kosmos_ros.tabletop.language.facts import Facts, Relation
from kosmos_ros.tabletop.language.questions import KINDS, Mention, Turn
from kosmos_ros.tabletop.language.scoring import Pointed, Said, is_right, said_by
from kosmos_ros.tabletop.language.word_model import write_word_model
from kosmos_ros.tabletop.training.segments import Writer, plain_text
from kosmos_ros.tabletop.world.render import Seen
from kosmos_ros.tabletop.world.things import Thing

RED, BLUE, SMALL, NOWHERE = (
    Box(0.1, 0.4, 0.3, 0.6),
    Box(0.5, 0.4, 0.7, 0.6),
    Box(0.8, 0.1, 0.9, 0.2),
    Box(0.4, 0.8, 0.5, 0.9),
)


def seen(shape: str, colour: str, size: str) -> Seen:
    thing = Thing(shape, colour, size, 0.1, 0.0, 0.0, 0.0, (0.5, 0.5, 0.5))
    return Seen(thing, (0.0, 0.0, 1.0, 1.0), 1.0, 1.0)


# A red ball left of a large blue box, both left of a small blue box, which is behind.
FACTS = Facts(
    (seen('ball', 'red', 'large'), seen('box', 'blue', 'large'), seen('box', 'blue', 'small')),
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


def said(text: str, *pointed: tuple[str, Box]) -> Said:
    return Said(text, tuple(Pointed(phrase, (box,)) for phrase, box in pointed))


CAPTION = Turn(
    'caption',
    Ask(Task.CAPTION, images=1),
    (Mention(BALL, (0,)), 'left of', Mention(LARGE, (1,))),
)


@pytest.mark.parametrize(
    'caption',
    [
        said(f'{BALL} left of {LARGE}', (BALL, RED), (LARGE, BLUE)),
        said(f'{LARGE} right of {BALL}', (LARGE, BLUE), (BALL, RED)),
        said(f'{LITTLE} behind {LARGE}', (LITTLE, SMALL), (LARGE, BLUE)),
        said('a ball left of a blue box', ('a ball', RED), ('a blue box', SMALL)),
        said(f'{BALL} left of {LARGE}', (BALL, Box(0.12, 0.4, 0.3, 0.6)), (LARGE, BLUE)),
    ],
)
def test_any_true_caption_is_right(caption: Said) -> None:
    assert is_right(CAPTION, FACTS, caption)


@pytest.mark.parametrize(
    'caption',
    [
        said(''),
        said(f'{BALL} left of {LARGE}'),
        said(f'{BALL} left of {LARGE}', (BALL, RED)),
        said(f'{BALL} right of {LARGE}', (BALL, RED), (LARGE, BLUE)),
        said(f'{BALL} in front of {LARGE}', (BALL, RED), (LARGE, BLUE)),
        said(f'{BALL} left of {LARGE}', (BALL, BLUE), (LARGE, RED)),
        said(f'{BALL} left of {LARGE}', (BALL, RED), (LARGE, NOWHERE)),
        said(f'{LITTLE} right of {BALL}', (LITTLE, BLUE), (BALL, RED)),
        said('a green ball left of a blue box', ('a green ball', RED), ('a blue box', BLUE)),
        said('red ball left of a blue box', ('red ball', RED), ('a blue box', BLUE)),
        said(f'{BALL} {LARGE}', (BALL, RED), (LARGE, BLUE)),
        said(f'{BALL} left of left of {LARGE}', (BALL, RED), (LARGE, BLUE)),
    ],
)
def test_false_captions_are_not(caption: Said) -> None:
    assert not is_right(CAPTION, FACTS, caption)


def test_lists_must_be_of_everything() -> None:
    names = ('a large red ball', LARGE, LITTLE)
    mentions = tuple(Mention(name, (index,)) for index, name in enumerate(names))
    answer = (mentions[0], 'and', mentions[1], 'and', mentions[2])
    turn = Turn('detailed', Ask(Task.DETAILED_CAPTION, images=1), answer)
    text, boxes = ' and '.join(names), (RED, BLUE, SMALL)
    assert is_right(turn, FACTS, said(text, *zip(names, boxes, strict=True)))
    assert not is_right(turn, FACTS, said(text, *zip(names, (RED, SMALL, BLUE), strict=True)))
    assert not is_right(turn, FACTS, said(text, *zip(names[:2], boxes[:2], strict=True)))
    assert not is_right(
        turn, FACTS, said(' and '.join(names[:2]), *zip(names, boxes, strict=True))
    )
    plain = replace(turn, ask=Ask(Task.QUESTION, 'What do you see?', images=1))
    assert is_right(plain, FACTS, said(text))
    assert not is_right(plain, FACTS, said(' and '.join(names[:2])))
    assert not is_right(plain, FACTS, said(f'{text} and {LITTLE}'))
    assert not is_right(plain, FACTS, said(text, *zip(names, boxes, strict=True)))


def test_counts_need_the_number_and_all_boxes() -> None:
    answer = ('two', Mention('boxes', (1, 2)))
    turn = Turn('count', Ask(Task.GROUNDED_QUESTION, 'How many boxes?', images=1), answer)

    def two(*boxes: Box) -> Said:
        return Said('two boxes', (Pointed('boxes', boxes),))

    assert is_right(turn, FACTS, two(BLUE, SMALL))
    assert is_right(turn, FACTS, two(SMALL, BLUE))
    assert not is_right(turn, FACTS, two(BLUE))
    assert not is_right(turn, FACTS, two(BLUE, BLUE))
    assert not is_right(turn, FACTS, two(BLUE, SMALL, RED))
    assert not is_right(turn, FACTS, Said('three boxes', two(BLUE, SMALL).pointed))
    assert not is_right(turn, FACTS, said('two boxes'))
    plain = Turn('count', replace(turn.ask, task=Task.QUESTION), ('two',))
    assert is_right(plain, FACTS, said('two'))
    assert not is_right(plain, FACTS, said('one'))
    assert not is_right(plain, FACTS, said('two two'))


def test_things_need_a_true_name_and_their_box() -> None:
    ask = Ask(Task.GROUNDED_QUESTION, 'What is behind the large box?', images=1)
    turn = Turn('what', ask, (Mention(LITTLE, (2,)),), about=2)
    assert is_right(turn, FACTS, said(LITTLE, (LITTLE, SMALL)))
    assert not is_right(turn, FACTS, said(LITTLE, (LITTLE, BLUE)))
    assert not is_right(turn, FACTS, said(LITTLE))
    assert is_right(turn, FACTS, said('a blue box', ('a blue box', SMALL)))
    assert not is_right(turn, FACTS, said('a blue thing', ('a blue thing', SMALL)))
    assert not is_right(turn, FACTS, said('a blue box', ('a small blue box', SMALL)))
    assert not is_right(turn, FACTS, said(BALL, (BALL, SMALL)))
    plain = replace(turn, ask=replace(ask, task=Task.QUESTION))
    assert is_right(plain, FACTS, said(LITTLE))
    assert not is_right(plain, FACTS, said(BALL))
    assert not is_right(plain, FACTS, said(''))


def test_places_must_be_true_and_unmistakable() -> None:
    ask = Ask(Task.QUESTION, 'Where is the red ball?', images=1)
    turn = Turn('where', ask, ('left of the large blue box',), about=0)
    for text in ('left of the large blue box', 'left of the small blue box'):
        assert is_right(turn, FACTS, said(text))
    for text in ('left of the blue box', 'behind the small blue box', 'left of', 'the red ball'):
        assert not is_right(turn, FACTS, said(text))


def test_what_training_teaches_is_right_and_anything_else_is_not(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Through the ids, whose boxes are rounded to cells."""
    path = tmp_path_factory.mktemp('words') / 'sentencepiece.bpe.model'
    write_word_model(path)
    vocabulary = Vocabulary.from_file(path)
    writer = Writer(vocabulary, 64)
    for held in held_out_talks(3, 2 * len(KINDS)):
        *before, turn = held.talk.turns
        question = writer.question(held.talk, held.facts.boxes)
        segment = writer.segment(held.talk, held.facts.boxes)
        ids = segment.ids[len(question) - 67 :]
        assert question[67:] + ids == segment.ids
        answer = said_by(ids, vocabulary)
        assert answer.text == plain_text(turn.answer)
        assert is_right(turn, held.facts, answer)
        assert not is_right(turn, held.facts, replace(answer, text='six six'))
        assert segment.words[-1] == (len(segment.ids) - 1, vocabulary.eos)
        assert len([token for _, token in segment.words if token == vocabulary.eos]) == (
            len(before) + 1
        )
