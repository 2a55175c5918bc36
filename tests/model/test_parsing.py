"""The parser of ids, on any sequence and against the published parser of text."""

from collections.abc import Iterable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import pytest
from transformers.models.kosmos2.processing_kosmos2 import (
    clean_text_and_extract_entities_with_bboxes,
    extract_entities_with_patch_indices,
)

from kosmos_ros.model.boxes import Box, decode_box
from kosmos_ros.model.parsing import ParsedObject, parse
from kosmos_ros.model.vocabulary import Vocabulary

from .test_vocabulary import SNOWMAN

Pairs = tuple[tuple[int, int], ...]

# Fragments of sequences: tags by name, 'a' and 'b' for text, 'cell' for a location token.
PHRASE = ('phrase_open', 'a', 'b', 'phrase_close')
PAIR = ('cell', 'cell')
FRAGMENTS: tuple[tuple[str, ...], ...] = (
    ('object_open', *PAIR, 'object_close'),
    (*PHRASE, 'object_open', *PAIR, 'object_close'),
    (*PHRASE, 'object_open', *PAIR, 'delimiter', *PAIR, 'object_close'),
    ('object_open', *PAIR, 'delimiter', *PAIR, 'delimiter', *PAIR, 'object_close'),
    PHRASE,
    ('delimiter', *PAIR),
    (*PAIR, 'object_close'),
    ('phrase_open', 'unk', 'phrase_close'),
    *(('cell',), ('a',), ('b',), ('unk',), ('bos',), ('pad',), ('eos',), ('mask',)),
    *(('grounding',), ('image_open',), ('image_close',), ('delimiter',)),
    *(('phrase_open',), ('phrase_close',), ('object_open',), ('object_close',)),
    *(('below',), ('above',)),
)


def ids_of(kinds: Iterable[str | int], vocabulary: Vocabulary) -> list[int]:
    """Convert names of tags, cells and letters to ids."""
    others = {
        'a': vocabulary.encode('the')[0],
        'b': vocabulary.encode('a red')[-1],
        'below': -7,
        'above': vocabulary.size + 5,
    }
    return [
        vocabulary.location(kind) if isinstance(kind, int)
        else others[kind] if kind in others
        else getattr(vocabulary, kind)
        for kind in kinds
    ]  # fmt: skip


def kinds_of(program: bytes) -> list[str | int]:
    """Convert bytes to a sequence; three bytes choose a fragment, a dropped token, a shift."""
    kinds: list[str | int] = []
    for choice, drop, shift in zip(program[::3], program[1::3], program[2::3], strict=False):
        fragment = FRAGMENTS[choice % len(FRAGMENTS)]
        for index, kind in enumerate(fragment):
            if drop % 32 == index:
                continue
            kinds.append((shift * 41 + index * 67) % 1024 if kind == 'cell' else kind)
    return kinds


@pytest.mark.timeout(600)
@settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))
@given(program=st.binary(max_size=36))
def test_any_sequence(small: Vocabulary, program: bytes) -> None:
    ids = ids_of(kinds_of(program), small)
    found = parse(ids, small)
    for item in found:
        assert all(box.is_valid for box in item.boxes)
        assert item.dropped == len(item.corners) - len(item.boxes) >= 0
        assert item.phrase == small.decode(ids[slice(*item.span)]).strip()
    if all(0 <= number < small.size for number in ids):
        assert [(item.phrase, item.corners) for item in found] == published(ids, small)


def published(ids: list[int], vocabulary: Vocabulary) -> list[tuple[str, Pairs]]:
    """Return the phrases and corners that ``transformers`` parses; '' where it has none."""
    # It loses phrases that contain '<', and so those with <unk>.
    text = vocabulary.decode(ids).replace('<unk>', '?')
    entities = extract_entities_with_patch_indices(text)
    # Without a phrase it returns one entity per box; `parse` keeps them in one object.
    merged: list[tuple[str, Pairs]] = []
    last = None
    for phrase, span, corners in entities:
        if phrase.startswith('<patch_index_') and span == last:
            merged[-1] = ('', merged[-1][1] + tuple(corners))
        else:
            name = '' if phrase.startswith('<patch_index_') else phrase
            merged.append((name.replace('?', '<unk>').strip(), tuple(corners)))
        last = span
    return merged


