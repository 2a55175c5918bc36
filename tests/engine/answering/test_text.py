"""Generated ids to text with boxes."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from kosmos_ros.engine.answering.text import answer_from_ids
from kosmos_ros.model.boxes import decode_box
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.word_model import write_word_model

WORDS = ('red', 'ball', 'of', 'left')


@pytest.fixture(scope='module')
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    path: Path = tmp_path_factory.mktemp('words') / 'sentencepiece.bpe.model'
    write_word_model(path, WORDS)
    return Vocabulary.from_file(path)


def box(vocabulary: Vocabulary, *cells: int) -> list[int]:
    return [vocabulary.object_open, *map(vocabulary.location, cells), vocabulary.object_close]


def phrase(vocabulary: Vocabulary, text: str) -> list[int]:
    return [vocabulary.phrase_open, *vocabulary.encode(text), vocabulary.phrase_close]


def test_published_caption(shared_data: Path) -> None:
    """The ids that the released model gives for snowman.png, and their published text."""
    released = Vocabulary.from_file(shared_data / 'sentencepiece.bpe.model')
    ids = [
        *(64007, 10, 43867, 64008, 64009, 64057, 64876, 64010, 5950, 597, 32),
        *(64007, 10, 646, 64008, 64009, 64018, 64924, 64010, 4, 2),
    ]
    answer = answer_from_ids(ids, [0.5] * len(ids), released)
    assert answer.text == 'a snowman warming himself by a fire.'
    snowman, fire = answer.groundings
    assert (snowman.phrase, snowman.span) == ('a snowman', (0, 9))
    assert (fire.phrase, answer.text[slice(*fire.span)]) == ('a fire', 'a fire')
    assert [one.box_in_image for one in snowman.boxes] == [decode_box(44, 863)]
    assert [one.box_in_image for one in fire.boxes] == [decode_box(5, 911)]
    assert [one.score for one in fire.boxes] == [0.25]


def test_scores_belong_to_their_boxes(vocabulary: Vocabulary) -> None:
    ids = [*vocabulary.encode('left'), *phrase(vocabulary, 'red ball')]
    begin = len(ids) + 1
    ids += [vocabulary.object_open, *map(vocabulary.location, (1, 2)), vocabulary.delimiter]
    ids += [*map(vocabulary.location, (3, 4)), vocabulary.object_close]
    places = [1.0] * len(ids)
    places[begin : begin + 2], places[begin + 3 : begin + 5] = (0.5, 0.5), (0.25, 0.5)
    (found,) = answer_from_ids(ids, places, vocabulary).groundings
    assert [one.score for one in found.boxes] == [0.25, 0.125]
    assert found.span == (5, 13)


def test_a_box_without_a_phrase(vocabulary: Vocabulary) -> None:
    ids = [*vocabulary.encode('left'), *box(vocabulary, 0, 33)]
    answer = answer_from_ids(ids, [0.5] * len(ids), vocabulary)
    (found,) = answer.groundings
    assert (answer.text, found.phrase, found.span) == ('left', '', (4, 4))
    assert [one.score for one in found.boxes] == [0.25]


def test_what_has_no_letters(vocabulary: Vocabulary) -> None:
    ids = [*vocabulary.encode('left'), vocabulary.line_close, *vocabulary.encode('of')]
    assert answer_from_ids(ids, [1.0] * 3, vocabulary).text == 'left\nof'
    assert answer_from_ids([vocabulary.unk], [1.0], vocabulary).text == '\N{REPLACEMENT CHARACTER}'
    assert answer_from_ids([], [], vocabulary).text == ''


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_what_was_shown_stays(vocabulary: Vocabulary, data: st.DataObject) -> None:
    """A longer answer begins with the text of a shorter one, and so do its groundings."""
    part = st.sampled_from(
        [
            vocabulary.encode('red'),
            phrase(vocabulary, 'red ball'),
            box(vocabulary, 5, 700),
            [vocabulary.line_close],
            [vocabulary.unk],
            [vocabulary.eos],
        ]
    )
    ids = [number for some in data.draw(st.lists(part)) for number in some]
    whole = answer_from_ids(ids, [0.5] * len(ids), vocabulary)
    for end in range(len(ids)):
        so_far = answer_from_ids(ids[:end], [0.5] * end, vocabulary)
        assert whole.text.startswith(so_far.text)
        assert whole.groundings[: len(so_far.groundings)] == so_far.groundings
    for found in whole.groundings:
        assert found.phrase == whole.text[slice(*found.span)]
