"""Graphs for the oldest releases have nothing that the parser of TensorRT 10.3 refuses."""

from pathlib import Path

import onnx
import pytest

from engine.tiny import ENGINES, GRAPHS
from kosmos_ros.engine.tensorrt.tiers import MATMUL

from .operators import OPERATORS, refusals

FOLDERS = [*GRAPHS, *('-'.join(engine) for engine in ENGINES if engine[0] == 'tensorrt')]


@pytest.mark.parametrize('name', ['vision.onnx', 'decoder.matmul.onnx'])
@pytest.mark.parametrize('folder', FOLDERS)
def test_exported_graphs_are_taken(folder: str, name: str, tiny_engines: Path) -> None:
    graph = onnx.load(tiny_engines / folder / name, load_external_data=False)
    assert refusals(graph) == []


def test_the_table_speaks_onnx() -> None:
    for name, operator in OPERATORS.items():
        schema = onnx.defs.get_schema(name, MATMUL.max_opset, '')
        assert all(place < schema.max_input for place in (*operator.inputs, *operator.constant))


def refused(
    nodes: str,
    inputs: str = 'float[2,3] x',
    outputs: str = '',
    *,
    tables: str = '',
    opset: int = 18,
) -> str:
    """Return what is refused in a graph in ONNX's own notation."""
    imports = f'<ir_version: 9, opset_import: ["": {opset}]>'
    text = f'{imports} graph ({inputs}) => ({outputs}) <{tables}> {{ {nodes} }}'
    return '; '.join(refusals(onnx.parser.parse_model(text)))


@pytest.mark.parametrize('element', ['float', 'float16', 'bfloat16'])
def test_floats_are_taken(element: str) -> None:
    assert refused('y = Sqrt(x)', f'{element}[2] x', f'{element}[2] y') == ''


def test_other_types_are_refused() -> None:
    assert refused('y = Sqrt(x)', 'double[2] x').startswith("'x' is DOUBLE; Sqrt 'y': 'x' is ")
    assert "Pow 'y': 'x' is INT64" in refused('y = Pow(x, x)', 'int64[2] x')
    assert "'z' is UINT8" in refused('z = Cast<to = 2>(x)')
    assert "'table' is INT8" in refused('y = Transpose(table)', tables='int8[1] table = {1}')


def test_a_strongly_typed_sum_has_one_type() -> None:
    nodes, inputs = 'y = Add(a, b)', 'float[2] a, float16[2] b'
    assert refused(nodes, inputs, 'float[2] y').startswith("Add 'y': mixed element types: 'a' ")


def test_an_operator_of_unknown_type_is_refused() -> None:
    found = refused('h = Gelu(x) y = Erf(h)')
    assert found.startswith("Gelu 'h': not in the table; Erf 'y': 'h' is UNDEFINED")
    # Up to TensorRT 10.5.
    assert 'not in the table' in refused('y = LayerNormalization(x, s)', 'float[2] x, float[2] s')


def test_the_opset_has_a_ceiling() -> None:
    assert refused('y = Sqrt(x)', opset=20) == ''
    assert refused('y = Sqrt(x)', opset=21) == 'opset 21 is above 20'


@pytest.mark.parametrize('operator', ['ReduceMean', 'ReduceL2', 'Squeeze'])
def test_axes_are_constants(operator: str) -> None:
    node, x = f'y = {operator}(x, axes)', 'float[2,1] x'
    assert refused(node, x, tables='int64[1] axes = {1}') == ''
    assert refused(f'axes = Constant<value_ints = [1]>() {node}', x) == ''
    assert "'axes' must be a constant" in refused(node, f'{x}, int64[1] axes')


def test_scattering_says_nothing_of_reductions() -> None:
    inputs = 'float[4,3] x, int64[2,1] at, float[2,3] new'
    assert refused('y = ScatterND(x, at, new)', inputs) == ''
    node = 'y = ScatterND<reduction = "none">(x, at, new)'
    assert "'reduction' must be absent" in refused(node, inputs)


@pytest.mark.parametrize(
    ('arguments', 'opset', 'problem'),
    [
        ('<axis = 0>(w, s)', 19, ''),
        ('<axis = 0>(w, s)', 18, 'scales other than FLOAT need opset 19'),
        ('<axis = 0>(w, s, zero)', 19, 'a zero point must be left out'),
        ('<axis = 0>(w, x)', 19, "'x' must be a constant"),
        ('<axis = 0, output_dtype = 10>(w, s)', 23, "'output_dtype' must be absent"),
        ('<axis = 0, block_size = 1>(w, s)', 21, "'block_size' must be absent"),
    ],
)
def test_int8_weights(arguments: str, opset: int, problem: str) -> None:
    tables = 'int8[2] w = {1, 1}, float16[2] s = {1, 1}, int8[2] zero = {0, 0}'
    found = refused(f'y = DequantizeLinear{arguments}', 'float16[2] x', tables=tables, opset=opset)
    assert problem in found if problem else not found


@pytest.mark.parametrize(
    ('given', 'returned', 'problem'),
    [
        ('2, rows', '2, rows', ''),
        ('2, ?', '2, 3', "axis 1 of 'x' is neither static nor declared dynamic"),
        ('2, 3', '2, found', "axis 1 of 'y' is neither static nor declared dynamic"),
    ],
)
def test_shapes_are_static_or_declared(given: str, returned: str, problem: str) -> None:
    # A reshape to what is not known to inference lets any shape stand.
    inputs = f'float[{given}] x, int64[2] shape'
    assert refused('y = Reshape(x, shape)', inputs, f'float[{returned}] y') == problem
