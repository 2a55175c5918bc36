"""Sizes of the tabletop model, and weights to start from that let it learn within an hour.

What a large model brings from its pre-training, a small one must be given, or it stands still for
a long time: that places have neighbours (2-D Fourier features for location tokens and patches),
and that each latent query begins by looking at its own patch (the resampler has no residual path;
started at random, all its outputs are the mean of all patches).
"""

import math
from pathlib import Path

import torch
from torch import Tensor, nn
import torch.nn.functional as F

from kosmos_ros.errors import EngineFileError
from kosmos_ros.model.boxes import CELLS, GRID
from kosmos_ros.model.config import EMBEDDING, HEAD, Kosmos2Config, TextConfig, VisionConfig
from kosmos_ros.model.network.kosmos2 import Kosmos2, Resampler
from kosmos_ros.model.network.weights import load_model
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.training.checkpoint import WORD_MODEL

_WIDTH, _HEADS = 128, 4
_VISION_LAYERS, _TEXT_LAYERS = 4, 5
_SIDE, _PATCH = 112, 14
_OCTAVES = 4.5


def sizes(vocabulary: int) -> Kosmos2Config:
    """A Kosmos-2 of about two million parameters."""
    return Kosmos2Config(
        TextConfig(
            vocab_size=vocabulary,
            max_position_embeddings=2048,
            embed_dim=_WIDTH,
            layers=_TEXT_LAYERS,
            ffn_dim=4 * _WIDTH,
            attention_heads=_HEADS,
            # Boxes in a row may begin alike.
            no_repeat_ngram_size=0,
        ),
        VisionConfig(
            hidden_size=_WIDTH,
            intermediate_size=4 * _WIDTH,
            num_hidden_layers=_VISION_LAYERS,
            num_attention_heads=_HEADS,
            image_size=_SIDE,
            patch_size=_PATCH,
        ),
        latent_query_num=(_SIDE // _PATCH) ** 2,
    )


@torch.no_grad()
def fresh_model(config: Kosmos2Config, seed: int) -> Kosmos2:
    """Random weights, but for what the module's first lines tell.

    Needs as many latent queries as patches, and equal widths of vision and text.
    """
    torch.manual_seed(seed)
    model, width = Kosmos2(config), config.text.embed_dim
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not model.text_model.lm_head:
            layers = config.vision.num_hidden_layers if 'vision' in name else config.text.layers
            # The residual path takes the outputs of all layers.
            shared = 2 * layers if name.endswith(('out_proj', 'fc2')) else 1
            nn.init.normal_(module.weight, std=(module.in_features * shared) ** -0.5)
            nn.init.zeros_(module.bias)
    frequencies = 2 ** torch.linspace(0, _OCTAVES, width // 4) * math.pi / 2
    table = model.decoder.embed_tokens.weight
    # The decoder multiplies by embed_scale: unit variance behind that.
    nn.init.normal_(table, std=1 / model.decoder.embed_scale)
    places = waves(GRID, frequencies)
    table[-CELLS:] = places / places.std() / model.decoder.embed_scale
    side = config.vision.image_size // config.vision.patch_size
    # Shuffled, so that every attention head gets a bit of every frequency.
    patches = F.layer_norm(waves(side, frequencies), (width,))[:, torch.randperm(width)]
    embeddings = model.vision_model.model.embeddings
    embeddings.position_embedding.weight[0] = 0
    embeddings.position_embedding.weight[1:] = patches
    filters = embeddings.patch_embedding.weight
    nn.init.normal_(filters, std=filters[0].numel() ** -0.5)
    _look_straight(model.image_to_text_projection, patches)
    return model


@torch.no_grad()
def continued_model(
    config: Kosmos2Config, vocabulary: Vocabulary, seed: int, directory: Path
) -> Kosmos2:
    """The weights of a checkpoint or engine directory, for a vocabulary that may be another.

    Tokens keep their embeddings by their spelling; new words begin at random.

    :param config: of the new model, and `vocabulary` its words.
    :raises EngineFileError: when the directory cannot be read, or its model has other sizes.
    """
    model, old = fresh_model(config, seed), load_model(directory, torch.float32)
    known = Vocabulary.from_file(directory / WORD_MODEL)
    place = {known.decode([number]): number for number in range(known.size)}
    rows = [place.get(vocabulary.decode([number])) for number in range(vocabulary.size)]
    weights, fresh = old.state_dict(), model.decoder.embed_tokens.weight
    table = torch.stack(
        [fresh[i] if row is None else weights[EMBEDDING][row] for i, row in enumerate(rows)]
    )
    weights[EMBEDDING] = weights[HEAD] = table
    shapes = {name: weight.shape for name, weight in model.state_dict().items()}
    if shapes != {name: weight.shape for name, weight in weights.items()}:
        raise EngineFileError(f'the model in {directory} has other sizes than the tabletop model')
    model.load_state_dict(weights)
    return model


def _look_straight(resampler: Resampler, patches: Tensor) -> None:
    """Let each latent query [K,D] begin by passing on what lies on its own patch."""
    resampler.latent_query.copy_(patches)
    width = patches.shape[1]
    attention = resampler.x_attn
    # Features come with length 1, so the first gain gives unit variance.
    gains = {
        resampler.dense: math.sqrt(width),
        attention.q_proj: 2.0,
        attention.k_proj: 1.0,
        attention.v_proj: 1.0,
        attention.out_proj: 0.25,
    }
    for linear, gain in gains.items():
        linear.weight.copy_(torch.eye(width) * gain)


def waves(n: int, frequencies: Tensor) -> Tensor:
    """2-D Fourier features [n*n,4F] of the cells of an n*n grid, row by row."""
    middle = ((torch.arange(n) + 0.5) / n)[:, None] * frequencies
    one = torch.cat([middle.sin(), middle.cos()], 1)
    across, down = one.expand(n, n, -1), one[:, None].expand(n, n, -1)
    return torch.cat([across, down], -1).flatten(0, 1)
