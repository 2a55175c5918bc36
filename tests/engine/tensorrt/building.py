"""From an ONNX file to a plan: what the builder and the parser do, without a GPU."""

from collections.abc import Callable, Sequence
import json
from pathlib import Path
from typing import Any

import onnx

from .graph import Graph, GraphError, Port
from .model import HostMemory, Model, Shape, call_back
from .plan import Plan, Range

# With a network whose types are strong, these would be errors or lies.
PRECISION_FLAGS = {'BF16', 'FP16', 'FP4', 'FP8', 'INT4', 'INT8'}
PRECISION_FLAGS |= {'OBEY_PRECISION_CONSTRAINTS', 'PREFER_PRECISION_CONSTRAINTS'}


class Logger(Model):
    """The logger that comes with TensorRT.  It would print; nobody reads that in a test."""

    surface = 'Logger'

    def __init__(self, trt: Any, severity: Any = None) -> None:
        super().__init__(trt, self)

    def log(self, severity: Any, text: str) -> None:
        """Forget a line."""


class Builder(Model):
    """Makes everything that a build needs, and builds."""

    surface = 'Builder'

    def __init__(self, trt: Any, logger: Any) -> None:
        super().__init__(trt, logger)

    def create_network(self, flags: int = 0) -> 'Network':
        strong = 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return Network(self.trt, self.listener, is_strongly_typed=bool(flags & strong))

    def create_builder_config(self) -> 'Config':
        return Config(self.trt, self.listener)

    def create_optimization_profile(self) -> 'Profile':
        return Profile(self.trt, self.listener)

    def build_serialized_network(self, network: 'Network', config: 'Config') -> HostMemory | None:
        graph = network.graph
        if graph is None or not network.is_strongly_typed:
            self.complain('the network is empty' if graph is None else 'its types are not strong')
            return None
        wanted = config.profiles
        if not wanted and not any(port.is_dynamic for port in graph.inputs.values()):
            # Without dynamic shapes there is one profile that nobody has to ask for.
            wanted = [Profile(self.trt, self.listener)]
        if not wanted:
            self.complain('dynamic inputs need an optimization profile')
            return None
        try:
            profiles = [profile.covering(graph) for profile in wanted]
        except GraphError as error:
            self.complain(str(error))
            return None
        monitor = config.progress_monitor
        if monitor is not None and not _reported(monitor, profiles):
            self.say('WARNING', 'the build was cancelled')
            return None
        if config.timing_cache is not None:
            config.timing_cache.entries.add(graph.sha256)
        self.say('INFO', f'built {graph.path.name} with {len(profiles)} profiles')
        trt = self.trt
        plan = Plan(trt.__version__, trt.device_name, str(graph.path), graph.sha256, profiles)
        return HostMemory(plan.to_bytes())


def _reported(monitor: Any, profiles: Sequence[object]) -> bool:
    """Go through the phases of a build; whether the program let it end."""
    root = 'Building Engine'

    def inner(index: int) -> Callable[[], bool]:
        return lambda: _phase(monitor, f'Timing Profile {index}', root, [None, None, None])

    return _phase(monitor, root, None, [None, *map(inner, range(len(profiles))), None])


def _phase(
    monitor: Any, name: str, parent: str | None, steps: Sequence[Callable[[], bool] | None]
) -> bool:
    """One phase with the phases within its steps."""
    call_back(monitor.phase_start, name, parent, len(steps))
    goes_on = True
    for index, step in enumerate(steps):
        goes_on = step is None or step()
        if goes_on:
            goes_on = call_back(monitor.step_complete, name, index)
            assert isinstance(goes_on, bool), f'step_complete gives {goes_on!r}'
        if not goes_on:
            break
    call_back(monitor.phase_finish, name)
    return goes_on


class Tensor(Model):
    """Edge of a network."""

    surface = 'ITensor'

    def __init__(self, trt: Any, listener: Any, port: Port) -> None:
        super().__init__(trt, listener)
        self.name = port.name
        self.shape = Shape(port.shape)
        self.dtype = getattr(trt.DataType, port.type)


class Attention(Model):
    """An attention that needs a fused kernel unless it may be decomposed."""

    surface = 'IAttention'
    decomposable = False


class Layer(Model):
    """One node."""

    surface = 'ILayer'

    def __init__(self, trt: Any, listener: Any, node: onnx.NodeProto) -> None:
        super().__init__(trt, listener)
        self.name = node.name
        self.type = trt.LayerType.IDENTITY
        if node.op_type == 'Attention' and hasattr(trt, 'IAttentionInputLayer'):
            self.type = trt.LayerType.ATTENTION_INPUT
            self.native = 'IAttentionInputLayer'
            self.attention = Attention(trt, listener)
            if not trt.plain_layers:
                self.surface = self.native


class Network(Model):
    """What the parser fills."""

    surface = 'INetworkDefinition'

    def __init__(self, trt: Any, listener: Any, *, is_strongly_typed: bool) -> None:
        super().__init__(trt, listener)
        self.is_strongly_typed = is_strongly_typed
        self.graph: Graph | None = None
        self.layers: list[Layer] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def fill(self, graph: Graph) -> None:
        """Take a parsed file."""
        self.graph = graph
        made = (self.trt, self.listener)
        self.layers = [Layer(*made, node) for node in graph.proto.graph.node]
        self.inputs = [Tensor(*made, port) for port in graph.inputs.values()]
        self.outputs = [Tensor(*made, port) for port in graph.outputs.values()]

    num_layers = property(lambda self: len(self.layers))
    num_inputs = property(lambda self: len(self.inputs))
    num_outputs = property(lambda self: len(self.outputs))

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]

    def get_input(self, index: int) -> Tensor:
        return self.inputs[index]

    def get_output(self, index: int) -> Tensor:
        return self.outputs[index]


