"""The double insists on whose memory it is, and on what a capture may hold."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch

from .double import Double
from .graphs import tensor_scatter
from .host_device import HostDevice
from .program import OUTPUTS, SHAPES, Lines, bind, context_of, engine_of, ready, tensors


def test_memory_is_aligned_and_of_the_device(context: Any, device: HostDevice) -> None:
    bound = ready(context, device)
    address = bound['present'].data_ptr()
    with pytest.raises(AssertionError, match='aligned'):
        context.set_tensor_address('present', address + 16)
    with pytest.raises(AssertionError, match='in no tensor'):
        context.set_tensor_address('present', address + 256)
    with pytest.raises(AssertionError, match='in no tensor'):
        context.set_tensor_address('present', torch.zeros(4096).data_ptr() // 256 * 256)
    with pytest.raises(TypeError):
        context.set_tensor_address('present', float(address))


def test_memory_is_kept_by_the_program(context: Any, device: HostDevice) -> None:
    bound = ready(context, device)
    tail = bound['tail'][:, :, 1:]
    assert context.execute_async_v3(device.stream)
    del bound['tail']
    # A view keeps its storage.
    replay = device.capture(lambda: context.execute_async_v3(device.stream))
    replay()
    del tail
    gc.collect()
    with pytest.raises(AssertionError, match='tail: .* in no tensor'):
        replay()
    with pytest.raises(AssertionError, match='tail: .* in no tensor'):
        context.execute_async_v3(device.stream)


@pytest.mark.parametrize('other', ['past', 'new', 'tail'])
def test_outputs_share_no_memory(context: Any, device: HostDevice, other: str) -> None:
    bound = ready(context, device)
    bound['present'] = bound[other] = device.empty((1024,), torch.float32)
    bind(context, bound)
    with pytest.raises(AssertionError, match='share memory'):
        context.execute_async_v3(device.stream)


def test_device_memory_is_given_when_promised(
    trt: Double, engine: Any, device: HostDevice
) -> None:
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    context = engine.create_execution_context(strategy)
    bound = ready(context, device)
    with pytest.raises(AssertionError, match='before device memory'):
        context.execute_async_v3(device.stream)
    size = engine.get_device_memory_size_for_profile_v2(1)
    room = device.empty((size,), torch.uint8)
    with pytest.raises(AssertionError, match='aligned'):
        context.set_device_memory(room.data_ptr() + 1, size - 1)
    with pytest.raises(AssertionError, match='in no tensor'):
        context.set_device_memory(room.data_ptr(), size + 1)
    context.set_device_memory(room.data_ptr(), size - 1)
    with pytest.raises(AssertionError, match='are needed'):
        context.execute_async_v3(device.stream)
    context.set_device_memory(room.data_ptr(), size)
    room.zero_()
    assert context.execute_async_v3(device.stream)
    # TensorRT works in there.
    assert room.all()
    shared = device.empty((size,), torch.uint8)
    context.set_device_memory(shared.data_ptr(), size)
    assert context.set_tensor_address('tail', shared.data_ptr())
    with pytest.raises(AssertionError, match='tail and device memory share'):
        context.execute_async_v3(device.stream)
    with pytest.raises(AssertionError, match='itself'):
        engine.create_execution_context().set_device_memory(room.data_ptr(), size)
    assert bound


def test_shapes_may_need_less_memory_than_their_profile(
    trt: Double, engine: Any, device: HostDevice
) -> None:
    strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    context = engine.create_execution_context(strategy)
    with pytest.raises(AssertionError, match=r"before the shapes of \['past', 'new', 'at'\]"):
        context.update_device_memory_size_for_shapes()
    bound = ready(context, device)
    room = device.empty((1 << 16,), torch.uint8)
    size = context.update_device_memory_size_for_shapes()
    assert 0 < size < engine.get_device_memory_size_for_profile_v2(1)
    context.set_device_memory(room.data_ptr(), size)
    assert context.execute_async_v3(device.stream)
    # Who changes the shapes has to ask again.
    assert context.set_optimization_profile_async(1, device.stream)
    bound = ready(context, device)
    with pytest.raises(AssertionError, match='are needed'):
        context.execute_async_v3(device.stream)
    assert bound


def test_new_memory_has_no_zeros(device: HostDevice) -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert device.empty((3, 0, 2), dtype).data_ptr() % 256 == 0
        assert device.empty((3, 5), dtype).isnan().all()
    for dtype in (torch.int64, torch.int32, torch.uint8):
        assert (device.empty((3,), dtype) == torch.iinfo(dtype).max).all()
    assert device.empty((3,), torch.bool).all()


def test_capture_holds_executions_back(context: Any, device: HostDevice) -> None:
    bound = ready(context, device)

    def run() -> None:
        assert context.execute_async_v3(device.stream)

    with pytest.raises(AssertionError, match='needs an execution'):
        device.capture(run)
    run()
    bound['present'].fill_(7)
    replay = device.capture(run)
    assert (bound['present'] == 7).all()
    bound['new'].fill_(1)
    replay()
    assert (bound['present'][:, :, 3:5] == 2).all()
    # A graph keeps its addresses when the context gets others.
    other = device.empty(SHAPES['past'], torch.float32)
    assert context.set_tensor_address('present', other.data_ptr())
    bound['new'].fill_(2)
    replay()
    assert (bound['present'][:, :, 3:5] == 4).all()
    assert other.isnan().all()
    # New shapes ask for an execution before the next capture.
    assert context.set_input_shape('new', (1, 2, 1, 4))
    assert context.set_input_shape('new', SHAPES['new'])
    bind(context, bound)
    with pytest.raises(AssertionError, match='needs an execution'):
        device.capture(run)


def test_capture_refuses_what_cuda_does(trt: Double, engine: Any, device: HostDevice) -> None:
    context, second = (context_of(trt, engine) for _ in range(2))
    bound = [ready(each, device) for each in (context, second)]
    for each in (context, second):
        assert each.execute_async_v3(device.stream)

    def both() -> None:
        context.execute_async_v3(device.stream)
        second.execute_async_v3(device.stream)

    for work, reason in (
        (lambda: device.empty((1,), torch.float32), 'memory is taken'),
        (lambda: device.capture(both), 'within a capture'),
        (lambda: context.set_optimization_profile_async(1, device.stream), 'profile changes'),
        (lambda: context.set_input_shape('new', SHAPES['new']), 'shape changes'),
        (both, 'two contexts'),
        (lambda: None, 'nothing'),
    ):
        with pytest.raises(AssertionError, match=reason):
            device.capture(work)
        assert trt.recording is None
    assert bound


@pytest.mark.parametrize('in_place', [True, False])
def test_cache_is_updated_in_place_where_declared(
    trt: Double, lines: Lines, device: HostDevice, tmp_path: Path, in_place: bool
) -> None:
    if not hasattr(trt.ICudaEngine, 'get_aliased_input_tensor'):
        return
    engine = engine_of(trt, lines.logger, tensor_scatter(tmp_path))
    assert engine.get_aliased_input_tensor('present') == 'past'
    assert engine.get_aliased_input_tensor('tail') is None
    assert engine.get_aliased_input_tensor('past') is None
    context = engine.create_execution_context()
    assert context.set_optimization_profile_async(0, device.stream)
    for name, shape in (SHAPES | {'at': (1,)}).items():
        assert context.set_input_shape(name, shape)
    bound = tensors(device, SHAPES | OUTPUTS)
    bound['at'] = device.empty((1,), torch.int64)
    bound['at'].fill_(3)
    if in_place:
        bound['present'] = bound['past']
    bind(context, bound)
    if not in_place:
        with pytest.raises(AssertionError, match='present must be where past is'):
            context.execute_async_v3(device.stream)
        return
    for row in (3, 5):
        bound['at'].fill_(row)
        assert context.execute_async_v3(device.stream)
    twice = 2 * torch.cat([bound['new'], bound['new']], 2)
    torch.testing.assert_close(bound['past'][:, :, 3:7], twice)
    assert not bound['past'][:, :, [0, 1, 2, 7]].any()
