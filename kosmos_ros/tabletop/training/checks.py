"""Evaluation of a model in training on held-out questions."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kosmos_ros.model.boxes import CELLS, GRID, Box, decode_box
from kosmos_ros.model.network.kosmos2 import Kosmos2
from kosmos_ros.model.preprocess import pixels_from_image
from kosmos_ros.model.prompts import image_prefix, refer_prompt
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language import questions
from kosmos_ros.tabletop.language.dataset import held_out_dialogues, held_out_expressions
from kosmos_ros.tabletop.language.expressions import KINDS
from kosmos_ros.tabletop.language.scoring import is_correct, parse_answer
from kosmos_ros.tabletop.training.greedy import greedy_answers
from kosmos_ros.tabletop.training.packed import decode_packed, location_logits
from kosmos_ros.tabletop.training.segments import SegmentWriter

_BATCH_ROWS = 100


@dataclass(frozen=True, slots=True)
class ExpressionScore:
    """Fraction of answers with IoU >= 0.5, mean IoU, mean joint probability of the answers."""

    iou50: float
    mean_iou: float
    confidence: float
    by_kind: dict[str, float]


class ExpressionCheck:
    """An evaluation on a fixed set of held-out expressions."""

    def __init__(
        self, vocabulary: Vocabulary, side: int, latents: int, count: int, seed: int
    ) -> None:
        self._vocabulary = vocabulary
        prefix = image_prefix(vocabulary, latents)
        pixels, self._prompts, self._kinds, self._truth = [], [], [], []
        for expression in held_out_expressions(seed, count):
            height, width, _ = expression.rgb.shape
            pixels.append(torch.from_numpy(pixels_from_image(expression.rgb, side)))
            self._prompts.append(prefix + refer_prompt(vocabulary, expression.expression))
            self._kinds.append(expression.kind)
            self._truth.append(Box.from_pixels(expression.box_px, width, height))
        self._pixels = torch.cat(pixels)

    @torch.inference_mode()
    def score(self, model: Kosmos2) -> ExpressionScore:
        """Score greedy answers in float32, decoded by the official decoder as in the engine."""
        ious, joints = [], []
        for begin in range(0, len(self._prompts), _BATCH_ROWS):
            part = slice(begin, begin + _BATCH_ROWS)
            cells, joint = self._answers(model, self._prompts[part], self._pixels[part])
            boxes = [decode_box(first, second) for first, second in cells.tolist()]
            ious += [box.iou(truth) for box, truth in zip(boxes, self._truth[part], strict=True)]
            joints += joint.tolist()
        hits, kinds = np.array(ious) >= 0.5, np.array(self._kinds)
        by_kind = {kind: float(hits[kinds == kind].mean()) for kind in KINDS if kind in kinds}
        return ExpressionScore(
            float(hits.mean()), float(np.mean(ious)), float(np.mean(joints)), by_kind
        )

    def _answers(
        self, model: Kosmos2, prompts: list[list[int]], pixels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return both cells [B,2] of each answer, and their joint probability [B]."""
        image, row = model.vision(pixels), torch.arange(len(prompts))
        last = torch.tensor([len(tokens) - 1 for tokens in prompts])
        ids = torch.full((len(prompts), int(last.max()) + 2), self._vocabulary.pad)
        for index, tokens in enumerate(prompts):
            ids[index, : len(tokens)] = torch.tensor(tokens)
        positions, segments = torch.arange(ids.shape[1]).expand_as(ids), torch.zeros_like(ids)
        hidden = decode_packed(model, ids, positions, segments, image)[row, last]
        first_joint, first = location_logits(model, hidden).softmax(-1).max(-1)
        ids[row, last + 1] = self._vocabulary.first_location + first
        hidden = decode_packed(model, ids, positions, segments, image)[row, last + 1]
        cell = torch.arange(CELLS)
        row0, column0 = first[:, None] // GRID, first[:, None] % GRID
        below_right = (cell % GRID >= column0) & (cell // GRID >= row0)
        logits = location_logits(model, hidden).masked_fill(~below_right, float('-inf'))
        second_joint, second = logits.softmax(-1).max(-1)
        return torch.stack([first, second], 1), first_joint * second_joint


class DialogueCheck:
    """An evaluation on the last questions of a fixed set of held-out dialogues."""

    def __init__(
        self, vocabulary: Vocabulary, side: int, latents: int, count: int, seed: int
    ) -> None:
        self._vocabulary, segments = vocabulary, SegmentWriter(vocabulary, latents)
        # Dialogues of one kind are answered as one batch: their answers have similar lengths.
        self._held = sorted(held_out_dialogues(seed, count), key=lambda held: held.dialogue.kind)
        self._prompts = [segments.question(held.dialogue, held.facts.boxes) for held in self._held]
        whole = [segments.segment(held.dialogue, held.facts.boxes).ids for held in self._held]
        # Lengths include the image prefix.  An answer that exceeds its true length is wrong.
        self._lengths = np.array([latents + 4 + len(ids) for ids in whole])
        pixels = [torch.from_numpy(pixels_from_image(held.rgb, side)) for held in self._held]
        self._pixels = torch.cat(pixels)

    def score(self, model: Kosmos2) -> dict[str, float]:
        """Return the fraction of correct answers by kind."""
        fractions: dict[str, float] = {}
        kinds = np.array([held.dialogue.kind for held in self._held])
        for kind in questions.KINDS:
            (indices,) = np.nonzero(kinds == kind)
            if not len(indices):
                continue
            prompts, pixels = [self._prompts[i] for i in indices], self._pixels[indices]
            max_tokens = int(max(self._lengths[i] - len(self._prompts[i]) for i in indices))
            answers = greedy_answers(model, prompts, pixels, self._vocabulary.eos, max_tokens)
            correct = [
                is_correct(
                    held.dialogue.turns[-1], held.facts, parse_answer(ids, self._vocabulary)
                )
                for held, ids in zip([self._held[i] for i in indices], answers, strict=True)
            ]
            fractions[kind] = float(np.mean(correct))
        return fractions
