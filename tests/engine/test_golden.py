"""The published answers: that they are what was published, and that no other answer passes."""

from collections.abc import Sequence
import io
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
import pytest

from kosmos_ros.engine.directory.recipe import recipe_named, recipes
from kosmos_ros.engine.golden import CASES, GoldenCase, GoldenResult, golden_results
from kosmos_ros.errors import EngineError
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.parsing import parse
from kosmos_ros.model.preprocess import pixels_from_image
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.word_model import write_word_model

CONFIG = Kosmos2Config()
IMAGE_IDS = [0, 64003, *range(4, 68), 64004]
# As published, behind the image.
PROMPTS = {
    'brief caption': [64012, 712, 1648, 9],
    'detailed caption': [64012, 34645, 247, 38, 1648, 12, 3391, 55],
    'phrase grounding': [64012, 64007, 10, 43867, 64008],
}
ANSWERS = {
    'brief caption': '<phrase> a snowman</phrase><object><patch_index_0044><patch_index_0863>'
    '</object> warming himself by<phrase> a fire</phrase><object><patch_index_0005>'
    '<patch_index_0911></object>.</s>',
    'detailed caption': 'The image features a snowman sitting by<phrase> a campfire</phrase>'
    '<object><patch_index_0005><patch_index_1007></object> in the snow. He is wearing<phrase> a '
    'hat</phrase><object><patch_index_0048><patch_index_0250></object>',
    'referring expression': '<object><patch_index_0044><patch_index_0863></object></s>',
    'phrase grounding': '<object><patch_index_0044><patch_index_0863></object>',
}


@pytest.fixture(scope='module')
def vocabulary(shared_data: Path) -> Vocabulary:
    return Vocabulary.from_file(shared_data / 'sentencepiece.bpe.model')


@pytest.fixture(scope='module')
def photo(shared_data: Path) -> np.ndarray:
    return np.asarray(PillowImage.open(shared_data / 'snowman.png'))


class Rows:
    """What a script has read: the picture, then the ids behind it."""

    def __init__(self, pixels: np.ndarray, ids: Sequence[int], reserve: int = 0) -> None:
        self.pixels = pixels
        self.ids = list(ids)
        self.reserve = reserve

    def select(self, rows: np.ndarray) -> 'Rows':
        raise AssertionError('a single row needs no choice')


class Script:
    """A runner that knows all answers, and breaks when it is not asked exactly as published."""

    name = 'a script'

    def __init__(self, vocabulary: Vocabulary, answers: dict[str, list[int]]) -> None:
        self.vocabulary = vocabulary
        self.answers = [(case, case.prompt(vocabulary), answers[case.name]) for case in CASES]
        self.steps = 0

    def vision(self, pixels: np.ndarray) -> np.ndarray:
        assert pixels.shape == (1, 3, 224, 224)
        return pixels

    def prefill(
        self,
        ids: np.ndarray,
        lengths: np.ndarray,
        *,
        prefix: Rows | None = None,
        images: Sequence[np.ndarray] = (),
        reserve: int = 0,
    ) -> tuple[Rows, Rows]:
        assert ids.dtype == lengths.dtype == np.int64
        assert lengths.tolist() == [ids.shape[1]]
        if prefix is None:
            assert ids.tolist() == [IMAGE_IDS]
            (pixels,) = images
            read = Rows(pixels, [])
        else:
            assert not images
            assert not prefix.ids
            read = Rows(prefix.pixels, ids[0], reserve)
        return read, read

    def decode(self, ids: np.ndarray, past: Rows) -> tuple[Rows, Rows]:
        assert ids.shape == (1,)
        assert past.reserve > 0, 'no room was asked for'
        self.steps += 1
        read = Rows(past.pixels, [*past.ids, int(ids[0])], past.reserve - 1)
        return read, read

    def logits(self, hidden: Rows, first: int, last: int) -> np.ndarray:
        assert (first, last) == (0, self.vocabulary.size)
        ((_, prompt, answer),) = (
            one for one in self.answers if hidden.ids[: len(one[1])] == one[1]
        )
        said = hidden.ids[len(prompt) :]
        assert said == answer[: len(said)]
        scores = np.zeros((1, last), np.float32)
        scores[0, answer[len(said)]] = 1
        return scores

    def fetch(self, value: np.ndarray) -> np.ndarray:
        return value

    def close(self) -> None:
        pass


