"""The network as ONNX graphs, and the tables that stay outside of them.  Needs torch and onnx."""

from collections.abc import Iterator
from contextlib import contextmanager
import logging
from pathlib import Path
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from kosmos_ros.errors import EngineError
from kosmos_ros.model.network import Kosmos2

# High enough for LayerNormalization as one node, low enough for every runtime that we name.
_OPSET = 18
# Bytes of weights that fit into one protobuf file (2 GiB), with room for the graph.
_ONE_FILE = 1_900_000_000


def export_onnx(network: Kosmos2, directory: Path) -> None:
    """Write ``vision.onnx``, ``decoder.onnx``, ``embedding.npy`` and, when the head is not tied,
    ``head.npy``.

    The weights must be float32.  Rows, tokens and slots of the decoder are dynamic.  Embedding and
    head stay outside: no graph carries the largest table of the model, and a caller can take just
    the rows that it needs.
    """
    with _quiet_exporter():
        _export_vision(network, directory / 'vision.onnx')
        _export_decoder(network, directory / 'decoder.onnx')
    embedding = network.decoder.embed_tokens.weight
    head = network.text_model.lm_head.weight
    np.save(directory / 'embedding.npy', embedding.detach().numpy(), allow_pickle=False)
    if head is not embedding:
        np.save(directory / 'head.npy', head.detach().numpy(), allow_pickle=False)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """torch's exporter talks about its own insides; errors still come through."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            yield
        finally:
            logger.setLevel(level)


class _Vision(nn.Module):
    def __init__(self, network: Kosmos2) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network.vision(pixels)


def _export_vision(network: Kosmos2, path: Path) -> None:
    side = network.config.vision.image_size
    program = torch.onnx.export(
        _Vision(network).eval(),
        (torch.zeros(1, 3, side, side),),
        input_names=['pixels'],
        output_names=['embeds'],
        opset_version=_OPSET,
        dynamo=True,
        verbose=False,
    )
    _save(program, path)


def _export_decoder(network: Kosmos2, path: Path) -> None:
    rows, new, shared, slots = 2, 3, 5, 7
    batch, tokens, prefix, own = (
        torch.export.Dim(name, min=1) for name in ('rows', 'tokens', 'prefix', 'slots')
    )
    program = torch.onnx.export(
        network.decoder,
        (
            torch.zeros(rows, new, network.config.text.embed_dim),
            torch.ones(rows, new, shared + slots, dtype=torch.bool),
            torch.zeros(rows, dtype=torch.int64),
            network.empty_cache(1, shared),
            network.empty_cache(rows, slots),
        ),
        input_names=['embeds', 'mask', 'start', 'prefix', 'cache'],
        output_names=['hidden', 'new_cache'],
        dynamic_shapes=(
            {0: batch, 1: tokens},
            {0: batch, 1: tokens, 2: torch.export.Dim.DYNAMIC},
            {0: batch},
            {4: prefix},
            {2: batch, 4: own},
        ),
        opset_version=_OPSET,
        dynamo=True,
        verbose=False,
    )
    _save(program, path)


def _save(program: torch.onnx.ONNXProgram | None, path: Path) -> None:
    if program is None:
        raise EngineError(f'PyTorch exported nothing for {path.name}')
    graph = program.model.graph
    for node in graph.all_nodes():
        # The exporter writes where in our source each node comes from: paths of this machine.
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    tables = (value.const_value for value in graph.initializers.values())
    weights = sum(table.nbytes for table in tables if table is not None)
    program.save(path, external_data=weights > _ONE_FILE)
