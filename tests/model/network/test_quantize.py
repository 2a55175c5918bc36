"""int8 weights: their error, and loading them from a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
import pytest
from safetensors.torch import load_file, save_file
import torch
from torch import Tensor

from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.config import EMBEDDING, HEAD
from kosmos_ros.model.network.quantize import SCALE_SUFFIX, dequantized, quantized
from kosmos_ros.model.network.weights import load_model
from model.network.test_kosmos2 import network
from model.reference import CONFIGS, reference

NAME = 'text_model.model.layers.0.self_attn.q_proj.weight'
LINEAR = (
    *(f'self_attn.{part}_proj' for part in ('q', 'k', 'v', 'out')),
    *('ffn.fc1', 'ffn.fc2'),
)
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def weight(dtype: torch.dtype, sizes: list[float]) -> Tensor:
    """Return channels [n, 64], each with weights of all sizes up to its magnitude."""
    generator = torch.Generator().manual_seed(4)
    channels = torch.rand((len(sizes), 64), generator=generator) * 2 - 1
    return (channels * torch.tensor(sizes)[:, None]).to(dtype)


def quantize_and_dequantize(given: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight after quantisation, and its scales."""
    made = quantized({NAME: given})
    assert set(made) == {NAME, NAME + SCALE_SUFFIX}
    steps, scale = made[NAME], made[NAME + SCALE_SUFFIX]
    assert steps.dtype == torch.int8
    assert steps.shape == given.shape
    # Symmetric: -128 has no counterpart.
    assert steps.min() >= -127
    assert scale.dtype == given.dtype
    assert scale.shape == given.shape[:1]
    return dequantized(steps, scale, given.dtype), scale


@pytest.mark.parametrize('dtype', DTYPES)
def test_the_error_is_at_most_half_a_step(dtype: torch.dtype) -> None:
    given = weight(dtype, [2.0**power for power in range(-6, 8)])
    back, scale = quantize_and_dequantize(given)
    error = (back.float() - given.float()).abs() / scale.float()[:, None]
    # Half a step, and what the type rounds off a product of up to 127 steps.
    assert error.max() <= 0.5 + 127 * torch.finfo(dtype).eps / 2
    largest = given.float().abs().amax(1)
    assert torch.allclose(scale.float(), largest / 127, rtol=torch.finfo(dtype).eps)
    # The limit is the error of eight bits for evenly distributed values.
    noise = (back.float() - given.float()).norm() / given.float().norm()
    assert noise < 0.006


def test_each_channel_has_its_own_scale() -> None:
    back, scale = quantize_and_dequantize(weight(torch.float32, [1e-4, 1.0, 1e4]))
    assert scale[0] < 1e-3 * scale[1] < 1e-6 * scale[2]
    assert (back[0] != 0).float().mean() > 0.9


@pytest.mark.parametrize('dtype', DTYPES)
def test_zeros_stay_zeros(dtype: torch.dtype) -> None:
    given = weight(dtype, [1.0, 0.0, 1.0])
    back, scale = quantize_and_dequantize(given)
    assert not back[1].any()
    assert (scale > 0).all()
    assert torch.equal(back[0].sign(), given[0].sign() * (back[0] != 0))


def test_channels_too_small_for_their_type() -> None:
    """A scale below the smallest normal float16 is inexact or 0."""
    given = weight(torch.float16, [2.0**power for power in range(-24, 0)])
    back, scale = quantize_and_dequantize(given)
    assert torch.isfinite(scale).all()
    assert (scale > 0).all()
    assert torch.isfinite(back).all()
    largest = given.float().abs().amax(1)
    exact = torch.where(scale < 1, scale.float(), 0)
    # Weights above 127 steps are clipped by at most this much, which is negligible.
    cut = (largest - 127 * exact).clamp_min(0)
    error = (back.float() - given.float()).abs().amax(1)
    # A product of that size is rounded to a multiple of 2**-24.
    assert (error <= exact * (0.5 + 127 * 2**-11) + cut + 2**-25).all()
    assert cut.max() <= 127 * 2**-25


