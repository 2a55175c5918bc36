"""Small graphs for the tests of the table of operators."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
import pytest

from kosmos_ros.engine.tensorrt.operators import check_graph
from kosmos_ros.engine.tensorrt.tiers import MATMUL, Tier
from kosmos_ros.errors import EngineError

FLOAT, HALF, BRAIN = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
INT8, INT32, INT64 = TensorProto.INT8, TensorProto.INT32, TensorProto.INT64
BOOL, DOUBLE = TensorProto.BOOL, TensorProto.DOUBLE

# Name, element type, dimensions.
Value = tuple[str, int, Sequence[int | str | None] | None]

node = helper.make_node


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    *,
    opset: int = 18,
    **tables: np.ndarray,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        'graph',
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(table, name) for name, table in tables.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)])


def unary(operator: str, element: int = FLOAT, **attributes: object) -> onnx.ModelProto:
    """One node from x to y."""
    nodes = [node(operator, ['x'], ['y'], name='it', **attributes)]
    return model(nodes, [('x', element, [2, 3])], [('y', element, [2, 3])])


def refused(graph: onnx.ModelProto, match: str, tier: Tier = MATMUL) -> None:
    with pytest.raises(EngineError, match=match):
        check_graph(graph, tier)
