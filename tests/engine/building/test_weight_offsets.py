"""Weights at any place in the weight file."""

from collections.abc import Iterator
import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from safetensors import safe_open

from kosmos_ros.engine.building.weight_offsets import bind_weight, weight_offsets

VALUES = np.array([1.5, -2, 3], np.float32)


@pytest.fixture(params=[2**31, 2**32], ids=['beyond 2 GB', 'beyond 4 GB'])
def weights(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A weight file with a large tensor, of which the disk holds nothing, and a small one."""
    size = request.param
    entries = {
        'large': {'dtype': 'I8', 'shape': [size], 'data_offsets': [0, size]},
        'small': {'dtype': 'F32', 'shape': [3], 'data_offsets': [size, size + VALUES.nbytes]},
    }
    header = json.dumps(entries).encode()
    header += b' ' * (-len(header) % 8)
    path = tmp_path / 'model.safetensors'
    with path.open('wb') as file:
        file.write(len(header).to_bytes(8, 'little') + header)
        file.seek(size, 1)
        file.write(VALUES.tobytes())
    yield path
    path.unlink()


def test_a_graph_finds_its_weight(weights: Path) -> None:
    with safe_open(weights, framework='numpy') as file:
        assert file.get_tensor('small').tolist() == VALUES.tolist()
    offsets = weight_offsets(weights)
    assert offsets['small'].offset == weights.stat().st_size - VALUES.nbytes

    x, weight = (
        ir.Value(name=name, shape=ir.Shape([3]), type=ir.TensorType(ir.DataType.FLOAT))
        for name in ('x', 'small')
    )
    node = ir.Node('', 'Add', [x, weight], num_outputs=1)
    node.outputs[0].name, node.outputs[0].type = 'y', x.type
    graph = ir.Graph(
        [x], node.outputs, nodes=[node], initializers=[weight], opset_imports={'': 18}
    )
    bind_weight(graph, weight, offsets, 'small')
    path = weights.with_name('graph.onnx')
    ir.save(ir.Model(graph, ir_version=10), path)
    assert path.stat().st_size < 1000
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    (found,) = session.run(None, {'x': np.ones(3, np.float32)})
    assert found.tolist() == (VALUES + 1).tolist()
