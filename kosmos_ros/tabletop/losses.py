"""What the tabletop model is taught by."""

import numpy as np
import torch
from torch import Tensor, nn
import torch.nn.functional as F

from kosmos_ros.model.boxes import CELLS, GRID
from kosmos_ros.model.network import Kosmos2
from kosmos_ros.model.preprocess import MEAN, STD
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.batches import Batch, Ints, Reals
from kosmos_ros.tabletop.packed import decode_packed, location_logits
from kosmos_ros.tabletop.render import Bytes
from kosmos_ros.tabletop.things import COLOURS, SHAPES, WIDTHS_M

LOOKS = (len(SHAPES), len(COLOURS), len(WIDTHS_M))
# Of an answer's cross entropy 2, of each of the others:
_LOOK, _SIDE, _TAG = 0.3, 2.0, 0.1
_MEAN, _STD = torch.from_numpy(255 * MEAN), torch.from_numpy(255 * STD)
# Softer than this a target is a blurred cell, sharper it is the cell alone.
_SHARPEST = 0.15


def make_probes(vision_width: int, text_width: int) -> nn.ModuleList:
    """Linear read-outs of patch features and of image embeddings, for training only.

    Each gives, per patch, whether there is a thing, scores of its looks, and its box.
    """
    outputs = 1 + sum(LOOKS) + 4
    return nn.ModuleList(nn.Linear(width, outputs) for width in (vision_width, text_width))


def see(model: Kosmos2, images: Bytes) -> tuple[Tensor, Tensor]:
    """Square images uint8[B,I,I,3] to patch features [B,N,W] and image embeddings [B,K,D]."""
    pixels = ((torch.from_numpy(images) - _MEAN) / _STD).permute(0, 3, 1, 2)
    features = model.vision_model.model(pixels)
    return features, model.image_to_text_projection(features)


def losses(
    model: Kosmos2, probes: nn.ModuleList, vocabulary: Vocabulary, batch: Batch, sigma: float
) -> tuple[Tensor, float]:
    """The loss of a batch, and the part of it that is the cross entropy of the answers.

    :param sigma: blur of the location targets, in cells.
    """
    ids, row, at = (torch.from_numpy(array) for array in (batch.ids, batch.row, batch.at))
    ends = torch.from_numpy(batch.closed).bool()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        features, image = see(model, batch.images)
        positions, segments = torch.from_numpy(batch.positions), torch.from_numpy(batch.segments)
        hidden = decode_packed(model, ids, positions, segments, image)
        answers = location_logits(model, torch.stack([hidden[row, at], hidden[row, at + 1]], 1))
        seen = [probe(x) for probe, x in zip(probes, (features[:, 1:], image), strict=True)]
        around = torch.stack([hidden[row[ends], at[ends] + step] for step in range(-1, 4)], 1)
        tokens = F.linear(around, model.text_model.lm_head.weight)
    targets = torch.from_numpy(soft_targets(batch.corners, sigma))
    answer = F.cross_entropy(answers.float().flatten(0, 1), targets.flatten(0, 1))
    loss = 2 * answer
    for out in seen:
        loss = loss + _looks_loss(out.float(), batch.looks, batch.boxes)
    if bool(ends.any()):
        truth = _tokens_around(vocabulary, ids, row[ends], at[ends])
        loss = loss + _TAG * F.cross_entropy(tokens.float().flatten(0, 1), truth.flatten())
    return loss, answer.item()


def soft_targets(corners: Reals, sigma: float) -> Reals:
    """Corners [A,2,2] in cells to distributions [A,2,1024] about them, or on their cells alone."""
    cells = np.arange(GRID, dtype=np.float32)
    if sigma < _SHARPEST:
        along = (cells == np.floor(corners)[..., None]).astype(np.float32)
    else:
        away = cells + 0.5 - corners[..., None]
        along = np.exp(-away * away / (2 * sigma * sigma))
        along /= along.sum(-1, keepdims=True)
    both = along[..., 1, :, None] * along[..., 0, None, :]
    return both.reshape(*corners.shape[:2], CELLS)


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
