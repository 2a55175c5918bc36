"""A device without a GPU, for the static loop with the PyTorch network in it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class PlainDevice:
    """The host; what is captured is done each time.  Fresh memory holds nothing that counts."""

    torch_device = torch.device('cpu')
    stream = 1

    @contextmanager
    def active(self) -> Iterator[None]:
        yield

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        memory = torch.empty(tuple(shape), dtype=dtype)
        return memory.fill_(float('nan')) if dtype.is_floating_point else memory.fill_(1)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        return work
