"""The small vocabulary of the tabletop: a sentencepiece model whose pieces are whole words."""

import io
from pathlib import Path
from tempfile import TemporaryDirectory

from sentencepiece import SentencePieceTrainer
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]

from kosmos_ros.tabletop.language import expressions as language
from kosmos_ros.tabletop.language import templates

# Every word that the model knows; hyphens count as spaces.
WORDS = tuple(dict.fromkeys((*language.WORDS, *templates.words())))

_CAPITALS = {chr(code): chr(code).lower() for code in range(ord('A'), ord('Z') + 1)}
_TO_SPACE = '.,;:!?-_/"\u2010\u2011\u2013\u2014\u00a0\t\n\r'


def write_word_model(path: Path, words: tuple[str, ...] = WORDS) -> None:
    """Train and write a sentencepiece model file.

    Its normalisation converts capitals to lower case, and punctuation and hyphens to spaces, so
    'The left-most ball!' becomes 'the left most ball'.  Any other word is ``<unk>``.
    """
    rules = _CAPITALS | dict.fromkeys(_TO_SPACE, ' ')
    # The trainer orders words by frequency; these frequencies keep the given order.
    text = (' '.join([word] * (len(words) + 1 - index)) for index, word in enumerate(words))
    model = io.BytesIO()
    with TemporaryDirectory() as folder:
        table = Path(folder) / 'rules.tsv'
        lines = [f'{ord(sign):X}\t{ord(to):X}' for sign, to in rules.items()]
        table.write_text('\n'.join(lines) + '\n', encoding='ascii')
        SentencePieceTrainer.train(
            sentence_iterator=text,
            model_writer=model,
            model_type='word',
            vocab_size=len(words) + 3,
            normalization_rule_tsv=str(table),
            # Words with rare letters are kept.
            character_coverage=1.0,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            minloglevel=2,
        )
    path.write_bytes(_without_paths(model.getvalue()))


def _without_paths(model: bytes) -> bytes:
    """Remove the path of the rules file on the training machine from a model."""
    content = ModelProto.FromString(model)
    content.normalizer_spec.ClearField('normalization_rule_tsv')
    return bytes(content.SerializeToString(deterministic=True))
