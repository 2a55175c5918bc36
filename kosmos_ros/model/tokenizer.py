"""Conversion of a checkpoint's tokenizer to the sentencepiece model that `Vocabulary` reads.

Hugging Face writes either the sentencepiece file itself or ``tokenizer.json``, which holds the
same unigram model: pieces with scores, and the character map that normalises text.
"""

import base64
import json
from pathlib import Path
import shutil
from typing import Any

from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.vocabulary import LOCATIONS, TAGS

SENTENCEPIECE = 'sentencepiece.bpe.model'
_JSON = 'tokenizer.json'
# `write_tokenizer` reads the first of these that exists.
TOKENIZER_FILES = (SENTENCEPIECE, _JSON)
# transformers puts <pad> between <s> and </s>; sentencepiece has no <pad>.
_SPECIAL = ('<s>', '<pad>', '</s>', '<unk>')
# The tokens that `Vocabulary` numbers after the pieces.
_TAGS_AFTER_PIECES = (*TAGS, *(f'<patch_index_{cell:04d}>' for cell in range(LOCATIONS)))
# transformers has a separate step for repeated spaces; sentencepiece merges them by itself.
_REPEATED_SPACES = ({'Regex': ' {2,}'}, {'String': '  '})


def write_tokenizer(checkpoint: Path, path: Path) -> None:
    """Write the sentencepiece model of a checkpoint directory to `path`.

    :raises EngineFileError: when the directory has no tokenizer, or its tokenizer is not that of
        Kosmos-2.
    """
    sentencepiece_file = checkpoint / SENTENCEPIECE
    json_file = checkpoint / _JSON
    if not sentencepiece_file.is_file() and not json_file.is_file():
        raise EngineFileError(f'{checkpoint} has neither {SENTENCEPIECE} nor {_JSON}')
    try:
        if sentencepiece_file.is_file():
            shutil.copyfile(sentencepiece_file, path)
        else:
            content = json_file.read_text(encoding='utf-8')
            path.write_bytes(_sentencepiece_from(json.loads(content)))
    except (OSError, ValueError, RecursionError) as error:
        raise EngineFileError(f'{json_file} is no tokenizer of Kosmos-2: {error}') from None
    except (KeyError, TypeError, AttributeError):
        raise EngineFileError(
            f'{json_file} is no tokenizer of Kosmos-2: '
            'it is not laid out as transformers writes it'
        ) from None


def _sentencepiece_from(content: dict[str, Any]) -> bytes:
    from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]

    proto = ModelProto()
    kinds = ModelProto.SentencePiece.Type
    for piece, kind in (('<unk>', 'UNKNOWN'), ('<s>', 'CONTROL'), ('</s>', 'CONTROL')):
        proto.pieces.add(piece=piece, score=0.0, type=kinds.Value(kind))
    for piece, score in _pieces(content):
        proto.pieces.add(piece=piece, score=score, type=kinds.Value('NORMAL'))
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    trainer.model_type = trainer.ModelType.Value('UNIGRAM')
    trainer.vocab_size = len(proto.pieces)
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = 0, 1, 2, -1
    charsmap = _charsmap(content['normalizer'])
    normalizer.name = 'nmt_nfkc' if charsmap else 'identity'
    normalizer.precompiled_charsmap = base64.b64decode(charsmap, validate=True)
    normalizer.add_dummy_prefix = True
    normalizer.remove_extra_whitespaces = True
    normalizer.escape_whitespaces = True
    return bytes(proto.SerializeToString(deterministic=True))


def _pieces(content: dict[str, Any]) -> list[tuple[str, float]]:
    """Return the text pieces with their scores, in the order of their ids."""
    model = content['model']
    if model.get('type', 'Unigram') != 'Unigram' or model.get('byte_fallback'):
        raise ValueError('its model is not a unigram one of whole characters')
    vocab = [(str(piece), float(score)) for piece, score in model['vocab']]
    names = [piece for piece, _ in vocab]
    if tuple(names[: len(_SPECIAL)]) != _SPECIAL:
        raise ValueError(f'its first pieces are {names[: len(_SPECIAL)]}, not {list(_SPECIAL)}')
    # Tags follow the pieces in the vocabulary, or are listed in 'added_tokens' only.
    end = names.index(_TAGS_AFTER_PIECES[0]) if _TAGS_AFTER_PIECES[0] in names else len(names)
    expected = {end + index: name for index, name in enumerate(_TAGS_AFTER_PIECES)}
    tags = [*enumerate(names[end:], end)]
    tags += [(tag['id'], tag['content']) for tag in content.get('added_tokens', ())]
    for token, name in tags:
        if token >= end and expected.get(token) != name:
            raise ValueError(f'its token {name!r} has the id {token}, not that of Kosmos-2')
    return vocab[len(_SPECIAL) : end]


def _charsmap(normalizer: Any) -> str:
    """Return the character map that normalises text, in base64; empty when there is none."""
    if normalizer is None:
        return ''
    kind = normalizer['type']
    if kind == 'Precompiled':
        return str(normalizer['precompiled_charsmap'] or '')
    if kind == 'Sequence':
        return ''.join(map(_charsmap, normalizer['normalizers']))
    if kind == 'Strip' or (kind == 'Replace' and normalizer['pattern'] in _REPEATED_SPACES):
        return ''
    raise ValueError(f'its normaliser {kind} is not one of Kosmos-2')
