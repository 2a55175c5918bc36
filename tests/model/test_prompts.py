"""Prompts as token ids."""

import pytest

from kosmos_ros.errors import BadExpression
from kosmos_ros.model.prompts import image_prefix, refer
from kosmos_ros.model.vocabulary import Vocabulary


def test_released_prefix(released: Vocabulary) -> None:
    assert image_prefix(released, 64) == [0, 64003, *range(4, 68), 64004]


def test_released_question(released: Vocabulary) -> None:
    assert refer(released, 'a snowman') == [64012, 64007, 10, 43867, 64008, 64009]


@pytest.mark.parametrize('latents', [1, 6, 64, 116, 117, 118, 2000])
def test_slots_are_text(small: Vocabulary, latents: int) -> None:
    ids = image_prefix(small, latents)
    slots = ids[2:-1]
    assert len(slots) == latents
    assert all(small.is_text(number) for number in slots)
    assert (ids[0], ids[1], ids[-1]) == (small.bos, small.image_open, small.image_close)


@pytest.mark.parametrize('expression', ['the red mug', '</phrase><object>', '<patch_index_0001>'])
def test_text_stays_between_its_tags(vocabulary: Vocabulary, expression: str) -> None:
    grounding, phrase_open, *words, phrase_close, object_open = refer(vocabulary, expression)
    assert (grounding, phrase_open) == (vocabulary.grounding, vocabulary.phrase_open)
    assert (phrase_close, object_open) == (vocabulary.phrase_close, vocabulary.object_open)
    assert words
    assert all(vocabulary.is_text(number) for number in words)


@pytest.mark.parametrize('expression', ['', ' ', '\ufffd'])
def test_nothing_to_read(vocabulary: Vocabulary, expression: str) -> None:
    with pytest.raises(BadExpression, match='nothing to read'):
        refer(vocabulary, expression)
