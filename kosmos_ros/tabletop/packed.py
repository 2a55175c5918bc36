"""The network's forward pass for training: several questions about one picture in one row.

The same modules and the same mathematics as `Kosmos2.decoder` over one cache per question; only the order of the work
differs.  Attention is written out: on a CPU the backward pass of torch's fused attention was three times slower.
"""
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kosmos_ros.model.network import Kosmos2, merge_heads

SLOTS_FROM = 2                   # the image's embeddings stand behind <s> and <image>


def decode_packed(model: Kosmos2, ids: Tensor, positions: Tensor, segments: Tensor, image: Tensor) -> Tensor:
    """Hidden states [B, L, D] after the last LayerNorm.

    :param ids: int64[B, L].
    :param positions: int64[B, L], each token's place in its own question, from 0.
    :param segments: int64[B, L]; 0 is the prefix that everybody sees, equal numbers see each other, causally.
    :param image: [B, K, D], from `Kosmos2.vision`.
    """
    decoder = model.decoder
    words = decoder.embed_tokens(ids)
    tokens = torch.cat([words[:, :SLOTS_FROM], image.to(words.dtype), words[:, SLOTS_FROM + image.shape[1]:]], 1)
    x = decoder.embed(tokens, positions)
    length = ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
    seen = causal & ((segments[:, :, None] == segments[:, None, :]) | (segments[:, None, :] == 0))
    mask = torch.zeros(seen.shape, dtype=torch.float32, device=ids.device).masked_fill_(~seen, -1e9)[:, None]
    for layer in decoder.layers:
        attention = layer.self_attn
        normed = layer.self_attn_layer_norm(x)
        q = attention.queries(normed)
        k, v = attention.keys_values(normed)
        weights = ((q @ k.transpose(-1, -2)).float() + mask).softmax(-1).to(q.dtype)
        mixed = weights @ v
        x = x + attention.out_proj(attention.inner_attn_ln(merge_heads(mixed)))
        x = x + layer.ffn(layer.final_layer_norm(x))
    hidden: Tensor = decoder.layer_norm(x)
    return hidden


def location_logits(model: Kosmos2, hidden: Tensor) -> Tensor:
    """Logits [..., 1024] of the location tokens, the last 1024 of the vocabulary."""
    return F.linear(hidden, model.text_model.lm_head.weight[-1024:])
