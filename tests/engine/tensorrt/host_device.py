"""The CPU as the device of the double."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
import math
from types import ModuleType

import torch

from .memory import ALIGNMENT


class HostDevice:
    """Stands in for a GPU and its stream.

    Only executions of the double are held back by `capture`: what torch does on a CPU is done at
    once.
    """

    torch_device = torch.device('cpu')
    stream = 0x57AEA0

    def __init__(self, trt: ModuleType) -> None:
        """
        :param trt: the double that will use this device's tensors.
        """
        self.trt = trt

    def active(self) -> AbstractContextManager[None]:
        """There is but one place for torch's work."""
        return nullcontext()

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """A tensor of its own, full of what nobody should rely on."""
        assert self.trt.recording is None, 'memory is taken within a capture'
        size = math.prod(shape) * dtype.itemsize
        # Even an empty tensor has a place.
        room = torch.empty(max(size, 1) + ALIGNMENT, dtype=torch.uint8)
        start = -room.data_ptr() % ALIGNMENT
        tensor = room[start : start + size].view(dtype).reshape(tuple(shape))
        if dtype.is_floating_point:
            tensor.fill_(math.nan)
        else:
            tensor.fill_(True if dtype == torch.bool else torch.iinfo(dtype).max)
        self.trt.register(tensor)
        return tensor

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Hold back what `work` executes; return a function that executes it at each call."""
        with self.trt.record() as recording:
            work()
        assert recording.launches, 'nothing was captured'

        def replay() -> None:
            for launch in recording.launches:
                launch.run()

        return replay

    def synchronize(self) -> None:
        """Nothing is ever under way."""
