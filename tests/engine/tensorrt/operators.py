"""What the parser of TensorRT 10.3 takes from ONNX: graphs of tier MATMUL are held against this.

No machine of these tests runs a release as old.  What newer parsers refuse as well has no place
here, as a newer one parses every graph in other tests.

Sources, read at the commits that the releases of NVIDIA/TensorRT pin as ``parsers/onnx`` ("otrt"
is github onnx/onnx-tensorrt): ``docs/operators.md`` and the importers of otrt of 10.3 (62bdde2a),
and ``include/NvInfer.h`` of v10.3.0.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
import re

import onnx

from kosmos_ros.engine.tensorrt.tiers import MATMUL

Types = frozenset[str]

FLOAT: Types = frozenset({'FLOAT', 'FLOAT16', 'BFLOAT16'})
INDEX: Types = frozenset({'INT32', 'INT64'})
INT64: Types = frozenset({'INT64'})
BOOL: Types = frozenset({'BOOL'})
NUMBER: Types = FLOAT | INDEX
ANY: Types = NUMBER | BOOL


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
    # Positions of inputs that must be an initializer or a Constant.
    constant: frozenset[int] = frozenset()


_AXES = frozenset({1})

# What the exporter writes, or has written, and no more.  LayerNormalization is left out: its
# importer sets a precision, which a strongly typed network refuses up to 10.5.
OPERATORS: dict[str, Operator] = {
    **dict.fromkeys(('Add', 'Sub', 'Mul', 'Div'), Operator(NUMBER)),
    # Newer releases take integers in Pow, too.
    **dict.fromkeys(('Pow', 'Reciprocal', 'Sqrt', 'Erf', 'Sigmoid', 'Clip'), Operator(FLOAT)),
    **dict.fromkeys(('MatMul', 'Conv', 'Softmax'), Operator(FLOAT)),
    **dict.fromkeys(('ReduceMean', 'ReduceL2'), Operator(NUMBER, {1: INT64}, constant=_AXES)),
    **dict.fromkeys(('And', 'Or', 'Not'), Operator(BOOL)),
    **dict.fromkeys(('Less', 'Equal'), Operator(NUMBER, output=BOOL)),
    'Where': Operator(ANY, {0: BOOL}),
    'Cast': Operator(ANY, output=ANY),
    **dict.fromkeys(('Constant', 'Transpose', 'Concat'), Operator(ANY)),
    'Shape': Operator(ANY, output=INT64),
    **dict.fromkeys(('Reshape', 'Expand', 'Split'), Operator(ANY, {1: INT64})),
    'Slice': Operator(ANY, dict.fromkeys((1, 2, 3, 4), INDEX)),
    # From 10.7 on it is enough that axes are known while building.
    **dict.fromkeys(('Squeeze', 'Unsqueeze'), Operator(ANY, {1: INT64}, constant=_AXES)),
    **dict.fromkeys(('Gather', 'GatherElements'), Operator(ANY, {1: INDEX})),
    'ScatterND': Operator(NUMBER, {1: INT64}),
    # The type of the scale becomes the output's.
    'DequantizeLinear': Operator(FLOAT, {0: frozenset({'INT8'})}, constant=frozenset({0, 1})),
}


@dataclass(frozen=True, slots=True)
class _Graph:
    """What inference found, by name.  A dimension is a number, a name, or '' when unknown."""

    opset: int
    types: dict[str, str]
    shapes: dict[str, list[int | str]]
    constants: set[str]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> '_Graph':
        graph = onnx.shape_inference.infer_shapes(model).graph
        element = onnx.TensorProto.DataType.Name
        tables = {table.name: table for table in graph.initializer}
        types = {name: element(table.data_type) for name, table in tables.items()}
        shapes: dict[str, list[int | str]] = {n: list(one.dims) for n, one in tables.items()}
        for value in (*graph.value_info, *graph.input, *graph.output):
            tensor = value.type.tensor_type
            types[value.name] = element(tensor.elem_type)
            shapes[value.name] = [dim.dim_param or dim.dim_value or '' for dim in tensor.shape.dim]
        folded = {node.output[0] for node in graph.node if node.op_type == 'Constant'}
        opset = max(entry.version for entry in model.opset_import if not entry.domain)
        return cls(opset, types, shapes, folded | set(tables))

    def type(self, name: str) -> str:
        return self.types.get(name, 'UNDEFINED')


def refusals(model: onnx.ModelProto) -> list[str]:
    """Return what TensorRT 10.3 refuses in a graph, a line for each; its weights are not read."""
    graph = _Graph.of(model)
    found = [*_interface(model.graph, graph)]
    if graph.opset > MATMUL.max_opset:
        found.append(f'opset {graph.opset} is above {MATMUL.max_opset}')
    for node in model.graph.node:
        label = f'{node.op_type} {node.name or node.output[0]!r}'
        operator = OPERATORS.get(node.op_type)
        if operator is None:
            found.append(f'{label}: not in the table')
        else:
            lines = (*_operands(node, operator, graph), *_attributes(node, graph))
            found += [f'{label}: {line}' for line in lines]
    return found


def _interface(proto: onnx.GraphProto, graph: _Graph) -> Iterator[str]:
    """Inputs declare what is dynamic by naming a dimension; outputs may only use those names, or
    the data would decide on a shape.
    """
    inputs, outputs = ([value.name for value in part] for part in (proto.input, proto.output))
    declared = {dim for name in inputs for dim in graph.shapes[name] if isinstance(dim, str)}
    for name in (*inputs, *outputs):
        if graph.type(name) not in ANY:
            yield f'{name!r} is {graph.type(name)}'
        for axis, dim in enumerate(graph.shapes[name]):
            # Exporters write sums of names, such as 'prefix + slots'.
            parts = set(re.findall(r'[A-Za-z_]\w*', dim)) if isinstance(dim, str) else set()
            if dim == '' or not parts <= declared:
                yield f'axis {axis} of {name!r} is neither static nor declared dynamic'


def _operands(node: onnx.NodeProto, operator: Operator, graph: _Graph) -> Iterator[str]:
    operands = [(name, operator.inputs.get(i)) for i, name in enumerate(node.input) if name]
    operands += [(name, operator.output) for name in node.output if name]
    same: dict[str, str] = {}
    for name, own in operands:
        found = graph.type(name)
        if found not in (own or operator.types):
            yield f'{name!r} is {found}'
        elif own is None:
            same[name] = found
    if len(set(same.values())) > 1:
        yield f'mixed element types: {", ".join(f"{name!r} {t}" for name, t in same.items())}'
    for i, name in enumerate(node.input):
        if i in operator.constant and name and name not in graph.constants:
            yield f'{name!r} must be a constant'


def _attributes(node: onnx.NodeProto, graph: _Graph) -> Iterator[str]:
    given = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    # Up to 10.8 even 'none' is refused when it is spelt out.
    if node.op_type == 'ScatterND' and 'reduction' in given:
        yield "attribute 'reduction' must be absent"
    if node.op_type != 'DequantizeLinear':
        return
    # 10.3 makes a float32 tensor of it, and refuses any type but the input's when strongly typed.
    if any(node.input[2:]):
        yield 'a zero point must be left out'
    # 10.3 reads output_dtype as the quantized type; blocks are for INT4.
    for name in ('output_dtype', 'block_size'):
        if given.get(name):
            yield f'attribute {name!r} must be absent'
    if graph.opset < 19 and graph.type(node.input[1]) != 'FLOAT':
        yield 'scales other than FLOAT need opset 19'
