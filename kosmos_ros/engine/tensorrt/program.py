"""Compiled plans on the buffers of the static loop.

torch gives memory, stream and graphs; this module only binds addresses and enqueues.  Each shape
has an execution context of its own, so no context ever changes its profile or its shapes; all of
them share one scratch memory, since they run one after the other on one stream.  It is as large as
these shapes need, not as large as a wide profile allows.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kosmos_ros.engine.directory.directory import DECODER_PLAN, VISION_PLAN
from kosmos_ros.engine.directory.recipe import Recipe, Shape
from kosmos_ros.engine.runners.cuda import Device
from kosmos_ros.engine.runners.static import Buffers, Program
from kosmos_ros.engine.tensorrt.flavours import FLAVOUR, RELEASE, Contexts, trt
from kosmos_ros.engine.tensorrt.log import TensorRTLog
from kosmos_ros.engine.tensorrt.profiles import profile_of
from kosmos_ros.errors import EngineError

_ALIGNMENT = 256
_TYPES = {
    trt.DataType.FLOAT: torch.float32,
    trt.DataType.HALF: torch.float16,
    trt.DataType.BF16: torch.bfloat16,
    trt.DataType.INT64: torch.int64,
    trt.DataType.BOOL: torch.bool,
}


class TensorRTProgram(Program):
    """Plans on the buffers of the static loop."""

    def __init__(
        self,
        plans: Mapping[str, bytes],
        kernels: Mapping[str, bytes],
        recipe: Recipe,
        device: Device,
    ) -> None:
        """Deserialise plans.

        :param plans: content of ``vision.plan`` and ``decoder.plan``, after their hashes were
            checked: a plan is executable.
        :param kernels: what `compiled` gave at an earlier start on this machine, or {}; executable
            as well.
        :raises RunnerUnavailable: when a plan does not run on this machine.
        :raises EngineError: when TensorRT refuses one.
        """
        self.name = f'{RELEASE}, {recipe.precision}'
        self._recipe = recipe
        self._device = device
        self._log = TensorRTLog()
        self._runtime = trt.Runtime(self._log)
        self._engines = {
            name: self._engine(name, plans[name], kernels.get(name, b''))
            for name in (VISION_PLAN, DECODER_PLAN)
        }
        self._contexts: list[trt.IExecutionContext] = []
        self._scratch = device.empty((0,), torch.uint8)

    def bind_vision(self, pixels: Tensor, embeds: Tensor) -> Callable[[], None]:
        """See `Program.bind_vision`."""
        tensors = {'pixels': pixels, 'embeds': embeds}
        return self._work(VISION_PLAN, 0, tensors)

    def bind_decoder(self, shape: Shape, buffers: Buffers) -> Callable[[], None]:
        """See `Program.bind_decoder`."""
        tensors = {
            'embeds': buffers.embeds,
            'mask': buffers.mask,
            'last': buffers.last,
            'hidden': buffers.hidden,
        }
        stacks = {'prefix': buffers.prefix, 'cache': buffers.past, 'new': buffers.fresh}
        for name, stack in stacks.items():
            for index, layer in enumerate(stack):
                tensors[f'{name}.{index}.key'] = layer[0]
                tensors[f'{name}.{index}.value'] = layer[1]
        profile = profile_of(shape, self._recipe, RELEASE)
        return self._work(DECODER_PLAN, profile, tensors)

    def compiled(self) -> dict[str, bytes]:
        """Return the kernels that were compiled on this machine until now, by plan; {} where plans
        hold all of them.
        """
        found = {name: contexts.compiled() for name, (_, contexts) in self._engines.items()}
        return {name: content for name, content in found.items() if content}

    def close(self) -> None:
        """See `Program.close`."""
        self._contexts.clear()
        self._engines.clear()
        del self._runtime, self._scratch

    def _engine(self, name: str, plan: bytes, kernels: bytes) -> tuple[trt.ICudaEngine, Contexts]:
        FLAVOUR.check_plan(self._runtime, name, plan)
        engine = self._log.require(
            self._runtime.deserialize_cuda_engine(plan), f'{name} cannot be loaded'
        )
        return engine, FLAVOUR.contexts(engine, kernels)

    def _context(
        self, name: str, profile: int, tensors: Mapping[str, Tensor]
    ) -> trt.IExecutionContext:
        """Make a context with its profile and all shapes; addresses come later."""
        require, stream = self._log.require, self._device.stream
        engine, contexts = self._engines[name]
        context = require(contexts.create(), 'a context cannot be made')
        require(context.set_optimization_profile_async(profile, stream), f'no profile {profile}')
        names = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        if names != set(tensors):
            raise EngineError(f'a plan has other tensors: {sorted(names ^ set(tensors))}')
        for name, tensor in tensors.items():
            if _TYPES.get(engine.get_tensor_dtype(name)) != tensor.dtype:
                raise EngineError(
                    f'{name} is {engine.get_tensor_dtype(name)} in the plan, not {tensor.dtype}'
                )
            if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
                shape = tuple(tensor.shape)
                require(context.set_input_shape(name, shape), f'{name} cannot have shape {shape}')
        if missing := context.infer_shapes():
            raise self._log.error(f'shapes are missing for {missing}')
        for name, tensor in tensors.items():
            if tuple(context.get_tensor_shape(name)) != tuple(tensor.shape):
                raise EngineError(
                    f'{name} is {tuple(context.get_tensor_shape(name))} in the plan, '
                    f'not {tuple(tensor.shape)}'
                )
        self._contexts.append(context)
        self._make_room(context.update_device_memory_size_for_shapes())
        return context

    def _make_room(self, needed: int) -> None:
        """Make the scratch memory large enough for the newest context, too."""
        if needed > self._scratch.numel():
            self._scratch = self._device.empty((needed,), torch.uint8)
        for context in self._contexts:
            context.set_device_memory(self._scratch.data_ptr(), self._scratch.numel())

    def _work(self, name: str, profile: int, tensors: Mapping[str, Tensor]) -> Callable[[], None]:
        context = self._context(name, profile, tensors)
        for key, tensor in tensors.items():
            if tensor.data_ptr() % _ALIGNMENT or not tensor.is_contiguous():
                raise EngineError(
                    f'{key} of {name} is not aligned or contiguous, as TensorRT needs it'
                )
            taken = context.set_tensor_address(key, tensor.data_ptr())
            self._log.require(taken, f'{key} is refused')

        def work() -> None:
            self._log.require(
                context.execute_async_v3(self._device.stream), f'{name} cannot be run'
            )
            # The tensors must live as long as their addresses are in use.
            assert tensors

        return work
