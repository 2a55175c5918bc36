"""ONNX graphs to TensorRT plans.

Networks are strongly typed: the graph alone says what is computed in which type, on all versions.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
import signal
import threading
from types import FrameType
from typing import Any

from kosmos_ros.engine.base import Report
from kosmos_ros.engine.directory.recipe import Shape
from kosmos_ros.engine.tensorrt.flavours import FLAVOUR, trt
from kosmos_ros.engine.tensorrt.log import TensorRTLog
from kosmos_ros.engine.tensorrt.profiles import Profile

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """One plan to build.

    :param inputs: dimensions, in one shape, of each input that has dynamic ones, by name.
    """

    name: str
    graph: Path
    profiles: tuple[Profile, ...]
    inputs: Callable[[Shape], Mapping[str, tuple[int, ...]]]
    optimization_level: int
    workspace_mib: int


def build_plan(request: PlanRequest, timing_cache: Path, report: Report) -> memoryview:
    """Build one plan.

    :param timing_cache: file with measurements of earlier builds on this machine; read if it
        is there, written at the end.
    :raises EngineError: with TensorRT's own last words.
    :raises KeyboardInterrupt: when the build was interrupted.
    """
    log = TensorRTLog()
    builder = trt.Builder(log)
    network = read_graph(request.graph, builder, log)
    allow_decomposition(network)
    config = log.require(builder.create_builder_config(), 'TensorRT makes no configuration')
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_mib * _MIB)
    config.builder_optimization_level = request.optimization_level
    # Auxiliary streams would need scratch memory and events of their own in captured graphs.
    config.max_aux_streams = 0
    progress = _BuildProgress(request.name, report)
    config.progress_monitor = progress
    FLAVOUR.use_timing_cache(config, timing_cache)
    for each in request.profiles:
        profile = log.require(builder.create_optimization_profile(), 'TensorRT makes no profile')
        least, best, most = map(request.inputs, (each.least, each.best, each.most))
        for name in best:
            profile.set_shape(name, least[name], best[name], most[name])
        if config.add_optimization_profile(profile) < 0:
            raise log.error(f'TensorRT refuses a profile of {request.name}')
    with progress.interruptible():
        plan = builder.build_serialized_network(network, config)
    plan = log.require(plan, f'{request.name} cannot be built')
    FLAVOUR.keep_timing_cache(config, timing_cache)
    return memoryview(plan)


def read_graph(graph: Path, builder: trt.Builder, log: TensorRTLog) -> trt.INetworkDefinition:
    """Read an ONNX file, and the weights that it refers to.

    :raises EngineError: with TensorRT's own last words.
    """
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = log.require(builder.create_network(flags), 'TensorRT makes no network')
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        said = '; '.join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise log.error(f'TensorRT cannot read {graph.name} ({said})')
    return network


def allow_decomposition(network: trt.INetworkDefinition) -> None:
    """Let attention that no fused kernel fits be computed by single kernels instead of failing."""
    kind = getattr(trt.LayerType, 'ATTENTION_INPUT', None)
    for index in range(network.num_layers if kind is not None else 0):
        # Its class comes with 10.14, so no earlier release has a type for it.
        layer: Any = network.get_layer(index)
        if layer.type == kind:
            # get_layer gives the base class; the bindings' way to the real one is its name.
            layer.__class__ = getattr(trt, 'IAttentionInputLayer')  # noqa: B009
            layer.attention.decomposable = True


class _BuildProgress(trt.IProgressMonitor):
    """Reports TensorRT's phases as lines of per cent.

    TensorRT calls it from C++, where exceptions must not get to: what ends a build is kept until
    TensorRT returns, which it does soon when `step_complete` is False.
    """

    def __init__(self, name: str, report: Report) -> None:
        super().__init__()
        self._name = name
        self._report = report
        self._steps: dict[str, int] = {}
        self._ended_by: BaseException | None = None

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let Ctrl-C, or what `report` raises, end the build in this block, and then raise it."""

        def interrupt(number: int, frame: FrameType | None) -> None:
            self._ended_by = KeyboardInterrupt()

        # Only this thread may say what a signal does, and only it would get the exception.
        is_main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGINT, interrupt) if is_main else None
        try:
            yield
        finally:
            if is_main:
                signal.signal(signal.SIGINT, before)
        if self._ended_by is not None:
            raise self._ended_by

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """See `trt.IProgressMonitor`."""
        self._steps[phase_name] = num_steps
        if parent_phase is None:
            self._say(phase_name)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """See `trt.IProgressMonitor`."""
        steps = max(self._steps.get(phase_name, 1), 1)
        self._say(f'{phase_name}, {100 * (step + 1) // steps} %')
        return self._ended_by is None

    def phase_finish(self, phase_name: str) -> None:
        """See `trt.IProgressMonitor`."""
        self._steps.pop(phase_name, None)

    def _say(self, what: str) -> None:
        try:
            self._report(f'building {self._name}: {what}')
        except BaseException as error:
            self._ended_by = error
