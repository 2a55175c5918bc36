"""The double refuses what a release does not have."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from .double import Double
from .program import Lines
from .surface import RTX, VERSIONS


def test_is_what_our_modules_import(trt: Double) -> None:
    flavours = import_module('kosmos_ros.engine.tensorrt.flavours')
    assert flavours.trt is trt
    assert flavours.RELEASE.is_rtx == trt.is_rtx == (trt.__version__ == RTX)
    assert trt.__version__ in VERSIONS


def test_unknown_names_are_attribute_errors(trt: Double, lines: Lines) -> None:
    runtime = trt.Runtime(lines.logger)
    for owner in (trt, trt.Runtime, trt.BuilderFlag, runtime, trt.BuilderFlag.TF32):
        with pytest.raises(AttributeError):
            owner.no_such_name  # noqa: B018
        with pytest.raises(AttributeError):
            owner.no_such_name = 1
    with pytest.raises(AttributeError):
        trt.Runtime.deserialize_cuda_engine = None
    with pytest.raises(AttributeError):
        trt.IExecutionContext.execute_async_v2  # noqa: B018


def test_releases_differ_as_they_do(trt: Double) -> None:
    is_11 = trt.__version__.startswith('11.') or trt.is_rtx
    assert hasattr(trt.ICudaEngine, 'device_memory_size') != is_11
    assert hasattr(trt.ICudaEngine, 'get_aliased_input_tensor') == is_11
    assert hasattr(trt.Runtime, 'get_engine_validity') == trt.is_rtx


def test_wrong_arguments_are_type_errors(trt: Double, context: Any) -> None:
    calls = [
        lambda: trt.Runtime(),
        lambda: trt.Runtime('logger'),
        lambda: trt.IExecutionContext(),
        lambda: trt.Runtime(trt.Logger()).deserialize_cuda_engine('plan'),
        lambda: context.set_tensor_address('past', 1.5),
        lambda: context.set_input_shape('past', (1, 2, 8, 4.0)),
        lambda: context.set_input_shape(Path('past'), (1, 2, 8, 4)),
        lambda: context.set_optimization_profile_async(True, 1),
        lambda: context.set_optimization_profile_async(0, 1, 2),
        lambda: context.set_optimization_profile_async(index=0),
        lambda: context.execute_async_v3(trt.DataType.HALF),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()


def test_read_only_properties_stay(trt: Double, engine: Any) -> None:
    with pytest.raises(AttributeError):
        engine.num_io_tensors = 3


def test_nothing_works_in_silence(trt: Double, engine: Any) -> None:
    calls = [
        lambda: trt.get_plugin_registry(),
        lambda: trt.Permutation(),
        lambda: trt.Builder(trt.Logger()),
        lambda: engine.num_layers,
        lambda: engine.create_engine_inspector(),
    ]
    for call in calls:
        with pytest.raises(NotImplementedError):
            call()
    # Which of the two depends on Python.
    with pytest.raises((AttributeError, TypeError)), engine:
        pass


def test_calls_are_kept(trt: Double, engine: Any) -> None:
    trt.calls.clear()
    context = engine.create_execution_context()
    context.set_optimization_profile_async(profile_index=1, stream_handle=5)
    assert [call.name for call in trt.calls] == [
        'ICudaEngine.create_execution_context',
        'IExecutionContext.set_optimization_profile_async',
    ]
    assert trt.calls[1].keywords == {'profile_index': 1, 'stream_handle': 5}


def test_enumerations_are_no_numbers(trt: Double) -> None:
    severity = trt.Logger.Severity
    assert severity is trt.ILogger.Severity
    assert severity.ERROR is trt.Logger.ERROR
    assert (severity.ERROR.name, int(severity.ERROR), severity.ERROR.value) == ('ERROR', 1, 1)
    assert severity.ERROR != 1
    assert list(severity.__members__)[0] == 'INTERNAL_ERROR'
    with pytest.raises(TypeError):
        severity.ERROR <= severity.INFO  # noqa: B015
    assert trt.DataType.HALF.itemsize == 2
    assert trt.float16 is trt.DataType.HALF


def test_derived_classes_call_the_constructor(trt: Double) -> None:
    class Forgetful(trt.ILogger):
        def __init__(self) -> None:
            self.lines: list[str] = []

    with pytest.raises(TypeError, match='__init__'):
        Forgetful()


def test_shapes_are_no_tuples(trt: Double, engine: Any) -> None:
    shape = engine.get_tensor_shape('past')
    assert (len(shape), list(shape), shape[1:]) == (4, [-1, 2, 8, 4], (2, 8, 4))
    assert shape == (-1, 2, 8, 4)
    assert not isinstance(shape, tuple)
    with pytest.raises(TypeError):
        shape == engine.get_tensor_shape('past')  # noqa: B015


def test_only_what_can_fail_fails(trt: Double, lines: Lines) -> None:
    with pytest.raises(ValueError, match='no way to fail'):
        trt.fail_next('IExecutionContext.infer_shapes')
    with pytest.raises(KeyError):
        trt.fail_next('Runtime.no_such_method')
    trt.fail_next('Runtime.__init__')
    with pytest.raises(TypeError, match='nullptr'):
        trt.Runtime(lines.logger)
