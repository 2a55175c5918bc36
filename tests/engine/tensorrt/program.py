"""A program that uses TensorRT as ours does, for tests of the double."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .double import Double
from .graphs import RANGES
from .host_device import HostDevice

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


def parsed(trt: Double, logger: Any, builder: Any, path: Path) -> Any:
    """A network with strong types, from a file that the release takes."""
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    assert trt.OnnxParser(network, logger).parse_from_file(str(path))
    return network


def configured(builder: Any, network: Any, profiles: int = 1) -> Any:
    """A configuration with some equal profiles."""
    config = builder.create_builder_config()
    for _ in range(profiles):
        profile = builder.create_optimization_profile()
        ranges = dict(RANGES)
        at = [network.get_input(i) for i in range(network.num_inputs)][2]
        rank = len(at.shape)
        ranges['at'] = ((1,), (1,), (3,)) if rank == 1 else RANGES['new']
        for name, (least, usual, most) in ranges.items():
            profile.set_shape(name, least, usual, most)
        config.add_optimization_profile(profile)
    return config


def engine_of(trt: Double, logger: Any, path: Path, profiles: int = 1) -> Any:
    """Build a plan and load it."""
    builder = trt.Builder(logger)
    network = parsed(trt, logger, builder, path)
    plan = builder.build_serialized_network(network, configured(builder, network, profiles))
    return trt.Runtime(logger).deserialize_cuda_engine(plan)


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
