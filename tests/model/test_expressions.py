"""Which expressions are accepted, and the messages of refusals."""

import random
from typing import NoReturn

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from kosmos_ros.errors import BadExpression
from kosmos_ros.limits import Limits
from kosmos_ros.model.expressions import check_expression, quoted

LIMITS = Limits()


def cleaned_or_refusal(text: str) -> str | BadExpression:
    """Return the accepted text or the refusal; any other exception is raised."""
    try:
        return check_expression(text, LIMITS)
    except BadExpression as error:
        return error


def refusal(text: object) -> str:
    """Return the message with which an expression is refused."""
    with pytest.raises(BadExpression) as caught:
        check_expression(text, LIMITS)
    return str(caught.value)


@pytest.mark.parametrize(
    ('text', 'cleaned'),
    [
        ('the red mug', 'the red mug'),
        ('  the\t red \r\n mug\u00a0', 'the red mug'),
        ("the mug that says 'hi' (50%)", "the mug that says 'hi' (50%)"),
        ('日本の赤いカップ', '日本の赤いカップ'),
        ('A\u030angstro\u0308m', 'A\u030angstro\u0308m'),
        ('👍', '👍'),
        ('<', '<'),
        ('a < b', 'a < b'),
        ('a < b > c', 'a < b > c'),
        ('1<2>1', '1<2>1'),
        ('<3', '<3'),
        ('<phrase', '<phrase'),
        ('the object > the phrase', 'the object > the phrase'),
        ('<mug>', '<mug>'),
        ('x' * 512, 'x' * 512),
    ],
)
def test_plain_words_pass(text: str, cleaned: str) -> None:
    assert check_expression(text, LIMITS) == cleaned


@pytest.mark.parametrize('text', ['', ' ', '\t\n', '\u00a0\u3000'])
def test_empty_text_is_refused(text: str) -> None:
    assert 'is empty; say what to look for' in refusal(text)


@pytest.mark.parametrize('text', [None, b'the red mug', 7, ['a']])
def test_other_types_are_refused(text: object) -> None:
    assert f'must be text, not {type(text).__name__}' in refusal(text)


@pytest.mark.parametrize('text', ['x' * 513, ' ' * 513, 'x' * 10_000, '\0' * 1_000_000])
def test_long_text_is_refused(text: str) -> None:
    assert refusal(text) == (
        f'The expression has {len(text)} characters; shorten it to 512 or fewer.'
    )


class UnreadableText(str):
    """A text whose characters must not be read."""

    def __iter__(self) -> NoReturn:
        raise AssertionError('the text was read')

    def split(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError('the text was split')


def test_length_is_checked_before_characters() -> None:
    assert 'has 1080000 characters' in refusal(UnreadableText('<phrase>\0' * 120_000))


@pytest.mark.parametrize(
    ('character', 'label'),
    [
        ('\0', 'a control character (U+0000)'),
        ('\x1b', 'a control character (U+001B)'),
        ('\x07', 'a control character (U+0007)'),
        ('\x0b', 'a control character (U+000B)'),
        ('\x1f', 'a control character (U+001F)'),
        ('\x7f', 'a control character (U+007F)'),
        ('\x85', 'a control character (U+0085)'),
        ('\x9b', 'a control character (U+009B)'),
        ('\u200b', 'an invisible formatting character (U+200B ZERO WIDTH SPACE)'),
        ('\u200d', 'an invisible formatting character (U+200D ZERO WIDTH JOINER)'),
        ('\u202e', 'an invisible formatting character (U+202E RIGHT-TO-LEFT OVERRIDE)'),
        ('\u2066', 'an invisible formatting character (U+2066 LEFT-TO-RIGHT ISOLATE)'),
        ('\ufeff', 'an invisible formatting character (U+FEFF ZERO WIDTH NO-BREAK SPACE)'),
        ('\u00ad', 'an invisible formatting character (U+00AD SOFT HYPHEN)'),
        ('\U000e0041', 'an invisible formatting character (U+E0041 TAG LATIN CAPITAL LETTER A)'),
        ('\ud800', 'half a surrogate pair (U+D800)'),
        ('\udfff', 'half a surrogate pair (U+DFFF)'),
    ],
)
@pytest.mark.parametrize('position', [0, 4, 300])
def test_unprintable_characters_are_refused(character: str, label: str, position: int) -> None:
    text = 'x' * position + character + 'y'
    message = refusal(text)
    assert f'has {label} at position {position}; remove it.' in message
    assert message.isprintable()


@pytest.mark.parametrize(
    'tag',
    [
        *('<phrase>', '</phrase>', '<object>', '</object>', '<grounding>', '<image>', '</image>'),
        *('</delimiter_of_multi_objects/>', '</doc>', '</chunk>', '</line>', '<mask>', '<pad>'),
        *('<s>', '</s>', '<unk>', '<patch_index_0001>', '<patch_index_9>', '<PATCH_INDEX_1023>'),
        *(
            '<Phrase>',
            '< /phrase >',
            '<  phrase  >',
            '</ object>',
            '<phrase/>',
            '< patch_index_0001 >',
        ),
        *('<p>', '</p>', '<box>', '</box>', '<loc44>', '\uff1cphrase\uff1e', '<\tphrase\n>'),
    ],
)
@pytest.mark.parametrize('text', ['{}', 'the mug {} left', 'mug{}{}', 'a < b {} c'])
def test_tags_are_refused(tag: str, text: str) -> None:
    message = refusal(text.format(tag, tag))
    assert 'contains the tag' in message
    assert message.endswith('write plain words only.')


def test_the_tag_is_named_wherever_it_occurs() -> None:
    assert refusal('x' * 400 + '</ PHRASE >') == (
        f"The expression '{'x' * 60}...' contains the tag '</ PHRASE >'; write plain words only."
    )


@settings(max_examples=1000, deadline=None)
@given(text=st.text(st.characters(exclude_categories=[]), max_size=600))
def test_any_text_is_accepted_clean_or_refused_printably(text: str) -> None:
    answer = cleaned_or_refusal(text)
    if isinstance(answer, BadExpression):
        message = str(answer)
        assert message.isprintable()
        assert len(message) < 400
    else:
        assert answer == ' '.join(answer.split())
        assert answer
        assert check_expression(answer, LIMITS) == answer


@given(text=st.text(max_size=300))
def test_quotes_are_short_and_printable(text: str) -> None:
    shown = quoted(text)
    assert shown.isprintable()
    assert len(shown) <= 65


def test_quotes() -> None:
    assert quoted('a\x1b[31m') == "'a\\x1b[31m'"
    assert quoted('x' * 61) == "'" + 'x' * 60 + "...'"
    assert quoted('x' * 60) == "'" + 'x' * 60 + "'"


def test_many_tag_fragments_are_checked_quickly() -> None:
    """A backtracking pattern would exceed the timeout of the test."""
    draw = random.Random(0)
    for _ in range(300):
        text = ''.join(draw.choice('< />_p1s') for _ in range(512))
        cleaned_or_refusal(text)
