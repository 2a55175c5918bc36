"""Memory of the pretended device: tensors on the CPU that the double may touch."""

import ctypes
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
import weakref

import numpy as np
import torch

if TYPE_CHECKING:
    from .running import Context, Launch

ALIGNMENT = 256


class Memory:
    """Address ranges, for as long as their tensors live."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int, weakref.ref]] = []

    def register(self, tensor: torch.Tensor) -> None:
        """Add the range of a tensor; views of it keep the range alive."""
        assert tensor.is_contiguous(), 'a tensor with gaps'
        start, storage = tensor.data_ptr(), tensor.untyped_storage()
        self.ranges.append((start, start + tensor.nbytes, weakref.ref(storage)))

    def check(self, what: str, address: int, size: int) -> None:
        """Refuse a range that is not within a living tensor, or starts at an odd place."""
        assert address % ALIGNMENT == 0, f'{what}: {address:#x} is not aligned to {ALIGNMENT}'
        self.ranges = [each for each in self.ranges if each[2]() is not None]
        inside = any(start <= address and address + size <= end for start, end, _ in self.ranges)
        assert inside, f'{what}: {size} bytes at {address:#x} are in no tensor of the device'

    def bytes_at(self, address: int, size: int) -> np.ndarray:
        """The bytes themselves, uint8[size]."""
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


@dataclass
class Recording:
    """Executions that a capture holds back."""

    launches: list['Launch'] = field(default_factory=list)
    context: 'Context | None' = None

    def add(self, context: 'Context', launch: 'Launch') -> None:
        """Take one."""
        assert self.context in (None, context), 'one capture holds executions of two contexts'
        self.context = context
        self.launches.append(launch)
