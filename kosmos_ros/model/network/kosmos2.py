"""Kosmos-2 as one network of static shapes, used by the torch runner, ONNX export and training.

Module names equal those of ``transformers`` ``Kosmos2ForConditionalGeneration``, so its state dict
loads unchanged.  Where that implementation leaves a choice, this one follows the paper's code:
softmax, GELU and LayerNorm are computed in float32, whatever type the weights have.

Letters in shapes: B rows, Q new tokens, P prefix slots, S slots of a row's own cache, L layers, H
heads, C head width, D text width, V vocabulary, I image side in pixels, N patches + 1, K latent
queries.
"""

from collections.abc import Callable, Sequence
import math

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from kosmos_ros.model.config import Kosmos2Config, TextConfig, VisionConfig
from kosmos_ros.model.network.layers import Norm, merge_heads, softmax, split_heads
from kosmos_ros.model.network.positions import sinusoidal_positions
from kosmos_ros.model.network.vision import VisionTransformer

# Keys and values of one layer.
Pair = tuple[Tensor, Tensor]
# (q, keys and values of the new tokens, mask, start, prefix, cache) -> (attention output, new
# cache).
Attention = Callable[[Tensor, Pair, Tensor, Tensor, Pair, Pair], tuple[Tensor, Pair]]


class TextAttention(nn.Module):
    """Multi-head attention of the decoder and of the resampler."""

    def __init__(self, config: TextConfig, *, inner_norm: bool) -> None:
        super().__init__()
        self.heads = config.attention_heads
        self.q_proj = nn.Linear(config.embed_dim, config.embed_dim)
        self.k_proj = nn.Linear(config.embed_dim, config.embed_dim)
        self.v_proj = nn.Linear(config.embed_dim, config.embed_dim)
        self.out_proj = nn.Linear(config.embed_dim, config.embed_dim)
        if inner_norm:
            self.inner_attn_ln = Norm(config.embed_dim, config.layer_norm_eps)

    def queries(self, x: Tensor) -> Tensor:  # [B,Q,D] -> [B,H,Q,C], scaled
        q = split_heads(self.q_proj(x), self.heads)
        return q * q.shape[-1] ** -0.5

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:  # [B,Q,D] -> two of [B,H,Q,C]
        return split_heads(self.k_proj(x), self.heads), split_heads(self.v_proj(x), self.heads)


class DecoderLayer(nn.Module):
    """A Magneto block, with a second LayerNorm before each output projection (sub-LN)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.self_attn = TextAttention(config, inner_norm=True)
        self.self_attn_layer_norm = Norm(config.embed_dim, config.layer_norm_eps)
        self.ffn = DecoderFFN(config)
        self.final_layer_norm = Norm(config.embed_dim, config.layer_norm_eps)

    def forward(
        self, x: Tensor, mask: Tensor, start: Tensor, prefix: Pair, cache: Pair, attend: Attention
    ) -> tuple[Tensor, Pair]:
        """Run one layer: x[B,Q,D], mask[B,1,Q,P+S], start[B], prefix and cache -> x, cache.

        The prefix is two tensors [1,H,P,C], the cache two tensors [B,H,S,C].
        """
        attention = self.self_attn
        normed = self.self_attn_layer_norm(x)
        new = attention.keys_values(normed)
        outputs, cache = attend(attention.queries(normed), new, mask, start, prefix, cache)
        x = x + attention.out_proj(attention.inner_attn_ln(merge_heads(outputs)))
        return x + self.ffn(self.final_layer_norm(x)), cache


class DecoderFFN(nn.Module):
    """The feed-forward part of a block, with an inner LayerNorm."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.ffn_dim)
        self.fc2 = nn.Linear(config.ffn_dim, config.embed_dim)
        self.ffn_layernorm = Norm(config.ffn_dim, config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(self.ffn_layernorm(F.gelu(x.float()).to(x.dtype)))


class Decoder(nn.Module):
    """The language model up to its last LayerNorm."""

    positions: Tensor

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embed_scale = math.sqrt(config.embed_dim) if config.scale_embedding else 1.0
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embed_dim)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.layer_norm = Norm(config.embed_dim, config.layer_norm_eps)
        # float32 whatever the weights are: bfloat16 cannot tell neighbouring positions apart.
        positions = sinusoidal_positions(
            config.max_position_embeddings, config.embed_dim, config.pad_token_id
        )
        self.register_buffer('positions', torch.from_numpy(positions), persistent=False)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Scale embeddings and add positions.

        Unscaled token or image embeddings [B,Q,D], positions int64[B,Q] (first token: 0) ->
        [B,Q,D].
        """
        return (tokens * self.embed_scale + self.positions[positions]).to(tokens.dtype)

    def forward(
        self,
        embeds: Tensor,
        mask: Tensor,
        start: Tensor,
        prefix: Sequence[Pair] | Tensor,
        cache: Sequence[Pair] | Tensor,
        attend: Attention | None = None,
    ) -> tuple[Tensor, list[Pair]]:
        """Run the decoder on new tokens, which attend to the prefix, the cache and themselves.

        :param embeds: [B,Q,D], from ``embed``.
        :param mask: bool[B,Q,P+S], True where token q attends to a slot; every token must attend
            to itself.
        :param start: int64[B], the slot of a row's first new token; tokens are written to
            start..start+Q-1.
        :param prefix: L pairs of keys and values [1,H,P,C] that all rows share, or one tensor
            [L,2,1,H,P,C]; P may be 0.
        :param cache: L pairs of keys and values [B,H,S,C] of each row, or one tensor
            [L,2,B,H,S,C]; the new tokens' slots are overwritten.
        :param attend: computes attention and updates the cache; ``scatter_attention`` by default,
            replaced by exporters that need other operators.
        :return: hidden states [B,Q,D] after the last LayerNorm, and the new cache.
        """
        x, present = embeds, []
        mask = mask.unsqueeze(1)
        for index, layer in enumerate(self.layers):
            x, pair = layer(
                x,
                mask,
                start,
                (prefix[index][0], prefix[index][1]),
                (cache[index][0], cache[index][1]),
                attend or scatter_attention,
            )
            present.append(pair)
        return self.layer_norm(x), present


class Resampler(nn.Module):
    """One attention layer in which K latent queries attend to all image features.

    Its K outputs are the image tokens.
    """

    def __init__(self, config: Kosmos2Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.vision.hidden_size, config.text.embed_dim)
        self.latent_query = nn.Parameter(
            torch.randn(config.latent_query_num, config.text.embed_dim)
        )
        self.x_attn = TextAttention(config.text, inner_norm=False)

    def forward(self, features: Tensor) -> Tensor:  # [B,N,W] -> [B,K,D]
        latents = self.latent_query.expand(features.shape[0], -1, -1)
        keys, values = self.x_attn.keys_values(torch.cat([self.dense(features), latents], dim=1))
        scores = self.x_attn.queries(latents) @ keys.transpose(-1, -2)
        return self.x_attn.out_proj(merge_heads(softmax(scores) @ values))


class VisionModel(nn.Module):
    """A wrapper that gives the vision weights their names in the checkpoint."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.model = VisionTransformer(config)


