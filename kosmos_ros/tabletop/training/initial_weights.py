"""Configuration of the tabletop model, and initial weights with which it trains within an hour.

A large model learns some structure in pre-training; a small one makes no progress for a long time
without it.  So the initial weights contain 2-D Fourier features for location tokens and patches,
which make neighbours similar, and each latent query initially attends to its own patch.  (The
resampler has no residual path: with random weights, all its outputs are the mean of all patches.)
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


def tabletop_config(vocabulary: int) -> Kosmos2Config:
    """Return the configuration of a Kosmos-2 of about two million parameters."""
    return Kosmos2Config(
        TextConfig(
            vocab_size=vocabulary,
            max_position_embeddings=2048,
            embed_dim=_WIDTH,
            layers=_TEXT_LAYERS,
            ffn_dim=4 * _WIDTH,
            attention_heads=_HEADS,
            # Several boxes in one answer may begin with the same tokens.
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
    """Create a model with random weights and the structure that the module's docstring describes.

    `config` needs as many latent queries as patches, and equal widths of vision and text.
    """
    torch.manual_seed(seed)
    model, width = Kosmos2(config), config.text.embed_dim
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not model.text_model.lm_head:
            layers = config.vision.num_hidden_layers if 'vision' in name else config.text.layers
            # The residual path sums the outputs of all layers.
            shared = 2 * layers if name.endswith(('out_proj', 'fc2')) else 1
            nn.init.normal_(module.weight, std=(module.in_features * shared) ** -0.5)
            nn.init.zeros_(module.bias)
    frequencies = 2 ** torch.linspace(0, _OCTAVES, width // 4) * math.pi / 2
    table = model.decoder.embed_tokens.weight
    # The decoder multiplies by embed_scale, which gives unit variance.
    nn.init.normal_(table, std=1 / model.decoder.embed_scale)
    locations = fourier_features(GRID, frequencies)
    table[-CELLS:] = locations / locations.std() / model.decoder.embed_scale
    side = config.vision.image_size // config.vision.patch_size
    # Shuffled, so that every attention head gets some of each frequency.
    patches = F.layer_norm(fourier_features(side, frequencies), (width,))[:, torch.randperm(width)]
    embeddings = model.vision_model.model.embeddings
    embeddings.position_embedding.weight[0] = 0
    embeddings.position_embedding.weight[1:] = patches
    filters = embeddings.patch_embedding.weight
    nn.init.normal_(filters, std=filters[0].numel() ** -0.5)
    _attend_to_own_patch(model.image_to_text_projection, patches)
    return model


@torch.no_grad()
def model_from_checkpoint(
    config: Kosmos2Config, vocabulary: Vocabulary, seed: int, directory: Path
) -> Kosmos2:
    """Load the weights of a checkpoint or engine directory, adapted to another vocabulary.

    Tokens of the same spelling keep their embeddings; new words get random ones.

    :param config: the configuration of the new model.
    :param vocabulary: the vocabulary of the new model.
    :raises EngineFileError: when the directory cannot be read, or its model has other sizes.
    """
    model, old = fresh_model(config, seed), load_model(directory, torch.float32)
    known = Vocabulary.from_file(directory / WORD_MODEL)
    old_rows = {known.decode([number]): number for number in range(known.size)}
    rows = [old_rows.get(vocabulary.decode([number])) for number in range(vocabulary.size)]
    weights, initial = old.state_dict(), model.decoder.embed_tokens.weight
    table = torch.stack(
        [initial[i] if row is None else weights[EMBEDDING][row] for i, row in enumerate(rows)]
    )
    weights[EMBEDDING] = weights[HEAD] = table
    shapes = {name: weight.shape for name, weight in model.state_dict().items()}
    if shapes != {name: weight.shape for name, weight in weights.items()}:
        raise EngineFileError(f'the model in {directory} has other sizes than the tabletop model')
    model.load_state_dict(weights)
    return model


def _attend_to_own_patch(resampler: Resampler, patches: Tensor) -> None:
    """Set weights so that each latent query [K,D] passes on the features of its own patch."""
    resampler.latent_query.copy_(patches)
    width = patches.shape[1]
    attention = resampler.x_attn
    # Features have length 1, so the first gain gives unit variance.
    gains = {
        resampler.dense: math.sqrt(width),
        attention.q_proj: 2.0,
        attention.k_proj: 1.0,
        attention.v_proj: 1.0,
        attention.out_proj: 0.25,
    }
    for linear, gain in gains.items():
        linear.weight.copy_(torch.eye(width) * gain)


def fourier_features(n: int, frequencies: Tensor) -> Tensor:
    """Return 2-D Fourier features [n*n,4F] of the cells of an n*n grid, row by row."""
    middle = ((torch.arange(n) + 0.5) / n)[:, None] * frequencies
    one = torch.cat([middle.sin(), middle.cos()], 1)
    across, down = one.expand(n, n, -1), one[:, None].expand(n, n, -1)
    return torch.cat([across, down], -1).flatten(0, 1)
