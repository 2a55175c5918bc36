"""Boxes and location tokens against the published encoder and decoder."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
from transformers.models.kosmos2.processing_kosmos2 import (
    coordinate_to_patch_index,
    patch_index_to_coordinate,
)

from kosmos_ros.model.boxes import CELLS, Box, decode_box, encode_box

fractions = st.floats(0, 1)
anywhere = st.floats(-3, 4)
cells = st.integers(0, CELLS - 1)


def published_cells(x0: float, y0: float, x1: float, y1: float) -> tuple[int, int]:
    """Encode as the training code does (microsoft/unilm, kosmos-2 obj_utils.py)."""
    column0, row0 = math.floor(max(x0, 0) * 32), math.floor(max(y0, 0) * 32)
    column1, row1 = math.floor(min(x1, 0.99999) * 32), math.floor(min(y1, 0.99999) * 32)
    return row0 * 32 + column0, row1 * 32 + column1


@settings(max_examples=500, deadline=None)
@given(x0=fractions, y0=fractions, x1=fractions, y1=fractions)
def test_encodes_as_published(x0: float, y0: float, x1: float, y1: float) -> None:
    if x0 < x1 and y0 < y1 and max(x0, y0) < 0.999:
        assert encode_box(Box(x0, y0, x1, y1)) == published_cells(x0, y0, x1, y1)


@settings(max_examples=500, deadline=None)
@given(x0=anywhere, y0=anywhere, x1=anywhere, y1=anywhere)
def test_encodes_inside_the_grid_or_refuses(x0: float, y0: float, x1: float, y1: float) -> None:
    box = Box(x0, y0, x1, y1)
    if not (x0 < x1 and y0 < y1 and box.clipped().is_valid):
        with pytest.raises(ValueError, match='has no area|outside the image'):
            encode_box(box)
        return
    upper_left, lower_right = encode_box(box)
    assert 0 <= upper_left <= lower_right < CELLS
    assert upper_left % 32 <= lower_right % 32
    assert (upper_left, lower_right) == encode_box(box.clipped())
    assert decode_box(upper_left, lower_right).is_valid


def test_encodes_as_transformers_off_the_grid_lines() -> None:
    for left in range(0, 1000, 37):
        for size in range(30, 1000 - left, 41):
            corners = (left / 1000, left / 1003, (left + size) / 1000, (left + size) / 1003)
            if any((corner * 32).is_integer() for corner in corners[2:]):
                continue
            assert encode_box(Box(*corners)) == coordinate_to_patch_index(corners, 32)


def test_encodes_grid_lines_as_in_training() -> None:
    assert encode_box(Box(0.25, 0.25, 0.5, 0.5)) == (8 * 32 + 8, 16 * 32 + 16)
    assert encode_box(Box(0.0, 0.0, 1.0, 1.0)) == (0, 1023)


def test_encoder_clips() -> None:
    assert encode_box(Box(-0.01, -5.0, 1.2, 9.0)) == (0, 1023)
    assert encode_box(Box(0.999999, 0.999999, 1.0, 1.0)) == (1023, 1023)


@pytest.mark.parametrize('wrong', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('corner', ['x0', 'y0', 'x1', 'y1'])
def test_encoder_refuses_non_finite_corners(wrong: float, corner: str) -> None:
    corners = {'x0': 0.1, 'y0': 0.1, 'x1': 0.9, 'y1': 0.9, corner: wrong}
    with pytest.raises(ValueError, match='not a finite number'):
        encode_box(Box(**corners))


@settings(max_examples=1000, deadline=None)
@given(upper_left=cells, lower_right=cells)
def test_decodes_as_transformers(upper_left: int, lower_right: int) -> None:
    box = decode_box(upper_left, lower_right)
    corners = (box.x0, box.y0, box.x1, box.y1)
    assert corners == patch_index_to_coordinate(upper_left, lower_right, 32)
    in_order = upper_left // 32 <= lower_right // 32 and upper_left % 32 <= lower_right % 32
    assert box.is_valid == in_order


def test_decodes_published_boxes() -> None:
    """The boxes are those of the snowman and the fire in the model card."""
    assert decode_box(44, 863) == Box(0.390625, 0.046875, 0.984375, 0.828125)
    assert decode_box(5, 911) == Box(0.171875, 0.015625, 0.484375, 0.890625)


def test_a_box_within_one_row_extends_to_the_outer_edges() -> None:
    """As published, although a box of two columns is then as wide as a box of one column."""
    assert decode_box(0, 0) == Box(0, 0, 1 / 32, 1 / 32)
    assert decode_box(0, 3) == Box(0, 0, 4 / 32, 1 / 32)
    assert decode_box(0, 33) == Box(0.5 / 32, 0.5 / 32, 1.5 / 32, 1.5 / 32)


@pytest.mark.parametrize('wrong', [-1, 1024])
def test_decoder_refuses_cells_outside_the_grid(wrong: int) -> None:
    for pair in ((wrong, 5), (5, wrong)):
        with pytest.raises(ValueError, match='no cell'):
            decode_box(*pair)


@given(upper_left=cells, lower_right=cells)
def test_round_trip_of_cells(upper_left: int, lower_right: int) -> None:
    box = decode_box(upper_left, lower_right)
    middle_to_middle = box.is_valid and (box.x0 * 32) % 1 == 0.5
    if middle_to_middle:
        assert encode_box(box) == (upper_left, lower_right)


def test_measures() -> None:
    box = Box(0.1, 0.2, 0.5, 0.4)
    assert box.width == pytest.approx(0.4)
    assert box.height == pytest.approx(0.2)
    assert box.area == pytest.approx(0.08)
    assert Box(0.5, 0.2, 0.1, 0.4).area == 0


def test_iou() -> None:
    box = Box(0.0, 0.0, 0.5, 0.5)
    assert box.iou(box) == 1
    assert box.iou(Box(0.25, 0.0, 0.75, 0.5)) == pytest.approx(1 / 3)
    assert box.iou(Box(0.5, 0.5, 1.0, 1.0)) == 0
    assert box.iou(Box(0.9, 0.9, 0.1, 0.1)) == 0
    assert Box(0, 0, 0, 0).iou(Box(0, 0, 0, 0)) == 0


@given(x0=anywhere, y0=anywhere, x1=anywhere, y1=anywhere)
def test_iou_is_symmetric_and_at_most_1(x0: float, y0: float, x1: float, y1: float) -> None:
    box, other = Box(x0, y0, x1, y1), Box(0.2, 0.3, 0.8, 0.9)
    assert 0 <= box.iou(other) <= 1 + 1e-9
    assert box.iou(other) == other.iou(box)


def test_validity() -> None:
    assert Box(0, 0, 1, 1).is_valid
    for corners in ((0, 0, 0, 1), (0, 0, 1.01, 1), (-0.01, 0, 1, 1), (0, 1, 1, 0)):
        assert not Box(*corners).is_valid
    assert not Box(0, 0, math.nan, 1).is_valid


def test_clipped() -> None:
    assert Box(-1, 0.2, 2, 0.4).clipped() == Box(0, 0.2, 1, 0.4)
    assert Box(2, 2, 3, 3).clipped() == Box(1, 1, 1, 1)
