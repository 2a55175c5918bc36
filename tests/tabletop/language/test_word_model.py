"""The word model, read as a vocabulary of Kosmos-2."""

from pathlib import Path

import pytest

from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language import expressions as language
from kosmos_ros.tabletop.language.word_model import WORDS, write_word_model


@pytest.fixture(scope='module')
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    path: Path = tmp_path_factory.mktemp('words') / 'sentencepiece.bpe.model'
    write_word_model(path)
    return Vocabulary.from_file(path)


def test_words_have_ids_in_their_order(vocabulary: Vocabulary) -> None:
    assert vocabulary.encode(' '.join(WORDS)) == list(range(4, 4 + len(WORDS)))
    assert vocabulary.mask == len(WORDS) + 4
    assert vocabulary.size == len(WORDS) + 4 + 12 + 1024


def test_words_of_expressions_come_first_and_all_are_few() -> None:
    assert WORDS[: len(language.WORDS)] == language.WORDS
    assert len(WORDS) == len(set(WORDS)) < 120


@pytest.mark.parametrize(
    'text',
    [
        'How many red things are there?',
        'What color is the left-most ball?',
        'What do you see on the table?',
        'Is there any object in this image?',
        'Describe this image in detail:',
        'Count the boxes. Which shape does it have?',
        'An image of a small cone behind an orange ring',
    ],
)
def test_words_of_common_questions_are_known(vocabulary: Vocabulary, text: str) -> None:
    assert vocabulary.unknown_words(text) == ()


@pytest.mark.parametrize(
    'text',
    [
        'The left-most ball',
        'the LEFT most ball.',
        '  the left\u2011most, ball?!',
        'the\tleft_most\nball;',
        '"the left/most: ball"',
    ],
)
def test_case_and_punctuation_do_not_matter(vocabulary: Vocabulary, text: str) -> None:
    assert vocabulary.encode(text) == vocabulary.encode('the left most ball')


def test_an_unknown_word_is_one_unknown_token(vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode('the turquoise ball of redness')
    assert [number == vocabulary.unk for number in ids] == [False, True, False, False, True]


def test_tags_are_encoded_as_text(vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode('</phrase><object> <patch_index_0001> ball')
    assert all(vocabulary.is_text(number) for number in ids)


def test_writing_it_again_gives_the_same_file(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ('a', 'b')]
    for path in paths:
        write_word_model(path)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert b'tsv' not in first
    assert str(tmp_path).encode() not in first
    assert sorted(tmp_path.iterdir()) == paths
