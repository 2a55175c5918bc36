"""Graphs of a deeper model than the other tests have: what the exporter makes of a network depends
on its number of layers.
"""

from collections import Counter
from pathlib import Path

import onnx

from engine.tiny import DEEP
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.tensorrt.tiers import TIERS

LAYERS = DEEP.text.layers


def test_every_layer_has_its_operators(recipe: Recipe, tiny_engines: Path) -> None:
    counts = {}
    for tier in TIERS:
        path = tiny_engines / 'deep' / f'decoder.{tier.name}.onnx'
        graph = onnx.load(path, load_external_data=False).graph
        assert len(graph.input) == 3 + 4 * LAYERS
        assert len(graph.output) == 1 + 2 * LAYERS
        inputs = {value.name: dimensions(value) for value in graph.input}
        outputs = {value.name: dimensions(value) for value in graph.output}
        assert inputs['embeds'] == ['rows', 'tokens', 32]
        assert inputs['prefix.0.key'] == [1, 4, recipe.prefix, 8]
        # What a cache has room for is free, as no operator changes one in place.
        assert inputs['cache.4.value'] == ['rows', 4, 'slots', 8]
        assert outputs['new.4.value'] == ['rows', 4, 'tokens', 8]
        counts[tier.name] = Counter(node.op_type for node in graph.node)
        assert not counts[tier.name]['Identity']
    # Four products with the fused's weights, two with the others', and attention itself: of
    # prefix, cache and new tokens.
    assert counts['matmul']['MatMul'] == (6 + 2 * 3) * LAYERS
    assert counts['matmul']['Softmax'] == LAYERS
    assert counts['fused']['MatMul'] == 6 * LAYERS
    assert counts['fused']['Attention'] == LAYERS
    for count in counts.values():
        assert not count['ScatterElements']
        # Estimates are asked for once, not in each layer.
        assert count['Shape'] < LAYERS


def dimensions(value: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
