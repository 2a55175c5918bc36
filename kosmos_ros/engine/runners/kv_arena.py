"""The memory in which the static loop keeps keys and values.  Needs torch.

Compiled work has fixed addresses.  So there is one memory for the tokens of all rows and one for
the prefix that they share, and the keys and values that a step needs are copied there first.  The
step does not change them: new keys and values come out beside them, and are written afterwards.
"""

from collections.abc import Callable
import math
import weakref

import torch
from torch import Tensor

from kosmos_ros.engine.base import Tokens
from kosmos_ros.errors import EngineError


class StaticKeyValues:
    """Keys and values of some rows: in the arena until another step needs it, then in memory of
    their own.
    """

    def __init__(self, tensor: Tensor, prefix: 'StaticKeyValues | None', lengths: Tokens) -> None:
        self.tensor = tensor  # [L,2,B,H,S,C], S as many as are filled or more
        self.prefix = prefix
        self.lengths = lengths  # [B]

    def select(self, rows: Tokens) -> 'StaticKeyValues':
        """See `KeyValues.select`."""
        index = torch.from_numpy(rows).to(self.tensor.device)
        own = self.tensor[..., : self.filled, :].index_select(2, index)
        return StaticKeyValues(own, self.prefix, self.lengths[rows])

    @property
    def nbytes(self) -> int:
        """See `KeyValues.nbytes`: of the filled slots, in the arena or outside."""
        return self.tensor[..., : self.filled, :].nbytes

    @property
    def filled(self) -> int:
        """Slots of the longest row."""
        return int(self.lengths.max(initial=0))

    @property
    def shared(self) -> int:
        """Tokens of the prefix."""
        return int(self.prefix.lengths[0]) if self.prefix else 0


class KVArena:
    """The cache that steps read, what they give, and the prefix: one memory for all shapes."""

    def __init__(
        self, empty: Callable[[int, int], Tensor], cached: int, fresh: int, prefix: int
    ) -> None:
        """Reserve the memory.

        :param empty: returns uninitialised [L,2,rows,H,slots,C] on the device.
        :param cached: most slots that all rows together have.
        :param fresh: most new tokens that all rows together have.
        """
        # Finite numbers also where nothing was written yet: see `clear`.
        self.prefix = empty(1, prefix).zero_()  # [L,2,1,H,P,C]
        self._cache = empty(1, cached).zero_()
        # A multiple, for the addresses of its layers.
        self._fresh = empty(1, -(-fresh // 8) * 8)
        self._prefix_of: weakref.ref[StaticKeyValues] | None = None
        self._resident: weakref.ref[StaticKeyValues] | None = None
        # Rows and slots as which the cache is in use now.
        self._shape = (0, 0)

    def past(self, rows: int, slots: int) -> Tensor:
        """Return the cache viewed as [L,2,rows,H,slots,C]."""
        return _beginning(self._cache, rows, slots)

    def fresh(self, rows: int, tokens: int) -> Tensor:
        """Return where a step writes keys and values of new tokens, [L,2,rows,H,tokens,C]."""
        return _beginning(self._fresh, rows, tokens)

    def load(self, past: StaticKeyValues, rows: int, slots: int) -> None:
        """Copy `past`, and its prefix, to where a step of this shape reads them.

        :raises EngineError: when the prefix is too long.
        """
        if past.prefix is not None:
            self._load_prefix(past.prefix)
        resident = self._resident() if self._resident is not None else None
        if resident is past and self._shape == (rows, slots):
            return
        self.evict()
        self._shape = (rows, slots)
        filled = past.filled
        if filled:
            own = self.past(rows, slots)[:, :, : len(past.lengths)]
            own[..., :filled, :] = past.tensor[..., :filled, :]

    def set_resident(self, past: StaticKeyValues) -> None:
        """Note whose keys and values lie in the cache now."""
        self._resident = weakref.ref(past)

    def evict(self) -> None:
        """Move the keys and values that lie in the cache to memory of their own."""
        resident = self._resident() if self._resident is not None else None
        if resident is not None:
            resident.tensor = resident.tensor[..., : resident.filled, :].clone()
        self._resident = None

    def clear(self) -> None:
        """Fill the memory with zeros after a step that gave NaN.

        A masked slot has the weight 0, and 0 times NaN is NaN: one bad image must not spoil all
        later ones.
        """
        self.evict()
        self._prefix_of = None
        self.prefix.zero_()
        self._cache.zero_()

    def _load_prefix(self, prefix: StaticKeyValues) -> None:
        if self._prefix_of is not None and self._prefix_of() is prefix:
            return
        filled, capacity = int(prefix.lengths[0]), self.prefix.shape[-2]
        if filled > capacity:
            raise EngineError(
                f'the engine has slots for {capacity} shared tokens, not {filled}; build it by a '
                'recipe with a longer prefix'
            )
        self.prefix[..., :filled, :] = prefix.tensor[..., :filled, :]
        self._prefix_of = weakref.ref(prefix)


def _beginning(memory: Tensor, rows: int, slots: int) -> Tensor:
    """Return the first part of each layer of memory [L,2,1,H,N,C] as [L,2,rows,H,slots,C]."""
    layers, _, _, heads, _, width = memory.shape
    shape = (rows, heads, slots, width)
    return memory.flatten(2)[..., : math.prod(shape)].view(layers, 2, *shape)
