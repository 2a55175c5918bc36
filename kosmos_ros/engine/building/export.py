"""The network as typed ONNX graphs over the engine's one weight file.  Needs torch and onnx.

A graph holds no weights: every initializer refers to an offset in ``model.safetensors``.  So the
graphs are small, both tiers and every runner share one copy of the weights, and no graph exceeds
what a protobuf file can hold.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import logging
from pathlib import Path
from typing import Any
import warnings

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer
import torch
from torch import Tensor, nn

from kosmos_ros.engine.building.weight_offsets import WeightOffsets, bind_weight, weight_offsets
from kosmos_ros.engine.directory.directory import VISION_GRAPH, WEIGHTS_FILE, decoder_graph
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.tensorrt.operators import check_graph
from kosmos_ros.engine.tensorrt.tiers import FUSED, MATMUL, TIERS, Tier
from kosmos_ros.errors import EngineError
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.network.kosmos2 import Attention, Kosmos2, Pair, appended_attention
from kosmos_ros.model.network.layers import Norm
from kosmos_ros.model.network.weights import DTYPES

# 18 is the oldest with all that is needed; with int8, the oldest whose scales may have 16 bits.
_OPSETS = {MATMUL.name: 18, FUSED.name: 24}
_OPSET_OF_INT8 = 19


def export_graphs(config: Kosmos2Config, recipe: Recipe, directory: Path) -> None:
    """Write ``vision.onnx`` and the decoder's graphs, for TensorRT one for each tier, beside
    ``model.safetensors``, which must be there.

    Rows, tokens and slots of the decoder are dynamic, each runner fixes them; the prefix has the
    recipe's static size for TensorRT and is dynamic for ONNX Runtime.

    :raises EngineError: when a graph has something that its tier does not allow.
    """
    if not hasattr(torch.onnx, 'ops'):
        raise EngineError(
            f'PyTorch {torch.__version__} cannot export these graphs; install 2.8 or newer, or '
            'make the engine on another machine and copy it'
        )
    network = _without_weights(config, DTYPES[recipe.activations])
    if recipe.runner == 'tensorrt':
        for module in network.modules():
            if isinstance(module, Norm):
                module.__class__ = _WrittenOutNorm
    offsets = weight_offsets(directory / WEIGHTS_FILE)
    with _quiet_exporter():
        _export_vision(network, offsets, directory / VISION_GRAPH)
        # To ONNX Runtime on a CPU both are the same, so it has the one without copies.
        for tier in TIERS if recipe.runner == 'tensorrt' else (MATMUL,):
            _export_decoder(network, recipe, tier, offsets, directory / decoder_graph(tier.name))


def _without_weights(config: Kosmos2Config, dtype: torch.dtype) -> Kosmos2:
    """Return the network with weights that take no memory: the graphs only name them."""
    with torch.device('meta'):
        network = Kosmos2(config)
    zero = torch.zeros((), dtype=dtype)
    weights = {name: zero.expand(weight.shape) for name, weight in network.state_dict().items()}
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False)


class _WrittenOutNorm(Norm):
    """LayerNorm in elementary operators.  TensorRT 10.3 to 10.5 set the precision of every
    LayerNormalization, which their strongly typed networks refuse (importer and NvInfer.h of
    10.3).  Not with a division: ONNX Runtime would take that for a LayerNormalization again, and
    make one of two types of it.
    """

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        centred = wide - wide.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return (centred * scale * self.weight.float() + self.bias.float()).to(x.dtype)


class _Vision(nn.Module):
    def __init__(self, network: Kosmos2) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:  # float32[1,3,I,I] -> [1,K,D]
        return self.network.vision(pixels.to(self.network.text_model.lm_head.weight.dtype))


class _Decoder(nn.Module):
    """The decoder as runners see it.

    Its outputs are the hidden state of each row's last token, and the new tokens' keys and values,
    which the runner writes into its cache.
    """

    def __init__(self, network: Kosmos2, attend: Attention) -> None:
        super().__init__()
        self.network = network
        self.attend = attend

    def forward(
        self,
        embeds: Tensor,
        mask: Tensor,
        last: Tensor,
        prefix: list[Pair],
        cache: list[Pair],
    ) -> tuple[Tensor, list[Pair]]:
        # Nothing is written into the cache here, so where new tokens begin does not matter.
        start = last
        hidden, new = self.network.decoder(embeds, mask, start, prefix, cache, self.attend)
        index = last.unsqueeze(1).unsqueeze(2).expand(-1, 1, hidden.shape[2])
        return hidden.gather(1, index).squeeze(1), new


def _native_attention(
    q: Tensor, new: Pair, mask: Tensor, start: Tensor, prefix: Pair, cache: Pair
) -> tuple[Tensor, Pair]:
    """Attend as ``appended_attention`` does, by one operator that has fused kernels."""
    keys, values = (
        torch.cat([shared.expand(q.shape[0], -1, -1, -1), own, fresh], dim=2)
        for shared, own, fresh in zip(prefix, cache, new, strict=True)
    )
    # q is scaled already: a scale here would be multiplied into all keys at every step.
    mixed = torch.onnx.ops.symbolic(
        'Attention',
        (q, keys, values, mask),
        {'scale': 1.0},
        dtype=q.dtype,
        shape=q.shape,
        version=_OPSETS[FUSED.name],
    )
    return mixed, new


_ATTENTION: dict[str, Attention] = {
    MATMUL.name: appended_attention,
    FUSED.name: _native_attention,
}


def _export_vision(network: Kosmos2, offsets: WeightOffsets, path: Path) -> None:
    side = network.config.vision.image_size
    # The older tier is a part of the newer one.
    tier = MATMUL
    program = torch.onnx.export(
        _Vision(network).eval(),
        (torch.zeros(1, 3, side, side),),
        input_names=['pixels'],
        output_names=['embeds'],
        opset_version=_OPSETS[tier.name],
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    _save(program, offsets, tier, path)


def _export_decoder(
    network: Kosmos2,
    recipe: Recipe,
    tier: Tier,
    offsets: WeightOffsets,
    path: Path,
) -> None:
    text, dtype = network.config.text, network.text_model.lm_head.weight.dtype
    rows, new, slots = 2, 3, 7
    static = recipe.runner == 'tensorrt'
    shared = recipe.prefix if static else 5

    def pairs(batch: int, length: int) -> list[Pair]:
        shape = (batch, text.attention_heads, length, text.head_dim)
        zero = torch.zeros(shape, dtype=dtype)
        return [(zero.clone(), zero.clone()) for _ in range(text.layers)]

    any_rows, any_tokens = (torch.export.Dim(name, min=1) for name in ('rows', 'tokens'))
    any_prefix, any_slots = (torch.export.Dim(name, min=1) for name in ('prefix', 'slots'))
    of_prefix: dict[int, Any] = {} if static else {2: any_prefix}
    of_cache: dict[int, Any] = {0: any_rows, 2: any_slots}
    layers = range(text.layers)
    names = [f'{index}.{part}' for index in layers for part in ('key', 'value')]
    program = torch.onnx.export(
        _Decoder(network, _ATTENTION[tier.name]).eval(),
        (
            torch.zeros(rows, new, text.embed_dim, dtype=dtype),
            torch.ones(rows, new, shared + slots + new, dtype=torch.bool),
            torch.zeros(rows, dtype=torch.int64),
            pairs(1, shared),
            pairs(rows, slots),
        ),
        input_names=[
            *('embeds', 'mask', 'last'),
            *(f'prefix.{name}' for name in names),
            *(f'cache.{name}' for name in names),
        ],
        output_names=['hidden', *(f'new.{name}' for name in names)],
        dynamic_shapes=(
            {0: any_rows, 1: any_tokens},
            {0: any_rows, 1: any_tokens, 2: torch.export.Dim.DYNAMIC},
            {0: any_rows},
            [(of_prefix, of_prefix)] * text.layers,
            [(of_cache, of_cache)] * text.layers,
        ),
        opset_version=_opset(tier, recipe),
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    _save(program, offsets, tier, path)


def _opset(tier: Tier, recipe: Recipe) -> int:
    opset = _OPSETS[tier.name]
    return max(opset, _OPSET_OF_INT8) if recipe.precision == 'int8' else opset


def _save(
    program: torch.onnx.ONNXProgram | None,
    offsets: WeightOffsets,
    tier: Tier,
    path: Path,
) -> None:
    if program is None:
        raise EngineError(f'PyTorch exported nothing for {path.name}')
    graph = program.model.graph
    weights = dict(graph.initializers)
    for weight in weights.values():
        # What has no value cannot be folded into another table.
        weight.const_value = None
    _tidy(program.model)
    for name, weight in weights.items():
        if name in graph.initializers:
            bind_weight(graph, weight, offsets, name.removeprefix('network.'))
    for node in graph.all_nodes():
        # The exporter writes where in our source each node comes from: paths of this machine.
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    program.model.metadata_props.clear()
    ir.save(program.model, path)
    check_graph(onnx.load(path, load_external_data=False), tier)


def _tidy(model: ir.Model) -> None:
    """Run the passes that these graphs need, and no more: the exporter's own optimiser takes ten
    times as long for the same result.
    """
    optimizer.fold_constants(model)
    for tidy in (
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.IdentityEliminationPass(),
        passes.RemoveUnusedNodesPass(),
    ):
        tidy(model)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what torch's exporter logs about itself; errors still come through."""
    loggers = {name: logging.getLogger(name) for name in ('torch.onnx', 'onnx_ir')}
    levels = {name: logger.level for name, logger in loggers.items()}
    for logger in loggers.values():
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            yield
        finally:
            for name, logger in loggers.items():
                logger.setLevel(levels[name])
