"""A program that uses TensorRT as ours does, for tests of the double."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .double import Double
from .graph import Graph
from .graphs import RANGES
from .host_device import HostDevice
from .plan import plan_of

SHAPES = {'past': (1, 2, 8, 4), 'new': (1, 2, 2, 4), 'at': (1, 2, 2, 4)}
OUTPUTS = {'present': (1, 2, 8, 4), 'tail': (1, 2, 4, 4)}


class Lines:
    """Makes loggers that keep what they are told."""

    def __init__(self, trt: Double) -> None:
        kept: list[tuple[str, str]] = []

        class Keeping(trt.ILogger):
            def log(self, severity: Any, text: str) -> None:
                kept.append((severity.name, text))

        self.kept = kept
        self.logger = Keeping()

    @property
    def errors(self) -> list[str]:
        return [text for severity, text in self.kept if severity == 'ERROR']


def engine_of(trt: Double, logger: Any, path: Path, profiles: int = 1) -> Any:
    """Load a plan of one of the small graphs, with some equal profiles."""
    at = len(Graph(path).inputs['at'].shape)
    ranges = {**RANGES, 'at': ((1,), (1,), (3,)) if at == 1 else RANGES['new']}
    shapes = tuple({name: one[index] for name, one in ranges.items()} for index in range(3))
    return trt.Runtime(logger).deserialize_cuda_engine(plan_of(trt, path, [shapes] * profiles))


def context_of(trt: Double, engine: Any) -> Any:
    """Make a context that may be captured."""
    if not trt.is_rtx:
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    strategies = trt.DynamicShapesKernelSpecializationStrategy
    config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
    return engine.create_execution_context(config)


def tensors(device: HostDevice, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Inputs of the graph, with rows 3 and 4 to be written, and its outputs."""
    made = {
        name: device.empty(shape, torch.int64 if name == 'at' else torch.float32)
        for name, shape in shapes.items()
    }
    made['past'].zero_()
    made['new'].copy_(torch.arange(made['new'].numel()).reshape(made['new'].shape))
    made['at'].copy_(torch.tensor([3, 4])[:, None].expand(1, 2, 2, 4))
    return made


def bind(context: Any, bound: Mapping[str, torch.Tensor]) -> None:
    for name, tensor in bound.items():
        assert context.set_tensor_address(name, tensor.data_ptr())


def ready(context: Any, device: HostDevice) -> dict[str, torch.Tensor]:
    """Everything but the execution."""
    assert context.set_optimization_profile_async(1, device.stream)
    for name, shape in SHAPES.items():
        assert context.set_input_shape(name, shape)
    bound = tensors(device, SHAPES | OUTPUTS)
    bind(context, bound)
    return bound
