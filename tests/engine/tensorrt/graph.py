"""An ONNX file as TensorRT sees it: tensors at its edges, layers, and how to run it on the CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
import hashlib
from pathlib import Path

from google.protobuf.message import DecodeError
import numpy as np
import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
import onnxruntime

# TensorRT's name of a type by ONNX's number.
TYPES = {
    onnx.TensorProto.FLOAT: 'FLOAT',
    onnx.TensorProto.FLOAT16: 'HALF',
    onnx.TensorProto.BFLOAT16: 'BF16',
    onnx.TensorProto.INT8: 'INT8',
    onnx.TensorProto.INT32: 'INT32',
    onnx.TensorProto.INT64: 'INT64',
    onnx.TensorProto.BOOL: 'BOOL',
    onnx.TensorProto.UINT8: 'UINT8',
}
ITEM_SIZES = {'FLOAT': 4, 'HALF': 2, 'BF16': 2, 'INT8': 1, 'INT32': 4, 'INT64': 8}
ITEM_SIZES |= {'BOOL': 1, 'UINT8': 1}

Dimensions = tuple[int, ...]


class GraphError(ValueError):
    """The file is none, or has what TensorRT cannot take."""


@dataclass(frozen=True)
class Port:
    """A tensor at the edge; a dimension that is not fixed has a symbol."""

    name: str
    type: str
    symbolic: tuple[int | str, ...]

    @property
    def shape(self) -> Dimensions:
        """With -1 for what is not fixed."""
        return tuple(-1 if isinstance(each, str) else each for each in self.symbolic)

    @property
    def is_dynamic(self) -> bool:
        return -1 in self.shape

    def size(self, shape: Dimensions) -> int:
        """Bytes of a tensor of this shape."""
        return int(np.prod(shape, dtype=np.int64)) * ITEM_SIZES[self.type]


class Graph:
    """One file.

    :ivar aliases: outputs that are an input written in place, with the name of that input.
    """

    def __init__(self, path: Path) -> None:
        """Read the file without the weights beside it.

        :raises GraphError:
        """
        self.path = path
        try:
            self.proto = onnx.load(path, load_external_data=False)
            self.sha256 = self._digest()
        except (OSError, DecodeError) as error:
            raise GraphError(f'{path} cannot be read: {error}') from error
        graph = self.proto.graph
        constant = {each.name for each in graph.initializer}
        self.inputs = {p.name: p for p in map(_port, graph.input) if p.name not in constant}
        self.outputs = {p.name: p for p in map(_port, graph.output)}
        self.ports = self.inputs | self.outputs
        updates = [node for node in graph.node if node.op_type == 'TensorScatter']
        self.aliases = {node.output[0]: node.input[0] for node in updates}
        for new, old in self.aliases.items():
            if new not in self.outputs or old not in self.inputs:
                raise GraphError(f'TensorScatter from {old} to {new}: no input or no output')
            if len(self.inputs[old].shape) != 4 or self.inputs[old].shape[2] == -1:
                raise GraphError(f'{old}: a cache has four dimensions, and the third is fixed')
        if any(each.i != -2 for node in updates for each in node.attribute if each.name == 'axis'):
            raise GraphError('TensorScatter is taken with axis -2 only')

    def _digest(self) -> str:
        """Of the file and of its external data."""
        files = {self.path.name}
        for tensor in self.proto.graph.initializer:
            if uses_external_data(tensor):
                files.add(ExternalDataInfo(tensor).location)
        digest = hashlib.sha256()
        for name in sorted(files):
            digest.update((self.path.parent / name).read_bytes())
        return digest.hexdigest()

    def shapes(self, inputs: Mapping[str, Dimensions]) -> dict[str, Dimensions]:
        """Shapes of all tensors at the edge from those of the inputs; -1 for what stays unknown.

        :raises GraphError: two inputs differ in a dimension that has one symbol.
        """
        known: dict[str, int] = {}
        for name, shape in inputs.items():
            for symbol, size in zip(self.inputs[name].symbolic, shape, strict=True):
                if isinstance(symbol, str) and known.setdefault(symbol, size) != size:
                    raise GraphError(f'{symbol} is {known[symbol]} and, in {name}, {size}')
        found = {
            name: tuple(known.get(d, -1) if isinstance(d, str) else d for d in port.symbolic)
            for name, port in self.outputs.items()
        }
        if any(-1 in shape for shape in found.values()):
            found = self._inferred(inputs, found)
        return dict(inputs) | found

    def _inferred(
        self, inputs: Mapping[str, Dimensions], outputs: Mapping[str, Dimensions]
    ) -> dict[str, Dimensions]:
        """Outputs as ONNX's own inference has them."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        fixed = dict(inputs) | dict(outputs)
        for value in [*proto.graph.input, *proto.graph.output]:
            shape = value.type.tensor_type.shape
            for dimension, size in zip(shape.dim, fixed.get(value.name, ()), strict=False):
                if size != -1:
                    dimension.dim_value = size
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph.output
        return {value.name: _port(value).shape for value in inferred}

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs for these inputs, from ONNX Runtime."""
        session = _session(self.path, self.sha256)
        return dict(zip(self.outputs, session.run(list(self.outputs), dict(feeds)), strict=True))


def _port(value: onnx.ValueInfoProto) -> Port:
    tensor = value.type.tensor_type
    if tensor.elem_type not in TYPES:
        raise GraphError(f'{value.name} has a type that TensorRT does not have')
    symbolic = tuple(
        each.dim_value if each.HasField('dim_value') else each.dim_param or f'{value.name}[{axis}]'
        for axis, each in enumerate(tensor.shape.dim)
    )
    return Port(value.name, TYPES[tensor.elem_type], symbolic)


@lru_cache(maxsize=8)
def _session(path: Path, sha256: str) -> onnxruntime.InferenceSession:
    """One thread that sleeps between calls; the digest is there to tell versions of a file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    return onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
