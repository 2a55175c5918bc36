"""Teach a small Kosmos-2 the tabletop, from random weights, on a CPU."""
from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from kosmos_ros.model.network import Kosmos2
from kosmos_ros.tabletop.dataset import Batch, Feed, Question, held_out, squashed
from kosmos_ros.tabletop.language import KINDS
from kosmos_ros.tabletop.muon import Muon
from kosmos_ros.tabletop.packed import decode_packed, location_logits
from kosmos_ros.tabletop.start import PATCH, SIDE, WIDTH, fresh_model, sizes
from kosmos_ros.tabletop.wording import GRID, IMAGE_SLOTS, Wording, box_of_cells, write_word_model
from kosmos_ros.tabletop.world import COLOURS, SHAPES, WIDTHS_M

WORD_MODEL = 'sentencepiece.bpe.model'
MEAN = torch.tensor([.48145466, .4578275, .40821073])
STD = torch.tensor([.26862954, .26130258, .27577711])
LOOKS = (len(SHAPES), len(COLOURS), len(WIDTHS_M))


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train; times in minutes."""

    minutes: float
    seed: int = 0
    rows: int = 32                   # pictures a step
    tokens: int = 67 + 96            # a row: the image prefix and about nine questions
    uses: int = 4                    # of each scene
    learning_rate: float = 2e-3
    warm_up_steps: int = 200
    threads: int = 2
    check_every: float = 3.
    check_scenes: int = 500
    muon: bool = False
    muon_rate: float = .02
    steps: int = 0                   # ends there if not 0, for trials


@dataclass(frozen=True, slots=True)
class Progress:
    """What a check of the held-out scenes found."""

    minutes: float
    step: int
    loss: float
    iou50: float
    mean_iou: float
    confidence: float                # mean joint probability of the answered cells
    by_kind: dict[str, float]


def train(out_dir: Path, plan: Plan, report: Callable[[str], None] = print) -> Progress:
    """Train and leave the best checkpoint in `out_dir`, in the layout of `transformers`' save_pretrained."""
    torch.set_num_threads(plan.threads)
    out_dir.mkdir(parents=True, exist_ok=True)
    write_word_model(out_dir / WORD_MODEL)
    wording = Wording(out_dir / WORD_MODEL)
    model = fresh_model(sizes(wording.ids.count), plan.seed)
    probes = nn.ModuleList(nn.Linear(WIDTH, 1 + sum(LOOKS) + 4) for _ in range(2))
    report(f'{sum(p.numel() for p in model.parameters())} parameters, vocabulary {wording.ids.count}')
    optimizers = make_optimizers(model, probes, plan)
    questions = list(held_out(0, plan.check_scenes))
    pictures = np.stack([squashed(q.rgb, SIDE) for q in questions])
    begin = checked = time.monotonic()
    step, best, answer = 0, Progress(0, 0, 0, -1., 0, 0, {}), 0.
    with Feed(plan.seed, out_dir / WORD_MODEL, side=SIDE, patch=PATCH, rows=plan.rows, tokens=plan.tokens,
              uses=plan.uses) as feed:
        while True:
            done = (time.monotonic() - begin) / (60 * plan.minutes)
            if plan.steps:
                done = step / plan.steps
            if done >= 1 or time.monotonic() - checked > 60 * plan.check_every:
                found = check(model, wording, questions, pictures, (time.monotonic() - begin) / 60, step, answer)
                report(json.dumps(dict(zip(found.__slots__, (round(v, 4) if isinstance(v, float) else v for v in (
                    getattr(found, s) for s in found.__slots__)), strict=True))))
                if found.iou50 >= best.iou50 or (done >= 1 and found.iou50 >= best.iou50 - .005):
                    best = found
                    save(model, out_dir)
                checked = time.monotonic()
            if done >= 1:
                return best
            warm = min(1., step / plan.warm_up_steps)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group['lr'] = group['peak'] * warm * (.5 * (1 + math.cos(math.pi * done)) + .01)
            loss, answer = learn(model, probes, wording, feed.get(), sharpness(done))
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.)
            for optimizer in optimizers:
                optimizer.step()
            step += 1
            if step % 50 == 0:
                report(f'step {step} {(time.monotonic() - begin) / 60:.2f} min answer loss {answer:.3f}')


