"""Checks of the text that users send: it must be plain words without the model's tags."""

import re
import unicodedata

from kosmos_ros.errors import BadExpression
from kosmos_ros.limits import Limits

_SHOWN_CHARS = 60
# The model's own tags, the location tokens, and the paper's spellings of both (<p>, <box>,
# <loc44>).
_TAG = re.compile(
    r'< ?/? ?(?:s|pad|unk|mask|doc|image|chunk|line|phrase|object|grounding'
    r'|delimiter_of_multi_objects|patch_index_ ?\d*|p|box|loc ?\d+) ?/? ?>',
    re.IGNORECASE,
)
_REFUSED = {
    'Cc': 'a control character',
    'Cf': 'an invisible formatting character',
    'Cs': 'half a surrogate pair',
}


def check_expression(text: object, limits: Limits) -> str:
    """Check a referring expression and normalise its spaces.

    :param text: the user's input.
    :param limits: `max_expression_chars` counts the characters of the input, spaces included.
    :return: the expression without surrounding spaces and with single spaces inside.
    :raises BadExpression: when the text is refused; the message is one sentence that says what to
        do, and never contains a control character.
    """
    cleaned = check_text(text, limits.max_expression_chars, 'expression')
    if not cleaned:
        raise BadExpression(
            "The expression is empty; say what to look for, for example 'the red mug'."
        )
    return cleaned


def check_text(text: object, max_chars: int, what: str) -> str:
    """Check any text for the model and normalise its spaces; the text may be empty.

    A text that is too long is refused before its characters are examined.

    :param what: the text's name in messages.
    :raises BadExpression: as ``check_expression``.
    """
    if not isinstance(text, str):
        raise BadExpression(f'The {what} must be text, not {type(text).__name__}.')
    if len(text) > max_chars:
        raise BadExpression(
            f'The {what} has {len(text)} characters; shorten it to {max_chars} or fewer.'
        )
    _check_characters(text, what)
    cleaned = ' '.join(text.split())
    # NFKC replaces full-width and other look-alike letters, as the tokenizer does.
    tag = _TAG.search(' '.join(unicodedata.normalize('NFKC', cleaned).split()))
    if tag is not None:
        raise BadExpression(
            f'The {what} {quoted(cleaned)} contains the tag {quoted(tag.group())}; '
            'write plain words only.'
        )
    return cleaned


def quoted(text: str) -> str:
    """Return a text for messages: in quotes, with escapes, cut to about 60 characters."""
    # Escapes are up to ten characters long, so cut again after escaping; the first cut bounds the
    # work.
    shown = repr(text[:_SHOWN_CHARS])
    if len(text) <= _SHOWN_CHARS and len(shown) <= _SHOWN_CHARS + 2:
        return shown
    return shown[: _SHOWN_CHARS + 1].rstrip('\'"') + '...' + shown[0]


def _check_characters(text: str, what: str) -> None:
    for position, character in enumerate(text):
        kind = _REFUSED.get(unicodedata.category(character))
        if kind is None or character in '\t\n\r':
            continue
        name = unicodedata.name(character, '')
        label = f'U+{ord(character):04X} {name}'.rstrip()
        raise BadExpression(
            f'The {what} {quoted(text)} has {kind} ({label}) at position {position}; remove it.'
        )
