"""The network's forward pass for training: several questions about one image in one row.

It uses the same modules as ``Kosmos2.decoder`` and computes the same result as one cache per
question.  Attention is written out, because torch's fused attention with a mask was slower on a
CPU.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor
import torch.nn.functional as F

from kosmos_ros.model.boxes import CELLS
from kosmos_ros.model.network.kosmos2 import DecoderLayer, Kosmos2
from kosmos_ros.model.network.layers import merge_heads

# The image's embeddings follow <s> and <image>.
BEFORE_IMAGE = 2
_MASKED = -1e9


def decode_packed(
    model: Kosmos2, ids: Tensor, positions: Tensor, segments: Tensor, image: Tensor
) -> Tensor:
    """Return hidden states [B,L,D] after the last LayerNorm.

    :param ids: int64[B,L].
    :param positions: int64[B,L], each token's position in its own question, from 0.
    :param segments: int64[B,L]; tokens attend to earlier ones of their own segment and of
        segment 0.
    :param image: [B,K,D], from ``Kosmos2.vision``.
    """
    decoder = model.decoder
    words = decoder.embed_tokens(ids)
    after_image = BEFORE_IMAGE + image.shape[1]
    parts = [words[:, :BEFORE_IMAGE], image.to(words.dtype), words[:, after_image:]]
    x = decoder.embed(torch.cat(parts, 1), positions)
    mask = _mask(segments)
    for layer in cast(Iterable[DecoderLayer], decoder.layers):
        attention = layer.self_attn
        normed = layer.self_attn_layer_norm(x)
        q = attention.queries(normed)
        k, v = attention.keys_values(normed)
        weights = ((q @ k.transpose(-1, -2)).float() + mask).softmax(-1).to(q.dtype)
        x = x + attention.out_proj(attention.inner_attn_ln(merge_heads(weights @ v)))
        x = x + layer.ffn(layer.final_layer_norm(x))
    return decoder.layer_norm(x)


def location_logits(model: Kosmos2, hidden: Tensor) -> Tensor:
    """Return logits [...,1024] of the location tokens, the last tokens of the vocabulary."""
    return F.linear(hidden, model.text_model.lm_head.weight[-CELLS:])


def _mask(segments: Tensor) -> Tensor:
    """Return the additive attention mask float32[B,1,L,L]."""
    length = segments.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    own_or_prefix = (segments[:, :, None] == segments[:, None]) | (segments[:, None] == 0)
    mask = torch.zeros(own_or_prefix.shape, device=segments.device)
    return mask.masked_fill_(~(before & own_or_prefix), _MASKED)[:, None]
