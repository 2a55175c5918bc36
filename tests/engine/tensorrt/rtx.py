"""TensorRT for RTX, whose parser and builder need no GPU: NVIDIA's own code in the tests.

Our modules that import TensorRT are imported within functions: by then, the fixture `rtx` has
made sure which one they find.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.tiny import GRAPHS, RECIPE
from kosmos_ros.engine.base import ignore_progress
from kosmos_ros.engine.directory.recipe import Recipe
from kosmos_ros.engine.tensorrt.installed import RTX, Release
from kosmos_ros.model.config import Kosmos2Config

from .surface import RTX as VERSION

RELEASE = Release(RTX, VERSION)
# Name and shape of a tensor, with -1 for what is dynamic, and TensorRT's name of its type.
Tensors = dict[str, tuple[str, tuple[int, ...]]]
TYPES = {'fp32': 'FLOAT', 'fp16': 'HALF', 'bf16': 'BF16'}


def graphs_in(folder: Path) -> tuple[Kosmos2Config, Recipe]:
    """Of what model the graphs in a folder are, and for what recipe."""
    if folder.name in GRAPHS:
        config, precision = GRAPHS[folder.name]
        return config, replace(RECIPE, runner='tensorrt', precision=precision)
    config = Kosmos2Config.from_json(folder / 'config.json')
    return config, Recipe.from_yaml(folder / 'recipe.yaml')


def request_for(folder: Path, name: str, release: Release = RELEASE) -> Any:
    """Our request for a plan of one graph."""
    from kosmos_ros.engine.tensorrt.build_plans import plan_requests

    config, recipe = graphs_in(folder)
    vision, decoder = plan_requests(folder, config, recipe, release)
    request = replace(vision if name == 'vision.onnx' else decoder, graph=folder / name)
    if recipe.runner == 'tensorrt' or request.name == vision.name:
        return request
    # ONNX Runtime leaves the size of the prefix open, too.
    text = config.text
    pair = (1, text.attention_heads, recipe.prefix, text.head_dim)
    prefix = {f'prefix.{i}.{part}': pair for i in range(text.layers) for part in ('key', 'value')}
    return replace(request, inputs=lambda shape: decoder.inputs(shape) | prefix)


def build(request: Any) -> bytes:
    """Build a plan as `engine build` does."""
    from kosmos_ros.engine.tensorrt.builder import build_plan

    return bytes(build_plan(request, Path('no.timing'), ignore_progress))


def parsed(graph: Path) -> tuple[Tensors, Tensors]:
    """Inputs and outputs of a graph, as NVIDIA's parser sees them."""
    from kosmos_ros.engine.tensorrt.builder import read_graph
    from kosmos_ros.engine.tensorrt.flavours import trt
    from kosmos_ros.engine.tensorrt.log import TensorRTLog

    log = TensorRTLog()
    builder = trt.Builder(log)
    network = read_graph(graph, builder, log)
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    described = [
        {one.name: (one.dtype.name, tuple(one.shape)) for one in end} for end in (inputs, outputs)
    ]
    return described[0], described[1]


def decoder_tensors(config: Kosmos2Config, recipe: Recipe) -> tuple[Tensors, Tensors]:
    """Inputs and outputs that the static loop binds."""
    text, wide = config.text, TYPES[recipe.activations]
    prefix = recipe.prefix if recipe.runner == 'tensorrt' else -1
    parts = [f'{index}.{part}' for index in range(text.layers) for part in ('key', 'value')]

    def pair(rows: int, length: int) -> tuple[str, tuple[int, ...]]:
        return wide, (rows, text.attention_heads, length, text.head_dim)

    inputs: Tensors = {
        'embeds': (wide, (-1, -1, text.embed_dim)),
        'mask': ('BOOL', (-1, -1, -1)),
        'last': ('INT64', (-1,)),
        **{f'prefix.{part}': pair(1, prefix) for part in parts},
        **{f'cache.{part}': pair(-1, -1) for part in parts},
    }
    outputs: Tensors = {
        'hidden': (wide, (-1, text.embed_dim)),
        **{f'new.{part}': pair(-1, -1) for part in parts},
    }
    return inputs, outputs


def vision_tensors(config: Kosmos2Config, recipe: Recipe) -> tuple[Tensors, Tensors]:
    """Inputs and outputs that the static loop binds."""
    side = config.vision.image_size
    embeds = (1, config.latent_query_num, config.text.embed_dim)
    return (
        {'pixels': ('FLOAT', (1, 3, side, side))},
        {'embeds': (TYPES[recipe.activations], embeds)},
    )