@pytest.mark.parametrize('dtype', DTYPES[:2])
def test_dequantized_as_onnx_does(dtype: torch.dtype) -> None:
    made = quantized({NAME: weight(dtype, [0.5, 3e-3, 0.0, 40.0])})
    kind = onnx.TensorProto.FLOAT if dtype == torch.float32 else onnx.TensorProto.FLOAT16
    node = onnx.helper.make_node('DequantizeLinear', ['x', 's'], ['y'], axis=0)
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        'graph',
        [value('x', onnx.TensorProto.INT8, [4, 64]), value('s', kind, [4])],
        [value('y', kind, [4, 64])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 19)])
    feed = {'x': made[NAME].numpy(), 's': made[NAME + SCALE_SUFFIX].numpy()}
    (found,) = ReferenceEvaluator(model).run(None, feed)
    ours = dequantized(made[NAME], made[NAME + SCALE_SUFFIX], dtype)
    assert np.array_equal(found, ours.numpy())


@pytest.mark.parametrize('name', CONFIGS)
def test_only_linear_layers_of_the_decoder_are_quantised(name: str) -> None:
    given = network(reference(name)).state_dict()
    before = {key: value.clone() for key, value in given.items()}
    made = quantized(given)
    layers = CONFIGS[name]['text_config']['layers']
    linear = {
        f'text_model.model.layers.{layer}.{part}.weight'
        for layer in range(layers)
        for part in LINEAR
    }
    assert {key for key, value in made.items() if value.dtype == torch.int8} == linear
    assert set(made) == set(given) | {key + SCALE_SUFFIX for key in linear}
    for key, value in before.items():
        assert torch.equal(given[key], value), 'the given weights were changed'
        assert key in linear or made[key] is given[key]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[[torch.dtype], Path]:
    """Return a function that writes a directory with int8 weights."""

    def make(dtype: torch.dtype) -> Path:
        theirs = reference('plain')
        theirs.config.save_pretrained(tmp_path)
        state = {key: value.to(dtype) for key, value in network(theirs).state_dict().items()}
        del state[HEAD]
        save_file(quantized(state), tmp_path / 'model.safetensors')
        return tmp_path

    return make


@pytest.mark.parametrize('stored', DTYPES)
@pytest.mark.parametrize('wanted', DTYPES)
def test_through_a_file(
    checkpoint: Callable[[torch.dtype], Path], stored: torch.dtype, wanted: torch.dtype
) -> None:
    held = load_file(checkpoint(stored) / 'model.safetensors')
    ours = load_model(checkpoint(stored), wanted)
    state = ours.state_dict()
    assert ours.text_model.lm_head.weight is ours.decoder.embed_tokens.weight
    assert not any(key.endswith(SCALE_SUFFIX) for key in state)
    for key, value in state.items():
        scale = held.get(key + SCALE_SUFFIX)
        assert value.dtype == wanted
        if scale is None:
            assert torch.equal(value, held[EMBEDDING if key == HEAD else key].to(wanted))
        else:
            # First in the type of the scales, as the graphs compute it.
            wide = held[key].to(stored) * scale[:, None]
            assert torch.equal(value, wide.to(wanted))


def test_answers_stay_close(checkpoint: Callable[[torch.dtype], Path]) -> None:
    given, found = (
        network(reference('plain')),
        load_model(checkpoint(torch.float32), torch.float32),
    )
    embeds = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(5))
    mask = torch.ones(1, 9, 9, dtype=torch.bool).tril()
    start = torch.zeros(1, dtype=torch.int64)
    hidden = [
        one.decoder(embeds, mask, start, one.empty_cache(1, 0), one.empty_cache(1, 9))[0]
        for one in (given, found)
    ]
    assert torch.cosine_similarity(*hidden, dim=-1).min() > 0.999
    assert not torch.equal(*hidden)


def test_a_missing_scale_is_refused(checkpoint: Callable[[torch.dtype], Path]) -> None:
    directory = checkpoint(torch.float16)
    weights = load_file(directory / 'model.safetensors')
    del weights[NAME + SCALE_SUFFIX]
    save_file(weights, directory / 'model.safetensors')
    with pytest.raises(EngineFileError, match=r'q_proj\.weight in .* holds torch\.int8'):
        load_model(directory, torch.float32)
