"""The exporter's graphs are held against what TensorRT's parser takes."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper
import pytest

from engine.onnx_graphs import (
    BOOL,
    BRAIN,
    DOUBLE,
    FLOAT,
    HALF,
    INT8,
    INT64,
    Value,
    model,
    node,
    refused,
    unary,
)
from kosmos_ros.engine.tensorrt.operators import OPERATORS, check_graph
from kosmos_ros.engine.tensorrt.tiers import FUSED, MATMUL, TIERS, Tier
from kosmos_ros.errors import EngineError


@pytest.mark.parametrize('tier', TIERS, ids=lambda tier: tier.name)
def test_the_table_speaks_onnx(tier: Tier) -> None:
    """Names, positions and types all exist in the tier's opset."""
    for name, operator in OPERATORS[tier.name].items():
        schema = onnx.defs.get_schema(name, tier.max_opset, '')
        for place in (*operator.inputs, *operator.constant):
            assert place < schema.max_input, name
        for types in (operator.types, *operator.inputs.values(), operator.output or ()):
            assert set(types) <= set(TensorProto.DataType.keys()), name
    assert not {'If', 'Loop', 'Scan', 'NonZero', 'TopK', 'Unique'} & OPERATORS[tier.name].keys()


@pytest.mark.parametrize('element', [FLOAT, HALF, BRAIN])
def test_floats_pass(element: int) -> None:
    check_graph(unary('Sqrt', element), MATMUL)
    check_graph(unary('Softmax', element, axis=-1), FUSED)


@pytest.mark.parametrize(
    ('operator', 'element', 'match'),
    [
        ('Sqrt', DOUBLE, 'DOUBLE'),
        ('Neg', INT8, "Neg 'it': 'x' is INT8, allowed are BFLOAT16, FLOAT, FLOAT16, INT32, INT64"),
        ('Identity', INT8, 'INT8'),
        ('Identity', TensorProto.UINT8, 'UINT8'),
        ('Identity', TensorProto.STRING, 'STRING'),
    ],
)
def test_other_types_are_refused(operator: str, element: int, match: str) -> None:
    refused(unary(operator, element), match)


def test_a_strongly_typed_sum_has_one_type() -> None:
    def total(other: int) -> onnx.ModelProto:
        values: list[Value] = [('a', FLOAT, [2]), ('b', other, [2])]
        return model([node('Add', ['a', 'b'], ['y'], name='sum')], values, [('y', FLOAT, [2])])

    check_graph(total(FLOAT), MATMUL)
    refused(total(HALF), "Add 'sum': mixed element types: 'a' FLOAT, 'b' FLOAT16, 'y' FLOAT")


def test_casts_conditions_and_comparisons_change_types() -> None:
    nodes = [
        node('Cast', ['x'], ['half'], to=HALF),
        node('Less', ['half', 'half'], ['mask']),
        node('Where', ['mask', 'half', 'half'], ['y']),
    ]
    check_graph(model(nodes, [('x', FLOAT, [2])], [('y', HALF, [2])]), MATMUL)
    nodes[0] = node('Cast', ['x'], ['half'], to=TensorProto.UINT8)
    refused(model(nodes, [('x', FLOAT, [2])], [('y', HALF, [2])]), "'half' is UINT8")


@pytest.mark.parametrize('operator', ['NonZero', 'Unique', 'TopK', 'Einsum', 'Resize'])
def test_operators_that_are_not_in_the_table_are_refused(operator: str) -> None:
    refused(unary(operator), f"{operator} 'it': not in the table")


def test_control_flow_is_refused() -> None:
    branch = helper.make_graph(
        [node('Identity', ['x'], ['inner'])],
        'branch',
        [],
        [helper.make_tensor_value_info('inner', FLOAT, [2])],
    )
    values: list[Value] = [('x', FLOAT, [2]), ('c', BOOL, [])]
    branching = node('If', ['c'], ['y'], then_branch=branch, else_branch=branch)
    refused(model([branching], values, [('y', FLOAT, [2])]), "If 'y': not in the table")
    looping = node('Loop', ['', 'c', 'x'], ['y'], body=branch)
    refused(model([looping], values, [('y', FLOAT, [2])]), "Loop 'y': not in the table")


def test_foreign_domains_are_refused() -> None:
    graph = unary('Gelu')
    graph.graph.node[0].domain = 'com.microsoft'
    refused(graph, "Gelu 'it': domain 'com.microsoft' instead of the standard one")