def judged(
    vocabulary: Vocabulary, photo: np.ndarray, **changed: list[int]
) -> tuple[list[GoldenResult], Script]:
    answers = {case.name: list(case.expected) for case in CASES}
    answers |= {name.replace('_', ' '): changed[name] for name in changed}
    script = Script(vocabulary, answers)
    return list(golden_results(script, vocabulary, CONFIG, photo)), script


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_cases_are_the_published_ones(vocabulary: Vocabulary, case: GoldenCase) -> None:
    prompt = case.prompt(vocabulary)
    assert prompt == PROMPTS.get(case.name, prompt)
    assert vocabulary.decode(case.expected) == ANSWERS[case.name]
    # Tags are ids of their own, so that whatever is said of phrases and boxes can be read.
    boxes = [box for found in parse(case.expected, vocabulary) for box in found.boxes]
    assert len(boxes) == ANSWERS[case.name].count('<object>')


def test_referring_expression_is_a_phrase_of_words(vocabulary: Vocabulary) -> None:
    (case,) = (case for case in CASES if case.name == 'referring expression')
    grounding, phrase_open, *words, phrase_close = case.prompt(vocabulary)
    assert (grounding, phrase_open, phrase_close) == (64012, 64007, 64008)
    assert words == vocabulary.encode('a snowman next to a fire')


@pytest.mark.parametrize('name', sorted(recipes()))
def test_every_recipe_has_room(vocabulary: Vocabulary, name: str) -> None:
    recipe = recipe_named(name)
    assert len(IMAGE_IDS) <= recipe.prefix
    for case in CASES:
        assert len(case.prompt(vocabulary)) + len(case.expected) - 1 <= recipe.capacity


def test_right_answers_pass(vocabulary: Vocabulary, photo: np.ndarray) -> None:
    verdicts, script = judged(vocabulary, photo)
    assert [verdict.name for verdict in verdicts] == [case.name for case in CASES]
    for verdict in verdicts:
        assert verdict.passed
        assert verdict.expected == verdict.found == ANSWERS[verdict.name]
    # The first token of each answer comes from the prompt.
    assert script.steps == sum(len(case.expected) - 1 for case in CASES)


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
@pytest.mark.parametrize('place', [0, 1, -1])
def test_one_other_token_fails_its_case_alone(
    vocabulary: Vocabulary, photo: np.ndarray, case: GoldenCase, place: int
) -> None:
    answer, inside = list(case.expected), vocabulary.location_cell(case.expected[place])
    if answer[place] in (64009, 64010) and place:
        pytest.skip('an engine says nothing else where an object must end')
    # Another location, or another word: what an engine may say there.
    answer[place] = 500 if inside is None else 64100
    verdicts, _ = judged(vocabulary, photo, **{case.name.replace(' ', '_'): answer})
    assert [verdict.name for verdict in verdicts if not verdict.passed] == [case.name]
    (failed,) = (verdict for verdict in verdicts if not verdict.passed)
    assert failed.expected == ANSWERS[case.name]
    assert vocabulary.decode([answer[place]]) in failed.found


def test_an_answer_that_ends_early_fails(vocabulary: Vocabulary, photo: np.ndarray) -> None:
    verdicts, script = judged(vocabulary, photo, brief_caption=[64007, 10, 2])
    assert [verdict.passed for verdict in verdicts] == [False, True, True, True]
    assert verdicts[0].found == '<phrase> a</s>'
    assert script.steps == 2 + sum(len(case.expected) - 1 for case in CASES[1:])


def test_captions_are_of_the_picture_saved_as_jpeg(
    vocabulary: Vocabulary, photo: np.ndarray
) -> None:
    file = io.BytesIO()
    PillowImage.fromarray(photo).save(file, 'JPEG')
    saved = pixels_from_image(np.asarray(PillowImage.open(file)), 224)
    plain = pixels_from_image(photo, 224)
    assert not np.array_equal(saved, plain)
    seen = {}

    class Witness(Script):
        def logits(self, hidden: Rows, first: int, last: int) -> np.ndarray:
            seen[tuple(hidden.ids)] = hidden.pixels
            return super().logits(hidden, first, last)

    witness = Witness(vocabulary, {case.name: list(case.expected) for case in CASES})
    assert all(verdict.passed for verdict in golden_results(witness, vocabulary, CONFIG, photo))
    for case in CASES:
        wanted = saved if 'caption' in case.name else plain
        assert np.array_equal(seen[tuple(case.prompt(vocabulary))], wanted)


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'sentencepiece.bpe.model'
    write_word_model(path)
    other = Vocabulary.from_file(path)
    script = Script(other, {case.name: [2] for case in CASES})
    with pytest.raises(EngineError, match=f'{other.size} ids, the released Kosmos-2 65037'):
        next(golden_results(script, other, CONFIG, np.zeros((8, 8, 3), np.uint8)))
