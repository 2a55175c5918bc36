"""How well a model in training answers held-out questions."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kosmos_ros.model.boxes import CELLS, GRID, Box, decode_box
from kosmos_ros.model.network import Kosmos2
from kosmos_ros.model.preprocess import pixels_from_image
from kosmos_ros.model.prompts import image_prefix, refer
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.dataset import held_out
from kosmos_ros.tabletop.language import KINDS
from kosmos_ros.tabletop.packed import decode_packed, location_logits

_TOGETHER = 100


@dataclass(frozen=True, slots=True)
class Score:
    """Share of answers with IoU >= 0.5, mean IoU, mean joint probability of the answers."""

    iou50: float
    mean_iou: float
    confidence: float
    by_kind: dict[str, float]


class Check:
    """A fixed set of held-out questions, ready to be asked again and again."""

    def __init__(
        self, vocabulary: Vocabulary, side: int, latents: int, count: int, seed: int
    ) -> None:
        self._vocabulary = vocabulary
        prefix = image_prefix(vocabulary, latents)
        pixels, self._asked, self._kinds, self._truth = [], [], [], []
        for question in held_out(seed, count):
            height, width, _ = question.rgb.shape
            pixels.append(torch.from_numpy(pixels_from_image(question.rgb, side)))
            self._asked.append(prefix + refer(vocabulary, question.expression))
            self._kinds.append(question.kind)
            self._truth.append(Box.from_pixels(question.box_px, width, height))
        self._pixels = torch.cat(pixels)

    @torch.inference_mode()
    def score(self, model: Kosmos2) -> Score:
        """Ask everything as the engine does: in float32, greedily, with the official decoder."""
        ious, joints = [], []
        for begin in range(0, len(self._asked), _TOGETHER):
            part = slice(begin, begin + _TOGETHER)
            cells, joint = self._answers(model, self._asked[part], self._pixels[part])
            boxes = [decode_box(first, second) for first, second in cells.tolist()]
            ious += [box.iou(truth) for box, truth in zip(boxes, self._truth[part], strict=True)]
            joints += joint.tolist()
        hits, kinds = np.array(ious) >= 0.5, np.array(self._kinds)
        by_kind = {kind: float(hits[kinds == kind].mean()) for kind in KINDS if kind in kinds}
        return Score(float(hits.mean()), float(np.mean(ious)), float(np.mean(joints)), by_kind)

    def _answers(
        self, model: Kosmos2, asked: list[list[int]], pixels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both cells [B,2] of each answer, and their joint probability [B]."""
        image, row = model.vision(pixels), torch.arange(len(asked))
        last = torch.tensor([len(tokens) - 1 for tokens in asked])
        ids = torch.full((len(asked), int(last.max()) + 2), self._vocabulary.pad)
        for index, tokens in enumerate(asked):
            ids[index, : len(tokens)] = torch.tensor(tokens)
        positions, segments = torch.arange(ids.shape[1]).expand_as(ids), torch.zeros_like(ids)
        hidden = decode_packed(model, ids, positions, segments, image)[row, last]
        first_joint, first = location_logits(model, hidden).softmax(-1).max(-1)
        ids[row, last + 1] = self._vocabulary.first_location + first
        hidden = decode_packed(model, ids, positions, segments, image)[row, last + 1]
        cell = torch.arange(CELLS)
        beyond = (cell % GRID >= first[:, None] % GRID) & (cell // GRID >= first[:, None] // GRID)
        logits = location_logits(model, hidden).masked_fill(~beyond, float('-inf'))
        second_joint, second = logits.softmax(-1).max(-1)
        return torch.stack([first, second], 1), first_joint * second_joint
