"""Exact ids, against published ones and against the tokenizer of ``transformers``."""

import contextlib
from pathlib import Path
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import pytest
from sentencepiece import SentencePieceTrainer

from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.vocabulary import Vocabulary

from .reference import tokenizer

# The answer to '<grounding>An image of' (transformers, tests/models/kosmos2).
SNOWMAN = [
    *(64012, 712, 1648, 9, 64007, 10, 43867, 64008, 64009, 64057, 64876, 64010),
    *(5950, 597, 32, 64007, 10, 646, 64008, 64009, 64018, 64924, 64010, 4, 2),
]
TAGS = (
    *('<s>', '<pad>', '</s>', '<unk>', '<mask>', '</doc>', '<image>', '</image>', '</chunk>'),
    *('</line>', '<phrase>', '</phrase>', '<object>', '</object>'),
    *('</delimiter_of_multi_objects/>', '<grounding>', '<patch_index_0000>', '<patch_index_1023>'),
)
WORDS = (
    *(
        'the',
        'a',
        'Red',
        'mug',
        'LEFT',
        'of',
        'laptop',
        "o'clock",
        'naïve',
        'über',
        '日本',
        '한국어',
    ),
    *(
        'привет',
        'नमस्ते',
        'مرحبا',
        'ﬁne',
        '½',
        '①',
        'Å',
        'A\u030a',
        '3.14',
        '1,000,000',
        '-7',
        '50%',
    ),
    *('a.b@c.de', 'https://x.org/?q=1&r=2', '(old)', '"so"', '“so”', '…', '—', '!?!', '#1', '$5'),
    *(
        '👍',
        '🐕',
        'x²',
        'H₂O',
        '<',
        '>',
        'a<b',
        '<<',
        '</',
        'snowman',
        'antidisestablishmentarianism',
    ),
)
SPACES = (' ', '  ', '\t', '\n', '\u00a0', '\u3000', ' \r\n ')


