"""The exporter's graphs are held against what TensorRT's parser takes."""

from collections.abc import Sequence
import subprocess
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
import pytest

from kosmos_ros.engine.operators import ATTENTION, SCATTER, TIERS, Tier, check_graph, tier_for
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


def refused(graph: onnx.ModelProto, match: str, tier: Tier = SCATTER) -> None:
    with pytest.raises(EngineError, match=match):
        check_graph(graph, tier)


@pytest.mark.parametrize(
    ('version', 'tier'),
    [
        ('10.3.0', SCATTER),
        ('10.3.0.26', SCATTER),
        ('10.13.3.9', SCATTER),
        ('10.14.1.48.post1', SCATTER),
        ('10.15.1.29', ATTENTION),
        ('10.16.2.10', ATTENTION),
        ('11.0.0.114', ATTENTION),
        ('11.4.0.106', ATTENTION),
        ('100.0', ATTENTION),
    ],
)
def test_every_release_has_its_tier(version: str, tier: Tier) -> None:
    assert tier_for(version) is tier


@pytest.mark.parametrize('version', ['10.2.0', '10.0.1', '8.6.1', '1.15', 'unknown', '', '10'])
def test_older_releases_are_refused(version: str) -> None:
    with pytest.raises(EngineError, match=r'supports 10\.3 and above'):
        tier_for(version)


def test_a_tier_is_found_without_onnx() -> None:
    program = (
        'import sys; sys.modules["onnx"] = None\n'
        'from kosmos_ros.engine.operators import tier_for\n'
        'print(tier_for("10.3.0").name)'
    )
    done = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == 'scatter'


def test_tiers_grow() -> None:
    for older, newer in zip(TIERS, TIERS[1:], strict=False):
        assert older.first < newer.first
        assert older.max_opset <= newer.max_opset
        assert older.operators.keys() < newer.operators.keys()


@pytest.mark.parametrize('tier', TIERS, ids=lambda tier: tier.name)
def test_the_table_speaks_onnx(tier: Tier) -> None:
    """Names, positions and types all exist in the tier's opset."""
    for name, operator in tier.operators.items():
        schema = onnx.defs.get_schema(name, tier.max_opset, '')
        for place in (*operator.inputs, *operator.constant):
            assert place < schema.max_input, name
        for types in (operator.types, *operator.inputs.values(), operator.output or ()):
            assert set(types) <= set(TensorProto.DataType.keys()), name
    assert not {'If', 'Loop', 'Scan', 'NonZero', 'TopK', 'Unique'} & tier.operators.keys()


@pytest.mark.parametrize('element', [FLOAT, HALF, BRAIN])
def test_floats_pass(element: int) -> None:
    check_graph(unary('Sqrt', element), SCATTER)
    check_graph(unary('Softmax', element, axis=-1), ATTENTION)


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

    check_graph(total(FLOAT), SCATTER)
    refused(total(HALF), "Add 'sum': mixed element types: 'a' FLOAT, 'b' FLOAT16, 'y' FLOAT")


def test_casts_conditions_and_comparisons_change_types() -> None:
    nodes = [
        node('Cast', ['x'], ['half'], to=HALF),
        node('Less', ['half', 'half'], ['mask']),
        node('Where', ['mask', 'half', 'half'], ['y']),
    ]
    check_graph(model(nodes, [('x', FLOAT, [2])], [('y', HALF, [2])]), SCATTER)
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


def test_attention_is_refused_by_older_releases() -> None:
    refused(cached(), 'Attention', SCATTER)
    refused(unary('TensorScatter'), 'not in the table', SCATTER)


def test_foreign_domains_are_refused() -> None:
    graph = unary('Gelu')
    graph.graph.node[0].domain = 'com.microsoft'
    refused(graph, "Gelu 'it': domain 'com.microsoft' instead of the standard one")


@pytest.mark.parametrize(('tier', 'most'), [(SCATTER, 20), (ATTENTION, 24)])
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
        check_graph(graph, SCATTER)
    assert str(caught.value).startswith('the graph does not fit TensorRT 10.3 (tier scatter): ')
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
    check_graph(model(nodes, values, [('y', FLOAT, [2])], opset=20), SCATTER)
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
        check_graph(graph, SCATTER)
    else:
        refused(graph, match)


@pytest.mark.parametrize('element', [INT8, DOUBLE, TensorProto.UINT8])
def test_inputs_have_types_that_can_be_bound(element: int) -> None:
    graph = unary('Sqrt')
    graph.graph.input.append(helper.make_tensor_value_info('unused', element, [2]))
    refused(graph, "input 'unused': element type")
    graph.graph.input[1].CopyFrom(helper.make_tensor_value_info('unused', BOOL, [2]))
    check_graph(graph, SCATTER)


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
    check_graph(graph, SCATTER)


