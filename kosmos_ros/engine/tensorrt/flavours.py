"""The TensorRT that is installed, and all in which TensorRT for RTX differs from TensorRT itself.

Modules that call TensorRT take `trt` and `FLAVOUR` from here.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kosmos_ros.engine.tensorrt.installed import installed_tensorrt
from kosmos_ros.errors import RunnerUnavailable

if TYPE_CHECKING:
    import tensorrt as trt
else:
    trt = installed_tensorrt().module

__all__ = ['FLAVOUR', 'RELEASE', 'Contexts', 'Flavour', 'trt']

RELEASE = installed_tensorrt().release
# What the diagnostics of TensorRT for RTX mean, and what to do.
_CURES = {
    'VERSION_MISMATCH': 'it was built by another release: build it again, or install that one',
    'UNSUPPORTED_CC': 'TensorRT for RTX does not support this GPU: PyTorch runs the engine here',
    'OLD_CUDA_DRIVER': "the GPU's driver is too old: update it",
    'OLD_CUDA_RUNTIME': 'the CUDA runtime is too old: update PyTorch or CUDA',
    'INSUFFICIENT_GPU_MEMORY': 'the memory of the GPU is too small: end other programs',
    'MALFORMED_ENGINE': 'it is damaged: build it again',
    'CUDA_ERROR': 'CUDA does not work here: install the driver of the GPU',
}


class Contexts:
    """Makes the execution contexts of one engine."""

    def __init__(self, engine: 'trt.ICudaEngine') -> None:
        self._engine = engine

    def create(self) -> 'trt.IExecutionContext | None':
        """Return a context whose scratch memory the caller gives; None when TensorRT refuses."""
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        return self._engine.create_execution_context(strategy)

    def compiled(self) -> bytes:
        """Return the kernels that were compiled on this machine until now; b'' where plans hold
        all of them.
        """
        return b''


class Flavour:
    """TensorRT itself."""

    def use_timing_cache(self, config: 'trt.IBuilderConfig', path: Path) -> None:
        """Use the measurements of earlier builds, if TensorRT takes them; else begin new ones."""
        for measured in (path.read_bytes() if path.is_file() else b'', b''):
            cache = config.create_timing_cache(measured)
            if cache is not None and config.set_timing_cache(cache, False):
                return

    def keep_timing_cache(self, config: 'trt.IBuilderConfig', path: Path) -> None:
        """Write the measurements of this build."""
        cache = config.get_timing_cache()
        if cache is None:
            return
        draft = path.with_suffix('.draft')
        try:
            draft.write_bytes(memoryview(cache.serialize()))
            draft.replace(path)
        except OSError:
            # Without it, a later build takes longer; that is all.
            draft.unlink(missing_ok=True)

    def check_plan(self, runtime: 'trt.Runtime', name: str, plan: bytes) -> None:
        """Ask whether a plan runs here, before it is loaded.

        :raises RunnerUnavailable: when it does not, with what to do.
        """
        # A plan of TensorRT itself was built on this very machine, or its key would be another.

    def contexts(self, engine: 'trt.ICudaEngine', compiled: bytes) -> Contexts:
        """Return what makes the contexts of an engine.

        :param compiled: kernels from an earlier start on this machine, or b''.
        """
        return Contexts(engine)


# TensorRT itself has no such names, so they have no types below; the tests' double knows them.


class RtxContexts(Contexts):
    """Contexts that compile all kernels for their shapes at once.

    By default the first runs use slower kernels while better ones are compiled in the background,
    and a graph that is captured then never gets the better ones.  The static loop does all
    capturing, so TensorRT is told not to.
    """

    def __init__(self, engine: Any, compiled: bytes) -> None:
        super().__init__(engine)
        rtx: Any = trt
        self._config = engine.create_runtime_config()
        self._config.set_execution_context_allocation_strategy(
            rtx.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        self._config.dynamic_shapes_kernel_specialization_strategy = (
            rtx.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        self._config.cuda_graph_strategy = rtx.CudaGraphStrategy.DISABLED
        self._cache = self._config.create_runtime_cache()
        if compiled:
            # It refuses those of another GPU, driver or release; then all are compiled again.
            self._cache.deserialize(compiled)
        self._config.set_runtime_cache(self._cache)

    def create(self) -> Any:
        """See `Contexts.create`."""
        return self._engine.create_execution_context(self._config)

    def compiled(self) -> bytes:
        """See `Contexts.compiled`."""
        return bytes(memoryview(self._cache.serialize()))


class RtxFlavour(Flavour):
    """TensorRT for RTX."""

    def use_timing_cache(self, config: Any, path: Path) -> None:
        """Measure nothing: its builder runs nothing, on no GPU."""

    def keep_timing_cache(self, config: Any, path: Path) -> None:
        """See `use_timing_cache`."""

    def check_plan(self, runtime: Any, name: str, plan: bytes) -> None:
        """See `Flavour.check_plan`."""
        rtx: Any = trt
        validity, diagnostics = runtime.get_engine_validity(plan)
        if validity != rtx.EngineValidity.INVALID:
            return
        reasons = [
            _CURES.get(str(reason), str(reason))
            for reason, bit in rtx.EngineInvalidityDiagnostics.__members__.items()
            if int(bit) & int(diagnostics)
        ]
        raise RunnerUnavailable(f'{name} does not run here: {"; ".join(reasons) or "no reason"}')

    def contexts(self, engine: Any, compiled: bytes) -> Contexts:
        """See `Flavour.contexts`."""
        return RtxContexts(engine, compiled)


FLAVOUR = RtxFlavour() if RELEASE.is_rtx else Flavour()
