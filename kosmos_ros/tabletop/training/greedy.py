"""Answers of a model in training to many questions at once: greedy, and nothing forbidden."""

import torch
from torch import Tensor

from kosmos_ros.model.network.kosmos2 import Kosmos2
from kosmos_ros.tabletop.training.packed import BEFORE_IMAGE


@torch.inference_mode()
def greedy(
    model: Kosmos2, asked: list[list[int]], pixels: Tensor, end: int, most_tokens: int
) -> list[list[int]]:
    """What follows each of B sequences, without the end.

    :param asked: each begins with the prefix of its image.
    :param pixels: their images, [B,3,I,I].
    :param end: the id that ends an answer.
    """
    decoder = model.decoder
    lengths = torch.tensor([len(tokens) for tokens in asked])
    longest, rows = int(lengths.max()), len(asked)
    ids = torch.full((rows, longest), end)
    for index, tokens in enumerate(asked):
        ids[index, : len(tokens)] = torch.tensor(tokens)
    embeds = decoder.embed_tokens(ids)
    image = model.vision(pixels)
    embeds[:, BEFORE_IMAGE : BEFORE_IMAGE + image.shape[1]] = image
    slots = torch.arange(longest + most_tokens)
    none, start = model.empty_cache(1, 0), torch.zeros(rows, dtype=torch.int64)
    # What lies behind a short sequence is not seen by it, and is overwritten by its answer.
    mask = (slots <= slots[:longest, None]).expand(rows, -1, -1)
    places = slots[:longest].expand(rows, -1)
    cache = model.empty_cache(rows, len(slots))
    hidden, pairs = decoder(decoder.embed(embeds, places), mask, start, none, cache)
    hidden, start = hidden[torch.arange(rows), lengths - 1], lengths
    answers: list[Tensor] = []
    ended = torch.zeros(rows, dtype=torch.bool)
    while len(answers) < most_tokens and not bool(ended.all()):
        token = model.text_model.lm_head(hidden).argmax(-1).masked_fill(ended, end)
        ended = ended | (token == end)
        answers.append(token)
        embeds = decoder.embed(decoder.embed_tokens(token[:, None]), start[:, None])
        seen = (slots <= start[:, None])[:, None]
        hidden, pairs = decoder(embeds, seen, start, none, pairs)
        hidden, start = hidden[:, 0], start + 1
    return [_before(end, row) for row in torch.stack(answers, 1).tolist()]


def _before(end: int, tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
