"""NVIDIA's own parser and builder, without a GPU, on every graph that we export.

A plan cannot be loaded without a driver.  What TensorRT made of a graph is asked of the parsed
network, and of the bytes of the plan, which hold the names of tensors and of profiles.
"""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
import shutil
from typing import Any

import onnx
import pytest

from engine.tiny import ENGINES, GRAPHS
from kosmos_ros.engine.directory.directory import decoder_graph
from kosmos_ros.engine.directory.recipe import recipe_named
from kosmos_ros.engine.tensorrt.installed import CLASSIC, Release
from kosmos_ros.engine.tensorrt.profiles import Profile, profiles
from kosmos_ros.engine.tensorrt.tiers import FUSED, MATMUL, tier_for
from kosmos_ros.errors import EngineError

from .rtx import RELEASE, build, decoder_tensors, graphs_in, parsed, request_for, vision_tensors

FOLDERS = [*('-'.join(engine) for engine in ENGINES), *GRAPHS]
DECODERS = [f'decoder.{tier.name}.onnx' for tier in (MATMUL, FUSED)]
ALL = [
    (folder, name)
    for folder in FOLDERS
    for name in ('vision.onnx', *DECODERS)
    if name != DECODERS[1] or not folder.startswith('onnxruntime')
]
# The heads of these have a width that the fused operator does not take; see tiers.py.
ODD = [(folder, DECODERS[1]) for folder in GRAPHS if folder.startswith('odd')]

pytestmark = pytest.mark.usefixtures('rtx')


@pytest.mark.parametrize(('folder', 'name'), ALL)
def test_every_graph_has_the_inputs_and_outputs_that_we_bind(
    tiny_engines: Path, folder: str, name: str
) -> None:
    config, recipe = graphs_in(tiny_engines / folder)
    wanted = (vision_tensors if name == 'vision.onnx' else decoder_tensors)(config, recipe)
    assert parsed(tiny_engines / folder / name) == wanted


@pytest.mark.parametrize(('folder', 'name'), [one for one in ALL if one not in ODD])
def test_every_graph_becomes_a_plan(tiny_engines: Path, folder: str, name: str) -> None:
    request = request_for(tiny_engines / folder, name)
    plan = build(request)
    for tensors in parsed(request.graph):
        assert all(tensor.encode() in plan for tensor in tensors)
    assert profiles_in(plan) == max(1, len(request.profiles))


@pytest.mark.parametrize(('folder', 'name'), ODD)
def test_odd_heads_get_the_other_graph(tiny_engines: Path, folder: str, name: str) -> None:
    request = request_for(tiny_engines / folder, name)
    with pytest.raises(EngineError, match='decoder.plan cannot be built; TensorRT says: .*layout'):
        build(request)
    config, _ = graphs_in(tiny_engines / folder)
    assert decoder_graph(tier_for(RELEASE, config.text.head_dim).name) == DECODERS[0]


# One wide profile; one for each shape, of either graph; and those for RTX.
@pytest.mark.parametrize(
    'release', [*(Release(CLASSIC, text) for text in ('10.3', '10.8', '11.4')), RELEASE], ids=str
)
# Thor has the shapes of a desktop.
@pytest.mark.parametrize('name', ['desktop', 'jetson-orin', 'rtx'])
def test_the_profiles_of_every_recipe_are_taken(
    tiny_engines: Path, name: str, release: Release
) -> None:
    folder = tiny_engines / 'tensorrt-fp16'
    config, _ = graphs_in(folder)
    graph = decoder_graph(tier_for(release, config.text.head_dim).name)
    shapes = profiles(recipe_named(name), release)
    plan = build(replace(request_for(folder, graph), profiles=shapes))
    assert profiles_in(plan) == len(shapes)


def test_thor_has_the_shapes_of_a_desktop() -> None:
    assert recipe_named('jetson-thor').shapes == recipe_named('desktop').shapes


def profiles_in(plan: bytes) -> int:
    """How many profiles a plan has kernels for."""
    count = 1
    while f'[profile {count}]'.encode() in plan:
        count += 1
    return count