@pytest.mark.parametrize('operator', ['ReduceSum', 'ReduceMean', 'ReduceL2', 'Squeeze'])
def test_axes_are_constants(operator: str) -> None:
    nodes = [node(operator, ['x', 'axes'], ['y'], name='it')]
    values: list[Value] = [('x', FLOAT, [2, 1])]
    outputs: list[Value] = [('y', FLOAT, None)]
    check_graph(model(nodes, values, [], axes=np.array([1])), SCATTER)
    written = node('Constant', [], ['axes'], value=numpy_helper.from_array(np.array([1])))
    check_graph(model([written, *nodes], values, []), SCATTER)
    refused(model(nodes, [*values, ('axes', INT64, [1])], outputs), "'axes' must be a constant")


def norm(outputs: list[str], scale: type = np.float32) -> onnx.ModelProto:
    return model(
        [node('LayerNormalization', ['x', 'scale', 'bias'], outputs, name='norm')],
        [('x', FLOAT, [2, 4])],
        [('y', FLOAT, [2, 4])],
        scale=np.ones(4, scale),
        bias=np.zeros(4, np.float32),
    )


def test_layer_normalization_has_one_type_and_one_output() -> None:
    check_graph(norm(['y']), SCATTER)
    check_graph(norm(['y', '', '']), SCATTER)
    refused(norm(['y', 'mean']), "LayerNormalization 'norm': only its first output")
    refused(norm(['y'], np.float16), "mixed element types: .*'scale' FLOAT16")


def scattered(operator: str, **attributes: object) -> onnx.ModelProto:
    places: Value = ('at', INT64, [2, 3] if operator == 'ScatterElements' else [2, 1])
    return model(
        [node(operator, ['x', 'at', 'new'], ['y'], **attributes)],
        [('x', HALF, [4, 3]), places, ('new', HALF, [2, 3])],
        [('y', HALF, [4, 3])],
    )


def test_scattering_does_not_reduce() -> None:
    check_graph(scattered('ScatterElements', axis=0), SCATTER)
    check_graph(scattered('ScatterElements', axis=0, reduction='none'), SCATTER)
    refused(scattered('ScatterElements', axis=0, reduction='add'), 'not native')
    check_graph(scattered('ScatterND'), SCATTER)
    refused(scattered('ScatterND', reduction='none'), "'reduction' must be absent")


def weights(
    scale: np.ndarray, *, zero: bool = False, opset: int = 19, **attributes: object
) -> onnx.ModelProto:
    """x times int8 weights (4, 5)."""
    names = ['int8', 'scale', *(['zero'] if zero else [])]
    element = helper.np_dtype_to_tensor_dtype(scale.dtype)
    tables = {'int8': np.ones((4, 5), np.int8), 'scale': scale}
    if zero:
        tables['zero'] = np.zeros(scale.shape, np.int8)
    return model(
        [
            node('DequantizeLinear', names, ['w'], name='weights', **attributes),
            node('MatMul', ['x', 'w'], ['y']),
        ],
        [('x', element, [3, 4])],
        [('y', element, [3, 5])],
        opset=opset,
        **tables,
    )


def test_int8_weights() -> None:
    half = np.ones(5, np.float16)
    check_graph(weights(half, axis=1), SCATTER)
    check_graph(weights(half[:4], axis=0), SCATTER)
    check_graph(weights(np.ones((), np.float16)), SCATTER)
    check_graph(weights(np.ones(5, np.float32), axis=1, opset=18), SCATTER)
    check_graph(weights(half, axis=1, opset=24), ATTENTION)
    refused(weights(half, axis=1, opset=18), 'need opset 19')
    refused(weights(half, axis=1, zero=True), 'a zero point must be left out')
    refused(
        weights(np.ones((2, 5), np.float16), axis=0, block_size=2, opset=24),
        "'block_size' must be absent; .*: only one scale, or one scale per channel",
        ATTENTION,
    )
    refused(
        weights(half, axis=1, output_dtype=HALF, opset=24), "'output_dtype' must be", ATTENTION
    )


def test_int8_needs_constants_and_dequantization() -> None:
    graph = weights(np.ones(5, np.float16), axis=1)
    graph.graph.initializer.remove(graph.graph.initializer[1])
    graph.graph.input.append(helper.make_tensor_value_info('scale', HALF, [5]))
    refused(graph, "DequantizeLinear 'weights': 'scale' must be a constant")
    # Without dequantization.
    nodes = [node('Gather', ['int8', 'at'], ['row']), node('Cast', ['row'], ['y'], to=HALF)]
    table = np.ones((4, 5), np.int8)
    refused(
        model(nodes, [('at', INT64, [1])], [('y', HALF, [1, 5])], int8=table), "'int8' is INT8"
    )


