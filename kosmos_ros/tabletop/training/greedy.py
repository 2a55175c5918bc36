"""Greedy decoding of a batch of questions, without constraints, for a model in training."""

import torch
from torch import Tensor

from kosmos_ros.model.network.kosmos2 import Kosmos2
from kosmos_ros.tabletop.training.packed import BEFORE_IMAGE


@torch.inference_mode()
def greedy_answers(
    model: Kosmos2, prompts: list[list[int]], pixels: Tensor, end: int, max_tokens: int
) -> list[list[int]]:
    """Return the greedy continuation of each of B sequences, without the end token.

    :param prompts: each begins with the prefix of its image.
    :param pixels: their images, [B,3,I,I].
    :param end: the id that ends an answer.
    """
    decoder = model.decoder
    lengths = torch.tensor([len(tokens) for tokens in prompts])
    longest, rows = int(lengths.max()), len(prompts)
    ids = torch.full((rows, longest), end)
    for index, tokens in enumerate(prompts):
        ids[index, : len(tokens)] = torch.tensor(tokens)
    embeds = decoder.embed_tokens(ids)
    image = model.vision(pixels)
    embeds[:, BEFORE_IMAGE : BEFORE_IMAGE + image.shape[1]] = image
    slots = torch.arange(longest + max_tokens)
    no_prefix, start = model.empty_cache(1, 0), torch.zeros(rows, dtype=torch.int64)
    # Slots after a short sequence are masked, and its answer overwrites them.
    mask = (slots <= slots[:longest, None]).expand(rows, -1, -1)
    positions = slots[:longest].expand(rows, -1)
    cache = model.empty_cache(rows, len(slots))
    hidden, pairs = decoder(decoder.embed(embeds, positions), mask, start, no_prefix, cache)
    hidden, start = hidden[torch.arange(rows), lengths - 1], lengths
    answers: list[Tensor] = []
    ended = torch.zeros(rows, dtype=torch.bool)
    while len(answers) < max_tokens and not bool(ended.all()):
        token = model.text_model.lm_head(hidden).argmax(-1).masked_fill(ended, end)
        ended = ended | (token == end)
        answers.append(token)
        embeds = decoder.embed(decoder.embed_tokens(token[:, None]), start[:, None])
        mask = (slots <= start[:, None])[:, None]
        hidden, pairs = decoder(embeds, mask, start, no_prefix, pairs)
        hidden, start = hidden[:, 0], start + 1
    return [_until(end, row) for row in torch.stack(answers, 1).tolist()]


def _until(end: int, tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