def texts(count: int, seed: int) -> list[str]:
    """Return random texts: words with several kinds of space around them."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        words = [draw.choice(WORDS) for _ in range(draw.randint(0, 9))]
        spaces = [draw.choice(('', *SPACES)), *(draw.choice(SPACES) for _ in words)]
        made.append(
            ''.join(space + word for space, word in zip(spaces, [*words, ''], strict=True))
        )
    return made


def test_released_ids(released: Vocabulary) -> None:
    ids = {
        'bos': 0, 'pad': 1, 'eos': 2, 'unk': 3, 'first_piece': 4, 'mask': 64001,
        'document_close': 64002, 'image_open': 64003, 'image_close': 64004, 'chunk_close': 64005,
        'line_close': 64006, 'phrase_open': 64007, 'phrase_close': 64008, 'object_open': 64009,
        'object_close': 64010, 'delimiter': 64011, 'grounding': 64012, 'first_location': 64013,
        'size': 65037,
    }  # fmt: skip
    assert {name: getattr(released, name) for name in ids} == ids


def test_golden_sequence(released: Vocabulary) -> None:
    text = released.decode(SNOWMAN)
    assert text == (
        '<grounding> An image of<phrase> a snowman</phrase>'
        '<object><patch_index_0044><patch_index_0863></object> warming himself by'
        '<phrase> a fire</phrase><object><patch_index_0005><patch_index_0911></object>.</s>'
    )
    assert released.encode('An image of') == SNOWMAN[1:4]
    assert released.encode(' a  snowman ') == released.encode('a snowman') == [10, 43867]
    assert released.encode('warming himself by') == SNOWMAN[12:15]


def test_equals_transformers_on_text(model_file: Path, vocabulary: Vocabulary) -> None:
    reference = tokenizer(model_file)
    assert len(reference) == vocabulary.size
    samples = [*texts(700, seed=1), '', ' ', '▁', 'a▁b', '\u200b', '\ufeffa', '\u2028a', 'x' * 400]
    for text in samples:
        assert vocabulary.encode(text) == reference.encode(text, add_special_tokens=False), text


def test_equals_transformers_after_tags(model_file: Path, vocabulary: Vocabulary) -> None:
    reference = tokenizer(model_file)
    for text in texts(100, seed=2):
        for prompt in (
            f'<grounding><phrase>{text}</phrase>',
            f'<grounding> <phrase> {text} </phrase>',
        ):
            assert reference.encode(prompt, add_special_tokens=False) == [
                *(vocabulary.grounding, vocabulary.phrase_open),
                *vocabulary.encode(text),
                vocabulary.phrase_close,
            ]


def test_decodes_as_transformers(model_file: Path, vocabulary: Vocabulary) -> None:
    reference = tokenizer(model_file)
    draw = random.Random(3)
    for _ in range(300):
        ids = [draw.randrange(vocabulary.size) for _ in range(draw.randint(0, 12))]
        assert vocabulary.decode(ids) == reference.decode(ids), ids


@st.composite
def texts_with_tags(draw: st.DrawFn) -> str:
    """Return whole tags, incomplete tags and other text, in any order."""
    whole = st.sampled_from(TAGS)
    incomplete = whole.flatmap(lambda tag: st.integers(1, len(tag)).map(lambda cut: tag[:cut]))
    return ''.join(draw(st.lists(whole | incomplete | st.text(max_size=5), max_size=8)))


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=texts_with_tags() | st.text(st.characters(), max_size=40))
def test_no_text_becomes_a_tag(small: Vocabulary, text: str) -> None:
    assert all(small.unk <= number < small.mask for number in small.encode(text))


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=texts_with_tags())
def test_no_text_becomes_a_tag_of_the_released_model(released: Vocabulary, text: str) -> None:
    assert all(released.unk <= number < released.mask for number in released.encode(text))


def test_half_a_surrogate_pair_is_a_question_mark(vocabulary: Vocabulary) -> None:
    assert vocabulary.encode('a \udc80') == vocabulary.encode('a ?')


def test_unknown_words(small: Vocabulary) -> None:
    assert small.unknown_words('the red ж mug жж of ж') == ('ж', 'жж')
    assert small.unknown_words('the red mug') == ()
    assert small.unknown_words('') == ()


def test_locations(vocabulary: Vocabulary) -> None:
    assert vocabulary.location(0) == vocabulary.first_location
    assert vocabulary.location(1023) == vocabulary.size - 1
    assert vocabulary.location_cell(vocabulary.location(77)) == 77
    for number in (vocabulary.grounding, vocabulary.size, -1):
        assert vocabulary.location_cell(number) is None
    for cell in (-1, 1024):
        with pytest.raises(ValueError, match='no cell'):
            vocabulary.location(cell)


@pytest.mark.parametrize('offset', [0, 7])
def test_decode_refuses_ids_outside_the_vocabulary(small: Vocabulary, offset: int) -> None:
    for number in (-1 - offset, small.size + offset):
        with pytest.raises(ValueError, match='no id'):
            small.decode([number])


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EngineFileError, match=r'gone\.model cannot be read'):
        Vocabulary.from_file(tmp_path / 'gone.model')


@pytest.mark.parametrize('content', [b'', b'no model', b'\x0a\xff\xff\xff', bytes(1000)])
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'bad.model'
    path.write_bytes(content)
    with pytest.raises(EngineFileError, match=r'bad\.model'):
        Vocabulary.from_file(path)


def test_truncated_files_are_refused_or_smaller(tmp_path: Path, small_model_file: Path) -> None:
    """A file cut between two pieces is a well-formed file of fewer pieces."""
    content = small_model_file.read_bytes()
    whole = Vocabulary.from_file(small_model_file).size
    path = tmp_path / 'cut.model'
    for length in range(600):
        path.write_bytes(content[:length])
        with contextlib.suppress(EngineFileError):
            assert Vocabulary.from_file(path).size < whole


@pytest.mark.parametrize(
    'layout',
    [
        {'unk_id': 3, 'bos_id': 0, 'eos_id': 2, 'pad_id': 1},
        {'unk_id': 0, 'bos_id': 2, 'eos_id': 1},
        {'unk_id': 0, 'bos_id': 1, 'eos_id': 2, 'pad_id': 3},
        {'unk_id': 0, 'bos_id': 1, 'eos_id': 2, 'control_symbols': '<phrase>'},
        {'unk_id': 0, 'bos_id': 1, 'eos_id': 2, 'byte_fallback': True, 'vocab_size': 300},
    ],
)
def test_other_special_pieces_are_refused(tmp_path: Path, layout: dict[str, object]) -> None:
    prefix = tmp_path / 'other'
    SentencePieceTrainer.train(
        sentence_iterator=iter(['the red mug left of the laptop'] * 20),
        model_prefix=str(prefix),
        minloglevel=2,
        hard_vocab_limit=False,
        **{'vocab_size': 40, **layout},
    )
    with pytest.raises(EngineFileError, match='not a vocabulary of Kosmos-2'):
        Vocabulary.from_file(prefix.with_suffix('.model'))
