"""The double builds as TensorRT does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .double import Double
from .graphs import RANGES, attention, scatter_elements, tensor_scatter
from .program import Lines, configured, engine_of, parsed


def test_network_is_that_of_the_file(trt: Double, network: Any) -> None:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    assert [each.name for each in inputs] == ['past', 'new', 'at']
    assert [each.dtype for each in inputs] == [trt.float32, trt.float32, trt.int64]
    assert inputs[1].shape == (-1, 2, -1, 4)
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    assert [each.name for each in outputs] == ['present', 'tail']
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    assert [each.name for each in layers] == ['scale', 'write', 'tail']


@pytest.mark.parametrize('plain', [False, True])
def test_attention_can_be_made_decomposable(
    trt: Double, lines: Lines, builder: Any, tmp_path: Path, plain: bool
) -> None:
    trt.plain_layers = plain
    if not hasattr(trt, 'IAttentionInputLayer'):
        parser = trt.OnnxParser(builder.create_network(), lines.logger)
        assert not parser.parse_from_file(str(attention(tmp_path)))
        assert 'Attention' in parser.get_error(0).desc()
        return
    layer = parsed(trt, lines.logger, builder, attention(tmp_path)).get_layer(0)
    assert layer.type == trt.LayerType.ATTENTION_INPUT
    assert isinstance(layer, trt.IAttentionInputLayer) != plain
    if plain:
        with pytest.raises(AttributeError):
            layer.attention  # noqa: B018
        with pytest.raises(AssertionError):
            layer.__class__ = trt.ICastLayer
        layer.__class__ = trt.IAttentionInputLayer
    layer.attention.decomposable = True
    assert layer.attention.decomposable


@pytest.mark.parametrize('what', ['no file', 'no onnx', 'no weights', 'operator'])
def test_parser_tells_what_it_cannot_take(
    trt: Double, lines: Lines, builder: Any, tmp_path: Path, what: str
) -> None:
    path = scatter_elements(tmp_path)
    if what == 'no file':
        path.unlink()
    elif what == 'no onnx':
        path.write_bytes(b'nothing')
    elif what == 'no weights':
        path.with_suffix('.weights').unlink()
    else:
        trt.operators = {'Mul', 'Concat'}
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, lines.logger)
    assert parser.num_errors == 0
    assert not parser.parse_from_file(str(path))
    assert [parser.get_error(0).desc()] == lines.errors
    assert (parser.num_errors, network.num_layers) == (1, 0)


def test_tensor_scatter_needs_a_release_that_aliases(
    trt: Double, lines: Lines, builder: Any, tmp_path: Path
) -> None:
    parser = trt.OnnxParser(builder.create_network(0), lines.logger)
    is_taken = parser.parse_from_file(str(tensor_scatter(tmp_path)))
    assert is_taken == hasattr(trt.ICudaEngine, 'get_aliased_input_tensor')


def test_builder_refuses_weak_types(
    trt: Double, lines: Lines, builder: Any, tmp_path: Path
) -> None:
    network = builder.create_network(0)
    path = scatter_elements(tmp_path)
    assert trt.OnnxParser(network, lines.logger).parse_from_file(str(path))
    assert builder.build_serialized_network(network, configured(builder, network)) is None
    assert lines.errors


@pytest.mark.parametrize(
    'ranges',
    [
        {},
        {'new': None},
        {'new': ((1, 2, 2, 4), (1, 2, 1, 4), (1, 2, 5, 4))},
        {'new': ((1, 2, 1, 4), (1, 2, 1, 4), (1, 3, 1, 4))},
        {'new': ((1, 2, 1), (1, 2, 1), (1, 2, 1))},
        {'other': ((1,), (1,), (1,))},
    ],
    ids=['none', 'lacking', 'falling', 'fixed', 'rank', 'unknown'],
)
def test_builder_refuses_profiles(
    lines: Lines, builder: Any, network: Any, ranges: dict[str, Any]
) -> None:
    config = builder.create_builder_config()
    if ranges:
        profile = builder.create_optimization_profile()
        wanted = RANGES | {'at': RANGES['new']} | ranges
        for name, shapes in wanted.items():
            if shapes is not None:
                profile.set_shape(name, *shapes)
        assert config.add_optimization_profile(profile) == 0
    assert builder.build_serialized_network(network, config) is None
    assert len(lines.errors) == 1


def test_precision_is_not_for_flags(trt: Double, builder: Any) -> None:
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.TF32)
    for name in {'FP16', 'BF16', 'INT8', 'FP8'} & set(trt.BuilderFlag.__members__):
        with pytest.raises(AssertionError, match='precision flag'):
            config.set_flag(getattr(trt.BuilderFlag, name))


@pytest.mark.parametrize('last', [None, 'Building Engine', 'Timing Profile 1'])
def test_progress_is_told_and_cancels(
    trt: Double, lines: Lines, builder: Any, network: Any, last: str | None
) -> None:
    told: list[tuple[object, ...]] = []

    class Monitor(trt.IProgressMonitor):
        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            told.append((phase_name, parent_phase, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            told.append((phase_name, step))
            return phase_name != last

        def phase_finish(self, phase_name: str) -> None:
            told.append((phase_name,))

    config = configured(builder, network, profiles=2)
    config.progress_monitor = Monitor()
    plan = builder.build_serialized_network(network, config)
    assert (plan is None) == (last is not None)
    starts = [entry for entry in told if len(entry) == 3]
    assert starts[0] == ('Building Engine', None, 4)
    assert len(starts) == {None: 3, 'Building Engine': 1, 'Timing Profile 1': 3}[last]
    assert all(parent == 'Building Engine' for _, parent, _ in starts[1:])
    # Every phase ends, also when the build is cancelled.
    assert sorted(entry[0] for entry in told if len(entry) == 1) == sorted(s[0] for s in starts)
    assert not lines.errors


def test_no_exception_leaves_a_callback(trt: Double, builder: Any, network: Any) -> None:
    class Monitor(trt.IProgressMonitor):
        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            raise KeyError(phase_name)

    config = configured(builder, network)
    config.progress_monitor = Monitor()
    with pytest.raises(AssertionError, match='phase_start'):
        builder.build_serialized_network(network, config)


def test_timing_cache_grows_and_knows_its_device(
    trt: Double, lines: Lines, builder: Any, network: Any
) -> None:
    config = configured(builder, network)
    assert config.get_timing_cache() is None
    cache = config.create_timing_cache(b'')
    empty = bytes(cache.serialize())
    with pytest.raises(AssertionError):
        config.set_timing_cache(cache, True)
    assert config.set_timing_cache(cache, False)
    assert builder.build_serialized_network(network, config) is not None
    full = bytes(config.get_timing_cache().serialize())
    assert len(full) > len(empty)
    assert config.create_timing_cache(full[1:]) is None
    trt.device_name = 'Other'
    assert not config.set_timing_cache(config.create_timing_cache(full), False)
    assert len(lines.errors) == 2


def test_plan_is_read_where_it_was_made(trt: Double, lines: Lines, tmp_path: Path) -> None:
    builder, runtime = trt.Builder(lines.logger), trt.Runtime(lines.logger)
    network = parsed(trt, lines.logger, builder, scatter_elements(tmp_path))
    plan = builder.build_serialized_network(network, configured(builder, network))
    data = bytes(plan)
    assert runtime.deserialize_cuda_engine(memoryview(data)) is not None
    positions = np.random.default_rng(5).choice(len(data), 20, replace=False)
    for position in (0, len(data) - 1, *positions.tolist()):
        damaged = bytearray(data)
        damaged[position] ^= 1
        assert runtime.deserialize_cuda_engine(damaged) is None
    assert runtime.deserialize_cuda_engine(data[:-1]) is None
    trt.device_name = 'Other'
    assert runtime.deserialize_cuda_engine(plan) is None
    assert len(lines.errors) == 24
    with pytest.raises(AssertionError):
        runtime.engine_host_code_allowed = True


@pytest.mark.parametrize(
    'name',
    [
        'Builder.create_network',
        'Builder.create_builder_config',
        'Builder.create_optimization_profile',
        'Builder.build_serialized_network',
        'IBuilderConfig.add_optimization_profile',
        'OnnxParser.parse_from_file',
        'Runtime.deserialize_cuda_engine',
    ],
)
def test_failures_come_when_asked_for(
    trt: Double, lines: Lines, tmp_path: Path, name: str
) -> None:
    path = scatter_elements(tmp_path)
    trt.fail_next(name)
    with pytest.raises((AttributeError, AssertionError, TypeError)):
        # This program checks nothing, so it falls over the first failure.
        engine_of(trt, lines.logger, path).num_io_tensors  # noqa: B018
    assert name in lines.errors[0]
    assert engine_of(trt, lines.logger, path).num_io_tensors == 5