class ParserError(Model):
    """What the parser could not take."""

    surface = 'ParserError'

    def __init__(self, trt: Any, listener: Any, text: str) -> None:
        super().__init__(trt, listener)
        self.text = text

    def desc(self) -> str:
        return self.text


class Parser(Model):
    """Reads ONNX files as far as a release does."""

    surface = 'OnnxParser'

    def __init__(self, trt: Any, network: Network, logger: Any) -> None:
        super().__init__(trt, logger)
        self.network = network
        self.errors: list[ParserError] = []

    def parse_from_file(self, path: str) -> bool:
        try:
            graph = Graph(Path(path).absolute())
            self.refuse_operators(graph)
        except GraphError as error:
            self.errors.append(ParserError(self.trt, self.listener, str(error)))
            self.complain(str(error))
            return False
        self.network.fill(graph)
        return True

    num_errors = property(lambda self: len(self.errors))

    def get_error(self, index: int) -> ParserError:
        return self.errors[index]

    def refuse_operators(self, graph: Graph) -> None:
        """Raise GraphError for what this release, or the test, does not take."""
        lacking = set()
        if not hasattr(self.trt, 'IAttentionInputLayer'):
            lacking.add('Attention')
        if not hasattr(self.trt, 'IKVCacheUpdateLayer'):
            lacking |= {'RMSNormalization', 'RotaryEmbedding', 'TensorScatter'}
        for node in graph.proto.graph.node:
            is_taken = self.trt.operators is None or node.op_type in self.trt.operators
            if node.domain or node.op_type in lacking or not is_taken:
                raise GraphError(f'no importer for {node.domain}{node.op_type} ({node.name})')


class Profile(Model):
    """Ranges of shapes."""

    surface = 'IOptimizationProfile'

    def __init__(self, trt: Any, listener: Any) -> None:
        super().__init__(trt, listener)
        self.ranges: dict[str, Range] = {}

    def set_shape(self, name: str, least: Any, usual: Any, most: Any) -> None:
        self.ranges[name] = tuple(tuple(int(d) for d in shape) for shape in (least, usual, most))

    def covering(self, graph: Graph) -> dict[str, Range]:
        """Ranges of every input.

        :raises GraphError: they are not those of this graph.
        """
        if unknown := set(self.ranges) - set(graph.inputs):
            raise GraphError(f'a profile has ranges for {sorted(unknown)}, which are no inputs')
        complete = {}
        for name, port in graph.inputs.items():
            if name not in self.ranges and port.is_dynamic:
                raise GraphError(f'a profile lacks the dynamic input {name}')
            complete[name] = self.ranges.get(name, (port.shape,) * 3)
            if any(len(shape) != len(port.shape) for shape in complete[name]):
                raise GraphError(f'a profile gives {name} another number of dimensions')
            for fixed, *sizes in zip(port.shape, *complete[name], strict=True):
                if not 0 <= sizes[0] <= sizes[1] <= sizes[2]:
                    raise GraphError(f'a profile gives {name} {sizes}, which do not rise')
                if fixed != -1 and set(sizes) != {fixed}:
                    raise GraphError(f'a profile gives {name} {sizes}, which is always {fixed}')
        return complete


class TimingCache(Model):
    """What earlier builds found out."""

    surface = 'ITimingCache'

    def __init__(self, trt: Any, listener: Any, made_on: list[str], entries: set[str]) -> None:
        super().__init__(trt, listener)
        self.made_on = made_on
        self.entries = entries

    def serialize(self) -> HostMemory:
        content = {'made_on': self.made_on, 'entries': sorted(self.entries)}
        return HostMemory(json.dumps(content).encode())


class Config(Model):
    """How to build."""

    surface = 'IBuilderConfig'

    def __init__(self, trt: Any, listener: Any) -> None:
        super().__init__(trt, listener)
        self.profiles: list[Profile] = []
        self.timing_cache: TimingCache | None = None
        self.builder_optimization_level = 3
        self.max_aux_streams = -1
        self.progress_monitor: Any = None

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        assert size > 0, f'{pool!r} of {size} bytes'

    def set_flag(self, flag: Any) -> None:
        assert flag.name not in PRECISION_FLAGS, f'precision flag {flag.name}'

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, data: Any) -> TimingCache | None:
        here = [self.trt.__version__, self.trt.device_name]
        try:
            content = json.loads(bytes(data)) if data else {'made_on': here, 'entries': []}
        except ValueError:
            self.complain('the timing cache is damaged')
            return None
        return TimingCache(self.trt, self.listener, content['made_on'], set(content['entries']))

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch, 'a timing cache of another device gives wrong engines'
        if cache.made_on != [self.trt.__version__, self.trt.device_name]:
            self.complain(f'the timing cache was made on {cache.made_on}')
            return False
        self.timing_cache = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self.timing_cache
