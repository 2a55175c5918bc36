"""Conversion of ``tokenizer.json``, as ``transformers`` writes it, to the original sentencepiece
model.
"""

from collections.abc import Callable
from functools import cache
import json
from pathlib import Path
import shutil
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import pytest
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    Kosmos2Processor,
    XLMRobertaTokenizer,
)

from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.tokenizer import SENTENCEPIECE, write_tokenizer
from kosmos_ros.model.vocabulary import LOCATIONS, TAGS, Vocabulary

from .reference import tokenizer
from .test_vocabulary import SPACES, WORDS, texts

pytestmark = pytest.mark.parity

JSON = 'tokenizer.json'
# Hypothesis calls a test thousands of times.
opened = cache(Vocabulary.from_file)
# User input, and characters that normalisation changes: spaces of all kinds, wide letters,
# ligatures, accents beside their letters, invisible characters.
PARTS = (
    st.sampled_from((*WORDS, *SPACES, *TAGS, '<patch_index_0001>', '\u2581', '\u200b', '\u200d'))
    | st.text(max_size=4)
    | st.text(st.characters(categories=('L', 'M', 'N', 'P', 'S', 'Z', 'Cf')), max_size=3)
    | st.integers(0xFF01, 0xFF5E).map(chr)
)
TEXTS = st.lists(PARTS, max_size=10).map(''.join)


