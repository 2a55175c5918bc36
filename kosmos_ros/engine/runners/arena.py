"""The memory in which a static loop keeps keys and values.  Needs torch.

Compiled work has fixed addresses, so there is one memory for the tokens of all rows and one for
the prefix that they share, and whatever is worked on is brought there.
"""

from collections.abc import Callable
import math
import weakref

import torch
from torch import Tensor

from kosmos_ros.engine.base import Tokens
from kosmos_ros.errors import EngineError


class StaticKeyValues:
    """Keys and values of some rows: in the arena until somebody else needs that, then in memory of
    their own.
    """

    def __init__(self, tensor: Tensor, prefix: 'StaticKeyValues | None', lengths: Tokens) -> None:
        self.tensor = tensor  # [L,2,B,H,S,C], S as many as are filled or more
        self.prefix = prefix
        self.lengths = lengths  # [B]

    def select(self, rows: Tokens) -> 'StaticKeyValues':
        """See `KeyValues.select`."""
        index = torch.from_numpy(rows).to(self.tensor.device)
        own = self.tensor.index_select(2, index)
        return StaticKeyValues(own, self.prefix, self.lengths[rows])

    @property
    def shared(self) -> int:
        """Tokens of the prefix."""
        return int(self.prefix.lengths[0]) if self.prefix else 0


class Arena:
    """Two halves that steps read and write in turns, or one that changes in place."""

    def __init__(
        self,
        empty: Callable[[int, int], Tensor],
        rows: int,
        slots: int,
        prefix: int,
        in_place: bool,
    ) -> None:
        """Reserve memory.

        :param empty: gives [L,2,rows,H,slots,C] on the device.
        """
        # Nothing but numbers, also where nothing was written yet: see `forget`.
        self.prefix = empty(1, prefix).zero_()  # [L,2,1,H,P,C]
        first = empty(rows, slots).zero_()
        self._halves = (first, first if in_place else empty(rows, slots).zero_())
        self._now = 0
        self._prefix_of: weakref.ref[StaticKeyValues] | None = None
        self._resident: weakref.ref[StaticKeyValues] | None = None

    @property
    def now(self) -> int:
        """Which half holds the past of the next step."""
        return self._now

    def halves(self, rows: int) -> tuple[Tensor, Tensor]:
        """The beginnings of both halves as caches [L,2,rows,H,S,C]."""
        first, second = (
            half.flatten()[: math.prod(shape)].view(shape)
            for half in self._halves
            for shape in [(*half.shape[:2], rows, *half.shape[3:])]
        )
        return first, second

    def load(self, past: StaticKeyValues, rows: int) -> None:
        """Bring `past`, and its prefix, to where a step for `rows` rows finds them.

        :raises EngineError: when the prefix is too long.
        """
        if past.prefix is not None:
            self._load_prefix(past.prefix)
        if self._resident is not None and self._resident() is past:
            return
        self.move_out()
        filled = int(past.lengths.max(initial=0))
        if filled:
            own = self.halves(rows)[self._now][:, :, : len(past.lengths)]
            own[..., :filled, :] = past.tensor[..., :filled, :]

    def turn(self, written: StaticKeyValues) -> None:
        """A step has written; this is what lies here now."""
        self._now = 1 - self._now
        self._resident = weakref.ref(written)

    def move_out(self) -> None:
        """Whoever's keys and values lie here gets memory for them."""
        resident = self._resident() if self._resident is not None else None
        if resident is not None:
            filled = int(resident.lengths.max(initial=0))
            resident.tensor = resident.tensor[..., :filled, :].clone()
        self._resident = None

    def forget(self) -> None:
        """Numbers only, again.

        What is masked has the weight 0, and 0 times NaN is NaN: one bad picture must not spoil
        what comes after it.
        """
        self._resident = self._prefix_of = None
        for memory in (self.prefix, *self._halves):
            memory.zero_()

    def _load_prefix(self, prefix: StaticKeyValues) -> None:
        if self._prefix_of is not None and self._prefix_of() is prefix:
            return
        filled, room = int(prefix.lengths[0]), self.prefix.shape[-2]
        if filled > room:
            raise EngineError(
                f'the engine has room for {room} shared tokens, not {filled}; build it by a '
                'recipe with a longer prefix'
            )
        self.prefix[..., :filled, :] = prefix.tensor[..., :filled, :]
        self._prefix_of = weakref.ref(prefix)
