"""From a plan to results: what the runtime does, on ONNX Runtime's CPU."""

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from .graph import Dimensions, Graph, GraphError
from .memory import ALIGNMENT, Memory
from .model import Model, Shape
from .plan import Plan, Range
from .runtime_config import RuntimeConfig

NUMPY = {'FLOAT': 'f4', 'HALF': 'f2', 'INT8': 'i1', 'INT32': 'i4', 'INT64': 'i8', 'BOOL': '?'}
NUMPY |= {'UINT8': 'u1'}
GARBAGE = 0xA5
# Name of a GPU that TensorRT for RTX does not run on.
UNSUPPORTED = 'a Hopper'


class Runtime(Model):
    """Reads plans."""

    surface = 'Runtime'

    def __init__(self, trt: Any, logger: Any) -> None:
        super().__init__(trt, logger)

    @property
    def engine_host_code_allowed(self) -> bool:
        return False

    @engine_host_code_allowed.setter
    def engine_host_code_allowed(self, value: bool) -> None:
        raise AssertionError('a plan must never run code on the host')

    def get_engine_validity(self, data: Any) -> tuple[Any, int]:
        """Only TensorRT for RTX has it."""
        trt, reasons = self.trt, []
        try:
            if Plan.from_bytes(bytes(data)).version != trt.__version__:
                reasons.append('VERSION_MISMATCH')
        except ValueError:
            reasons.append('MALFORMED_ENGINE')
        if trt.device_name == UNSUPPORTED:
            reasons.append('UNSUPPORTED_CC')
        validity = trt.EngineValidity.INVALID if reasons else trt.EngineValidity.VALID
        known = trt.EngineInvalidityDiagnostics
        return validity, sum(int(getattr(known, reason)) for reason in reasons)

    def deserialize_cuda_engine(self, data: Any) -> 'Engine | None':
        try:
            plan = Plan.from_bytes(bytes(data))
            graph = Graph(Path(plan.path))
        except ValueError as error:
            self.complain(str(error))
            return None
        devices = ('', self.trt.device_name)
        if plan.version != self.trt.__version__ or plan.device not in devices:
            self.complain(f'the plan was made by {plan.version} for {plan.device}')
            return None
        # A real plan holds the weights.  This one does not, which no program should notice.
        assert graph.sha256 == plan.sha256, f'{plan.path} was changed after the build'
        return Engine(self.trt, self.listener, graph, plan.profiles)


