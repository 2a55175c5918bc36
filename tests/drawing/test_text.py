"""Coloured text: for any text, no character is lost and no line is too wide."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
from PIL import Image
import pytest

from kosmos_ros.drawing.annotate import LIGHT, PALETTE, load_font, printable
from kosmos_ros.drawing.text import Run, coloured, line_height, lines_of, write_lines

FONT = load_font(18)
RED = (255, 0, 0)
# Any text, and texts that are hard to break.
TEXTS = st.text(max_size=60) | st.text(
    ' ab\n-\u00a0漢\u0301\U0001f600\ud800\x1b\u2028', max_size=60
)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(40, 300), st.lists(st.tuples(st.integers(-2, 70), st.integers(-2, 70))))
def test_any_text(text: str, width: int, spans: list[tuple[int, int]]) -> None:
    lines = lines_of(coloured(text, LIGHT, [(span, RED) for span in spans]), FONT, width)
    written = [''.join(run.text for run in line) for line in lines]
    assert ''.join(''.join(written).split()) == ''.join(printable(text).split())
    for line in written:
        assert line == line.strip() != ''
        assert len(line) == 1 or FONT.getlength(line) <= width
    picture = Image.new('RGB', (width, line_height(FONT) * len(lines) + 1))
    write_lines(picture, lines, FONT, (0, 0))


def test_breaks_between_words() -> None:
    width = FONT.getlength('a red ball and')
    lines = lines_of([Run('a red ball and a blue box\nand more', LIGHT)], FONT, width)
    assert [[run.text for run in line] for line in lines] == [
        ['a red ball and'],
        ['a blue box'],
        ['and more'],
    ]


def test_long_words_are_broken_anywhere() -> None:
    lines = lines_of([Run('at ' + 'm' * 30 + ' end', LIGHT)], FONT, FONT.getlength('m' * 10))
    words = [line[0].text for line in lines]
    assert words == ['at', 'm' * 10, 'm' * 10, 'm' * 10, 'end']


def test_a_marked_part_keeps_its_colour_across_lines() -> None:
    runs = coloured('see the red ball, there', LIGHT, [((4, 16), RED)])
    assert runs == [Run('see ', LIGHT), Run('the red ball', RED, True), Run(', there', LIGHT)]
    lines = lines_of(runs, FONT, FONT.getlength('see the red'))
    assert lines[0] == (Run('see ', LIGHT), Run('the red', RED, True))
    assert lines[1] == (Run('ball', RED, True), Run(', there', LIGHT))


def test_the_later_of_two_parts_wins() -> None:
    first, second = PALETTE[:2]
    runs = coloured('abcd', LIGHT, [((0, 3), first), ((2, 4), second)])
    assert [(run.text, run.colour) for run in runs] == [('ab', first), ('cd', second)]


@pytest.mark.parametrize('text', ['', '   ', '\n\n', '\x1b\u200b'])
def test_nothing_to_read_makes_no_line(text: str) -> None:
    assert lines_of([Run(text, LIGHT)], FONT, 100) == []


def test_writes_below_and_right_of_the_corner() -> None:
    picture = Image.new('RGB', (200, 100))
    lines = lines_of(coloured('Ag', LIGHT, [((0, 2), RED)]), FONT, 100)
    write_lines(picture, lines * 2, FONT, (20, 30))
    rows, columns = np.nonzero(np.asarray(picture).any(axis=2))
    height = line_height(FONT)
    assert 30 < rows.min() < 30 + height / 2
    assert rows.max() < 30 + 2 * height
    assert 19 <= columns.min() <= 23
    assert columns.max() <= 21 + FONT.getlength('Ag')
    # Red on black, and nothing else.
    assert not np.asarray(picture)[..., 1:].any()
