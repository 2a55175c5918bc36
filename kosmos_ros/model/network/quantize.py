"""The decoder's weights as int8: symmetric, one scale for each output channel."""

import re

import torch
from torch import Tensor

# Behind a weight's name: that of its scales.
SCALE = '_scale'
# Embedding, vision and resampler stay as they are: they are read once a frame or by rows.
_QUANTIZED = re.compile(r'text_model\.model\.layers\.\d+\..*(_proj|fc[12])\.weight')


def quantized(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replace each weight [out, in] of the decoder's linear layers by int8 and scales [out].

    The largest weight of a channel becomes 127; rounding costs half a step at most, unless the
    scale itself is too small for all bits of its type.
    """
    result = {}
    for name, weight in weights.items():
        if not _QUANTIZED.fullmatch(name):
            result[name] = weight
            continue
        scale = (weight.float().abs().amax(1) / 127).to(weight.dtype)
        # A channel of zeros, or one so small that its scale is none in this type.
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        steps = (weight.float() / scale.float()[:, None]).round().clamp(-127, 127)
        result[name], result[name + SCALE] = steps.to(torch.int8), scale
    return result


def dequantized(weight: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The inverse, as ONNX's DequantizeLinear computes it: int8[out, in], [out] -> [out, in]."""
    return (weight.to(scale.dtype) * scale[:, None]).to(dtype)
