"""The reference: a tiny Kosmos-2 of ``transformers`` with random weights, and its tokenizer."""

from pathlib import Path
from typing import Any

from sentencepiece import sentencepiece_model_pb2
import torch
from torch import Tensor
from transformers import (
    AddedToken,
    Kosmos2Config,
    Kosmos2ForConditionalGeneration,
    XLMRobertaTokenizer,
)


def tokenizer(model_file: Path) -> XLMRobertaTokenizer:
    """Return the tokenizer as ``Kosmos2Processor`` configures it, from the released file."""
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(model_file.read_bytes())
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    first = [(name, 0.0) for name in ('<s>', '<pad>', '</s>', '<unk>')]
    made = XLMRobertaTokenizer(
        vocab=[*first, *pieces[3:], ('<mask>', 0.0)],
        _spm_precompiled_charsmap=model.normalizer_spec.precompiled_charsmap,
    )
    tags = [
        *('</doc>', '<image>', '</image>', '</chunk>', '</line>', '<phrase>', '</phrase>'),
        *('<object>', '</object>', '</delimiter_of_multi_objects/>', '<grounding>'),
        *(f'<patch_index_{cell:04d}>' for cell in range(1024)),
    ]
    made.add_tokens([AddedToken(tag, lstrip=True, rstrip=False, normalized=False) for tag in tags])
    return made


# Configurations with different shapes throughout.  The second has an untied head.
CONFIGS: dict[str, dict[str, Any]] = {
    'plain': {
        'latent_query_num': 4,
        'text_config': {
            'vocab_size': 1100, 'embed_dim': 32, 'layers': 2, 'ffn_dim': 64, 'attention_heads': 4,
            'max_position_embeddings': 128,
        },
        'vision_config': {
            'hidden_size': 24, 'intermediate_size': 48, 'num_hidden_layers': 2,
            'num_attention_heads': 3, 'image_size': 28, 'patch_size': 14,
        },
    },
    'untied head': {
        'latent_query_num': 7,
        'tie_word_embeddings': False,
        'text_config': {
            'vocab_size': 1201, 'embed_dim': 48, 'layers': 3, 'ffn_dim': 80, 'attention_heads': 6,
            'max_position_embeddings': 64, 'tie_word_embeddings': False,
        },
        'vision_config': {
            'hidden_size': 32, 'intermediate_size': 40, 'num_hidden_layers': 1,
            'num_attention_heads': 2, 'image_size': 56, 'patch_size': 14,
        },
    },
    'one attention head': {
        'latent_query_num': 1,
        'text_config': {
            'vocab_size': 1050, 'embed_dim': 16, 'layers': 1, 'ffn_dim': 32, 'attention_heads': 1,
            'max_position_embeddings': 300, 'layer_norm_eps': 1e-3,
        },
        'vision_config': {
            'hidden_size': 8, 'intermediate_size': 16, 'num_hidden_layers': 3,
            'num_attention_heads': 1, 'image_size': 24, 'patch_size': 7, 'layer_norm_eps': 1e-3,
        },
    },
    'unscaled': {
        'latent_query_num': 16,
        'text_config': {
            'vocab_size': 1300, 'embed_dim': 40, 'layers': 4, 'ffn_dim': 24, 'attention_heads': 5,
            'max_position_embeddings': 100, 'scale_embedding': False, 'pad_token_id': 0,
        },
        'vision_config': {
            'hidden_size': 48, 'intermediate_size': 32, 'num_hidden_layers': 2,
            'num_attention_heads': 12, 'image_size': 48, 'patch_size': 16,
        },
    },
}  # fmt: skip


def reference(name: str, seed: int = 0) -> Kosmos2ForConditionalGeneration:
    """Return a model of CONFIGS whose weights are random enough to make all of them matter."""
    torch.manual_seed(seed)
    model = Kosmos2ForConditionalGeneration(Kosmos2Config(**CONFIGS[name]))
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return model.eval()


def prompts(
    model: Kosmos2ForConditionalGeneration, rows: int, length: int
) -> tuple[Tensor, Tensor]:
    """Return random prompts with one image each: ids [rows, length], pixels [rows, 3, I, I].

    The layout is ``<s> <image> slots </image> text``; no id is the padding's.
    """
    config = model.config
    ids = torch.randint(4, config.text_config.vocab_size, (rows, length))
    side = config.vision_config.image_size
    return ids, torch.randn(rows, 3, side, side)


def slots(model: Kosmos2ForConditionalGeneration, ids: Tensor) -> Tensor:
    """Return 1 at image tokens and 0 elsewhere, [rows, length]."""
    marks = torch.zeros_like(ids)
    marks[:, 2 : 2 + model.config.latent_query_num] = 1
    return marks


@torch.no_grad()
def full_logits(
    model: Kosmos2ForConditionalGeneration,
    ids: Tensor,
    images: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """Return logits [rows, length, vocabulary] from one pass over the whole sequence.

    :param images: image embeddings [rows, K, D].
    :param lengths: real tokens of each row; later tokens are ignored.
    """
    attention_mask = torch.ones_like(ids)
    if lengths is not None:
        attention_mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    result = model(
        input_ids=ids,
        image_embeds=images,
        image_embeds_position_mask=slots(model, ids),
        attention_mask=attention_mask,
        use_cache=False,
    )
    return result.logits


@torch.no_grad()
def image_embeds(model: Kosmos2ForConditionalGeneration, pixels: Tensor) -> Tensor:
    """Return image embeddings [rows, K, D] from a full forward pass; no smaller part is public."""
    ids = torch.full((pixels.shape[0], model.config.latent_query_num + 3), 5)
    result = model(
        pixel_values=pixels, input_ids=ids, image_embeds_position_mask=slots(model, ids)
    )
    return result.image_embeds
