"""The losses of the tabletop model."""

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

ATTRIBUTE_SIZES = (len(SHAPES), len(COLOURS), len(WIDTHS_M))
# Weights of the losses; the cross entropy of an expression's answer has the weight 2.
_ATTRIBUTE_WEIGHT, _BOX_WEIGHT, _TAG_WEIGHT, _TEXT_WEIGHT = 0.3, 2.0, 0.1, 1.0
_MEAN, _STD = torch.from_numpy(255 * MEAN), torch.from_numpy(255 * STD)
# Below this blur the target is the single cell.
_MIN_SIGMA = 0.15


def make_probes(vision_width: int, text_width: int) -> nn.ModuleList:
    """Create linear probes of patch features and of image embeddings, for training only.

    Each predicts, per patch, whether present is a thing, its attributes, its box, and whether the
    patch contains the centre of a box.
    """
    outputs = 1 + sum(ATTRIBUTE_SIZES) + 4 + 1
    return nn.ModuleList(nn.Linear(width, outputs) for width in (vision_width, text_width))


def image_features(model: Kosmos2, images: Bytes) -> tuple[Tensor, Tensor]:
    """Encode square images uint8[B,I,I,3]: patch features [B,N,W], image embeddings [B,K,D]."""
    pixels = ((torch.from_numpy(images) - _MEAN) / _STD).permute(0, 3, 1, 2)
    features = model.vision_model.model(pixels)
    return features, model.image_to_text_projection(features)


def losses(
    model: Kosmos2, probes: nn.ModuleList, vocabulary: Vocabulary, batch: Batch, sigma: float
) -> tuple[Tensor, float, float]:
    """Return the loss of a batch, and two parts of it.

    The parts are the cross entropy of the boxes of expressions and that of the text of dialogues.

    :param sigma: blur of the location targets, in cells.
    """
    ids, row, at = (torch.from_numpy(array) for array in (batch.ids, batch.row, batch.at))
    ends = torch.from_numpy(batch.closed).bool()
    text_row, text_at, text_targets = torch.from_numpy(batch.token_targets).unbind(1)
    corner_row, corner_at = torch.from_numpy(batch.corner_at).unbind(1)
    with autocast():
        features, image = image_features(model, batch.images)
        positions, segments = torch.from_numpy(batch.positions), torch.from_numpy(batch.segments)
        hidden = decode_packed(model, ids, positions, segments, image)
        answers = location_logits(model, torch.stack([hidden[row, at], hidden[row, at + 1]], 1))
        probed = [probe(x) for probe, x in zip(probes, (features[:, 1:], image), strict=True)]
        around = torch.stack([hidden[row[ends], at[ends] + step] for step in range(-1, 4)], 1)
        tokens = F.linear(around, model.text_model.lm_head.weight)
        text_logits = F.linear(hidden[text_row, text_at], model.text_model.lm_head.weight)
        corner_logits = F.linear(hidden[corner_row, corner_at], model.text_model.lm_head.weight)
    targets = torch.from_numpy(soft_targets(batch.corners, sigma))
    answer = F.cross_entropy(answers.float().flatten(0, 1), targets.flatten(0, 1))
    text = F.cross_entropy(text_logits.float(), text_targets, reduction='sum')
    text = text / max(1, batch.dialogues)
    loss = 2 * answer + _TEXT_WEIGHT * text
    if len(batch.corner_at):
        loss = loss + _location_loss(
            corner_logits.float(), soft_targets(batch.dialogue_corners, sigma)
        )
    for out in probed:
        loss = loss + _patch_loss(out[..., :-1].float(), batch.attributes, batch.boxes)
        centres = torch.from_numpy(batch.centres)
        loss = loss + F.binary_cross_entropy_with_logits(out[..., -1].float(), centres)
    if bool(ends.any()):
        truth = _tokens_around(vocabulary, ids, row[ends], at[ends])
        loss = loss + _TAG_WEIGHT * F.cross_entropy(tokens.float().flatten(0, 1), truth.flatten())
    return loss, answer.item(), text.item()


@cache
def autocast() -> torch.autocast:
    """Use bfloat16 if this processor multiplies it faster than float32; many emulate it slowly."""
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
    """Convert corners [...,2] in cells to target distributions [...,1024] of blur `sigma`."""
    cells = np.arange(GRID, dtype=np.float32)
    if sigma < _MIN_SIGMA:
        along = (cells == np.floor(corners)[..., None]).astype(np.float32)
    else:
        away = cells + 0.5 - corners[..., None]
        along = np.exp(-away * away / (2 * sigma * sigma))
        along /= along.sum(-1, keepdims=True)
    both = along[..., 1, :, None] * along[..., 0, None, :]
    return both.reshape(*corners.shape[:-1], CELLS)


def _location_loss(logits: Tensor, targets: Reals) -> Tensor:
    """Return the cross entropy of logits [C,V] with location targets [C,1024]."""
    locations = logits[:, -CELLS:]
    any_location = locations.logsumexp(-1) - logits.logsumexp(-1)
    return F.cross_entropy(locations, torch.from_numpy(targets)) - any_location.mean()


def _patch_loss(out: Tensor, attributes: Ints, boxes: Reals) -> Tensor:
    """Return the loss of a probe's presence, attributes and boxes, [B,N,outputs - 1]."""
    kinds = torch.from_numpy(attributes)
    present = kinds[..., 0] >= 0
    loss = F.binary_cross_entropy_with_logits(out[..., 0], present.float())
    out, kinds = out[present], kinds[present]
    scores = torch.split(out[:, 1:-4], list(ATTRIBUTE_SIZES), dim=1)
    for index, score in enumerate(scores):
        loss = loss + _ATTRIBUTE_WEIGHT * F.cross_entropy(score, kinds[:, index])
    return loss + _BOX_WEIGHT * (out[:, -4:] - torch.from_numpy(boxes)[present]).abs().mean()


def _tokens_around(vocabulary: Vocabulary, ids: Tensor, row: Tensor, at: Tensor) -> Tensor:
    """Return the tokens after </phrase>, <object>, both locations and </object>: int64[A,5]."""
    opened = torch.full_like(row, vocabulary.object_open)
    shut = torch.full_like(row, vocabulary.object_close)
    end = torch.full_like(row, vocabulary.eos)
    return torch.stack([opened, ids[row, at + 1], ids[row, at + 2], shut, end], 1)