def make_optimizers(model: Kosmos2, probes: nn.Module, plan: Plan) -> list[torch.optim.Optimizer]:
    """AdamW; with `muon`, Muon for the matrices inside the layers."""
    inner = [p for n, p in model.named_parameters() if '.layers.' in n and p.ndim == 2] if plan.muon else []
    chosen = {id(p) for p in inner}
    rest = [p for p in [*model.parameters(), *probes.parameters()] if id(p) not in chosen]
    groups = [dict(params=[p for p in rest if p.ndim > 1], weight_decay=.05, peak=plan.learning_rate),
              dict(params=[p for p in rest if p.ndim < 2], weight_decay=0., peak=plan.learning_rate)]
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(.9, .98), fused=True)]
    if inner:
        found.append(Muon(inner, plan.muon_rate))
    return found


def sharpness(done: float) -> float:
    """Standard deviation in cells of the soft targets: 0.8 for most of the time, then down to one hot."""
    return .8 if done < .55 else max(0., .8 * (.9 - done) / .35)


def see(model: Kosmos2, images: np.ndarray) -> tuple[Tensor, Tensor]:
    """uint8[B, I, I, 3] to the vision tower's features [B, N, W] and the image embeddings [B, K, D]."""
    pixels = ((torch.from_numpy(images).float() / 255 - MEAN) / STD).permute(0, 3, 1, 2)
    features = model.vision_model.model(pixels)
    return features, model.image_to_text_projection(features)


def learn(model: Kosmos2, probes: nn.ModuleList, wording: Wording, batch: Batch, sigma: float
          ) -> tuple[Tensor, float]:
    """The loss of one batch, and the part of it that is the answers': both locations, what is on each patch (features and latents), the tokens around an answer."""
    ids, row, at = torch.from_numpy(batch.ids), torch.from_numpy(batch.row), torch.from_numpy(batch.at)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        features, image = see(model, batch.images)
        hidden = decode_packed(model, ids, torch.from_numpy(batch.positions), torch.from_numpy(batch.segments), image)
        answers = location_logits(model, torch.stack([hidden[row, at], hidden[row, at + 1]], 1)).float()
        seen = [probe(x).float() for probe, x in zip(probes, (features[:, 1:], image), strict=True)]
        closed = torch.from_numpy(batch.closed).bool()
        r, a = row[closed], at[closed]
        around = F.linear(torch.stack([hidden[r, a - 1], hidden[r, a], hidden[r, a + 1], hidden[r, a + 2],
                                       hidden[r, a + 3]], 1), model.text_model.lm_head.weight).float()
    targets = torch.from_numpy(soft_targets(batch.corners, sigma))
    answer = F.cross_entropy(answers.flatten(0, 1), targets.flatten(0, 1))
    loss = 2 * answer
    for out in seen:
        loss = loss + looks_loss(out, torch.from_numpy(batch.looks), torch.from_numpy(batch.boxes))
    if len(r):
        opened, shut = wording.ids.tag('<object>'), wording.ids.tag('</object>')
        truth = torch.stack([torch.full_like(r, opened), ids[r, a + 1], ids[r, a + 2], torch.full_like(r, shut),
                             torch.full_like(r, 2)], 1)
        loss = loss + .1 * F.cross_entropy(around.flatten(0, 1), truth.flatten())
    return loss, answer.item()


def looks_loss(out: Tensor, looks: Tensor, boxes: Tensor) -> Tensor:
    """Dense help, thrown away later: is there a thing on the patch, which, and where does it end."""
    there = looks[..., 0] >= 0
    loss = F.binary_cross_entropy_with_logits(out[..., 0], there.float())
    begin = 1
    for i, count in enumerate(LOOKS):
        loss = loss + .3 * F.cross_entropy(out[there][:, begin:begin + count], looks[there][:, i])
        begin += count
    return loss + 2 * (out[there][:, begin:] - boxes[there]).abs().mean()


_CELLS = np.arange(GRID, dtype=np.float32)


