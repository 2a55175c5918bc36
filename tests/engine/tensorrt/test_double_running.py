"""The double runs what was built, and insists on the order of calls."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from .double import Double
from .graphs import scatter_elements
from .host_device import HostDevice
from .program import OUTPUTS, SHAPES, Lines, bind, engine_of, ready


def test_engine_describes_itself(trt: Double, engine: Any) -> None:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    assert names == ['past', 'new', 'at', 'present', 'tail']
    modes = [engine.get_tensor_mode(name) for name in names]
    assert modes == 3 * [trt.TensorIOMode.INPUT] + 2 * [trt.TensorIOMode.OUTPUT]
    assert engine.get_tensor_dtype('at') is trt.DataType.INT64
    assert engine.get_tensor_shape('tail') == (-1, 2, -1, 4)
    assert engine.num_optimization_profiles == 2
    assert [list(shape) for shape in engine.get_tensor_profile_shape('new', 1)] == [
        [1, 2, 1, 4],
        [1, 2, 2, 4],
        [3, 2, 5, 4],
    ]
    sizes = [engine.get_device_memory_size_for_profile_v2(index) for index in range(2)]
    assert max(sizes) == engine.device_memory_size_v2
    assert all(size > 0 and size % 256 == 0 for size in sizes)


def test_writes_where_it_is_told(context: Any, device: HostDevice) -> None:
    bound = ready(context, device)
    assert context.execute_async_v3(device.stream)
    device.synchronize()
    expected = torch.zeros(SHAPES['past'])
    expected[:, :, 3:5] = 2 * bound['new']
    torch.testing.assert_close(bound['present'], expected)
    torch.testing.assert_close(bound['tail'], torch.cat([bound['new'], bound['new']], 2) * 2)
    assert not bound['past'].any()


def test_caches_swap(context: Any, device: HostDevice) -> None:
    bound = ready(context, device)
    assert context.execute_async_v3(device.stream)
    bound['past'], bound['present'] = bound['present'], bound['past']
    bound['at'] += 2
    bind(context, bound)
    assert context.execute_async_v3(device.stream)
    written = 2 * torch.cat([bound['new'], bound['new']], 2)
    torch.testing.assert_close(bound['present'][:, :, 3:7], written)


def test_shapes_are_known_when_the_inputs_are(context: Any, device: HostDevice) -> None:
    assert context.infer_shapes() == ['past', 'new', 'at']
    assert context.set_optimization_profile_async(0, device.stream)
    assert context.set_input_shape('past', SHAPES['past'])
    assert context.infer_shapes() == ['new', 'at']
    assert context.get_tensor_shape('tail') == (-1, 2, -1, 4)
    assert context.set_input_shape('new', [1, 2, 3, 4])
    assert context.set_input_shape('at', torch.Size([1, 2, 3, 4]))
    assert context.infer_shapes() == []
    assert context.get_tensor_shape('tail') == (1, 2, 6, 4)


def test_inputs_go_together(context: Any, device: HostDevice) -> None:
    assert context.set_optimization_profile_async(0, device.stream)
    for name, shape in (SHAPES | {'at': (1, 2, 3, 4)}).items():
        assert context.set_input_shape(name, shape)
    with pytest.raises(RuntimeError, match='N is 2 and, in at, 3'):
        context.get_tensor_shape('tail')


@pytest.mark.parametrize('shape', [(1, 2, 6, 4), (1, 3, 2, 4), (1, 2, 2), (0, 2, 2, 4)])
def test_shapes_stay_in_the_profile(
    lines: Lines, context: Any, device: HostDevice, shape: tuple[int, ...]
) -> None:
    assert not context.set_input_shape('new', SHAPES['new'])
    assert context.set_optimization_profile_async(0, device.stream)
    assert not context.set_input_shape('new', shape)
    assert not context.set_input_shape('tail', OUTPUTS['tail'])
    assert not context.set_optimization_profile_async(2, device.stream)
    assert not context.set_tensor_address('unknown', 256)
    assert len(lines.errors) == 5


def test_order_is_kept(context: Any, device: HostDevice) -> None:
    past = device.empty(SHAPES['past'], torch.float32)
    with pytest.raises(AssertionError, match='before the profile'):
        context.execute_async_v3(device.stream)
    with pytest.raises(AssertionError, match='before the profile'):
        context.set_tensor_address('past', past.data_ptr())
    assert context.set_optimization_profile_async(0, device.stream)
    assert context.set_input_shape('past', SHAPES['past'])
    with pytest.raises(AssertionError, match=r"before the shapes of \['new', 'at'\]"):
        context.set_tensor_address('past', past.data_ptr())
    with pytest.raises(AssertionError, match='before shapes'):
        context.execute_async_v3(device.stream)
    bound = ready(context, device)
    assert context.execute_async_v3(device.stream)
    # Other shapes ask for addresses of that many bytes, and another profile for everything.
    assert context.set_input_shape('past', (2, 2, 8, 4))
    assert context.set_input_shape('past', SHAPES['past'])
    with pytest.raises(AssertionError, match=r"before addresses of \['at', 'new'"):
        context.execute_async_v3(device.stream)
    bind(context, bound)
    assert context.set_optimization_profile_async(0, device.stream)
    assert context.infer_shapes() == ['past', 'new', 'at']


def test_stream_is_one_and_not_the_default(context: Any, device: HostDevice) -> None:
    with pytest.raises(AssertionError, match='default stream'):
        context.set_optimization_profile_async(0, 0)
    ready(context, device)
    with pytest.raises(AssertionError, match='default stream'):
        context.execute_async_v3(0)
    with pytest.raises(AssertionError, match='another stream'):
        context.execute_async_v3(device.stream + 1)


@pytest.mark.parametrize(
    'name',
    [
        'ICudaEngine.create_execution_context',
        'IExecutionContext.set_optimization_profile_async',
        'IExecutionContext.set_input_shape',
        'IExecutionContext.set_tensor_address',
        'IExecutionContext.execute_async_v3',
    ],
)
def test_failures_come_when_asked_for(
    trt: Double, lines: Lines, engine: Any, device: HostDevice, name: str
) -> None:
    def run() -> bool:
        context = engine.create_execution_context()
        bound = ready(context, device)
        return context.execute_async_v3(device.stream) and bound['tail'][0, 0, 0, 1] == 2

    trt.fail_next(name)
    try:
        assert not run()
    except (AssertionError, AttributeError):
        # This program does not handle every failure.
        assert name != 'IExecutionContext.execute_async_v3'
    assert [line for line in lines.errors if name in line] == lines.errors
    assert run()


def test_file_stays_as_it_was_built(trt: Double, lines: Lines, tmp_path: Path) -> None:
    path = scatter_elements(tmp_path)
    data = bytearray(path.with_suffix('.weights').read_bytes())
    engine = engine_of(trt, lines.logger, path)
    assert engine.num_io_tensors == 5
    plan = [call.arguments[0] for call in trt.calls if call.name.startswith('Runtime.des')][0]
    path.with_suffix('.weights').write_bytes(np.frombuffer(data, 'u1')[::-1].tobytes())
    with pytest.raises(AssertionError, match='changed after the build'):
        trt.Runtime(lines.logger).deserialize_cuda_engine(plan)
