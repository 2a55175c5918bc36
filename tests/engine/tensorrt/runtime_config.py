"""How TensorRT for RTX makes contexts, and the kernels that it compiles for their shapes."""

import json
from typing import Any

from .model import HostMemory, Model


class RuntimeCache(Model):
    """The kernels that were compiled for shapes, on one GPU."""

    surface = 'IRuntimeCache'

    def __init__(self, trt: Any, listener: Any) -> None:
        super().__init__(trt, listener)
        self.kernels: set[str] = set()

    def serialize(self) -> HostMemory:
        content = {'device': self.trt.device_name, 'kernels': sorted(self.kernels)}
        return HostMemory(json.dumps(content).encode())

    def deserialize(self, data: Any) -> bool:
        content = json.loads(bytes(data))
        if content['device'] != self.trt.device_name:
            self.complain('the kernels are for another GPU')
            return False
        self.kernels |= set(content['kernels'])
        return True


class RuntimeConfig(Model):
    """How TensorRT for RTX makes contexts."""

    surface = 'IRuntimeConfig'

    def __init__(self, engine: Model) -> None:
        super().__init__(engine.trt, engine.listener)
        trt = engine.trt
        self.allocation = 'STATIC'
        self.cache: RuntimeCache | None = None
        self.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy = (
            trt.DynamicShapesKernelSpecializationStrategy.LAZY
        )

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.allocation = strategy.name

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache(self.trt, self.listener)

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True

    def compile(self, what: str) -> None:
        """Take a kernel from the cache, or put it there."""
        if self.cache is not None and what not in self.cache.kernels:
            self.cache.kernels.add(what)
            self.trt.built.append('kernel')
