"""The network as typed ONNX graphs over the engine's one weight file.  Needs torch and onnx.

A graph holds no weights: every initializer refers to an offset in ``model.safetensors``.  So the
graphs are small, both tiers and every runner share one copy of the weights, and no graph exceeds
what a protobuf file can hold.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
import logging
from pathlib import Path
from typing import Any, cast
import warnings

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer
import torch
from torch import Tensor, nn

from kosmos_ros.engine.building.layer_calls import (
    DecoderLayerFunction,
    VisionLayerFunction,
    call_layers,
    repeat_layer,
)
from kosmos_ros.engine.building.weight_offsets import WeightOffsets, bind_weight, weight_offsets
from kosmos_ros.engine.directory.directory import VISION_GRAPH, WEIGHTS_FILE, decoder_graph
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.tensorrt.tiers import FUSED, MATMUL, TIERS, Tier
from kosmos_ros.errors import EngineError
from kosmos_ros.model.config import Kosmos2Config
from kosmos_ros.model.network.kosmos2 import (
    Attention,
    DecoderLayer,
    Kosmos2,
    Pair,
    appended_attention,
)
from kosmos_ros.model.network.layers import Norm
from kosmos_ros.model.network.vision import VisionLayer
from kosmos_ros.model.network.weights import DTYPES

# 18 is the oldest with all that is needed; with int8, the oldest whose scales may have 16 bits.
_OPSETS = {MATMUL.name: 18, FUSED.name: 24}
_OPSET_OF_INT8 = 19


def export_graphs(config: Kosmos2Config, recipe: Recipe, directory: Path) -> None:
    """Write ``vision.onnx`` and the decoder's graphs, for TensorRT one for each tier, beside
    ``model.safetensors``, which must be there.

    Rows, tokens and slots of the decoder are dynamic, each runner fixes them; the prefix has the
    recipe's static size for TensorRT and is dynamic for ONNX Runtime.

    :raises EngineError: when this PyTorch cannot export them.
    """
    if not hasattr(torch.onnx, 'ops'):
        raise EngineError(
            f'PyTorch {torch.__version__} cannot export these graphs; install 2.8 or newer, or '
            'make the engine on another machine and copy it'
        )
    network = _without_weights(_of_one_layer(config), DTYPES[recipe.activations])
    if recipe.runner == 'tensorrt':
        for module in network.modules():
            if isinstance(module, Norm):
                module.__class__ = _WrittenOutNorm
    offsets = weight_offsets(directory / WEIGHTS_FILE)
    # To ONNX Runtime on a CPU both are the same, so it has the one without copies.
    tiers = TIERS if recipe.runner == 'tensorrt' else (MATMUL,)
    with _quiet_exporter():
        # Before layers become calls.
        vision_layer = _export_vision_layer(network)
        decoder_layers = [_export_decoder_layer(network, recipe, tier) for tier in tiers]
        call_layers(network)
        vision = _export_vision(network)
        repeat_layer(vision, VisionLayer, vision_layer, config.vision.num_hidden_layers)
        _save(vision, offsets, directory / VISION_GRAPH)
        for tier, layer in zip(tiers, decoder_layers, strict=True):
            decoder = _export_decoder(network, recipe, tier)
            repeat_layer(decoder, DecoderLayer, layer, config.text.layers)
            _save(decoder, offsets, directory / decoder_graph(tier.name))


def _of_one_layer(config: Kosmos2Config) -> Kosmos2Config:
    text, vision = replace(config.text, layers=1), replace(config.vision, num_hidden_layers=1)
    return replace(config, text=text, vision=vision)


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

    def __init__(self, network: Kosmos2) -> None:
        super().__init__()
        self.network = network

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
        hidden, new = self.network.decoder(embeds, mask, start, prefix, cache)
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


def _export_vision_layer(network: Kosmos2) -> ir.Model:
    vision = network.config.vision
    layer = cast(VisionLayer, network.vision_model.model.encoder.layers[0])
    dtype = network.text_model.lm_head.weight.dtype
    features = torch.zeros(1, vision.patches + 1, vision.hidden_size, dtype=dtype)
    return _exported(VisionLayerFunction(layer), (features, list(layer.parameters())))


def _export_vision(network: Kosmos2) -> ir.Model:
    side = network.config.vision.image_size
    return _exported(
        _Vision(network),
        (torch.zeros(1, 3, side, side),),
        input_names=['pixels'],
        output_names=['embeds'],
    )


class _Sizes:
    """Example inputs of the decoder, and which of their sizes are dynamic."""

    def __init__(self, network: Kosmos2, recipe: Recipe) -> None:
        rows, new, slots = 2, 3, 7
        static = recipe.runner == 'tensorrt'
        text, dtype = network.config.text, network.text_model.lm_head.weight.dtype
        shared = recipe.prefix if static else 5

        def pair(batch: int, length: int) -> Pair:
            shape = (batch, text.attention_heads, length, text.head_dim)
            return torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)

        self.embeds = torch.zeros(rows, new, text.embed_dim, dtype=dtype)
        self.mask = torch.ones(rows, new, shared + slots + new, dtype=torch.bool)
        self.last = torch.zeros(rows, dtype=torch.int64)
        self.prefix, self.cache = pair(1, shared), pair(rows, slots)
        any_rows, any_tokens = (torch.export.Dim(name, min=1) for name in ('rows', 'tokens'))
        any_prefix, any_slots = (torch.export.Dim(name, min=1) for name in ('prefix', 'slots'))
        self.of_embeds = {0: any_rows, 1: any_tokens}
        self.of_mask = {0: any_rows, 1: any_tokens, 2: torch.export.Dim.DYNAMIC}
        self.of_last = {0: any_rows}
        self.of_prefix: dict[int, Any] = {} if static else {2: any_prefix}
        self.of_cache: dict[int, Any] = {0: any_rows, 2: any_slots}


def _export_decoder_layer(network: Kosmos2, recipe: Recipe, tier: Tier) -> ir.Model:
    sizes = _Sizes(network, recipe)
    layer = cast(DecoderLayer, network.decoder.layers[0])
    weights = list(layer.parameters())
    mask = sizes.mask.unsqueeze(1)
    rows, tokens, slots = sizes.of_mask.values()
    return _exported(
        DecoderLayerFunction(layer, _ATTENTION[tier.name]),
        (sizes.embeds, mask, sizes.prefix, sizes.cache, weights),
        dynamic_shapes=(
            sizes.of_embeds,
            {0: rows, 2: tokens, 3: slots},
            (sizes.of_prefix,) * 2,
            (sizes.of_cache,) * 2,
            [{}] * len(weights),
        ),
        opset_version=_opset(tier, recipe),
    )


def _export_decoder(network: Kosmos2, recipe: Recipe, tier: Tier) -> ir.Model:
    sizes, names = _Sizes(network, recipe), ('0.key', '0.value')
    return _exported(
        _Decoder(network),
        (sizes.embeds, sizes.mask, sizes.last, [sizes.prefix], [sizes.cache]),
        input_names=[
            *('embeds', 'mask', 'last'),
            *(f'prefix.{name}' for name in names),
            *(f'cache.{name}' for name in names),
        ],
        output_names=['hidden', *(f'new.{name}' for name in names)],
        dynamic_shapes=(
            sizes.of_embeds,
            sizes.of_mask,
            sizes.of_last,
            [(sizes.of_prefix,) * 2],
            [(sizes.of_cache,) * 2],
        ),
        opset_version=_opset(tier, recipe),
    )


def _exported(
    module: nn.Module,
    arguments: tuple[Any, ...],
    *,
    # The older tier is a part of the newer one.
    opset_version: int = _OPSETS[MATMUL.name],
    **options: Any,
) -> ir.Model:
    program = torch.onnx.export(
        module.eval(),
        arguments,
        opset_version=opset_version,
        dynamo=True,
        optimize=False,
        verbose=False,
        **options,
    )
    if program is None:
        raise EngineError(f'PyTorch exported nothing for {type(module).__name__}')
    return program.model


def _opset(tier: Tier, recipe: Recipe) -> int:
    opset = _OPSETS[tier.name]
    return max(opset, _OPSET_OF_INT8) if recipe.precision == 'int8' else opset


def _save(model: ir.Model, offsets: WeightOffsets, path: Path) -> None:
    graph = model.graph
    weights = dict(graph.initializers)
    for weight in weights.values():
        # What has no value cannot be folded into another table.
        weight.const_value = None
    _tidy(model)
    for name, weight in weights.items():
        if name in graph.initializers:
            bind_weight(graph, weight, offsets, name.removeprefix('network.'))
    for node in graph.all_nodes():
        # The exporter writes where in our source each node comes from: paths of this machine.
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    model.metadata_props.clear()
    ir.save(model, path)


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
