"""Graphs of a deeper model than the other tests have: what the exporter makes of a network depends
on its number of layers.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from safetensors.torch import save_file

from kosmos_ros.engine.building.export import export_graphs
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.tensorrt.tiers import TIERS
from kosmos_ros.model.config import Kosmos2Config, TextConfig, VisionConfig
from kosmos_ros.model.network.kosmos2 import Kosmos2

LAYERS = 5


@pytest.mark.timeout(300)
def test_every_layer_has_its_operators(recipe: Recipe, tmp_path: Path) -> None:
    """The export itself holds them against the table of their tier."""
    config = Kosmos2Config(
        text=TextConfig(
            vocab_size=1100, embed_dim=32, layers=LAYERS, ffn_dim=64, attention_heads=4
        ),
        vision=VisionConfig(
            hidden_size=24,
            intermediate_size=48,
            num_hidden_layers=1,
            num_attention_heads=3,
            image_size=42,
        ),
        latent_query_num=6,
    )
    weights = Kosmos2(config).half().state_dict()
    del weights['text_model.lm_head.weight']
    save_file(weights, tmp_path / 'model.safetensors')
    export_graphs(config, replace(recipe, runner='tensorrt', precision='fp16'), tmp_path)
    counts = {}
    for tier in TIERS:
        path = tmp_path / f'decoder.{tier.name}.onnx'
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
