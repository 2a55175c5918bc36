"""The double refuses what a release does not have."""

from pathlib import Path
import sys
from typing import Any

import pytest

from .double import Double
from .program import Lines, configured


def test_is_what_programs_import(trt: Double) -> None:
    import tensorrt

    assert tensorrt is trt
    assert trt.__version__ in ('10.3.0', '10.13.3.9', '10.16.1.11', '11.4.0.106')


def test_unknown_names_are_attribute_errors(trt: Double, builder: Any) -> None:
    for owner in (trt, trt.Builder, trt.BuilderFlag, builder, trt.BuilderFlag.TF32):
        with pytest.raises(AttributeError):
            owner.no_such_name  # noqa: B018
        with pytest.raises(AttributeError):
            owner.no_such_name = 1
    with pytest.raises(AttributeError):
        trt.Builder.create_network = None
    with pytest.raises(AttributeError):
        trt.IExecutionContext.execute_async_v2  # noqa: B018


def test_releases_differ_as_they_do(trt: Double) -> None:
    is_11 = trt.__version__.startswith('11.')
    has_attention = is_11 or trt.__version__.startswith('10.16.')
    assert hasattr(trt.BuilderFlag, 'FP16') != is_11
    assert hasattr(trt.ICudaEngine, 'device_memory_size') != is_11
    assert hasattr(trt, 'IAttentionInputLayer') == has_attention
    assert hasattr(trt.LayerType, 'ATTENTION_INPUT') == has_attention
    assert hasattr(trt.ICudaEngine, 'get_aliased_input_tensor') == has_attention


def test_wrong_arguments_are_type_errors(trt: Double, builder: Any) -> None:
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    calls = [
        lambda: trt.Builder(),
        lambda: trt.Builder('logger'),
        lambda: trt.INetworkDefinition(),
        lambda: builder.create_network(1, 2),
        lambda: builder.create_network(flag=1),
        lambda: builder.create_network(1, flags=1),
        lambda: builder.create_network(1.0),
        lambda: builder.create_network(True),
        lambda: builder.create_network(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
        lambda: builder.build_serialized_network(config, config),
        lambda: config.set_flag(5),
        lambda: config.set_flag(trt.MemoryPoolType.WORKSPACE),
        lambda: config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1e9),
        lambda: setattr(config, 'builder_optimization_level', 3.0),
        lambda: setattr(config, 'progress_monitor', object()),
        lambda: profile.set_shape('x', (1,), (1,), (1.5,)),
        lambda: profile.set_shape(Path('x'), (1,), (1,), (1,)),
        lambda: trt.Runtime(trt.Logger()).deserialize_cuda_engine('plan'),
    ]
    for call in calls:
        with pytest.raises(TypeError):
            call()


def test_read_only_properties_stay(trt: Double, network: Any) -> None:
    with pytest.raises(AttributeError):
        network.num_layers = 3
    with pytest.raises(AttributeError):
        network.get_layer(0).type = trt.LayerType.CAST


def test_nothing_works_in_silence(trt: Double, builder: Any, network: Any) -> None:
    calls = [
        lambda: trt.get_plugin_registry(),
        lambda: trt.Permutation(),
        lambda: builder.is_network_supported(network, builder.create_builder_config()),
        lambda: builder.max_threads,
        lambda: setattr(builder, 'max_threads', 1),
    ]
    for call in calls:
        with pytest.raises(NotImplementedError):
            call()
    # Which of the two depends on Python.
    with pytest.raises((AttributeError, TypeError)), builder:
        pass


def test_calls_are_kept(trt: Double, builder: Any) -> None:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, pool_size=1 << 30)
    config.builder_optimization_level = 4
    assert [call.name for call in trt.calls] == [
        'ILogger.__init__',
        'Builder.__init__',
        'Builder.create_builder_config',
        'IBuilderConfig.set_memory_pool_limit',
        'IBuilderConfig.builder_optimization_level=',
    ]
    assert trt.calls[3].arguments == (trt.MemoryPoolType.WORKSPACE,)
    assert trt.calls[3].keywords == {'pool_size': 1 << 30}
    assert config.builder_optimization_level == 4


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


def test_shapes_and_plans_are_no_tuples_and_bytes(trt: Double, builder: Any, network: Any) -> None:
    shape = network.get_input(0).shape
    assert (len(shape), list(shape), shape[1:]) == (4, [-1, 2, 8, 4], (2, 8, 4))
    assert shape == (-1, 2, 8, 4)
    assert not isinstance(shape, tuple)
    with pytest.raises(TypeError):
        shape == network.get_input(0).shape  # noqa: B015
    plan = builder.build_serialized_network(network, configured(builder, network))
    assert plan.nbytes == len(bytes(plan)) == memoryview(plan).nbytes
    with pytest.raises(AttributeError):
        plan.tobytes  # noqa: B018
    with pytest.raises(TypeError):
        len(plan)


def test_only_what_can_fail_fails(trt: Double, lines: Lines) -> None:
    with pytest.raises(ValueError, match='no way to fail'):
        trt.fail_next('IBuilderConfig.set_memory_pool_limit')
    with pytest.raises(KeyError):
        trt.fail_next('Builder.no_such_method')
    trt.fail_next('Builder.__init__')
    with pytest.raises(TypeError, match='nullptr'):
        trt.Builder(lines.logger)


def test_double_is_gone_after_a_test() -> None:
    assert not isinstance(sys.modules.get('tensorrt'), Double)