def soft_targets(corners: np.ndarray, sigma: float) -> np.ndarray:
    """Corners [A, 2, 2] in cells to distributions [A, 2, 1024]: the true cell, blurred by `sigma` cells about the corner."""
    if sigma < .15:
        along = (_CELLS == np.floor(corners)[..., None]).astype(np.float32)
    else:
        away = _CELLS + .5 - corners[..., None]
        along = np.exp(-away * away / (2 * sigma * sigma))
        along /= along.sum(-1, keepdims=True)
    return (along[..., 1, :, None] * along[..., 0, None, :]).reshape(*corners.shape[:2], GRID * GRID)


@torch.inference_mode()
def check(model: Kosmos2, wording: Wording, questions: list[Question], pictures: np.ndarray, minutes: float, step: int,
          loss: float) -> Progress:
    """Answer held-out questions as the engine would (float32, official decoder) and compare with the truth."""
    first = wording.ids.first_location
    ious, sure = np.zeros(len(questions)), np.zeros(len(questions))
    prefix = wording.image_prefix()
    for begin in range(0, len(questions), 100):
        part = questions[begin:begin + 100]
        asked = [prefix + wording.question(q.expression) for q in part]
        ids = torch.tensor([a + [1] * (96 - len(a)) for a in asked])
        last, row = torch.tensor([len(a) - 1 for a in asked]), torch.arange(len(part))
        positions = torch.arange(96).expand(len(part), -1)
        _, image = see(model, pictures[begin:begin + 100])
        chosen = []
        probability = torch.ones(len(part))
        for k in (0, 1):
            hidden = decode_packed(model, ids, positions, torch.zeros_like(ids), image)[row, last + k]
            logits = location_logits(model, hidden)
            if k:
                cell = torch.arange(GRID * GRID)
                right = (cell % GRID >= chosen[0][:, None] % GRID) & (cell // GRID >= chosen[0][:, None] // GRID)
                logits = logits.masked_fill(~right, float('-inf'))
            best = logits.softmax(-1).max(-1)
            chosen.append(best.indices)
            probability *= best.values
            ids[row, last + k + 1] = best.indices + first
        for i, q in enumerate(part):
            box = box_of_cells(int(chosen[0][i]), int(chosen[1][i]))
            h, w = q.rgb.shape[:2]
            ious[begin + i] = iou(q.box_px, (box[0] * w, box[1] * h, box[2] * w, box[3] * h))
        sure[begin:begin + len(part)] = probability.numpy()
    hit = ious >= .5
    by_kind = {kind: round(float(np.mean([h for h, q in zip(hit, questions, strict=True) if q.kind == kind])), 4)
               for kind in KINDS}
    return Progress(minutes, step, loss, float(hit.mean()), float(ious.mean()), float(sure.mean()), by_kind)


def iou(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes."""
    shared = max(0., min(a[2], b[2]) - max(a[0], b[0])) * max(0., min(a[3], b[3]) - max(a[1], b[1]))
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def save(model: Kosmos2, out_dir: Path) -> None:
    """Write `model.safetensors` and `config.json` (each complete or not at all); the tied head is not stored twice."""
    state = {k: v.detach().contiguous() for k, v in model.state_dict().items() if k != 'text_model.lm_head.weight'}
    partial = out_dir / 'model.safetensors.part'
    save_file(state, partial, metadata={'format': 'pt'})
    os.replace(partial, out_dir / 'model.safetensors')
    content = {'architectures': ['Kosmos2ForConditionalGeneration'], 'dtype': 'float32', **model.config.to_dict()}
    text = out_dir / 'config.json.part'
    text.write_text(json.dumps(content, indent=2, sort_keys=True) + '\n', encoding='utf-8')
    os.replace(text, out_dir / 'config.json')


def publish(out_dir: Path, to: Path) -> None:
    """Copy a checkpoint so that a reader of `to` never sees half a file."""
    to.mkdir(parents=True, exist_ok=True)
    for name in (WORD_MODEL, 'config.json', 'model.safetensors'):
        shutil.copyfile(out_dir / name, to / f'{name}.part')
        os.replace(to / f'{name}.part', to / name)
