"""The interface between the answering loops and a backend."""

from collections.abc import Sequence
from typing import Protocol

from kosmos_ros.engine.base import Floats, Tokens


class KeyValues(Protocol):
    """Keys and values of some rows, in the runner's own memory."""

    def select(self, rows: Tokens) -> 'KeyValues':
        """Return rows in this order, int64[n]; a row may be taken several times."""

    @property
    def nbytes(self) -> int:
        """Memory of the rows' own tokens; that of the prefix is not counted."""


class Runner(Protocol):
    """Runs one model on one device.  Not thread-safe.

    Letters in shapes: B rows, Q tokens, I image side, V vocabulary.

    :param name: backend, its version, device and precision, for people.
    :param chunk: most tokens of a row that one `prefill` reads.
    :param capacity: most tokens that a row may have behind the prefix.
    """

    name: str
    chunk: int
    capacity: int

    def vision(self, pixels: Floats) -> object:
        """Return the image embeddings of normalised pixels [1,3,I,I], in the runner's memory."""

    def prefill(
        self,
        ids: Tokens,
        lengths: Tokens,
        *,
        prefix: KeyValues | None = None,
        past: KeyValues | None = None,
        images: Sequence[object] = (),
        reserve: int = 0,
    ) -> tuple[object, KeyValues]:
        """Read prompts.

        :param ids: [B,Q], right-padded.
        :param lengths: [B], real tokens of each row.
        :param prefix: a single row whose tokens stand before those of every row, and are shared by
            all.
        :param past: instead of `prefix`: what each row has read before; it is consumed.
        :param images: embeddings from `vision`, in the order of their slots in `ids` (one row
            only).
        :param reserve: tokens that `decode` will add later.
        :return: hidden state of each row's last token, and the keys and values.
        """

    def decode(self, ids: Tokens, past: KeyValues) -> tuple[object, KeyValues]:
        """Read one more token for each row, ids [B].  `past` is consumed."""

    def logits(self, hidden: object, first: int, last: int) -> Floats:
        """Return logits [B, last-first] of the vocabulary rows first..last-1, float32."""

    def fetch(self, value: object) -> Floats:
        """Return image embeddings or a hidden state as float32 on the host, for checks."""

    def close(self) -> None:
        """Release memory and devices."""
