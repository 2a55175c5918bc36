"""The decoder's weights as int8: symmetric, one scale for each output channel."""

import re

import torch
from torch import Tensor

# A weight's name with this suffix is the name of its scales.
SCALE_SUFFIX = '_scale'
# Embedding, vision and resampler are not quantised: they are read by rows or once per frame.
_QUANTIZED = re.compile(r'text_model\.model\.layers\.\d+\..*(_proj|fc[12])\.weight')


def quantized(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace each weight [out, in] of the decoder's linear layers by int8 and scales [out].

    The largest weight of a channel becomes 127.  The error is at most half a step, unless a scale
    is so small that its type stores it inexactly.
    """
    result = {}
    for name, weight in weights.items():
        if not _QUANTIZED.fullmatch(name):
            result[name] = weight
            continue
        scale = (weight.float().abs().amax(1) / 127).to(weight.dtype)
        # The scale of a channel of zeros, or of very small weights, is 0 in this type.
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        steps = (weight.float() / scale.float()[:, None]).round().clamp(-127, 127)
        result[name], result[name + SCALE_SUFFIX] = steps.to(torch.int8), scale
    return result


def dequantized(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert int8[out, in] and scales [out] to weights, as ONNX's DequantizeLinear does."""
    return (weight.to(scale.dtype) * scale[:, None]).to(dtype)
