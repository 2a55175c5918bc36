"""Graphs whose weights are places in one safetensors file.  Needs onnx_ir."""

import json
from pathlib import Path
from typing import cast

import onnx_ir as ir

from kosmos_ros.engine.directory.file_names import WEIGHTS_FILE
from kosmos_ros.errors import EngineError
from kosmos_ros.model.network.quantize import SCALE_SUFFIX

Places = dict[str, ir.ExternalTensor]
# dtypes of safetensors in ONNX's words.
_TYPES = {
    'F32': ir.DataType.FLOAT,
    'F16': ir.DataType.FLOAT16,
    'BF16': ir.DataType.BFLOAT16,
    'I8': ir.DataType.INT8,
}


def places_in(path: Path) -> Places:
    """Where each tensor of a safetensors file lies: 8 bytes that say how long the header is, the
    header as JSON, the tensors.
    """
    with path.open('rb') as file:
        size = int.from_bytes(file.read(8), 'little')
        header = json.loads(file.read(size))
    header.pop('__metadata__', None)
    places = {}
    for name, entry in header.items():
        begin, end = entry['data_offsets']
        places[name] = ir.ExternalTensor(
            path.name,
            8 + size + begin,
            end - begin,
            _TYPES[entry['dtype']],
            shape=ir.Shape(entry['shape']),
            name=name,
            base_dir=str(path.parent),
        )
    return places


def place(graph: ir.Graph, weight: ir.Value, places: Places, name: str) -> None:
    """Say where in the weight file an initializer lies; dequantise it if it lies there as int8."""
    stored = places[name]
    if stored.dtype == weight.dtype:
        weight.const_value = stored
        return
    if stored.dtype != ir.DataType.INT8:
        raise EngineError(f'{WEIGHTS_FILE} holds {name} as {stored.dtype}, not {weight.dtype}')
    del graph.initializers[cast(str, weight.name)]
    inputs = []
    for part in (stored, places[name + SCALE_SUFFIX]):
        value = ir.Value(name=part.name, shape=part.shape, type=ir.TensorType(part.dtype))
        value.const_value = part
        graph.initializers.add(value)
        inputs.append(value)
    node = ir.Node('', 'DequantizeLinear', inputs, [ir.AttrInt64('axis', 0)], num_outputs=1)
    (wide,) = node.outputs
    wide.name, wide.type, wide.shape = f'{name}_wide', weight.type, weight.shape
    ir.convenience.replace_all_uses_with(weight, wide)
    graph.insert_before(graph[0], node)
