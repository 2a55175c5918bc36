"""Two small graphs that write new rows into a cache, each in the way of a tier of TensorRT."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CACHE = ('B', 2, 8, 4)
NEW = ('B', 2, 'N', 4)
# Minimum, optimum and maximum of what is dynamic.
RANGES = {
    'past': ((1, 2, 8, 4), (1, 2, 8, 4), (3, 2, 8, 4)),
    'new': ((1, 2, 1, 4), (1, 2, 2, 4), (3, 2, 5, 4)),
}


def _saved(
    path: Path,
    opset: int,
    nodes: list[onnx.NodeProto],
    index: onnx.ValueInfoProto,
    weights: onnx.TensorProto,
) -> Path:
    def tensor(name: str, shape: tuple[int | str, ...]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [helper.make_node('Mul', ['new', 'weights'], ['scaled'], name='scale'), *nodes],
        'update',
        [tensor('past', CACHE), tensor('new', NEW), index],
        # The second output has a shape that only inference knows.
        [tensor('present', CACHE), tensor('tail', ('B', 2, 'M', 4))],
        [weights],
    )
    opsets = [helper.make_opsetid('', opset)]
    onnx.save_model(
        helper.make_model(graph, opset_imports=opsets, ir_version=10),
        path,
        save_as_external_data=True,
        location=f'{path.stem}.weights',
        size_threshold=0,
    )
    return path


WEIGHTS = numpy_helper.from_array(np.array([2, 2, 2, 2], np.float32), 'weights')
TAIL = helper.make_node('Concat', ['scaled', 'scaled'], ['tail'], name='tail', axis=2)


def scatter_elements(directory: Path) -> Path:
    """Writes `2 * new` to where `at` says, into a new cache."""
    nodes = [
        helper.make_node(
            'ScatterElements', ['past', 'at', 'scaled'], ['present'], name='write', axis=2
        ),
        TAIL,
    ]
    index = helper.make_tensor_value_info('at', TensorProto.INT64, NEW)
    return _saved(directory / 'scatter_elements.onnx', 18, nodes, index, WEIGHTS)


def tensor_scatter(directory: Path) -> Path:
    """Writes `2 * new` from row `at` on, into the cache itself."""
    nodes = [
        helper.make_node('TensorScatter', ['past', 'scaled', 'at'], ['present'], name='write'),
        TAIL,
    ]
    index = helper.make_tensor_value_info('at', TensorProto.INT64, ('B',))
    return _saved(directory / 'tensor_scatter.onnx', 24, nodes, index, WEIGHTS)
