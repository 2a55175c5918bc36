"""Sizes of the tabletop model, and weights to start from that let it learn within an hour.

What a large pre-trained model knows from elsewhere, a small one must be given or it stands still for a long time: that
places have neighbours (2-D Fourier features for location tokens and patches), and that each latent query begins by
looking at its own patch (the resampler has no residual path; started at random, it averages all patches).
"""
from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kosmos_ros.model.config import Kosmos2Config, TextConfig, VisionConfig
from kosmos_ros.model.network import Kosmos2
from kosmos_ros.tabletop.wording import GRID, IMAGE_SLOTS

SIDE, PATCH, WIDTH, HEADS = 112, 14, 128, 4


def sizes(vocabulary: int, vision_layers: int = 4, text_layers: int = 5) -> Kosmos2Config:
    """A Kosmos-2 of about two million parameters."""
    return Kosmos2Config(
        TextConfig(vocabulary, 256, WIDTH, text_layers, 4 * WIDTH, HEADS),
        VisionConfig(WIDTH, 4 * WIDTH, vision_layers, HEADS, image_size=SIDE, patch_size=PATCH), IMAGE_SLOTS)


@torch.no_grad()
def fresh_model(config: Kosmos2Config, seed: int) -> Kosmos2:
    """Random weights, but for what the module's first lines tell."""
    torch.manual_seed(seed)
    model = Kosmos2(config)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            last = name.endswith(('out_proj', 'fc2'))
            layers = config.vision.num_hidden_layers if 'vision' in name else config.text.layers
            nn.init.normal_(module.weight, std=module.in_features ** -.5 * ((2 * layers) ** -.5 if last else 1.))
            nn.init.zeros_(module.bias)
    frequencies = 2 ** torch.linspace(0, 4.5, WIDTH // 4) * math.pi / 2
    scale = 1 / model.decoder.embed_scale                      # the decoder multiplies: unit variance there
    table = model.decoder.embed_tokens.weight
    nn.init.normal_(table, std=scale)
    places = waves(GRID, frequencies)
    table[-GRID * GRID:] = places * (scale / places.std())
    embeddings = model.vision_model.model.embeddings
    patches = F.layer_norm(waves(SIDE // PATCH, frequencies), (WIDTH,))[:, torch.randperm(WIDTH)]
    embeddings.position_embedding.weight[0], embeddings.position_embedding.weight[1:] = 0, patches
    nn.init.normal_(embeddings.class_embedding)
    nn.init.normal_(embeddings.patch_embedding.weight, std=(3 * PATCH * PATCH) ** -.5)
    resampler = model.image_to_text_projection
    resampler.latent_query.copy_(patches)
    one = torch.eye(WIDTH)
    for linear, gain in ((resampler.dense, math.sqrt(WIDTH)), (resampler.x_attn.q_proj, 2.),
                         (resampler.x_attn.k_proj, 1.), (resampler.x_attn.v_proj, 1.),
                         (resampler.x_attn.out_proj, OUT_GAIN)):
        linear.weight.copy_(one * gain)
    return model


OUT_GAIN = .25


def waves(n: int, frequencies: Tensor) -> Tensor:
    """2-D Fourier features [n*n, 4F] of the cells of an n*n grid, row by row."""
    middle = ((torch.arange(n) + .5) / n)[:, None] * frequencies
    one = torch.cat([middle.sin(), middle.cos()], 1)
    return torch.cat([one[None].expand(n, n, -1), one[:, None].expand(n, n, -1)], -1).reshape(n * n, -1)