class Engine(Model):
    """A graph with its profiles."""

    surface = 'ICudaEngine'

    def __init__(
        self, trt: Any, listener: Any, graph: Graph, profiles: list[dict[str, Range]]
    ) -> None:
        super().__init__(trt, listener)
        self.graph = graph
        self.profiles = profiles

    num_io_tensors = property(lambda self: len(self.graph.ports))
    num_optimization_profiles = property(lambda self: len(self.profiles))

    @property
    def device_memory_size_v2(self) -> int:
        return max(map(self.get_device_memory_size_for_profile_v2, range(len(self.profiles))))

    def get_device_memory_size_for_profile_v2(self, index: int) -> int:
        return self.memory_for({name: shapes[2] for name, shapes in self.profiles[index].items()})

    def memory_for(self, inputs: dict[str, Dimensions]) -> int:
        """Bytes that an execution with these shapes works in."""
        shapes = self.graph.shapes(inputs)
        size = sum(self.graph.ports[name].size(shape) for name, shape in shapes.items())
        return max(1, -(-size // ALIGNMENT)) * ALIGNMENT

    def get_tensor_name(self, index: int) -> str:
        return list(self.graph.ports)[index]

    def get_tensor_mode(self, name: str) -> Any:
        mode = 'INPUT' if name in self.graph.inputs else 'OUTPUT'
        return getattr(self.trt.TensorIOMode, mode if name in self.graph.ports else 'NONE')

    def get_tensor_dtype(self, name: str) -> Any:
        return getattr(self.trt.DataType, self.graph.ports[name].type)

    def get_tensor_shape(self, name: str) -> Shape:
        return Shape(self.graph.ports[name].shape)

    def get_tensor_profile_shape(self, name: str, index: int) -> list[Shape]:
        assert name in self.graph.inputs, f'{name} is no input, so profiles do not know its shape'
        return [Shape(shape) for shape in self.profiles[index][name]]

    def get_aliased_input_tensor(self, name: str) -> str | None:
        return self.graph.aliases.get(name)

    def create_runtime_config(self) -> RuntimeConfig:
        """Only TensorRT for RTX has it."""
        return RuntimeConfig(self)

    def create_execution_context(self, how: Any = None) -> 'Context':
        if isinstance(how, RuntimeConfig):
            return Context(self, how.allocation, how)
        return Context(self, 'STATIC' if how is None else how.name)


class Context(Model):
    """One use of an engine; insists on the order profile, shapes, addresses, execution.

    :ivar measured: memory that the present shapes need, if the program has asked.
    :ivar is_warm: whether it has been executed since the last change of profile or shapes.  A
        capture before that would hold work that is done only once.
    """

    surface = 'IExecutionContext'

    def __init__(
        self, engine: Engine, allocation: str, config: RuntimeConfig | None = None
    ) -> None:
        super().__init__(engine.trt, engine.listener)
        self.own = engine
        self.is_user_managed = allocation == 'USER_MANAGED'
        self.config = config
        self.profile: int | None = None
        self.stream: int | None = None
        self.given: dict[str, Dimensions] = {}
        self.addresses: dict[str, int] = {}
        self.workspace: tuple[int, int] | None = None
        self.measured: int | None = None
        self.is_warm = False
        if not any(port.is_dynamic for port in engine.graph.inputs.values()):
            self.profile = 0

    def set_device_memory(self, address: int, size: int) -> None:
        assert self.is_user_managed, 'the context manages its memory itself'
        assert self.trt.recording is None, 'memory changes within a capture'
        self.trt.memory.check('device memory', address, size)
        self.workspace = (address, size)

    def update_device_memory_size_for_shapes(self) -> int:
        assert self.is_user_managed, 'the context manages its memory itself'
        assert self.trt.recording is None, 'memory is measured within a capture'
        missing = self.infer_shapes()
        assert not missing, f'memory is measured before the shapes of {missing}'
        self.measured = self.own.memory_for(self.known())
        return self.measured

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        assert stream != 0, 'the default stream'
        assert self.trt.recording is None, 'the profile changes within a capture'
        if not 0 <= index < len(self.own.profiles):
            self.complain(f'there is no profile {index}')
            return False
        self.profile, self.stream, self.is_warm = index, stream, False
        self.measured = None
        self.given.clear()
        self.addresses.clear()
        return True

    def set_input_shape(self, name: str, shape: Any) -> bool:
        assert self.trt.recording is None, 'a shape changes within a capture'
        shape = tuple(int(size) for size in shape)
        if self.profile is None or name not in self.own.graph.inputs:
            self.complain(f'{name}: no such input, or no profile before its shape')
            return False
        least, _, most = self.own.profiles[self.profile][name]
        fits = len(shape) == len(least) and all(
            low <= size <= high for low, size, high in zip(least, shape, most, strict=True)
        )
        if not fits:
            self.complain(f'{name}: {shape} is outside of {least} to {most}')
            return False
        if self.known().get(name) != shape:
            # Addresses are good for as many bytes as there were.
            self.addresses.clear()
            self.is_warm = False
            self.measured = None
        self.given[name] = shape
        return True

    def known(self) -> dict[str, Dimensions]:
        """Shapes of inputs, as far as they are."""
        fixed = {p.name: p.shape for p in self.own.graph.inputs.values() if not p.is_dynamic}
        return fixed | self.given

    def infer_shapes(self) -> list[str]:
        return [name for name in self.own.graph.inputs if name not in self.known()]

    def get_tensor_shape(self, name: str) -> Shape:
        if not self.infer_shapes():
            return Shape(self.all_shapes()[name])
        return Shape(self.known().get(name, self.own.graph.ports[name].shape))

    def all_shapes(self) -> dict[str, Dimensions]:
        """Of inputs and outputs.

        :raises RuntimeError: inputs do not go together.
        """
        try:
            return self.own.graph.shapes(self.known())
        except GraphError as error:
            self.complain(str(error))
            raise RuntimeError(str(error)) from error

    def set_tensor_address(self, name: str, address: int) -> bool:
        if name not in self.own.graph.ports:
            self.complain(f'there is no tensor {name}')
            return False
        assert self.profile is not None, f'the address of {name} comes before the profile'
        missing = self.infer_shapes()
        assert not missing, f'the address of {name} comes before the shapes of {missing}'
        size = self.own.graph.ports[name].size(self.all_shapes()[name])
        self.trt.memory.check(name, address, size)
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream != 0, 'the default stream'
        assert self.profile is not None, 'execution comes before the profile'
        assert not self.infer_shapes(), f'execution comes before shapes of {self.infer_shapes()}'
        assert self.stream in (None, stream), 'the profile was set on another stream'
        missing = sorted(set(self.own.graph.ports) - set(self.addresses))
        assert not missing, f'execution comes before addresses of {missing}'
        if self.is_user_managed:
            of_profile = self.own.get_device_memory_size_for_profile_v2(self.profile)
            needed = of_profile if self.measured is None else self.measured
            assert self.workspace is not None, 'execution comes before device memory'
            assert self.workspace[1] >= needed, f'{needed} bytes of device memory are needed'
        graph, memory = self.own.graph, self.trt.memory
        launch = Launch(graph, memory, self.all_shapes(), dict(self.addresses), self.workspace)
        launch.check()
        if self.trt.recording is not None:
            assert self.is_warm, 'a capture needs an execution with these shapes before it'
            assert not self.trt.is_rtx or self.compiles_at_once, (
                'the captured kernels are not final'
            )
            self.trt.recording.add(self, launch)
            return True
        launch.run()
        if self.config is not None:
            self.config.compile(f'{graph.path.name} {self.all_shapes()}')
        self.is_warm = True
        return True

    @property
    def compiles_at_once(self) -> bool:
        config = self.config
        return (
            config is not None
            and config.dynamic_shapes_kernel_specialization_strategy.name == 'EAGER'
            and config.cuda_graph_strategy.name == 'DISABLED'
        )


@dataclass(frozen=True)
class Launch:
    """One execution with all that it reads and writes."""

    graph: Graph
    memory: Memory
    shapes: dict[str, Dimensions]
    addresses: dict[str, int]
    workspace: tuple[int, int] | None

    def size(self, name: str) -> int:
        """Bytes of a tensor."""
        return self.graph.ports[name].size(self.shapes[name])

    def check(self) -> None:
        """Refuse memory that is gone, or that two tensors share without leave."""
        graph = self.graph
        ranges = {name: (self.addresses[name], self.size(name)) for name in graph.ports}
        for new, old in graph.aliases.items():
            assert ranges[new] == ranges[old], f'{new} must be where {old} is, which it updates'
        if self.workspace is not None:
            ranges['device memory'] = self.workspace
        for name, (start, size) in ranges.items():
            self.memory.check(name, start, size)
        for (one, (start, size)), (other, (begin, length)) in combinations(ranges.items(), 2):
            both_read = one in graph.inputs and other in graph.inputs
            is_alias = graph.aliases.get(other) == one
            apart = start + size <= begin or begin + length <= start
            assert apart or both_read or is_alias, f'{one} and {other} share memory'

    def run(self) -> None:
        """Read inputs, and write outputs.

        :raises NotImplementedError: bfloat16, which ONNX Runtime does not have on CPUs.
        """
        self.check()
        for name, port in self.graph.ports.items():
            if port.type not in NUMPY:
                raise NotImplementedError(f'the double has no {port.type}, which {name} is')
        if self.workspace is not None:
            self.memory.bytes_at(*self.workspace)[:] = GARBAGE
        feeds = {}
        for name, port in self.graph.inputs.items():
            data = self.memory.bytes_at(self.addresses[name], self.size(name)).tobytes()
            feeds[name] = np.frombuffer(data, NUMPY[port.type]).reshape(self.shapes[name])
        for name, value in self.graph.run(feeds).items():
            assert value.shape == self.shapes[name], f'{name} is {value.shape}, not as inferred'
            place = self.memory.bytes_at(self.addresses[name], self.size(name))
            place[:] = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