@pytest.mark.parametrize(('tier', 'most'), [(MATMUL, 20), (FUSED, 24)])
def test_the_opset_has_a_ceiling(tier: Tier, most: int) -> None:
    def identity(opset: int) -> onnx.ModelProto:
        nodes = [node('Identity', ['x'], ['y'])]
        return model(nodes, [('x', FLOAT, [2])], [('y', FLOAT, [2])], opset=opset)

    check_graph(identity(17), tier)
    check_graph(identity(most), tier)
    refused(identity(most + 1), f'opset {most + 1} is above {most}', tier)
    graph = identity(17)
    del graph.opset_import[:]
    refused(graph, 'no opset is imported', tier)


def test_five_problems_are_listed() -> None:
    nodes = [node('NonZero', ['x'], [f'y{i}'], name=f'n{i}') for i in range(7)]
    graph = model(nodes, [('x', FLOAT, [2])], [])
    with pytest.raises(EngineError) as caught:
        check_graph(graph, MATMUL)
    assert str(caught.value).startswith('the graph does not fit TensorRT 10.3 (tier matmul): ')
    assert str(caught.value).endswith("NonZero 'n4': not in the table; and 2 more")
    del graph.graph.node[5:]
    refused(graph, "'n4': not in the table$")


def test_problems_of_several_nodes_come_together() -> None:
    nodes = [node('Sqrt', ['x'], ['s'], name='first'), node('Add', ['s', 'h'], ['y'], name='last')]
    values: list[Value] = [('x', INT64, [2]), ('h', HALF, [2])]
    refused(model(nodes, values, [('y', FLOAT, [2])]), "Sqrt 'first': .*; Add 'last': mixed")


def test_an_impossible_graph_is_refused() -> None:
    values: list[Value] = [('a', FLOAT, [2, 3]), ('b', FLOAT, [2, 3])]
    refused(
        model([node('MatMul', ['a', 'b'], ['y'], name='product')], values, [('y', FLOAT, [2, 3])]),
        'MatMul',
    )


def test_unknown_types_are_refused() -> None:
    # The operator is younger than the opset, so that inference passes it over.
    nodes = [node('Gelu', ['x'], ['between']), node('Erf', ['between'], ['y'], name='next')]
    values: list[Value] = [('x', FLOAT, [2])]
    check_graph(model(nodes, values, [('y', FLOAT, [2])], opset=20), MATMUL)
    refused(
        model(nodes, values, [('y', FLOAT, [2])], opset=18),
        "the element type of 'between' is unknown",
    )


@pytest.mark.parametrize(
    ('inputs', 'outputs', 'match'),
    [
        ([2, 'rows'], [2, 'rows'], None),
        ([2, 'rows'], [2, 'rows + 1'], None),
        ([2, None], [2, 3], "input 'x': axis 1 is neither static nor declared dynamic"),
        ([2, 3], [2, 'found'], "output 'y': axis 1 is neither"),
        ([2, 'rows'], [2, 'rows + found'], "output 'y': axis 1 is neither"),
        (None, [2, 3], "input 'x': unknown rank"),
    ],
)
def test_shapes_are_static_or_declared(
    inputs: Sequence[int | str | None] | None, outputs: Sequence[int | str], match: str | None
) -> None:
    # A reshape to what is not known to inference lets any shape stand.
    nodes = [node('Shape', ['other'], ['shape']), node('Reshape', ['x', 'shape'], ['y'])]
    values: list[Value] = [('x', FLOAT, inputs), ('other', FLOAT, [2, 3])]
    graph = model(nodes, values, [('y', FLOAT, outputs)])
    if match is None:
        check_graph(graph, MATMUL)
    else:
        refused(graph, match)


@pytest.mark.parametrize('element', [INT8, DOUBLE, TensorProto.UINT8])
def test_inputs_have_types_that_can_be_bound(element: int) -> None:
    graph = unary('Sqrt')
    graph.graph.input.append(helper.make_tensor_value_info('unused', element, [2]))
    refused(graph, "input 'unused': element type")
    graph.graph.input[1].CopyFrom(helper.make_tensor_value_info('unused', BOOL, [2]))
    check_graph(graph, MATMUL)


def test_external_data_need_not_be_there() -> None:
    graph = model(
        [node('Add', ['x', 'table'], ['y'])],
        [('x', FLOAT, [4])],
        [('y', FLOAT, [4])],
        table=np.ones(4, np.float32),
    )
    table = graph.graph.initializer[0]
    table.ClearField('raw_data')
    table.data_location = TensorProto.EXTERNAL
    table.external_data.add(key='location', value='nowhere.data')
    check_graph(graph, MATMUL)
