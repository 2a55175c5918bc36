"""One layer of a stack, exported once and repeated.  Needs torch and onnx.

torch traces and translates every operator of every layer, which takes minutes for the released
model.  So only one layer of each kind is exported: in the graph of the network, which has no more
than this one, it is a single node that calls a function; and this call is repeated, with the other
layers' weights, before the function's nodes take the place of each call.
"""

from collections.abc import Sequence
from typing import Any, cast

import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch
from torch import Tensor, nn

from kosmos_ros.errors import EngineError
from kosmos_ros.model.network.kosmos2 import Attention, DecoderLayer, Kosmos2, Pair
from kosmos_ros.model.network.vision import VisionLayer

_DOMAIN = 'kosmos_ros'
_VERSION = 1


class DecoderLayerCall(DecoderLayer):
    """A node in the place of a layer of the decoder."""

    def forward(
        self, x: Tensor, mask: Tensor, start: Tensor, prefix: Pair, cache: Pair, attend: Attention
    ) -> tuple[Tensor, Pair]:
        """See `DecoderLayer.forward`."""
        rows, heads, _, width = cache[0].shape
        fresh = (rows, heads, x.shape[1], width)
        x, key, value = _call(
            DecoderLayer, (x, mask, *prefix, *cache, *self.parameters()), (x.shape, fresh, fresh)
        )
        return x, (key, value)


class VisionLayerCall(VisionLayer):
    """A node in the place of a layer of the vision transformer."""

    def forward(self, x: Tensor) -> Tensor:
        """See `VisionLayer.forward`."""
        (x,) = _call(VisionLayer, (x, *self.parameters()), (x.shape,))
        return x


class DecoderLayerFunction(nn.Module):
    """What `DecoderLayerCall` calls."""

    def __init__(self, layer: DecoderLayer, attend: Attention) -> None:
        super().__init__()
        self._layer = _Unbound(layer)
        self._attend = attend

    def forward(
        self, x: Tensor, mask: Tensor, prefix: Pair, cache: Pair, weights: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Nothing is written into the cache here, so any tensor will do for where tokens begin.
        start = mask
        arguments = (x, mask, start, prefix, cache, self._attend)
        x, (key, value) = self._layer(weights, arguments)
        return x, key, value


class VisionLayerFunction(nn.Module):
    """What `VisionLayerCall` calls."""

    def __init__(self, layer: VisionLayer) -> None:
        super().__init__()
        self._layer = _Unbound(layer)

    def forward(self, x: Tensor, weights: list[Tensor]) -> Tensor:
        output: Tensor = self._layer(weights, (x,))
        return output


class _Unbound:
    """A layer that is given its weights; it is no part of the module that holds it."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._names = [name for name, _ in layer.named_parameters()]

    def __call__(self, weights: Sequence[Tensor], arguments: tuple[Any, ...]) -> Any:
        named = dict(zip(self._names, weights, strict=True))
        return torch.func.functional_call(self._layer, named, arguments)


def call_layers(network: Kosmos2) -> None:
    """Turn the layers of a network into calls, for good."""
    for module in network.modules():
        if isinstance(module, DecoderLayer):
            module.__class__ = DecoderLayerCall
        elif isinstance(module, VisionLayer):
            module.__class__ = VisionLayerCall


def repeat_layer(model: ir.Model, kind: type[nn.Module], function: ir.Model, count: int) -> None:
    """Make `count` layers of the only call in a graph.

    :param kind: of the layer: `DecoderLayer` or `VisionLayer`.
    :param function: what is called.
    """
    (call,) = (node for node in model.graph if node.op_type == kind.__name__)
    last, users = call, call.outputs[0].uses()
    for index in range(1, count):
        last = _next_call(model.graph, call, last, index)
    for use in users:
        use.node.replace_input_with(use.idx, last.outputs[0])
    _inline(model, kind, function.graph)
    _ask_sizes_once(model.graph)


def _next_call(graph: ir.Graph, first: ir.Node, last: ir.Node, index: int) -> ir.Node:
    """Append a call that takes its first input from `last`; what belongs to layer 0 in the first
    call's inputs and outputs is there for layer `index`, too.
    """

    def own(value: ir.Value) -> ir.Value:
        name = _of_layer(cast(str, value.name), index)
        return ir.Value(name=name, shape=value.shape, type=value.type)

    inputs = [last.outputs[0]]
    for value in cast(Sequence[ir.Value], first.inputs[1:]):
        if value.is_initializer():
            inputs.append(own(value))
            graph.initializers.add(inputs[-1])
        elif value.is_graph_input() and _of_layer(cast(str, value.name), index) != value.name:
            inputs.append(own(value))
            graph.inputs.append(inputs[-1])
        else:
            # All layers share it.
            inputs.append(value)
    outputs = [own(value) for value in first.outputs]
    outputs[0].name = f'layer.{index}'
    graph.outputs.extend(outputs[1:])
    call = ir.Node(first.domain, first.op_type, inputs, first.attributes.values(), outputs=outputs)
    graph.insert_after(last, call)
    return call


def _of_layer(name: str, index: int) -> str:
    """Return the name of the same part of another layer, by the name in layer 0."""
    return name.replace('.0.', f'.{index}.', 1)


def _inline(model: ir.Model, kind: type[nn.Module], graph: ir.Graph) -> None:
    for name, table in list(graph.initializers.items()):
        # A function has none.
        if table.const_value is None:
            raise EngineError(f'the graph of {kind.__name__} has a weight of its own, {name}')
        del graph.initializers[name]
        constant = ir.Node('', 'Constant', [], [ir.AttrTensor('value', table.const_value)])
        ir.convenience.replace_all_uses_with(table, constant.outputs[0])
        graph.insert_before(graph[0], constant)
    called = ir.Function(_DOMAIN, kind.__name__, graph=graph, attributes=[])
    model.functions[called.identifier()] = called
    for tidy in (passes.InlinePass(), passes.RemoveUnusedOpsetsPass()):
        tidy(model)


def _ask_sizes_once(graph: ir.Graph) -> None:
    """Let no layer ask its own tensors for sizes that another one has asked for."""
    known: dict[tuple[int | str | None, ...], ir.Value] = {}
    for node in graph:
        if node.op_type != 'Shape' or node.inputs[0] is None or node.inputs[0].shape is None:
            continue
        start, end = (node.attributes.get_int(name, None) for name in ('start', 'end'))
        sizes = tuple(
            size if isinstance(size, int) else size.value
            for size in node.inputs[0].shape.dims[start:end]
        )
        if None not in sizes and sizes in known:
            ir.convenience.replace_all_uses_with(node.outputs[0], known[sizes])
        known.setdefault(sizes, node.outputs[0])


def _call(
    layer: type[nn.Module], arguments: Sequence[Tensor], shapes: Sequence[Sequence[int]]
) -> Sequence[Tensor]:
    outputs: Sequence[Tensor] = torch.onnx.ops.symbolic_multi_out(
        f'{_DOMAIN}::{layer.__name__}',
        arguments,
        dtypes=[arguments[-1].dtype] * len(shapes),
        shapes=shapes,
        version=_VERSION,
    )
    return outputs
