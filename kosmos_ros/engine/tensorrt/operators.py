"""What TensorRT's parser takes from ONNX: every exported graph is held against this table.

It needs no TensorRT and no GPU.  Passing is necessary, not sufficient: only a build shows all.

Sources, all read at the commits that the releases of NVIDIA/TensorRT pin as ``parsers/onnx``
("otrt" is github onnx/onnx-tensorrt): otrt ``docs/operators.md`` of 10.3 (62bdde2a), 10.10
(3b9c961a), 10.14 (c7272770), 10.15 (fa5aa9f6) and 11.1 (7c51a63a); its importers of 10.3, 10.15
and 11.0 (5ab48c5c); ``include/NvInfer.h`` of v10.3.0, v10.15 and v11.1; and the page
``KVCacheUpdate`` of NVIDIA's operator reference.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
import re
from typing import TYPE_CHECKING

from kosmos_ros.engine.tensorrt.tiers import FUSED, MATMUL, Tier
from kosmos_ros.errors import EngineError

if TYPE_CHECKING:
    import onnx

# Problems that one message lists.
_LISTED = 5

Types = frozenset[str]
# Attributes of a node, by name.
_Given = Mapping[str, object]

_FLOAT: Types = frozenset({'FLOAT', 'FLOAT16', 'BFLOAT16'})
_INDEX: Types = frozenset({'INT32', 'INT64'})
_BOOL: Types = frozenset({'BOOL'})
_INT64: Types = frozenset({'INT64'})
_NUMBER: Types = _FLOAT | _INDEX
_ANY: Types = _NUMBER | _BOOL


@dataclass(frozen=True, slots=True)
class Operator:
    """The element types that one operator takes, by their ONNX names."""

    # Of all operands that nothing below names.  These must all have the same type: a strongly
    # typed network casts nothing by itself (NvInfer.h, kSTRONGLY_TYPED).
    types: Types
    # Position of an input -> its types, where ONNX gives it another type than the rest.
    inputs: Mapping[int, Types] = field(default_factory=dict)
    # Types of all outputs, where they are not those of the inputs.
    output: Types | None = None
    # Positions of inputs that the parser must know while it builds: an initializer or a Constant.
    constant: frozenset[int] = frozenset()


_AXES = frozenset({1})

# The tables of operators.md agree on these from 10.3 to 11.1, but for ScatterND, Squeeze and
# Unsqueeze (see below) and integers in Pow, which 10.3 refuses.  Where an importer takes less than
# the table promises (Range, Gelu), the importer counts.
_COMMON: dict[str, Operator] = {
    **dict.fromkeys(('Add', 'Sub', 'Mul', 'Div', 'Max', 'Neg'), Operator(_NUMBER)),
    **dict.fromkeys(('Pow', 'Reciprocal', 'Sqrt', 'Erf', 'Sigmoid', 'Clip'), Operator(_FLOAT)),
    **dict.fromkeys(('MatMul', 'Gemm', 'Conv', 'Softmax', 'Gelu'), Operator(_FLOAT)),
    # Its stash_type does not count when strongly typed: statistics in float32 need float32 inputs.
    'LayerNormalization': Operator(_FLOAT),
    **dict.fromkeys(
        ('ReduceSum', 'ReduceMean', 'ReduceL2'), Operator(_NUMBER, {1: _INT64}, constant=_AXES)
    ),
    **dict.fromkeys(('And', 'Or', 'Not'), Operator(_BOOL)),
    **dict.fromkeys(('Less', 'LessOrEqual', 'Equal'), Operator(_NUMBER, output=_BOOL)),
    'Where': Operator(_ANY, {0: _BOOL}),
    'Cast': Operator(_ANY, output=_ANY),
    **dict.fromkeys(('Identity', 'Constant', 'Transpose', 'Flatten', 'Concat'), Operator(_ANY)),
    'ConstantOfShape': Operator(_INT64, output=_ANY),
    'Shape': Operator(_ANY, output=_INT64),
    'Range': Operator(frozenset({'FLOAT', 'INT32', 'INT64'})),
    **dict.fromkeys(('Reshape', 'Expand', 'Tile', 'Split'), Operator(_ANY, {1: _INT64})),
    # Axes may be a tensor since 10.3 (otrt Changelog).
    'Slice': Operator(_ANY, dict.fromkeys((1, 2, 3, 4), _INDEX)),
    # Axes: an initializer up to 10.6, known while building from 10.7 on.
    **dict.fromkeys(('Squeeze', 'Unsqueeze'), Operator(_ANY, {1: _INT64}, constant=_AXES)),
    **dict.fromkeys(('Gather', 'GatherElements'), Operator(_ANY, {1: _INDEX})),
    'GatherND': Operator(_ANY, {1: _INT64}),
    'ScatterElements': Operator(_NUMBER, {1: _INDEX}),
    'ScatterND': Operator(_NUMBER, {1: _INT64}),
    # Weights of one scale per channel.  The scale must be a constant, and so must the weights
    # (NvInfer.h, IDequantizeLayer); its type becomes the output's.
    'DequantizeLinear': Operator(_FLOAT, {0: frozenset({'INT8'})}, constant=frozenset({0, 1})),
}

# Not here: TensorScatter (from 10.15 on), which updates a cache in place.  The length of that
# cache must be static, so each length would need a plan of its own, with all the weights in it.
_ATTENTION: dict[str, Operator] = {
    # From 10.14 on.  INT8 and FP8 of the table belong to quantized attention.
    'Attention': Operator(_FLOAT, {3: _FLOAT | _BOOL}),
}

# By the name of the tier.
OPERATORS = {MATMUL.name: _COMMON, FUSED.name: _COMMON | _ATTENTION}


def check_graph(model: 'onnx.ModelProto', tier: Tier) -> None:
    """Hold every node of `model` against the table of `tier`.

    External data need not be loaded.

    :raises EngineError: naming up to five nodes, graph inputs or outputs, and what is wrong there.
    """
    problems = [*_opset(model, tier), *_structure(model, tier)]
    # Inference has nothing to say about operators that it does not know, so those come alone.
    if not problems:
        inferred, contradictions = _infer(model)
        graph = _Graph.of(inferred)
        problems = [*_interface(graph)]
        for node in inferred.graph.node:
            found = (*_operands(node, tier, graph), *_restrictions(node, graph))
            problems += [f'{_label(node)}: {what}' for what in found]
        problems += contradictions
    if problems:
        listed = '; '.join(problems[:_LISTED])
        more = len(problems) - _LISTED
        raise EngineError(
            f'the graph does not fit TensorRT {tier.first_release} (tier {tier.name}):'
            f' {listed}{f"; and {more} more" if more > 0 else ""}'
        )


def _label(node: 'onnx.NodeProto') -> str:
    return f'{node.op_type} {node.name or ", ".join(node.output)!r}'


def _infer(model: 'onnx.ModelProto') -> tuple['onnx.ModelProto', list[str]]:
    import onnx

    try:
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=False), []
    except onnx.shape_inference.InferenceError as error:
        # What can be inferred all the same shows more nodes, and says more about them.
        return onnx.shape_inference.infer_shapes(model, data_prop=False), [str(error).strip()]


def _opset(model: 'onnx.ModelProto', tier: Tier) -> Iterator[str]:
    versions = [entry.version for entry in model.opset_import if not entry.domain]
    if not versions:
        yield 'no opset is imported'
    elif max(versions) > tier.max_opset:
        yield f'opset {max(versions)} is above {tier.max_opset}'


def _structure(model: 'onnx.ModelProto', tier: Tier) -> Iterator[str]:
    for node in model.graph.node:
        if node.domain:
            yield f'{_label(node)}: domain {node.domain!r} instead of the standard one'
        elif node.op_type not in OPERATORS[tier.name]:
            yield f'{_label(node)}: not in the table'


@dataclass(frozen=True, slots=True)
class _Graph:
    """What inference found, by name.  A dimension is a number, a name, or '' when unknown."""

    opset: int
    types: dict[str, str]
    shapes: dict[str, list[int | str]]
    inputs: list[str]
    outputs: list[str]
    constants: set[str]
    # Name -> how many inputs of nodes read it.
    readers: Counter[str]

    @classmethod
    def of(cls, model: 'onnx.ModelProto') -> '_Graph':
        import onnx

        graph = model.graph
        types: dict[str, str] = {}
        shapes: dict[str, list[int | str]] = {}
        for value in (*graph.value_info, *graph.input, *graph.output):
            tensor = value.type.tensor_type
            types[value.name] = onnx.TensorProto.DataType.Name(tensor.elem_type)
            if tensor.HasField('shape'):
                shapes[value.name] = [
                    dim.dim_value if dim.HasField('dim_value') else dim.dim_param
                    for dim in tensor.shape.dim
                ]
        for table in graph.initializer:
            types[table.name] = onnx.TensorProto.DataType.Name(table.data_type)
            shapes[table.name] = list(table.dims)
        tables = {table.name for table in graph.initializer}
        folded = {node.output[0] for node in graph.node if node.op_type == 'Constant'}
        return cls(
            opset=max(entry.version for entry in model.opset_import if not entry.domain),
            types=types,
            shapes=shapes,
            inputs=[value.name for value in graph.input if value.name not in tables],
            outputs=[value.name for value in graph.output],
            constants=tables | folded,
            readers=Counter(name for node in graph.node for name in node.input),
        )

    def type(self, name: str) -> str:
        return self.types.get(name, 'UNDEFINED')


def _interface(graph: _Graph) -> Iterator[str]:
    """Inputs declare what is dynamic by naming a dimension; outputs may only use those names, or
    the data would decide on a shape.
    """
    declared: set[str] = set()
    for name in graph.inputs:
        declared |= {dim for dim in graph.shapes.get(name, []) if isinstance(dim, str)}
    for kind, names in (('input', graph.inputs), ('output', graph.outputs)):
        for name in names:
            if graph.type(name) not in _ANY:
                yield f'{kind} {name!r}: element type {graph.type(name)}'
            if name not in graph.shapes:
                yield f'{kind} {name!r}: unknown rank'
            for axis, dim in enumerate(graph.shapes.get(name, [])):
                # Exporters write sums of names, such as 'prefix + slots'.
                parts = set(re.findall(r'[A-Za-z_]\w*', dim)) if isinstance(dim, str) else set()
                if dim == '' or not parts <= declared:
                    yield f'{kind} {name!r}: axis {axis} is neither static nor declared dynamic'


def _operands(node: 'onnx.NodeProto', tier: Tier, graph: _Graph) -> Iterator[str]:
    operator = OPERATORS[tier.name][node.op_type]
    operands = [(name, operator.inputs.get(i)) for i, name in enumerate(node.input)]
    operands += [(name, operator.output) for name in node.output]
    same: dict[str, str] = {}
    for name, own in operands:
        # An operand that was left out.
        if not name:
            continue
        found = graph.type(name)
        if found == 'UNDEFINED':
            yield f'the element type of {name!r} is unknown'
        elif found not in (own or operator.types):
            allowed = ', '.join(sorted(own or operator.types))
            yield f'{name!r} is {found}, allowed are {allowed}'
        elif own is None:
            same[name] = found
    if len(set(same.values())) > 1:
        yield f'mixed element types: {", ".join(f"{name!r} {t}" for name, t in same.items())}'
    for i in sorted(operator.constant):
        if i < len(node.input) and node.input[i] and node.input[i] not in graph.constants:
            yield f'{node.input[i]!r} must be a constant'


def _restrictions(node: 'onnx.NodeProto', graph: _Graph) -> Iterator[str]:
    """Yield what violates the demands of the importers beyond types."""
    import onnx

    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == 'LayerNormalization' and any(node.output[1:]):
        yield 'only its first output is supported'
    elif node.op_type == 'ScatterElements' and given.get('reduction', b'none') != b'none':
        # Reductions go to a plugin.
        yield 'reductions are not native'
    elif node.op_type == 'ScatterND' and 'reduction' in given:
        # Up to 10.8 even 'none' is refused when it is spelt out.
        yield "attribute 'reduction' must be absent"
    elif node.op_type == 'DequantizeLinear':
        yield from _dequantize(node, given, graph)
    elif node.op_type == 'Attention':
        yield from _attention(node, given, graph)


def _dequantize(node: 'onnx.NodeProto', given: _Given, graph: _Graph) -> Iterator[str]:
    # 10.3 makes a float32 tensor of it, and refuses any type but the input's when strongly typed.
    if any(node.input[2:]):
        yield 'a zero point must be left out'
    # 10.3 reads output_dtype as the quantized type; blocks are for INT4.
    for name in ('output_dtype', 'block_size'):
        if given.get(name):
            yield f'attribute {name!r} must be absent'
    if len(graph.shapes.get(node.input[1], [])) > 1:
        yield 'only one scale, or one scale per channel'
    if graph.opset < 19 and graph.type(node.input[1]) != 'FLOAT':
        yield 'scales other than FLOAT need opset 19'


def _attention(node: 'onnx.NodeProto', given: _Given, graph: _Graph) -> Iterator[str]:
    # The importer counts outputs, whether they have a name or not.
    if len(node.output) != 1:
        yield 'exactly one output is supported'
    if any(node.input[4:]):
        yield 'past keys, past values and their lengths are not supported'
    for name in node.input[:4]:
        if name and len(graph.shapes.get(name, [])) != 4:
            yield f'{name!r} must have four axes'
    mask = node.input[3] if len(node.input) > 3 else ''
    if mask and graph.type(mask) not in ('BOOL', graph.type(node.input[0])):
        yield f'the mask {mask!r} must be BOOL or of the type of the query'
    # TensorRT anchors the causal mask at the upper left, which is wrong with a cache.
    if given.get('is_causal', 0):
        yield 'is_causal must be 0'
    if 'softmax_precision' in given:
        yield "attribute 'softmax_precision' must be absent"
    for name in ('softcap', 'qk_matmul_output_mode'):
        if given.get(name, 0):
            yield f'attribute {name!r} is not supported'