def cached(
    *,
    element: int = HALF,
    slots: int | str = 8,
    scatter: dict[str, object] | None = None,
    attend: dict[str, object] | None = None,
    attention_inputs: Sequence[str] = ('q', 'present', 'present', 'mask'),
    attention_outputs: Sequence[str] = ('y',),
    mask: int = BOOL,
) -> onnx.ModelProto:
    """Attention over one cache, which is key and value at once."""
    return model(
        [
            node('TensorScatter', ['past', 'new', 'at'], ['present'], name='s', **(scatter or {})),
            node('Attention', attention_inputs, attention_outputs, name='a', **(attend or {})),
        ],
        [
            ('past', element, [1, 2, slots, 4]),
            ('new', element, [1, 2, 3, 4]),
            ('at', INT64, [1]),
            ('q', element, [1, 2, 3, 4]),
            ('mask', mask, [1, 1, 3, slots]),
        ],
        [('present', element, [1, 2, slots, 4]), ('y', element, [1, 2, 3, 4])],
        opset=24,
    )


@pytest.mark.parametrize('element', [FLOAT, HALF, BRAIN])
def test_a_cache_in_place(element: int) -> None:
    check_graph(cached(element=element), ATTENTION)
    check_graph(cached(element=element, mask=element, attend={'scale': 1.0}), ATTENTION)
    check_graph(cached(scatter={'axis': 2, 'mode': 'linear'}), ATTENTION)
    check_graph(cached(attention_inputs=('q', 'present', 'present')), ATTENTION)
    check_graph(cached(attention_inputs=('q', 'present', 'present', '', '', '')), ATTENTION)


@pytest.mark.parametrize(
    ('graph', 'match'),
    [
        (cached(scatter={'axis': 3}), "TensorScatter 's': axis 3 instead of -2"),
        (cached(scatter={'mode': 'circular'}), 'only the mode linear'),
        (cached(slots='slots'), "the length of the cache 'past' must be static"),
        (cached(attend={'is_causal': 1}), "Attention 'a': is_causal must be 0"),
        (cached(attend={'softmax_precision': FLOAT}), "'softmax_precision' must be absent"),
        (cached(attend={'softcap': 2.0}), "'softcap' is not supported"),
        (cached(attend={'qk_matmul_output_mode': 1}), "'qk_matmul_output_mode' is not"),
        (cached(mask=FLOAT), "the mask 'mask' must be BOOL or of the type of the query"),
        (cached(mask=INT64), "'mask' is INT64"),
        (cached(attention_outputs=('y', '', '', 'raw')), 'exactly one output'),
        (cached(attention_outputs=('y', '')), 'exactly one output'),
        (
            cached(attention_inputs=('q', 'present', 'present', '', 'q', 'q')),
            'past keys, past values and their lengths',
        ),
        (
            cached(attention_inputs=('q', 'past', 'present', 'mask')),
            "the cache 'past' is read elsewhere, too",
        ),
    ],
)
def test_restrictions_of_attention(graph: onnx.ModelProto, match: str) -> None:
    refused(graph, match, ATTENTION)


def test_a_cache_comes_from_outside_and_goes_there() -> None:
    graph = cached()
    del graph.graph.output[0]
    refused(graph, "'present' must be an output of the graph", ATTENTION)
    graph = cached()
    graph.graph.node.insert(0, node('Identity', ['past'], ['copy']))
    graph.graph.node[1].input[0] = 'copy'
    refused(graph, "the cache 'copy' must be an input of the graph", ATTENTION)


def test_a_cache_has_four_axes() -> None:
    graph = model(
        [node('TensorScatter', ['past', 'new', 'at'], ['present'], axis=1)],
        [('past', HALF, [1, 8, 4]), ('new', HALF, [1, 3, 4]), ('at', INT64, [1])],
        [('present', HALF, [1, 8, 4])],
        opset=24,
    )
    refused(graph, 'cache and update must have four axes', ATTENTION)


def test_attention_has_four_axes() -> None:
    graph = model(
        [node('Attention', ['q', 'q', 'q'], ['y'], q_num_heads=2, kv_num_heads=2)],
        [('q', HALF, [1, 3, 8])],
        [('y', HALF, [1, 3, 8])],
        opset=24,
    )
    refused(graph, "'q' must have four axes", ATTENTION)
