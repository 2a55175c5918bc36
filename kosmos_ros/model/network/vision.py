"""The CLIP vision transformer of Kosmos-2.

Letters in shapes: B rows, I image side in pixels, N patches + 1, W width.
"""

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from kosmos_ros.model.config import VisionConfig
from kosmos_ros.model.network.layers import Norm, merge_heads, softmax, split_heads


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
        wide = x.float()
        return self.fc2((wide * torch.sigmoid(1.702 * wide)).to(x.dtype))


class VisionLayer(nn.Module):
    """A pre-LN transformer block."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.self_attn = VisionAttention(config)
        self.layer_norm1 = Norm(config.hidden_size, config.layer_norm_eps)
        self.mlp = VisionMLP(config)
        self.layer_norm2 = Norm(config.hidden_size, config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class VisionEmbeddings(nn.Module):
    """Embeddings of the class token and the patches, with learned positions."""

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
    """The stack of transformer blocks."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class VisionTransformer(nn.Module):
    """The vision transformer; it returns the last layer at all positions, class token included."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        # Misspelt as in the checkpoint.
        self.pre_layrnorm = Norm(config.hidden_size, config.layer_norm_eps)
        self.encoder = VisionEncoder(config)
        self.post_layernorm = Norm(config.hidden_size, config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:  # [B,3,I,I] -> unit vectors [B,N,W]
        x = self.encoder(self.pre_layrnorm(self.embeddings(pixels)))
        return F.normalize(self.post_layernorm(x).float(), dim=-1).to(x.dtype)