class TextModel(nn.Module):
    """The decoder and the language-model head, which is tied to the embedding."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.embed_dim, config.vocab_size, bias=False)
        self.lm_head.weight = self.model.embed_tokens.weight


class Kosmos2(nn.Module):
    """The whole model: ``vision`` runs once per frame, ``decoder`` for every batch of tokens."""

    def __init__(self, config: Kosmos2Config) -> None:
        super().__init__()
        self.config = config
        self.text_model = TextModel(config.text)
        self.vision_model = VisionModel(config.vision)
        self.image_to_text_projection = Resampler(config)

    def vision(self, pixels: Tensor) -> Tensor:
        """Encode normalised pixels [B,3,I,I] as image embeddings [B,K,D], not yet scaled."""
        return self.image_to_text_projection(self.vision_model.model(pixels))

    @property
    def decoder(self) -> Decoder:
        return self.text_model.model

    def empty_cache(self, rows: int, slots: int) -> Tensor:
        """Return zeros [L,2,B,H,S,C] of the weights' type and device."""
        text, weight = self.config.text, self.text_model.lm_head.weight
        shape = (text.layers, 2, rows, text.attention_heads, slots, text.head_dim)
        return torch.zeros(shape, dtype=weight.dtype, device=weight.device)


def scatter_attention(
    q: Tensor, new: Pair, mask: Tensor, start: Tensor, prefix: Pair, cache: Pair
) -> tuple[Tensor, Pair]:
    """Write the new keys and values into a copy of the cache, and attend to prefix and cache.

    q and new[B,H,Q,C], mask bool[B,1,Q,P+S], start int64[B] -> [B,H,Q,C], cache.
    """
    index = cache_slots(start, q)
    keys, values = (old.scatter(2, index, fresh) for old, fresh in zip(cache, new, strict=True))
    return attend_to_parts(q, mask, (prefix, (keys, values))), (keys, values)


def appended_attention(
    q: Tensor, new: Pair, mask: Tensor, start: Tensor, prefix: Pair, cache: Pair
) -> tuple[Tensor, Pair]:
    """Attend to prefix, cache and new tokens without a change to the cache.

    The caller writes the returned keys and values into the cache.
    q and new[B,H,Q,C], mask bool[B,1,Q,P+S+Q] -> [B,H,Q,C], new.
    """
    return attend_to_parts(q, mask, (prefix, cache, new)), new


def write_new(cache: Tensor, new: Tensor, start: Tensor) -> None:
    """Write keys and values [L,2,B,H,Q,C] into cache[L,2,B,H,S,C].

    Each row is written from its slot start int64[B] on.
    """
    slots = start.unsqueeze(1) + torch.arange(new.shape[4], device=new.device)
    cache.scatter_(4, slots.unsqueeze(1).unsqueeze(3).expand(new.shape), new)


def cache_slots(start: Tensor, q: Tensor) -> Tensor:
    """Return the cache slots [B,H,S,C] of new keys shaped like q[B,H,Q,C]: int64[B,H,Q,C]."""
    slots = start.unsqueeze(1) + torch.arange(q.shape[2], device=q.device)
    return slots.unsqueeze(1).unsqueeze(3).expand(-1, q.shape[1], -1, q.shape[3])


def attend_to_parts(q: Tensor, mask: Tensor, parts: Sequence[Pair]) -> Tensor:
    """Compute attention over keys and values that are stored in several parts.

    q[B,H,Q,C], mask bool[B,1,Q,N+N+..] over all parts in order, parts of [B or 1,H,N,C] ->
    [B,H,Q,C].
    """
    # A part with one row is shared by all rows: the products broadcast it instead of copying it.
    scores = [q @ keys.transpose(-1, -2) for keys, _ in parts]
    weights = softmax(torch.cat(scores, dim=-1), mask)
    begin, outputs = 0, []
    for _, values in parts:
        end = begin + values.shape[-2]
        outputs.append(weights[..., begin:end] @ values)
        begin = end
    return sum(outputs[1:], outputs[0])


def stacked(cache: Sequence[Pair]) -> Tensor:
    """Stack L pairs of keys and values [B,H,S,C] into [L,2,B,H,S,C]."""
    return torch.stack([torch.stack(pair) for pair in cache])
