"""Layers and functions that the decoder and the vision encoder share.

LayerNorm and softmax are computed in float32, whatever type the weights have.
"""

import torch
from torch import Tensor, nn
import torch.nn.functional as F


class Norm(nn.LayerNorm):
    """A LayerNorm that is computed in float32."""

    def forward(self, x: Tensor) -> Tensor:
        wide = F.layer_norm(
            x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps
        )
        return wide.to(x.dtype)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Reshape [B,T,H*C] -> [B,H,T,C]."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Reshape [B,H,T,C] -> [B,T,H*C]."""
    return x.transpose(1, 2).flatten(2)


def softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute softmax over the last axis, in float32 as the official code does.

    Scores where the mask is False get the weight 0.
    """
    wide = scores.float()
    if mask is not None:
        wide = wide.masked_fill(~mask, torch.finfo(torch.float32).min)
    return wide.softmax(-1).to(scores.dtype)
