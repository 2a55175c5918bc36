"""The little vocabulary of the tabletop: a SentencePiece model of whole words, and Kosmos-2's rule for ids over it.

Piece i >= 3 has id i + 1; ids 0 to 3 are <s> <pad> </s> <unk>; then <mask>, the eleven tags and 1024 location tokens.
Source of the rule: unilm kosmos-2/data/utils.py:23-36.
"""
from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from kosmos_ros.tabletop.language import WORDS

TAGS = ('<mask>', '</doc>', '<image>', '</image>', '</chunk>', '</line>', '<phrase>', '</phrase>', '<object>', '</object>',
        '</delimiter_of_multi_objects/>', '<grounding>')
GRID = 32
IMAGE_SLOTS = 64
BOS, PAD, EOS, UNK = 0, 1, 2, 3
TO_SPACE = '.,;:!?-_/"\u2013\u2014\u2010\u2011\t\n\r\u00a0'


def write_word_model(path: Path, words: tuple[str, ...] = WORDS) -> None:
    """Train and write `sentencepiece.bpe.model`: one piece per word; capitals, punctuation and hyphens are normalised."""
    rules = [f'{ord(letter):X}\t{ord(letter.lower()):X}' for letter in map(chr, range(ord('A'), ord('Z') + 1))]
    rules += [f'{ord(sign):X}\t20' for sign in TO_SPACE]
    table = path.with_name(path.name + '.rules.tsv')
    table.write_text('\n'.join(rules) + '\n', encoding='ascii')
    # How often a word is given decides its place: the order of `words`.
    text = (' '.join([word] * (len(words) + 1 - i)) for i, word in enumerate(words))
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=text, model_writer=model, model_type='word', vocab_size=len(words) + 3,
            normalization_rule_tsv=str(table), unk_id=0, bos_id=1, eos_id=2, minloglevel=2)
    finally:
        table.unlink()
    path.write_bytes(model.getvalue())


@dataclass(frozen=True, slots=True)
class Ids:
    """Token ids of a tabletop vocabulary of `pieces` SentencePiece pieces."""

    pieces: int

    def tag(self, text: str) -> int:
        """Id of a tag such as '<phrase>'."""
        return self.pieces + 1 + TAGS.index(text)

    @property
    def first_location(self) -> int:
        """Id of <patch_index_0000>."""
        return self.pieces + 1 + len(TAGS)

    @property
    def count(self) -> int:
        """Number of ids."""
        return self.first_location + GRID * GRID


class Wording:
    """From words to ids."""

    def __init__(self, path: Path) -> None:
        self._model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.ids = Ids(self._model.get_piece_size())

    def words(self, text: str) -> list[int]:
        """Ids of an expression's words; an unknown word is <unk>."""
        return [piece + 1 if piece >= 3 else UNK for piece in self._model.encode(text)]

    def image_prefix(self) -> list[int]:
        """<s> <image> 64 slots </image>; what stands in the slots is never looked up."""
        return [BOS, self.ids.tag('<image>'), *range(4, 4 + IMAGE_SLOTS), self.ids.tag('</image>')]

    def question(self, text: str) -> list[int]:
        """<grounding> <phrase> words </phrase> <object>: the answer follows."""
        return [self.ids.tag('<grounding>'), self.ids.tag('<phrase>'), *self.words(text), self.ids.tag('</phrase>'),
                self.ids.tag('<object>')]


def cells(box: tuple[float, float, float, float]) -> tuple[int, int]:
    """The official encoder: the cells of the top-left and bottom-right corner of a box in shares of the image's sides."""
    x0, y0, x1, y1 = max(box[0], 0.), max(box[1], 0.), min(box[2], .99999), min(box[3], .99999)
    return int(y0 * GRID) * GRID + int(x0 * GRID), int(y1 * GRID) * GRID + int(x1 * GRID)


def box_of_cells(top_left: int, bottom_right: int) -> tuple[float, float, float, float]:
    """The official decoder: middles of both cells, but outer edges where they share a row or a column."""
    (r0, c0), (r1, c1) = divmod(top_left, GRID), divmod(bottom_right, GRID)
    if r0 == r1 or c0 == c1:
        return c0 / GRID, r0 / GRID, (c1 + 1) / GRID, (r1 + 1) / GRID
    return (c0 + .5) / GRID, (r0 + .5) / GRID, (c1 + .5) / GRID, (r1 + .5) / GRID
