"""How well a model in training answers held-out questions."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kosmos_ros.model.boxes import CELLS, GRID, Box, decode_box
from kosmos_ros.model.network.kosmos2 import Kosmos2
from kosmos_ros.model.preprocess import pixels_from_image
from kosmos_ros.model.prompts import image_prefix, refer
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language import questions as answers
from kosmos_ros.tabletop.language.dataset import held_out, held_out_talks
from kosmos_ros.tabletop.language.expressions import KINDS
from kosmos_ros.tabletop.language.scoring import is_right, said_by
from kosmos_ros.tabletop.training.greedy import greedy
from kosmos_ros.tabletop.training.packed import decode_packed, location_logits
from kosmos_ros.tabletop.training.segments import Writer

_TOGETHER = 100


@dataclass(frozen=True, slots=True)
class Score:
    """Share of answers with IoU >= 0.5, mean IoU, mean joint probability of the answers."""

    iou50: float
    mean_iou: float
    confidence: float
    by_kind: dict[str, float]


class Check:
    """A fixed set of held-out expressions, ready to be asked again and again."""

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


class AskCheck:
    """A fixed set of held-out talks, whose last question is asked again and again."""

    def __init__(
        self, vocabulary: Vocabulary, side: int, latents: int, count: int, seed: int
    ) -> None:
        self._vocabulary, writer = vocabulary, Writer(vocabulary, latents)
        # Talks of one kind are answered together: their answers are about equally long.
        self._held = sorted(held_out_talks(seed, count), key=lambda held: held.talk.kind)
        self._asked = [writer.question(held.talk, held.facts.boxes) for held in self._held]
        whole = [writer.segment(held.talk, held.facts.boxes).ids for held in self._held]
        # With what is in front of questions: an answer that goes on beyond that is wrong.
        self._lengths = np.array([latents + 4 + len(ids) for ids in whole])
        pixels = [torch.from_numpy(pixels_from_image(held.rgb, side)) for held in self._held]
        self._pixels = torch.cat(pixels)

    def score(self, model: Kosmos2) -> dict[str, float]:
        """The share of right answers by kind."""
        shares: dict[str, float] = {}
        kinds = np.array([held.talk.kind for held in self._held])
        for kind in answers.KINDS:
            (places,) = np.nonzero(kinds == kind)
            if not len(places):
                continue
            asked, pixels = [self._asked[i] for i in places], self._pixels[places]
            most = int(max(self._lengths[i] - len(self._asked[i]) for i in places))
            said = greedy(model, asked, pixels, self._vocabulary.eos, most)
            right = [
                is_right(held.talk.turns[-1], held.facts, said_by(ids, self._vocabulary))
                for held, ids in zip([self._held[i] for i in places], said, strict=True)
            ]
            shares[kind] = float(np.mean(right))
        return shares
