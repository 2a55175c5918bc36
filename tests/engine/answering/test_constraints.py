"""Whatever a model wants to say, its boxes are well-formed and end within the budget."""

from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from kosmos_ros.engine.answering.constraints import OutputConstraints, repeating
from kosmos_ros.engine.answering.decoding import BeamSearch, Decoding, DecodingRules, Greedy
from kosmos_ros.engine.base import Finish
from kosmos_ros.model.parsing import parse
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.word_model import write_word_model


@pytest.fixture(scope='module')
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    path: Path = tmp_path_factory.mktemp('words') / 'sentencepiece.bpe.model'
    write_word_model(path, ('red', 'ball', 'of'))
    return Vocabulary.from_file(path)


def rules(vocabulary: Vocabulary, most: int, ngram: int = 3) -> DecodingRules:
    prompt = (vocabulary.bos, *vocabulary.encode('red ball'))
    stops = frozenset((vocabulary.eos,))
    return DecodingRules(
        OutputConstraints(vocabulary, ngram), prompt, stops, most, vocabulary.first_location
    )


def allowed(vocabulary: Vocabulary, ids: Sequence[int], left: int, ngram: int = 0) -> list[int]:
    mask = OutputConstraints(vocabulary, ngram).allowed(ids, left)
    assert mask.shape == (vocabulary.size,)
    found: list[int] = np.flatnonzero(mask).tolist()
    return found


def wild(rng: np.random.Generator, vocabulary: Vocabulary, rows: int) -> np.ndarray:
    """Scores of a model that loves tags, and locations most of all."""
    logits = rng.normal(0, 3, (rows, vocabulary.size)).astype(np.float32)
    logits[:, vocabulary.object_open : vocabulary.first_location] += 6
    return logits


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.sampled_from([1, 3]))
def test_objects_are_well_formed(vocabulary: Vocabulary, seed: int, most: int, beams: int) -> None:
    rng, bounds = np.random.default_rng(seed), rules(vocabulary, most)
    decoding: Decoding = BeamSearch(bounds, beams) if beams > 1 else Greedy(bounds)
    rows = 1
    while decoding.finish is Finish.NONE:
        order = decoding.advance(wild(rng, vocabulary, rows))
        rows = len(order)
        assert all(0 <= row < max(beams, 1) for row in order)
    ids = decoding.best.ids
    assert len(ids) <= most
    found = parse(ids, vocabulary)
    assert len(found) == ids.count(vocabulary.object_open)
    assert len(found) == ids.count(vocabulary.object_close)
    assert all(not one.dropped for one in found)
    corners = sum(len(one.corners) for one in found)
    assert sum(vocabulary.location_cell(number) is not None for number in ids) == 2 * corners
    assert len(decoding.best.location_probabilities) == len(ids)
    assert not {vocabulary.pad, vocabulary.bos} & set(ids)


def test_an_object_needs_room_for_its_end(vocabulary: Vocabulary) -> None:
    for left in (1, 2, 3):
        assert vocabulary.object_open not in allowed(vocabulary, [5], left)
    assert vocabulary.object_open in allowed(vocabulary, [5], 4)


def test_one_more_box_needs_room_for_its_end(vocabulary: Vocabulary) -> None:
    one = vocabulary.location(3)
    inside = [5, vocabulary.object_open, one, one]
    assert allowed(vocabulary, inside, 3) == [vocabulary.object_close]
    both = [vocabulary.object_close, vocabulary.delimiter]
    assert allowed(vocabulary, inside, 4) == both


def test_second_corner_lies_right_of_and_below_the_first(vocabulary: Vocabulary) -> None:
    first = 5 * 32 + 7
    inside = [vocabulary.object_open, vocabulary.location(first)]
    cells = [vocabulary.location_cell(token) for token in allowed(vocabulary, inside, 9)]
    expected = [row * 32 + column for row in range(5, 32) for column in range(7, 32)]
    assert cells == expected


def test_what_was_said_is_not_said_again(vocabulary: Vocabulary) -> None:
    a, b, c = vocabulary.encode('red ball of')
    assert list(repeating([a, b, c, a, b], 3)) == [c]
    assert list(repeating([a, b, a, b, c, a, b], 3)) == [a, c]
    assert list(repeating([a, b, c], 0)) == []
    assert list(repeating([a, a], 3)) == []
    assert list(repeating([a, b], 1)) == [a, b]
    assert c not in allowed(vocabulary, [a, b, c, a, b], 9, ngram=3)
    assert c in allowed(vocabulary, [a, b, c, a, b], 9)


def test_a_box_ends_even_if_it_ended_so_before(vocabulary: Vocabulary) -> None:
    place = vocabulary.location(1023)
    box = [vocabulary.object_open, place, place, vocabulary.object_close]
    ids = [*box, 5, vocabulary.object_open, place, place]
    assert allowed(vocabulary, ids, 2, ngram=3) == [vocabulary.object_close]


def test_where_an_object_is_open(vocabulary: Vocabulary) -> None:
    grammar, place = OutputConstraints(vocabulary, 0), vocabulary.location(0)
    box = [5, vocabulary.object_open, place, place]
    assert grammar.open_object(box) == 1
    assert grammar.open_object([*box, vocabulary.delimiter, place]) == 1
    assert grammar.open_object([*box, vocabulary.object_close]) is None
    assert grammar.open_object([]) is None
    assert grammar.open_object([5]) is None


def test_beams_find_what_greedy_misses(vocabulary: Vocabulary) -> None:
    """Red is likelier at first, but only ball leads to a sure end."""
    red, ball = vocabulary.encode('red ball')
    search = BeamSearch(rules(vocabulary, 4, ngram=0), 2)

    def scores(**chances: float) -> np.ndarray:
        logits = np.full(vocabulary.size, -30.0, np.float32)
        for name, chance in chances.items():
            logits[{'red': red, 'ball': ball, 'end': vocabulary.eos}[name]] = np.log(chance)
        return logits

    order = search.advance(scores(red=0.6, ball=0.4)[None])
    assert list(order) == [0, 0]
    assert list(search.tokens) == [red, ball]
    assert search.best.ids == (red,)
    rows = [scores(red=0.5, ball=0.5), scores(end=1.0)]
    search.advance(np.stack(rows))
    while search.finish is Finish.NONE:
        search.advance(np.stack([scores(red=0.5, ball=0.5)] * len(search.tokens)))
    assert search.best.ids == (ball, vocabulary.eos)
    assert search.finish is Finish.END


def test_probability_of_a_location_is_among_locations(vocabulary: Vocabulary) -> None:
    bounds = rules(vocabulary, 9)
    logits = np.zeros(vocabulary.size, np.float32)
    logits[vocabulary.location(7)] = np.log(1023)
    logits[vocabulary.eos] = 50
    assert bounds.location_probability(logits, vocabulary.location(7)) == pytest.approx(0.5)
    assert bounds.location_probability(logits, vocabulary.eos) == 1.0
