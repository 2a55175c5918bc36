"""The exact token ids of Kosmos-2, from a sentencepiece model file.

The file's pieces keep their order, shifted by one: fairseq put ``<pad>`` between ``<s>`` and
``</s>``.  The tags and the location tokens follow the pieces.  All ids are computed from the
number of pieces, so one class serves the released vocabulary (64,000 pieces, 65,037 ids) and that
of a small model.
"""

from collections.abc import Iterable
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from kosmos_ros.errors import EngineFileError

LOCATIONS = 1024
# The order is that of the ids (microsoft/unilm, kosmos-2/unilm/data/utils.py).
TAGS = (
    '<mask>',
    '</doc>',
    '<image>',
    '</image>',
    '</chunk>',
    '</line>',
    '<phrase>',
    '</phrase>',
    '<object>',
    '</object>',
    '</delimiter_of_multi_objects/>',
    '<grounding>',
)
_SPECIAL = ('<s>', '<pad>', '</s>', '<unk>')
# sentencepiece writes this character for the space before a word.
_SPACE = '\u2581'


class Vocabulary:
    """Conversion between text and token ids.  Safe to share between threads.

    Tags and location tokens are available as attributes and methods only: ``encode`` never
    produces them, whatever the text contains.
    """

    def __init__(self, model: SentencePieceProcessor) -> None:
        """Wrap a loaded sentencepiece model; use ``from_file`` for a file.

        :raises EngineFileError: when its first three pieces are not ``<unk>``, ``<s>``, ``</s>``,
            or a later piece is not text.
        """
        pieces = model.get_piece_size()
        _check_pieces(model, pieces)
        self._model = model
        self.bos, self.pad, self.eos, self.unk = range(4)
        self.first_piece, self.mask = 4, pieces + 1
        tag = {name: self.mask + index for index, name in enumerate(TAGS)}
        self.document_close = tag['</doc>']
        self.image_open, self.image_close = tag['<image>'], tag['</image>']
        self.chunk_close, self.line_close = tag['</chunk>'], tag['</line>']
        self.phrase_open, self.phrase_close = tag['<phrase>'], tag['</phrase>']
        self.object_open, self.object_close = tag['<object>'], tag['</object>']
        self.delimiter = tag['</delimiter_of_multi_objects/>']
        self.grounding = tag['<grounding>']
        # None in a vocabulary without punctuation.
        stop = int(model.piece_to_id('.'))
        self.full_stop = stop + 1 if stop > 2 else None
        self.first_location = self.mask + len(TAGS)
        self.size = self.first_location + LOCATIONS

    @classmethod
    def from_file(cls, path: Path) -> 'Vocabulary':
        """Read a sentencepiece model file.

        :raises EngineFileError: when it is missing, damaged, or not laid out like the file of
            Kosmos-2.
        """
        try:
            # The constructor would silently load nothing from an empty file.
            model = SentencePieceProcessor()
            model.load_from_serialized_proto(Path(path).read_bytes())
        except (OSError, RuntimeError, ValueError) as error:
            raise EngineFileError(
                f'{path} cannot be read as a sentencepiece model: {error}'
            ) from None
        try:
            return cls(model)
        except EngineFileError as error:
            raise EngineFileError(f'{path} is not a vocabulary of Kosmos-2: {error}') from None

    def encode(self, text: str) -> list[int]:
        """Convert plain text to ids; a tag in the text is encoded as ordinary characters.

        Leading, trailing and repeated spaces make no difference, nor does a preceding tag.  Half
        a surrogate pair is read as '?'.

        :return: ids of pieces, or ``unk`` where no piece fits; empty for a text without visible
            characters.
        """
        readable = text.encode('utf-8', errors='replace').decode('utf-8')
        pieces: list[int] = self._model.encode(readable, out_type=int)
        # Pieces 0 to 2 are <unk>, <s> and </s>.
        return [piece + 1 if piece > 2 else self.unk for piece in pieces]

    def decode(self, ids: Iterable[int]) -> str:
        """Convert ids to text, with tags and locations spelled as by the Hugging Face processor.

        The text is for display only: it cannot distinguish a tag from words that look like one.

        :raises ValueError: when an id is not in this vocabulary.
        """
        text = ''.join(self._spelling(int(token)) for token in ids)
        return text.removeprefix(_SPACE).replace(_SPACE, ' ')

    def unknown_words(self, text: str) -> tuple[str, ...]:
        """Return the words that contain a character without a piece, each once, in order."""
        words = dict.fromkeys(text.split())
        return tuple(word for word in words if self.unk in self.encode(word))

    def is_text(self, token: int) -> bool:
        """Return whether an id represents text (unknown text included)."""
        return self.unk <= token < self.mask

    def words(self, token: int) -> str:
        """Return the text of an id of text other than ``unk``; a word begins with its space."""
        return self._model.id_to_piece(token - 1).replace(_SPACE, ' ')

    def location_cell(self, token: int) -> int | None:
        """Return the cell 0..1023 of a location token; None for any other id."""
        cell = token - self.first_location
        return cell if 0 <= cell < LOCATIONS else None

    def location(self, cell: int) -> int:
        """Return the location token of a cell.

        :raises ValueError: when the cell is not in 0..1023.
        """
        if not 0 <= cell < LOCATIONS:
            raise ValueError(f'there is no cell {cell}; cells are 0 to {LOCATIONS - 1}')
        return self.first_location + cell

    def _spelling(self, token: int) -> str:
        if not 0 <= token < self.size:
            raise ValueError(f'there is no id {token}; ids are 0 to {self.size - 1}')
        if token < self.first_piece:
            return _SPECIAL[token]
        if token < self.mask:
            return self._model.id_to_piece(token - 1)
        if token < self.first_location:
            return TAGS[token - self.mask]
        return f'<patch_index_{token - self.first_location:04d}>'


def _check_pieces(model: SentencePieceProcessor, pieces: int) -> None:
    if pieces < 3 or not (model.is_unknown(0) and model.id_to_piece([1, 2]) == ['<s>', '</s>']):
        raise EngineFileError('its first three pieces must be <unk>, <s> and </s>')
    for piece in range(3, pieces):
        if model.is_control(piece) or model.is_unknown(piece) or model.is_byte(piece):
            raise EngineFileError(
                f'piece {piece} ({model.id_to_piece(piece)!r}) must be text, and is not'
            )
