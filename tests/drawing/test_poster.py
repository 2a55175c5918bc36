"""Properties of posters and captioned pictures that can be checked automatically."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import numpy.typing as npt
from PIL import Image
import pytest

from kosmos_ros.drawing.annotate import DARK, PALETTE, Annotation
from kosmos_ros.drawing.poster import AnsweredQuestion, captioned, poster
from kosmos_ros.engine.base import Answer, PhraseGrounding, ScoredBox
from kosmos_ros.model.boxes import Box
from kosmos_ros.model.tasks import Ask, Region, Task

GREY = np.full((240, 320, 3), 128, np.uint8)
LEFT, RIGHT, WHOLE = Box(0.1, 0.1, 0.4, 0.9), Box(0.6, 0.1, 0.9, 0.9), Box(0, 0, 1, 1)


def answer(text: str, *phrases: tuple[str, Box]) -> Answer:
    return Answer(
        text,
        tuple(
            PhraseGrounding(
                phrase,
                (text.index(phrase), text.index(phrase) + len(phrase)),
                (ScoredBox(box, 0.5),),
            )
            for phrase, box in phrases
        ),
    )


def parts(sheet: Image.Image) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Split a sheet into the picture of GREY and the text below it."""
    pixels, split = np.asarray(sheet), sheet.width * 240 // 320
    return pixels[:split], pixels[split:]


def where(pixels: npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    return np.all(pixels == np.array(colour, np.uint8), axis=2)


def test_phrases_have_the_colours_of_their_frames() -> None:
    sheet = captioned(
        GREY, AnsweredQuestion('', answer('a cup and a mug', ('a cup', LEFT), ('a mug', RIGHT)))
    )
    picture, words = parts(sheet)
    width = sheet.width
    for colour, box in zip(PALETTE, (LEFT, RIGHT), strict=False):
        _, columns = np.nonzero(where(picture, colour))
        assert abs(columns.min() - box.x0 * width) < 6
        assert abs(columns.max() - box.x1 * width) < 6
        assert where(words, colour).sum() > 50
    cup, mug = (np.nonzero(where(words, colour))[1] for colour in PALETTE[:2])
    assert cup.max() < mug.min()
    for colour in PALETTE[2:]:
        assert not where(words, colour).any()


def test_without_boxes_the_picture_is_only_enlarged() -> None:
    picture, words = parts(captioned(GREY, AnsweredQuestion('What is it?', Answer('a cup'))))
    assert (picture == 128).all()
    # Greys from dark to white: no colour of a phrase.
    assert (words.max(axis=2).astype(int) - words.min(axis=2)).max() < 24
    assert where(words, DARK).mean() > 0.8


def test_an_empty_answer_has_no_strip() -> None:
    sheet = captioned(GREY, AnsweredQuestion('', Answer('')))
    assert sheet.width * 240 == sheet.height * 320


def test_the_same_boxes_have_the_same_colour() -> None:
    answered = AnsweredQuestion('', answer('a dog, and it barks', ('a dog', LEFT), ('it', LEFT)))
    _, words = parts(captioned(GREY, answered))
    assert where(words, PALETTE[0]).any()
    assert not where(words, PALETTE[1]).any()


def test_a_box_inside_a_box_stays_visible() -> None:
    answered = AnsweredQuestion('', answer('a nose of a dog', ('a nose', LEFT), ('a dog', WHOLE)))
    picture, _ = parts(captioned(GREY, answered))
    assert where(picture, PALETTE[0]).any()
    assert where(picture, PALETTE[1]).any()


def test_regions_of_the_question_are_framed_in_white() -> None:
    picture, _ = parts(captioned(GREY, AnsweredQuestion('It is', Answer('a cup'), (LEFT,))))
    rows, columns = np.nonzero(where(picture, (255, 255, 255)))
    assert abs(columns.max() - 0.4 * picture.shape[1]) < 6
    assert abs(rows.max() - 0.9 * picture.shape[0]) < 6


SIZES = [(1, 1), (3, 500), (500, 3), (40, 50), (2160, 3840)]


@pytest.mark.parametrize('size', SIZES)
def test_any_size(size: tuple[int, int]) -> None:
    """Sheets have a readable size whatever the size of the image."""
    image = np.zeros((*size, 3), np.uint8)
    answered = AnsweredQuestion('What is it?', answer('word ' * 60 + 'last', ('last', WHOLE)))
    sheet = captioned(image, answered)
    assert 400 < sheet.width <= 1920
    assert sheet.height < 4000
    assert poster(image, [Annotation('x' * 500, WHOLE, 1.0)], [answered]).height > 100
    assert not image.any()


@settings(max_examples=15, deadline=None)
@given(st.text(max_size=40), st.text(max_size=80), st.integers(0, 90), st.integers(0, 90))
def test_any_text(question: str, text: str, first: int, last: int) -> None:
    found = PhraseGrounding(
        '?', (first, last), (ScoredBox(LEFT, 1.0), ScoredBox(Box(2, 2, 3, 3), 0))
    )
    answered = AnsweredQuestion(question, Answer(text, (found,)), (RIGHT,))
    image = GREY[:30, :40]
    assert captioned(image, answered).width >= 400
    assert (
        poster(image, [Annotation(question, LEFT), Annotation(text, RIGHT)], [answered]).width
        >= 400
    )


@pytest.mark.parametrize(
    ('ask', 'question'),
    [
        (Ask(Task.CAPTION, images=1), 'An image of'),
        (Ask(Task.DETAILED_CAPTION, images=1), 'Describe this image in detail:'),
        (Ask(Task.QUESTION, 'Why?', images=1), 'Why?'),
        (Ask(Task.READ_TEXT, images=1), 'What does it say?'),
        (Ask(Task.DESCRIBE_REGION, images=1, regions=(Region(LEFT),)), 'It is'),
        (Ask(Task.DESCRIBE_REGION, images=1, regions=(Region(LEFT, 'The cup'),)), 'The cup is'),
        (Ask(Task.GROUND_CAPTION, 'a cup', ('a cup',), 1), ''),
        (Ask(Task.COMPLETE, 'A robot is'), 'A robot is'),
        (Ask(Task.CHAT, 'Hello!'), 'Hello!'),
    ],
)
def test_questions_are_readable(ask: Ask, question: str) -> None:
    answered = AnsweredQuestion.of(ask, Answer('a cup'))
    assert (answered.question, answered.answer.text) == (question, 'a cup')
    assert answered.regions == tuple(region.box_in_image for region in ask.regions)


def test_a_poster_has_a_row_for_everything() -> None:
    annotations = [Annotation('the cup', LEFT, 0.5), Annotation('the mug', RIGHT, 0.4)]
    alone = poster(GREY, annotations)
    answered_questions = [
        AnsweredQuestion('An image of', answer('a mug', ('a mug', Box(0.61, 0.1, 0.9, 0.9)))),
        AnsweredQuestion('How many cups?', Answer('one')),
        AnsweredQuestion('It is', Answer('a cup'), (LEFT,)),
    ]
    whole = poster(GREY, annotations, answered_questions)
    assert whole.width == alone.width
    above, below = np.asarray(whole)[: alone.height], np.asarray(whole)[alone.height :]
    assert np.array_equal(above, np.asarray(alone))
    cup, mug = (where(below, colour) for colour in PALETTE[:2])
    # The phrase 'a mug' in the colour of number 2, and above the plate of number 1.
    assert mug.sum() > 50
    plate = below[np.abs(below.astype(int) - np.array(PALETTE[0])).sum(axis=2) < 40]
    assert len(plate) > 200
    assert not cup[: np.nonzero(mug)[0].max()].any()