@pytest.fixture(scope='session')
def checkpoint(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a tokenizer as the processor of Kosmos-2 does: ``tokenizer.json`` alone."""
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(model_file.read_bytes())
    first = [(name, 0.0) for name in ('<s>', '<pad>', '</s>', '<unk>')]
    pieces = [(piece.piece, piece.score) for piece in model.pieces][3:]
    made = XLMRobertaTokenizer(
        vocab=[*first, *pieces, ('<mask>', 0.0)],
        _spm_precompiled_charsmap=model.normalizer_spec.precompiled_charsmap,
    )
    path = tmp_path_factory.mktemp('saved')
    processor = Kosmos2Processor(CLIPImageProcessorPil(), made)
    processor.save_pretrained(path)
    assert (path / JSON).is_file()
    assert not (path / SENTENCEPIECE).exists()
    return path


@pytest.fixture(scope='session')
def converted(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('converted') / SENTENCEPIECE
    write_tokenizer(checkpoint, path)
    return path


@pytest.fixture
def changed(checkpoint: Path, tmp_path: Path) -> Callable[[Callable[[Any], object]], Path]:
    """Return a function that copies the checkpoint with an edited ``tokenizer.json``."""

    def change(edit: Callable[[Any], object]) -> Path:
        content = json.loads((checkpoint / JSON).read_text())
        edit(content)
        path = tmp_path / 'changed'
        path.mkdir()
        (path / JSON).write_text(json.dumps(content))
        return path

    return change


def refusal(checkpoint: Path, tmp_path: Path) -> str:
    """Return the message with which a tokenizer is refused; it names the file."""
    with pytest.raises(EngineFileError) as caught:
        write_tokenizer(checkpoint, tmp_path / SENTENCEPIECE)
    message = str(caught.value)
    assert str(checkpoint) in message
    assert '\n' not in message
    assert len(message) < 500
    assert not (tmp_path / SENTENCEPIECE).exists()
    return message


def test_pieces_are_the_given_ones(model_file: Path, converted: Path) -> None:
    found, wanted = (sentencepiece_model_pb2.ModelProto() for _ in range(2))
    found.ParseFromString(converted.read_bytes())
    wanted.ParseFromString(model_file.read_bytes())
    assert len(found.pieces) == len(wanted.pieces)
    for one, other in zip(found.pieces, wanted.pieces, strict=True):
        assert (one.piece, one.type) == (other.piece, other.type)
        assert one.score == other.score
    for name in ('precompiled_charsmap', 'add_dummy_prefix', 'remove_extra_whitespaces'):
        assert getattr(found.normalizer_spec, name) == getattr(wanted.normalizer_spec, name)


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=TEXTS)
def test_same_ids_as_the_given_model(converted: Path, model_file: Path, text: str) -> None:
    assert opened(converted).encode(text) == opened(model_file).encode(text)


@pytest.mark.parametrize('text', ['', ' ', '\n', '\u3000 \u00a0', '\u2581', '\u200b', 'a' * 5000])
def test_same_ids_at_the_edges(converted: Path, model_file: Path, text: str) -> None:
    assert opened(converted).encode(text) == opened(model_file).encode(text)


def test_same_ids_as_transformers(checkpoint: Path, converted: Path) -> None:
    """``transformers`` loads the file that was converted."""
    ours, theirs = opened(converted), AutoTokenizer.from_pretrained(checkpoint)
    assert ours.size == len(theirs)
    for text in texts(700, seed=4):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False), text
    for name, number in (('<image>', ours.image_open), ('<grounding>', ours.grounding)):
        assert theirs.convert_tokens_to_ids(name) == number
    assert theirs.convert_tokens_to_ids('<patch_index_1023>') == ours.location(1023)


def test_same_tags_as_the_reference(checkpoint: Path, model_file: Path) -> None:
    """The processor adds the tags of the other tests' tokenizer."""
    theirs = Tokenizer.from_file(str(checkpoint / JSON))
    assert theirs.get_vocab() == tokenizer(model_file).get_vocab()


def tagged(content: Any) -> None:
    """Put all tags into the vocabulary, after ``<mask>``."""
    locations = (f'<patch_index_{cell:04d}>' for cell in range(LOCATIONS))
    content['model']['vocab'] += [[name, 0.0] for name in (*TAGS[1:], *locations)]


def only_beside(content: Any) -> None:
    """Remove ``<mask>``, the only tag, from the vocabulary."""
    assert content['model']['vocab'].pop()[0] == '<mask>'


def no_tags(content: Any) -> None:
    """Remove the list of added tokens."""
    del content['added_tokens']


def sequence(content: Any) -> None:
    """Write the normaliser as older versions do."""
    spaces = {'type': 'Replace', 'pattern': {'Regex': ' {2,}'}, 'content': ' '}
    content['normalizer'] = {'type': 'Sequence', 'normalizers': [content['normalizer'], spaces]}


def stripped(content: Any) -> None:
    """Write the normaliser as other versions do."""
    strip = {'type': 'Strip', 'strip_left': False, 'strip_right': True}
    spaces = {'type': 'Replace', 'pattern': {'Regex': ' {2,}'}, 'content': '\u2581'}
    parts = [content['normalizer'], strip, spaces]
    content['normalizer'] = {'type': 'Sequence', 'normalizers': parts}


def no_kind(content: Any) -> None:
    """Remove the kind of the model, as in old versions."""
    del content['model']['type'], content['model']['byte_fallback']


@pytest.mark.parametrize('edit', [tagged, only_beside, no_tags, sequence, stripped, no_kind])
def test_other_layouts_of_the_same_tokenizer(
    converted: Path, changed: Any, tmp_path: Path, edit: Callable[[Any], object]
) -> None:
    write_tokenizer(changed(edit), tmp_path / SENTENCEPIECE)
    assert (tmp_path / SENTENCEPIECE).read_bytes() == converted.read_bytes()


def test_without_normalisation(changed: Any, tmp_path: Path) -> None:
    write_tokenizer(
        changed(lambda content: content.update(normalizer=None)), tmp_path / SENTENCEPIECE
    )
    vocabulary = Vocabulary.from_file(tmp_path / SENTENCEPIECE)
    # A full-width letter is not normalised, and is not a piece of the small model.
    assert vocabulary.encode('\uff41') != vocabulary.encode('a')
    assert vocabulary.encode(' the  red ') == vocabulary.encode('the red')


def test_a_sentencepiece_file_takes_precedence(
    checkpoint: Path, model_file: Path, tmp_path: Path
) -> None:
    both = Path(shutil.copytree(checkpoint, tmp_path / 'both'))
    (both / JSON).write_text('{')
    shutil.copyfile(model_file, both / SENTENCEPIECE)
    write_tokenizer(both, tmp_path / SENTENCEPIECE)
    assert (tmp_path / SENTENCEPIECE).read_bytes() == model_file.read_bytes()


def test_a_directory_without_tokenizer_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / 'empty'
    empty.mkdir()
    assert refusal(empty, tmp_path).endswith(f'has neither {SENTENCEPIECE} nor {JSON}')
    assert 'has neither' in refusal(tmp_path / 'gone', tmp_path)


@pytest.mark.parametrize(
    'content',
    [
        *(b'', b'{', b'\xff\xfe', b'[' * 100_000, b'[]', b'7', b'null', b'{}', b'"model"'),
        *(b'{"model": null}', b'{"model": []}', b'{"model": {}}', b'{"model": {"vocab": 7}}'),
        b'{"model": {"vocab": []}, "normalizer": null}',
    ],
)
def test_damaged_file(tmp_path: Path, content: bytes) -> None:
    damaged = tmp_path / 'damaged'
    damaged.mkdir()
    (damaged / JSON).write_bytes(content)
    assert f'{JSON} is no tokenizer of Kosmos-2: ' in refusal(damaged, tmp_path)


def test_cut_off_file(checkpoint: Path, tmp_path: Path) -> None:
    content = (checkpoint / JSON).read_bytes()
    cut = tmp_path / 'cut'
    cut.mkdir()
    for ninths in range(1, 9):
        (cut / JSON).write_bytes(content[: ninths * len(content) // 9])
        refusal(cut, tmp_path)


def exchange(first: int, second: int) -> Callable[[Any], object]:
    def edit(content: Any) -> None:
        vocab = content['model']['vocab']
        vocab[first], vocab[second] = vocab[second], vocab[first]

    return edit


def bpe(content: Any) -> None:
    vocab = {piece: index for index, (piece, _) in enumerate(content['model']['vocab'])}
    content['model'] = {'type': 'BPE', 'vocab': vocab, 'merges': []}


def untyped_bpe(content: Any) -> None:
    bpe(content)
    del content['model']['type']


def other_tag(content: Any) -> None:
    content['added_tokens'][-1]['id'] += 1


def other_order(content: Any) -> None:
    tagged(content)
    exchange(-1, -2)(content)


def exchanged_tags(content: Any) -> None:
    first, second = content['added_tokens'][5:7]
    first['content'], second['content'] = second['content'], first['content']


def moved_mask(content: Any) -> None:
    exchange(-1, 50)(content)


def broken_entry(content: Any) -> None:
    content['model']['vocab'][40] = ['the']


@pytest.mark.parametrize(
    ('edit', 'reason'),
    [
        (exchange(0, 1), 'its first pieces are'),
        (exchange(1, 3), 'its first pieces are'),
        (exchange(2, 9), 'its first pieces are'),
        (bpe, 'not a unigram one'),
        (untyped_bpe, 'no tokenizer of Kosmos-2'),
        (lambda content: content['model'].update(byte_fallback=True), 'not a unigram one'),
        (other_tag, "'<patch_index_1023>' has the id"),
        (other_order, 'has the id'),
        (exchanged_tags, "token '<image>' has the id"),
        (moved_mask, 'has the id'),
        (broken_entry, 'no tokenizer of Kosmos-2'),
        (lambda content: content.update(normalizer={'type': 'Lowercase'}), 'normaliser Lowercase'),
        (lambda content: content.update(normalizer={'type': 'Precompiled'}), 'not laid out'),
        (
            lambda content: content['normalizer'].update(precompiled_charsmap='?'),
            'no tokenizer of Kosmos-2',
        ),
        (lambda content: content.pop('normalizer'), 'not laid out'),
        (lambda content: content['model']['vocab'][9].__setitem__(0, '\ud800'), 'utf-8'),
    ],
)
def test_other_tokenizers_are_refused(
    changed: Any, tmp_path: Path, edit: Callable[[Any], object], reason: str
) -> None:
    assert reason in refusal(changed(edit), tmp_path)
