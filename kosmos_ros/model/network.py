"""Kosmos-2 as one network of static shapes: the single source of the torch runner, of the ONNX
export and of training.

Module names equal those of ``transformers`` ``Kosmos2ForConditionalGeneration``, so its state dict
loads unchanged.
Where that implementation leaves a choice, the paper's own code decides: softmax and GELU are
computed in float32.

Letters in shapes: B rows, Q new tokens, P prefix slots, S slots of a row's own cache, L layers, H
heads, C head width, D text width, V vocabulary, I image side in pixels, N patches + 1, K latent
queries.
"""

import math

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from kosmos_ros.model.config import Kosmos2Config, TextConfig, VisionConfig
from kosmos_ros.model.positions import sinusoidal_positions


class VisionAttention(nn.Module):
    """Bidirectional multi-head attention."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:  # [B,N,W] -> [B,N,W]
        q, k, v = (
            split_heads(project(x), self.heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        return self.out_proj(merge_heads(softmax(scores) @ v))


class VisionMLP(nn.Module):
    """Two linear layers with CLIP's quick GELU between them."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(x * torch.sigmoid(1.702 * x))


class VisionLayer(nn.Module):
    """Pre-LN transformer block."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.self_attn = VisionAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.mlp = VisionMLP(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class VisionEmbeddings(nn.Module):
    """Class token and patches, with learned positions."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        size, patch = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.randn(size))
        self.patch_embedding = nn.Conv2d(config.num_channels, size, patch, patch, bias=False)
        self.position_embedding = nn.Embedding(config.patches + 1, size)

    def forward(self, pixels: Tensor) -> Tensor:  # [B,3,I,I] -> [B,N,W]
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(pixels.shape[0], 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight


class VisionEncoder(nn.Module):
    """The stack of blocks."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class VisionTransformer(nn.Module):
    """CLIP's image tower; the last layer is used for every position, the class token included."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        # The checkpoint spells it so.
        self.pre_layrnorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.encoder = VisionEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:  # [B,3,I,I] -> unit vectors [B,N,W]
        x = self.encoder(self.pre_layrnorm(self.embeddings(pixels)))
        return F.normalize(self.post_layernorm(x), dim=-1)


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
            self.inner_attn_ln = nn.LayerNorm(config.embed_dim, config.layer_norm_eps)

    def queries(self, x: Tensor) -> Tensor:  # [B,Q,D] -> [B,H,Q,C], scaled
        q = split_heads(self.q_proj(x), self.heads)
        return q * q.shape[-1] ** -0.5

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:  # [B,Q,D] -> two of [B,H,Q,C]
        return split_heads(self.k_proj(x), self.heads), split_heads(self.v_proj(x), self.heads)


class DecoderLayer(nn.Module):
    """Magneto block: a second LayerNorm before each output projection (sub-LN)."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.self_attn = TextAttention(config, inner_norm=True)
        self.self_attn_layer_norm = nn.LayerNorm(config.embed_dim, config.layer_norm_eps)
        self.ffn = DecoderFFN(config)
        self.final_layer_norm = nn.LayerNorm(config.embed_dim, config.layer_norm_eps)

    def forward(
        self, x: Tensor, mask: Tensor, slots: Tensor, prefix: Tensor, cache: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x[B,Q,D], mask[B,1,Q,P+S], slots[B,H,Q,C], prefix[2,1,H,P,C], cache[2,B,H,S,C] -> x,
        cache.
        """
        attention = self.self_attn
        normed = self.self_attn_layer_norm(x)
        q = attention.queries(normed)
        new_keys, new_values = attention.keys_values(normed)
        keys = cache[0].scatter(2, slots, new_keys)
        values = cache[1].scatter(2, slots, new_values)
        # The prefix belongs to every row: broadcast in the two products, it is never copied per
        # row.
        scores = torch.cat([q @ prefix[0].transpose(-1, -2), q @ keys.transpose(-1, -2)], dim=-1)
        weights = softmax(scores, mask)
        shared = prefix.shape[-2]
        mixed = weights[..., :shared] @ prefix[1] + weights[..., shared:] @ values
        x = x + attention.out_proj(attention.inner_attn_ln(merge_heads(mixed)))
        return x + self.ffn(self.final_layer_norm(x)), torch.stack([keys, values])


class DecoderFFN(nn.Module):
    """Feed-forward part with its inner LayerNorm."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.embed_dim, config.ffn_dim)
        self.fc2 = nn.Linear(config.ffn_dim, config.embed_dim)
        self.ffn_layernorm = nn.LayerNorm(config.ffn_dim, config.layer_norm_eps)

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
        self.layer_norm = nn.LayerNorm(config.embed_dim, config.layer_norm_eps)
        # float32 whatever the weights are: bfloat16 cannot tell neighbouring positions apart.
        positions = sinusoidal_positions(
            config.max_position_embeddings, config.embed_dim, config.pad_token_id
        )
        self.register_buffer('positions', torch.from_numpy(positions), persistent=False)

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Unscaled token or image embeddings [B,Q,D] at positions int64[B,Q] (first token: 0) ->
        [B,Q,D].
        """
        return (tokens * self.embed_scale + self.positions[positions]).to(tokens.dtype)

    def forward(
        self, embeds: Tensor, mask: Tensor, start: Tensor, prefix: Tensor, cache: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run new tokens over what is cached.

        :param embeds: [B,Q,D], from ``embed``.
        :param mask: bool[B,Q,P+S], True where token q may look at a slot; every token must see
            itself.
        :param start: int64[B], the slot of a row's first new token; tokens are written to
            start..start+Q-1.
        :param prefix: [L,2,1,H,P,C], keys and values that all rows share; P may be 0.
        :param cache: [L,2,B,H,S,C], keys and values of each row; what lies at start and behind is
            overwritten.
        :return: hidden states [B,Q,D] after the last LayerNorm, and the new cache.
        """
        heads, width = cache.shape[3], cache.shape[5]
        slots = start[:, None] + torch.arange(embeds.shape[1], device=embeds.device)
        slots = slots[:, None, :, None].expand(-1, heads, -1, width)
        x, layers = embeds, []
        for index, layer in enumerate(self.layers):
            x, layer_cache = layer(x, mask[:, None], slots, prefix[index], cache[index])
            layers.append(layer_cache)
        return self.layer_norm(x), torch.stack(layers)


class Resampler(nn.Module):
    """K latent queries look once at all image features and become the K image tokens."""

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
    """Keeps the checkpoint's names."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.model = VisionTransformer(config)


class TextModel(nn.Module):
    """Decoder and language-model head; the head is tied to the embedding."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.embed_dim, config.vocab_size, bias=False)
        self.lm_head.weight = self.model.embed_tokens.weight


class Kosmos2(nn.Module):
    """The whole model: ``vision`` once a frame, ``decoder`` for every run of tokens."""

    def __init__(self, config: Kosmos2Config) -> None:
        super().__init__()
        self.config = config
        self.text_model = TextModel(config.text)
        self.vision_model = VisionModel(config.vision)
        self.image_to_text_projection = Resampler(config)

    def vision(self, pixels: Tensor) -> Tensor:
        """Normalised pixels [B,3,I,I] -> image embeddings [B,K,D], not yet scaled."""
        return self.image_to_text_projection(self.vision_model.model(pixels))

    @property
    def decoder(self) -> Decoder:
        return self.text_model.model

    def empty_cache(self, rows: int, slots: int) -> Tensor:
        """Zeros [L,2,B,H,S,C] of the weights' type and device."""
        text, weight = self.config.text, self.text_model.lm_head.weight
        shape = (text.layers, 2, rows, text.attention_heads, slots, text.head_dim)
        return torch.zeros(shape, dtype=weight.dtype, device=weight.device)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B,T,H*C] -> [B,H,T,C]."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """[B,H,T,C] -> [B,T,H*C]."""
    return x.transpose(1, 2).flatten(2)


def softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Over the last axis, in float32 as the official code does; False in the mask means weight
    0.
    """
    wide = scores.float()
    if mask is not None:
        wide = wide.masked_fill(~mask, torch.finfo(torch.float32).min)
    return wide.softmax(-1).to(scores.dtype)
