"""The GPU: what it is, and how fast its memory is."""

from dataclasses import asdict
import warnings

import torch

from gpu_check.report import Figure
from gpu_check.task import Findings, Task
from kosmos_ros.engine.machine import gpu
from kosmos_ros.engine.runners.cuda import CudaDevice
from kosmos_ros.engine.timing import timed
from kosmos_ros.errors import RunnerUnavailable

# Much more than any cache of a GPU holds.
_COPIED_BYTES = 2**30
_COPIES = 10


class Cuda:
    """The GPU that torch would use.  Satisfies `Accelerator`."""

    def describe(self) -> dict[str, Figure]:
        """See `Accelerator.describe`."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            try:
                found = gpu()
            except RunnerUnavailable as error:
                # An old driver is a warning of torch's.
                words = (str(error), *(str(warning.message) for warning in caught))
                raise RunnerUnavailable('; '.join(words)) from None
        said = {f'warning_{index}': str(one.message) for index, one in enumerate(caught)}
        return {**asdict(found), **said}

    def device(self, graphs: bool) -> CudaDevice:
        """See `Accelerator.device`."""
        return CudaDevice(graphs)

    def synchronize(self) -> None:
        """See `Accelerator.synchronize`."""
        torch.cuda.synchronize()

    def free_bytes(self) -> int:
        """See `Accelerator.free_bytes`."""
        return torch.cuda.mem_get_info()[0]

    def used_bytes(self) -> int:
        """See `Accelerator.used_bytes`."""
        free, total = torch.cuda.mem_get_info()
        return total - free

    def peak_bytes(self) -> int:
        """See `Accelerator.peak_bytes`."""
        return torch.cuda.max_memory_allocated()


def describe(task: Task, findings: Findings) -> None:
    """The part `gpu`."""
    for name, figure in task.open_accelerator().describe().items():
        findings.figure(name, figure)
        findings.line(f'{name}: {figure}')


def copy_bandwidth(task: Task, findings: Findings) -> None:
    """The part `bandwidth`: bytes that a copy within the memory reads and writes a second."""
    accelerator = task.open_accelerator()
    where = accelerator.device(graphs=False).torch_device
    size = min(_COPIED_BYTES, accelerator.free_bytes() // 4)
    source = torch.zeros(size, dtype=torch.uint8, device=where)
    target = torch.empty_like(source)

    def copy() -> None:
        for _ in range(_COPIES):
            target.copy_(source)
        accelerator.synchronize()

    took_ms = timed(copy, task.runs, task.most_s).p50_ms
    rate = 2 * size * _COPIES / (took_ms / 1e3)
    findings.figure('bytes_per_s', rate)
    findings.line(f'a copy of {size / 1e9:.2f} GB reads and writes {rate / 1e9:,.0f} GB/s')
