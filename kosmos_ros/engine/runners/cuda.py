"""A GPU as the static loop sees it: memory, one stream, captured graphs.  Needs torch.

This is the edge of the hardware: the rest of the static loop runs on any machine.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

from kosmos_ros.errors import RunnerUnavailable


@contextmanager
def enough_gpu_memory() -> Iterator[None]:
    """Turn torch's out-of-memory error into one that lets the next backend be tried.

    :raises RunnerUnavailable: when the block needs more memory than the GPU has left.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        first = str(error).partition('. ')[0]
        raise RunnerUnavailable(f'the memory of the GPU is too small ({first})') from None


class Device(Protocol):
    """Memory and one queue of work."""

    @property
    def torch_device(self) -> torch.device:
        """Where tensors live."""

    @property
    def stream(self) -> int:
        """Handle of the stream, never the default stream's 0."""

    def active(self) -> AbstractContextManager[None]:
        """Return a context within which torch's work goes to the stream."""

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return uninitialised memory that begins at a multiple of 256 bytes."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record work that has run before, without running it; the result runs it."""


class CudaDevice:
    """The GPU that torch would use."""

    def __init__(self, graphs: bool = True) -> None:
        """Use the current device.

        :param graphs: False launches all work directly each time, for comparison.
        """
        self.torch_device = torch.device('cuda', torch.cuda.current_device())
        self._stream = torch.cuda.Stream(self.torch_device)  # type: ignore[no-untyped-call]
        self._graphs = graphs
        # All graphs may use the same memory for what they compute in between: they run one after
        # another on one stream, and each copies its results to buffers outside of the pool.
        self._pool = torch.cuda.graph_pool_handle()

    @property
    def stream(self) -> int:
        """See `Device.stream`."""
        return int(self._stream.cuda_stream)

    @contextmanager
    def active(self) -> Iterator[None]:
        """See `Device.active`."""
        with torch.cuda.stream(self._stream):
            yield

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """See `Device.empty`."""
        return torch.empty(tuple(shape), dtype=dtype, device=self.torch_device)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """See `Device.capture`."""
        if not self._graphs:
            return work
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
            work()
        return graph.replay
