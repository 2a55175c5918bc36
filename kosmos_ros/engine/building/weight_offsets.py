"""ONNX weights as offsets in one safetensors file.  Needs onnx_ir."""

import json
from pathlib import Path
from typing import cast

import onnx_ir as ir

from kosmos_ros.engine.directory.directory import WEIGHTS_FILE
from kosmos_ros.errors import EngineError
from kosmos_ros.model.network.quantize import SCALE_SUFFIX

WeightOffsets = dict[str, ir.ExternalTensor]
# dtypes of safetensors in ONNX's words.
_TYPES = {
    'F32': ir.DataType.FLOAT,
    'F16': ir.DataType.FLOAT16,
    'BF16': ir.DataType.BFLOAT16,
    'I8': ir.DataType.INT8,
}


def weight_offsets(path: Path) -> WeightOffsets:
    """Return where each tensor of a safetensors file lies.

    The file is 8 bytes with the length of the header, the header as JSON, and the tensors.
    """
    with path.open('rb') as file:
        size = int.from_bytes(file.read(8), 'little')
        header = json.loads(file.read(size))
    header.pop('__metadata__', None)
    offsets = {}
    for name, entry in header.items():
        begin, end = entry['data_offsets']
        offsets[name] = ir.ExternalTensor(
            path.name,
            8 + size + begin,
            end - begin,
            _TYPES[entry['dtype']],
            shape=ir.Shape(entry['shape']),
            name=name,
            base_dir=str(path.parent),
        )
    return offsets


def bind_weight(graph: ir.Graph, weight: ir.Value, offsets: WeightOffsets, name: str) -> None:
    """Let an initializer refer to the weight file; dequantise it if it is stored as int8."""
    stored = offsets[name]
    if stored.dtype == weight.dtype:
        weight.const_value = stored
        return
    if stored.dtype != ir.DataType.INT8:
        raise EngineError(f'{WEIGHTS_FILE} holds {name} as {stored.dtype}, not {weight.dtype}')
    del graph.initializers[cast(str, weight.name)]
    inputs = []
    for part in (stored, offsets[name + SCALE_SUFFIX]):
        value = ir.Value(name=part.name, shape=part.shape, type=ir.TensorType(part.dtype))
        value.const_value = part
        graph.initializers.add(value)
        inputs.append(value)
    node = ir.Node('', 'DequantizeLinear', inputs, [ir.AttrInt64('axis', 0)], num_outputs=1)
    (wide,) = node.outputs
    wide.name, wide.type, wide.shape = f'{name}_wide', weight.type, weight.shape
    ir.convenience.replace_all_uses_with(weight, wide)
    graph.insert_before(graph[0], node)
