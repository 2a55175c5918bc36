"""The seam between the decode loops and a backend: three graphs on named buffers of static
shape.
"""

from collections.abc import Sequence
from typing import Protocol

from kosmos_ros.engine.base import Floats, Tokens


class KeyValues(Protocol):
    """Keys and values of some rows, in the runner's own memory."""

    def select(self, rows: Tokens) -> 'KeyValues':
        """Rows in this order; a row may be taken several times (int64[n])."""

    @property
    def nbytes(self) -> int:
        """Memory of the rows' own tokens; that of the prefix not counted."""


class Runner(Protocol):
    """Runs one model on one device.  Not thread-safe.  B rows, Q tokens, I image side, V
    vocabulary.
    """

    @property
    def name(self) -> str:
        """Backend, its version, device and precision, for people."""

    @property
    def chunk(self) -> int:
        """Tokens of a row that one `prefill` reads at most."""

    @property
    def room(self) -> int:
        """Tokens that a row may have behind the prefix."""

    def vision(self, pixels: Floats) -> object:
        """Normalised pixels [1,3,I,I] -> image embeddings, in the runner's own memory."""

    def prefill(
        self,
        ids: Tokens,
        lengths: Tokens,
        *,
        prefix: KeyValues | None = None,
        past: KeyValues | None = None,
        images: Sequence[object] = (),
        room: int = 0,
    ) -> tuple[object, KeyValues]:
        """Read prompts.

        :param ids: [B,Q], right-padded.
        :param lengths: [B], real tokens of each row.
        :param prefix: a single row whose tokens stand before those of every row, and are shared by
            all.
        :param past: instead of `prefix`: what each row has read before; it is used up.
        :param images: what `vision` gave, in the order in which their slots stand in `ids` (one
            row only).
        :param room: tokens that `decode` will add later.
        :return: hidden state of each row's last token, and what was read.
        """

    def decode(self, ids: Tokens, past: KeyValues) -> tuple[object, KeyValues]:
        """Read one more token for each row, ids [B].  `past` is used up."""

    def logits(self, hidden: object, first: int, last: int) -> Floats:
        """Scores [B, last-first] of the vocabulary rows first..last-1, float32."""

    def fetch(self, value: object) -> Floats:
        """What `vision` gave, or a hidden state, as float32 on the host; for checks."""

    def close(self) -> None:
        """Give memory and devices back."""
