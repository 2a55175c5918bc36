"""What single operators may not be, beyond their types."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper
import pytest

from engine.onnx_graphs import (
    BOOL,
    BRAIN,
    FLOAT,
    HALF,
    INT64,
    Value,
    model,
    node,
    refused,
    unary,
)
from kosmos_ros.engine.tensorrt.operators import check_graph
from kosmos_ros.engine.tensorrt.tiers import FUSED, MATMUL


@pytest.mark.parametrize('operator', ['ReduceSum', 'ReduceMean', 'ReduceL2', 'Squeeze'])
def test_axes_are_constants(operator: str) -> None:
    nodes = [node(operator, ['x', 'axes'], ['y'], name='it')]
    values: list[Value] = [('x', FLOAT, [2, 1])]
    outputs: list[Value] = [('y', FLOAT, None)]
    check_graph(model(nodes, values, [], axes=np.array([1])), MATMUL)
    written = node('Constant', [], ['axes'], value=numpy_helper.from_array(np.array([1])))
    check_graph(model([written, *nodes], values, []), MATMUL)
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
    check_graph(norm(['y']), MATMUL)
    check_graph(norm(['y', '', '']), MATMUL)
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
    check_graph(scattered('ScatterElements', axis=0), MATMUL)
    check_graph(scattered('ScatterElements', axis=0, reduction='none'), MATMUL)
    refused(scattered('ScatterElements', axis=0, reduction='add'), 'not native')
    check_graph(scattered('ScatterND'), MATMUL)
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
    check_graph(weights(half, axis=1), MATMUL)
    check_graph(weights(half[:4], axis=0), MATMUL)
    check_graph(weights(np.ones((), np.float16)), MATMUL)
    check_graph(weights(np.ones(5, np.float32), axis=1, opset=18), MATMUL)
    check_graph(weights(half, axis=1, opset=24), FUSED)
    refused(weights(half, axis=1, opset=18), 'need opset 19')
    refused(weights(half, axis=1, zero=True), 'a zero point must be left out')
    refused(
        weights(np.ones((2, 5), np.float16), axis=0, block_size=2, opset=24),
        "'block_size' must be absent; .*: only one scale, or one scale per channel",
        FUSED,
    )
    refused(weights(half, axis=1, output_dtype=HALF, opset=24), "'output_dtype' must be", FUSED)


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


def attended(
    *,
    element: int = HALF,
    slots: int | str = 8,
    attend: dict[str, object] | None = None,
    attention_inputs: Sequence[str] = ('q', 'kv', 'kv', 'mask'),
    attention_outputs: Sequence[str] = ('y',),
    mask: int = BOOL,
) -> onnx.ModelProto:
    """Attention over one cache, which is key and value at once."""
    return model(
        [node('Attention', attention_inputs, attention_outputs, name='a', **(attend or {}))],
        [
            ('kv', element, [1, 2, slots, 4]),
            ('q', element, [1, 2, 3, 4]),
            ('mask', mask, [1, 1, 3, slots]),
        ],
        [('y', element, [1, 2, 3, 4])],
        opset=24,
    )


@pytest.mark.parametrize('element', [FLOAT, HALF, BRAIN])
def test_attention(element: int) -> None:
    check_graph(attended(element=element), FUSED)
    check_graph(attended(element=element, slots='slots'), FUSED)
    check_graph(attended(element=element, mask=element, attend={'scale': 1.0}), FUSED)
    check_graph(attended(attention_inputs=('q', 'kv', 'kv')), FUSED)
    check_graph(attended(attention_inputs=('q', 'kv', 'kv', '', '', '')), FUSED)


@pytest.mark.parametrize(
    ('graph', 'match'),
    [
        (attended(attend={'is_causal': 1}), "Attention 'a': is_causal must be 0"),
        (attended(attend={'softmax_precision': FLOAT}), "'softmax_precision' must be absent"),
        (attended(attend={'softcap': 2.0}), "'softcap' is not supported"),
        (attended(attend={'qk_matmul_output_mode': 1}), "'qk_matmul_output_mode' is not"),
        (attended(mask=FLOAT), "the mask 'mask' must be BOOL or of the type of the query"),
        (attended(mask=INT64), "'mask' is INT64"),
        (attended(attention_outputs=('y', '', '', 'raw')), 'exactly one output'),
        (attended(attention_outputs=('y', '')), 'exactly one output'),
        (
            attended(attention_inputs=('q', 'kv', 'kv', '', 'q', 'q')),
            'past keys, past values and their lengths',
        ),
    ],
)
def test_restrictions_of_attention(graph: onnx.ModelProto, match: str) -> None:
    refused(graph, match, FUSED)


def test_attention_has_four_axes() -> None:
    graph = model(
        [node('Attention', ['q', 'q', 'q'], ['y'], q_num_heads=2, kv_num_heads=2)],
        [('q', HALF, [1, 3, 8])],
        [('y', HALF, [1, 3, 8])],
        opset=24,
    )
    refused(graph, "'q' must have four axes", FUSED)


def test_attention_is_refused_by_older_releases() -> None:
    refused(attended(), 'Attention', MATMUL)


def test_a_cache_is_not_updated_in_place() -> None:
    """It would have to have a static length."""
    for tier in (MATMUL, FUSED):
        refused(unary('TensorScatter'), 'not in the table', tier)
