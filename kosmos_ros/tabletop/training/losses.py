"""What the tabletop model is taught by."""

from functools import cache
import time

import numpy as np
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from kosmos_ros.model.boxes import CELLS, GRID
from kosmos_ros.model.network.kosmos2 import Kosmos2
from kosmos_ros.model.preprocess import MEAN, STD
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.training.batches import Batch, Ints, Reals
from kosmos_ros.tabletop.training.packed import decode_packed, location_logits
from kosmos_ros.tabletop.world.render import Bytes
from kosmos_ros.tabletop.world.things import COLOURS, SHAPES, WIDTHS_M

LOOKS = (len(SHAPES), len(COLOURS), len(WIDTHS_M))
# Of an answer's cross entropy 2, of each of the others:
_LOOK, _SIDE, _TAG, _WORDS = 0.3, 2.0, 0.1, 1.0
_MEAN, _STD = torch.from_numpy(255 * MEAN), torch.from_numpy(255 * STD)
# Softer than this a target is a blurred cell, sharper it is the cell alone.
_SHARPEST = 0.15


def make_probes(vision_width: int, text_width: int) -> nn.ModuleList:
    """Linear read-outs of patch features and of image embeddings, for training only.

    Each gives, per patch, whether there is a thing, scores of its looks, its box, and whether it
    is the middle one of a thing.
    """
    outputs = 1 + sum(LOOKS) + 4 + 1
    return nn.ModuleList(nn.Linear(width, outputs) for width in (vision_width, text_width))


def see(model: Kosmos2, images: Bytes) -> tuple[Tensor, Tensor]:
    """Square images uint8[B,I,I,3] to patch features [B,N,W] and image embeddings [B,K,D]."""
    pixels = ((torch.from_numpy(images) - _MEAN) / _STD).permute(0, 3, 1, 2)
    features = model.vision_model.model(pixels)
    return features, model.image_to_text_projection(features)


def losses(
    model: Kosmos2, probes: nn.ModuleList, vocabulary: Vocabulary, batch: Batch, sigma: float
) -> tuple[Tensor, float, float]:
    """The loss of a batch, and two parts of it: the cross entropy of the expressions' boxes and
    that of the words of other answers.

    :param sigma: blur of the location targets, in cells.
    """
    ids, row, at = (torch.from_numpy(array) for array in (batch.ids, batch.row, batch.at))
    ends = torch.from_numpy(batch.closed).bool()
    word_row, word_at, said = torch.from_numpy(batch.words).unbind(1)
    corner_row, corner_at = torch.from_numpy(batch.corner_at).unbind(1)
    with autocast():
        features, image = see(model, batch.images)
        positions, segments = torch.from_numpy(batch.positions), torch.from_numpy(batch.segments)
        hidden = decode_packed(model, ids, positions, segments, image)
        answers = location_logits(model, torch.stack([hidden[row, at], hidden[row, at + 1]], 1))
        seen = [probe(x) for probe, x in zip(probes, (features[:, 1:], image), strict=True)]
        around = torch.stack([hidden[row[ends], at[ends] + step] for step in range(-1, 4)], 1)
        tokens = F.linear(around, model.text_model.lm_head.weight)
        spoken = F.linear(hidden[word_row, word_at], model.text_model.lm_head.weight)
        pointed = F.linear(hidden[corner_row, corner_at], model.text_model.lm_head.weight)
    targets = torch.from_numpy(soft_targets(batch.corners, sigma))
    answer = F.cross_entropy(answers.float().flatten(0, 1), targets.flatten(0, 1))
    words = F.cross_entropy(spoken.float(), said, reduction='sum') / max(1, batch.talks)
    loss = 2 * answer + _WORDS * words
    if len(batch.corner_at):
        loss = loss + _pointing(pointed.float(), soft_targets(batch.ask_corners, sigma))
    for out in seen:
        loss = loss + _looks_loss(out[..., :-1].float(), batch.looks, batch.boxes)
        middles = torch.from_numpy(batch.middles)
        loss = loss + F.binary_cross_entropy_with_logits(out[..., -1].float(), middles)
    if bool(ends.any()):
        truth = _tokens_around(vocabulary, ids, row[ends], at[ends])
        loss = loss + _TAG * F.cross_entropy(tokens.float().flatten(0, 1), truth.flatten())
    return loss, answer.item(), words.item()


@cache
def autocast() -> torch.autocast:
    """bfloat16 where this processor multiplies it faster than float32; many emulate it slowly."""
    matrix = torch.randn(512, 512)
    times = {}
    for dtype in (torch.float32, torch.bfloat16):
        same = matrix.to(dtype)
        begin = time.perf_counter()
        for _ in range(20):
            same @ same
        times[dtype] = time.perf_counter() - begin
    enabled = times[torch.bfloat16] < times[torch.float32]
    return torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled)


def soft_targets(corners: Reals, sigma: float) -> Reals:
    """Corners [...,2] in cells to distributions [...,1024] about them, or on their cells alone."""
    cells = np.arange(GRID, dtype=np.float32)
    if sigma < _SHARPEST:
        along = (cells == np.floor(corners)[..., None]).astype(np.float32)
    else:
        away = cells + 0.5 - corners[..., None]
        along = np.exp(-away * away / (2 * sigma * sigma))
        along /= along.sum(-1, keepdims=True)
    both = along[..., 1, :, None] * along[..., 0, None, :]
    return both.reshape(*corners.shape[:-1], CELLS)


def _pointing(logits: Tensor, targets: Reals) -> Tensor:
    """Cross entropy of locations [C,V] among all tokens, with targets [C,1024]."""
    locations = logits[:, -CELLS:]
    any_location = locations.logsumexp(-1) - logits.logsumexp(-1)
    return F.cross_entropy(locations, torch.from_numpy(targets)) - any_location.mean()


def _looks_loss(out: Tensor, looks: Ints, boxes: Reals) -> Tensor:
    """Whether a thing is on a patch, which, and where it ends: out [B,N,15] against a batch's."""
    kinds = torch.from_numpy(looks)
    there = kinds[..., 0] >= 0
    loss = F.binary_cross_entropy_with_logits(out[..., 0], there.float())
    out, kinds = out[there], kinds[there]
    scores = torch.split(out[:, 1:-4], list(LOOKS), dim=1)
    for index, score in enumerate(scores):
        loss = loss + _LOOK * F.cross_entropy(score, kinds[:, index])
    return loss + _SIDE * (out[:, -4:] - torch.from_numpy(boxes)[there]).abs().mean()


def _tokens_around(vocabulary: Vocabulary, ids: Tensor, row: Tensor, at: Tensor) -> Tensor:
    """What follows </phrase>, <object>, both locations and </object>: int64[A,5]."""
    opened = torch.full_like(row, vocabulary.object_open)
    shut = torch.full_like(row, vocabulary.object_close)
    end = torch.full_like(row, vocabulary.eos)
    return torch.stack([opened, ids[row, at + 1], ids[row, at + 2], shut, end], 1)
