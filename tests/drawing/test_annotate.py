"""Properties of annotated pictures that can be checked automatically."""

import numpy as np
import pytest

from kosmos_ros.drawing.annotate import PALETTE, Annotation, annotate, colours_for
from kosmos_ros.model.boxes import Box

GREY = np.full((240, 320, 3), 128, np.uint8)
WHOLE = Box(0, 0, 1, 1)


def test_leaves_the_image_as_it_is() -> None:
    before = GREY.copy()
    picture = annotate(GREY, [Annotation('the cup', Box(0.25, 0.25, 0.5, 0.5), 0.5)])
    assert picture.size == (320, 240)
    assert picture.mode == 'RGB'
    assert np.array_equal(GREY, before)


def test_draws_the_frame_where_the_box_is() -> None:
    picture = np.asarray(annotate(GREY, [Annotation('the cup', Box(0.25, 0.5, 0.5, 0.75))]))
    colour = np.array(PALETTE[0])
    for x, y in ((80, 150), (159, 150), (120, 120), (120, 179)):
        around = picture[y - 3 : y + 4, x - 3 : x + 4].astype(int)
        assert np.abs(around - colour).sum(axis=2).min() < 30, (x, y)
    assert (picture[140:160, 100:140] == 128).all()
    assert (picture[200:] == 128).all()


def test_the_first_annotation_is_drawn_on_top() -> None:
    picture = annotate(GREY, [Annotation(text, WHOLE) for text in 'abc'])
    colours = {colour for _, colour in picture.getcolors(picture.width * picture.height) or ()}
    assert PALETTE[0] in colours
    frame = np.asarray(picture)[100:140, :4].reshape(-1, 3)
    assert PALETTE[0] in map(tuple, frame.tolist())


def test_nothing_to_draw() -> None:
    assert np.array_equal(np.asarray(annotate(GREY, [])), GREY)


def test_equal_texts_have_equal_colours() -> None:
    colours = colours_for(['a', 'b', 'a'])
    assert list(colours) == ['a', 'b']
    assert colours['a'] != colours['b']
    many = colours_for([str(number) for number in range(20)])
    assert len(many) == 20


@pytest.mark.parametrize('size', [(1, 1), (3, 500), (500, 3), (48, 64), (1080, 1920)])
def test_any_size(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    annotations = [
        Annotation('x' * 500, WHOLE, 1.0),
        Annotation('tiny\n\x1b', Box(0.999, 0.999, 1, 1), 0.0),
        Annotation('ü 漢字 \U0001f600', Box(0, 0, 0.001, 0.001)),
        Annotation('outside', Box(-3, -3, 4, 4), 0.5),
    ]
    assert annotate(image, annotations).size == size[::-1]
