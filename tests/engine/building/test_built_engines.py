"""What is in an engine that was built, and what it says of itself."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from kosmos_ros.engine.building import build
from kosmos_ros.engine.directory.directory import (
    VISION_GRAPH,
    WEIGHTS_FILE,
)
from kosmos_ros.engine.directory.manifest import Manifest


def every_byte(directory: Path) -> Iterator[tuple[str, bytes]]:
    for path in directory.rglob('*'):
        yield path.name, path.read_bytes()


def test_no_path_of_this_machine_is_in_an_engine(
    engines: dict[str, Path], tiny_engines: Path
) -> None:
    ours = (tiny_engines.parent, Path(build.__file__).parents[3], Path(np.__file__).parents[1])
    for directory in engines.values():
        for name, content in every_byte(directory):
            for place in ('/work', '/home', 'site-packages', '/tmp', *map(str, ours)):
                assert place.encode() not in content, f'{place} in {directory.name}/{name}'


def test_graphs_are_small_and_hold_no_weights(engines: dict[str, Path]) -> None:
    seen = 0
    for directory in engines.values():
        for path in directory.glob('*.onnx'):
            seen += 1
            assert path.stat().st_size < 2_000_000
            graph = onnx.load(path, load_external_data=False).graph
            inside = [one for one in graph.initializer if not one.external_data]
            assert sum(one.ByteSize() for one in inside) < 20_000
            places = {
                entry.value
                for one in graph.initializer
                for entry in one.external_data
                if entry.key == 'location'
            }
            assert places == {WEIGHTS_FILE}
    assert seen == 2 * 2 + 4 * 3


def test_int8_takes_less_room(engines: dict[str, Path]) -> None:
    def size(name: str) -> int:
        return (engines[name] / WEIGHTS_FILE).stat().st_size

    assert size('onnxruntime-int8') < size('onnxruntime-fp32')
    assert size('tensorrt-int8') < size('tensorrt-fp16')


def test_what_an_engine_says_of_itself(engines: dict[str, Path]) -> None:
    manifests = {name: Manifest.read(directory) for name, directory in engines.items()}
    assert {f'{one.runner}-{one.precision}': name for name, one in manifests.items()} == {
        name: name for name in engines
    }
    # They all come from one checkpoint.
    assert len({one.model for one in manifests.values()}) == 1
    for one in manifests.values():
        assert one.name == 'tiny'
        assert one.made_by.startswith('kosmos_ros ')
        assert {VISION_GRAPH, 'decoder.matmul.onnx'} <= set(one.files)
        assert ('decoder.fused.onnx' in one.files) == (one.runner == 'tensorrt')