def test_golden_answer(released: Vocabulary) -> None:
    snowman, fire = parse(SNOWMAN, released)
    assert snowman == ParsedObject('a snowman', (5, 7), ((44, 863),), (decode_box(44, 863),))
    assert fire == ParsedObject('a fire', (16, 18), ((5, 911),), (decode_box(5, 911),))
    _, entities = clean_text_and_extract_entities_with_bboxes(released.decode(SNOWMAN))
    assert [(name, [Box(*corners) for corners in boxes]) for name, _, boxes in entities] == [
        (item.phrase, list(item.boxes)) for item in (snowman, fire)
    ]


def test_several_boxes(small: Vocabulary) -> None:
    kinds = ['phrase_open', 'a', 'phrase_close', 'object_open', 1, 70, 'delimiter', 9, 107]
    (found,) = parse(ids_of([*kinds, 'object_close'], small), small)
    assert found.phrase == small.decode(ids_of(['a'], small)).strip()
    assert found.corners == ((1, 70), (9, 107))
    assert found.boxes == (decode_box(1, 70), decode_box(9, 107))


def test_incomplete_objects_are_ignored(small: Vocabulary) -> None:
    phrase = ['phrase_open', 'a', 'phrase_close']
    for rest in (
        ['object_open'],
        ['object_open', 1],
        ['object_open', 1, 70],
        ['object_open', 'object_close'],
        ['object_open', 1, 'object_close'],
        ['object_open', 1, 70, 71, 'object_close'],
        ['object_open', 1, 70, 'delimiter', 'object_close'],
        ['object_open', 1, 70, 'delimiter', 5, 'object_close'],
        ['object_open', 'delimiter', 1, 70, 'object_close'],
        [1, 70, 'object_close'],
        [],
    ):
        assert parse(ids_of([*phrase, *rest], small), small) == []


def test_a_complete_object_within_an_incomplete_one_is_found(small: Vocabulary) -> None:
    kinds = ['object_open', 1, 'object_open', 1, 70, 'object_close']
    (found,) = parse(ids_of(kinds, small), small)
    assert found == ParsedObject('', (2, 2), ((1, 70),), (decode_box(1, 70),))


def test_phrases_elsewhere_do_not_belong_to_the_object(small: Vocabulary) -> None:
    answer = ['object_open', 1, 70, 'object_close']
    for before in (
        [],
        ['phrase_close'],
        ['a', 'phrase_close'],
        ['phrase_open', 'phrase_close'],
        ['phrase_open', 'a', 'phrase_close', 'a'],
        ['phrase_open', 'a', 'eos', 'b', 'phrase_close'],
        ['phrase_open', 'a', 'object_open', 'phrase_close'],
    ):
        (found,) = parse(ids_of([*before, *answer], small), small)
        assert (found.phrase, found.span) == ('', (len(before), len(before)))


def test_nested_phrases_keep_the_inner_text(small: Vocabulary) -> None:
    kinds = ['phrase_open', 'a', 'phrase_open', 'b', 'phrase_close', 'object_open', 1, 70]
    (found,) = parse(ids_of([*kinds, 'object_close'], small), small)
    assert found.phrase == small.decode(ids_of(['b'], small)).strip()


def test_inverted_corners_are_dropped_and_counted(small: Vocabulary) -> None:
    kinds = ['phrase_open', 'a', 'phrase_close', 'object_open', 70, 1, 'delimiter', 1, 70]
    (found,) = parse(ids_of([*kinds, 'object_close'], small), small)
    assert found.corners == ((70, 1), (1, 70))
    assert found.boxes == (decode_box(1, 70),)
    assert found.dropped == 1


def test_text_that_looks_like_a_tag_stays_text(released: Vocabulary) -> None:
    """A parser of text would lose this phrase."""
    words = released.encode('a </phrase> b')
    answer = [
        released.object_open,
        released.location(1),
        released.location(70),
        released.object_close,
    ]
    (found,) = parse([released.phrase_open, *words, released.phrase_close, *answer], released)
    assert found.phrase == 'a </phrase> b'
