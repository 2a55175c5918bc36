"""The PyTorch network on the fixed buffers of the static loop: a GPU without compiled plans."""

from collections.abc import Callable

import torch
from torch import Tensor

from kosmos_ros.engine.directory.directory import EngineDirectory
from kosmos_ros.engine.directory.recipe import Shape
from kosmos_ros.engine.runners.cuda import Device
from kosmos_ros.engine.runners.embeddings import EmbeddingTables
from kosmos_ros.engine.runners.static import Buffers, Program, StaticRunner
from kosmos_ros.model.network.kosmos2 import Kosmos2, appended_attention
from kosmos_ros.model.network.weights import DTYPES, load_model


class TorchProgram(Program):
    """The network on the buffers of the static loop."""

    def __init__(self, network: Kosmos2) -> None:
        """Take over a network that lies on the device."""
        self._network = network.eval()
        weight = network.text_model.lm_head.weight
        precision = str(weight.dtype).removeprefix('torch.')
        self.name = f'PyTorch {torch.__version__}, {weight.device.type}, {precision}'

    def bind_vision(self, pixels: Tensor, embeds: Tensor) -> Callable[[], None]:
        """See `Program.bind_vision`."""

        def work() -> None:
            embeds.copy_(self._network.vision(pixels.to(embeds.dtype)))

        return work

    def bind_decoder(self, shape: Shape, buffers: Buffers) -> Callable[[], None]:
        """See `Program.bind_decoder`."""
        rows = torch.arange(shape[0], device=buffers.embeds.device)

        def work() -> None:
            hidden, fresh = self._network.decoder(
                buffers.embeds,
                buffers.mask,
                # Nothing is written into the cache here, so any start will do.
                buffers.last,
                buffers.prefix,
                buffers.past,
                appended_attention,
            )
            buffers.hidden.copy_(hidden[rows, buffers.last])
            for target, pair in zip(buffers.fresh, fresh, strict=True):
                target[0].copy_(pair[0])
                target[1].copy_(pair[1])

        return work

    def close(self) -> None:
        """See `Program.close`."""
        del self._network


def open_static_runner(directory: EngineDirectory, device: Device) -> StaticRunner:
    """Load an engine directory to a device."""
    network = load_model(directory.path, DTYPES[directory.recipe.activations])
    network = network.to(device.torch_device)
    head = network.text_model.lm_head.weight
    tables = EmbeddingTables.of(network.decoder.embed_tokens.weight, head, directory.config.text)
    return StaticRunner(
        TorchProgram(network),
        device,
        tables,
        directory.config,
        directory.recipe,
        directory.vocabulary.image_open,
    )