def test_attention_without_a_fused_kernel_is_seen(
    tiny_engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is none in fp32; for the released shapes, test_true_size.py sees that there is."""
    builder = import_module('kosmos_ros.engine.tensorrt.builder')
    monkeypatch.setattr(builder, 'allow_decomposition', lambda network: None)
    with pytest.raises(EngineError, match='Attention operation was not supported by a dedicated'):
        build(request_for(tiny_engines / 'tensorrt-fp32', DECODERS[1]))


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'embeds': (1, 1)}, 'embeds has 3 dimensions but profile 0 has 2 dimensions'),
        ({'embeds': (1, 1, 33)}, 'profile has min=33, opt=33, max=33 but tensor has 32'),
        ({'last': None}, 'last is missing dimensions in profile 0'),
        ({'mask': (1, 1, 7)}, 'incompatible for broadcast'),
    ],
)
def test_shapes_out_of_range_are_refused_in_its_words(
    tiny_engines: Path, change: dict[str, Any], words: str
) -> None:
    request = request_for(tiny_engines / 'tensorrt-fp16', DECODERS[1])

    def inputs(shape: Any) -> dict[str, Any]:
        shapes = {**request.inputs((1, 1, 80)), **change}
        return {name: shape for name, shape in shapes.items() if shape is not None}

    profile = Profile((1, 1, 80), (1, 1, 80), (1, 1, 80))
    with pytest.raises(
        EngineError, match=f'decoder.plan cannot be built; TensorRT says: .*{words}'
    ):
        build(replace(request, inputs=inputs, profiles=(profile,)))


@pytest.mark.parametrize(
    ('least', 'most', 'words'),
    [
        ((4, 1, 32), (1, 1, 32), 'refuses a profile of decoder.plan; .*profile->isValid'),
        (None, None, 'cannot be built; .*no optimization profile has been defined'),
    ],
)
def test_profiles_out_of_range_are_refused_in_its_words(
    tiny_engines: Path, least: Any, most: Any, words: str
) -> None:
    request = request_for(tiny_engines / 'tensorrt-fp16', DECODERS[1])
    wanted = () if least is None else (Profile(least, most, most),)
    with pytest.raises(EngineError, match=words):
        build(replace(request, profiles=wanted))


def other_operator(graph: onnx.GraphProto) -> None:
    graph.node[3].op_type = 'StringConcat'


def other_domain(graph: onnx.GraphProto) -> None:
    graph.node[3].op_type, graph.node[3].domain = 'Mine', 'com.example'


def external(key: str, value: str) -> Callable[[onnx.GraphProto], None]:
    def change(graph: onnx.GraphProto) -> None:
        weight = next(one for one in graph.initializer if one.external_data)
        (entry,) = (entry for entry in weight.external_data if entry.key == key)
        entry.value = value

    return change


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (other_operator, 'checkStringConcat'),
        (other_domain, 'Plugin not found'),
        (external('offset', '1000000000'), 'offset/length out of range'),
        (external('length', '8'), 'Unexpected size for the external weights'),
        (external('location', 'nothing.bin'), 'Failed to open file'),
    ],
    ids=['operator', 'domain', 'offset', 'length', 'file'],
)
def test_wrong_graphs_are_refused_in_its_words(
    tiny_engines: Path,
    tmp_path: Path,
    change: Callable[[onnx.GraphProto], None],
    words: str,
) -> None:
    folder = Path(shutil.copytree(tiny_engines / 'tensorrt-fp16', tmp_path / 'engine'))
    model = onnx.load(folder / 'vision.onnx', load_external_data=False)
    change(model.graph)
    (folder / 'vision.onnx').write_bytes(model.SerializeToString())
    with pytest.raises(EngineError, match=f'cannot read vision.onnx .*TensorRT says: .*{words}'):
        build(request_for(folder, 'vision.onnx'))


@pytest.mark.parametrize('content', [b'', b'no graph at all', None])
def test_files_that_are_no_graphs_are_refused(
    tiny_engines: Path, tmp_path: Path, content: bytes | None
) -> None:
    graph = tmp_path / 'vision.onnx'
    if content is not None:
        graph.write_bytes(content)
    request = request_for(tiny_engines / 'tensorrt-fp16', 'vision.onnx')
    with pytest.raises(EngineError, match='cannot (read vision.onnx|be built)'):
        build(replace(request, graph=graph))
