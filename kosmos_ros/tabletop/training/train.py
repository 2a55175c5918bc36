"""Teach a small Kosmos-2 the tabletop, on a CPU: from random weights, or going on with others."""

from collections.abc import Callable
from dataclasses import dataclass
import math
from pathlib import Path
import time
from typing import Any

import torch
from torch import Tensor, nn

from kosmos_ros.model.network.kosmos2 import Kosmos2
from kosmos_ros.model.vocabulary import Vocabulary
from kosmos_ros.tabletop.language.word_model import write_word_model
from kosmos_ros.tabletop.training.batches import Batch, BatchSize, Feed
from kosmos_ros.tabletop.training.checkpoint import WORD_MODEL, save
from kosmos_ros.tabletop.training.checks import AskCheck, Check, Score
from kosmos_ros.tabletop.training.initial_weights import continued_model, fresh_model, sizes
from kosmos_ros.tabletop.training.losses import losses, make_probes
from kosmos_ros.tabletop.training.muon import Muon

Report = Callable[[str], None]

# Part of the time with soft targets, and when they are one cell alone.
_SOFT_UNTIL, _SHARP_FROM, _SOFT = 0.55, 0.9, 0.8
# The last model is the surest of its answers, so it is kept if others are better by chance only.
_SAMPLING = 0.005
# A model that knows expressions worse than this is not kept while there is one that does not.
_LEAST_IOU50 = 0.993
# What finding a thing counts when checkpoints are compared; all else counts 1.
_REFER = 3.0
# Of the usual rates, for weights that know something.
_CONTINUED = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train; the defaults are for random weights on a machine of one's own."""

    minutes: float
    seed: int = 0
    start: Path | None = None  # a checkpoint or engine directory; None: random weights
    rows: int = 16
    tokens: int = 67 + 189  # the image prefix and about fourteen questions
    uses: int = 4
    adam_rate: float = 2e-3
    muon_rate: float = 2e-2
    warm_up_steps: int = 200
    threads: int = 2  # 1 where others compute: threads wait for the slowest at every product
    minutes_between_checks: float = 2.0
    check_scenes: int = 500
    check_talks: int = 360
    most_steps: int | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a checkpoint scored on held-out scenes: expressions, and all else by kind."""

    refer: Score
    asks: dict[str, float]

    @property
    def worth(self) -> float:
        """To compare checkpoints by; the most is 5."""
        asks = sum(self.asks.values()) / len(self.asks)
        return float(self.refer.iou50 >= _LEAST_IOU50) + _REFER * self.refer.iou50 + asks


def train(
    out: Path,
    *,
    minutes: float,
    seed: int = 0,
    start: Path | None = None,
    report: Report = print,
) -> Standing:
    """Train for `minutes` and leave the best checkpoint in `out`, laid out as `transformers` does.

    :param start: a checkpoint or engine directory whose weights to begin with.
    :return: what the best checkpoint scored on held-out scenes.
    :raises EngineFileError: when `start` cannot be read, or its model has other sizes.
    """
    plan = Plan(minutes, seed)
    if start is not None:
        rates = plan.adam_rate * _CONTINUED, plan.muon_rate * _CONTINUED
        plan = Plan(minutes, seed, start, adam_rate=rates[0], muon_rate=rates[1])
    return carry_out(out, plan, report)


def carry_out(out: Path, plan: Plan, report: Report) -> Standing:
    """Train as planned; see ``train``."""
    torch.set_num_threads(plan.threads)
    out.mkdir(parents=True, exist_ok=True)
    write_word_model(out / WORD_MODEL)
    vocabulary = Vocabulary.from_file(out / WORD_MODEL)
    config = sizes(vocabulary.size)
    side, patch, latents = (
        config.vision.image_size,
        config.vision.patch_size,
        config.latent_query_num,
    )
    size = BatchSize(plan.rows, plan.tokens, side, patch, latents, plan.uses)
    model = (
        fresh_model(config, plan.seed)
        if plan.start is None
        else continued_model(config, vocabulary, plan.seed, plan.start)
    )
    student = Student(vocabulary, model, plan)
    parameters = sum(parameter.numel() for parameter in student.model.parameters())
    scenes = plan.check_scenes + plan.check_talks
    report(f'{parameters:,} parameters; drawing {scenes} scenes to check against')
    check = Check(vocabulary, side, latents, plan.check_scenes, seed=0)
    asks = AskCheck(vocabulary, side, latents, plan.check_talks, seed=0)
    best: Standing | None = None
    begin = checked = time.monotonic()
    with Feed(plan.seed, out / WORD_MODEL, size) as feed:
        while True:
            now = time.monotonic()
            done = (now - begin) / (60 * plan.minutes)
            if plan.most_steps is not None:
                done = max(done, student.step / plan.most_steps)
            if done >= 1 or now - checked > 60 * plan.minutes_between_checks:
                checked = now
                standing = Standing(check.score(student.model), asks.score(student.model))
                report(line(standing, (now - begin) / 60, student))
                slack = _SAMPLING if done >= 1 else 0.0
                if best is None or standing.worth >= best.worth - slack:
                    best = standing
                    save(student.model, out)
                if done >= 1:
                    return best
            student.learn(feed.get(), done)


class Student:
    """A model, what it is trained with, and where it stands."""

    def __init__(self, vocabulary: Vocabulary, model: Kosmos2, plan: Plan) -> None:
        self.model, self.step, self.loss, self.word_loss = model, 0, math.nan, math.nan
        self._vocabulary, self._plan = vocabulary, plan
        config = model.config
        self._probes = make_probes(config.vision.hidden_size, config.text.embed_dim)
        self._optimizers = _optimizers(model, self._probes, plan)

    def learn(self, batch: Batch, done: float) -> None:
        """One step; `done` is the share of the training that is over, 0 to 1."""
        rate = min(1.0, self.step / self._plan.warm_up_steps) * _rate(done)
        loss, self.loss, self.word_loss = losses(
            self.model, self._probes, self._vocabulary, batch, sigma(done)
        )
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group['lr'] = group['peak'] * rate
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1


def sigma(done: float) -> float:
    """Blur of the targets in cells: constant at first, then down to none."""
    if done < _SOFT_UNTIL:
        return _SOFT
    return max(0.0, _SOFT * (_SHARP_FROM - done) / (_SHARP_FROM - _SOFT_UNTIL))


def line(standing: Standing, minutes: float, student: Student) -> str:
    """One line for people and logs."""
    score = standing.refer
    shares = [*score.by_kind.items(), *standing.asks.items()]
    kinds = '  '.join(f'{kind} {share:.3f}' for kind, share in shares)
    return (
        f'{minutes:6.1f} min  step {student.step:5}  loss {student.loss:5.2f}  '
        f'words {student.word_loss:5.2f}  '
        f'IoU>=0.5 {score.iou50:.3f}  mean IoU {score.mean_iou:.3f}  '
        f'confidence {score.confidence:.2f}  {kinds}'
    )


def _rate(done: float) -> float:
    """Cosine, ending at a hundredth."""
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0))) + 0.01


def _optimizers(model: Kosmos2, probes: nn.Module, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for all else."""
    inner: list[nn.Parameter] = []
    rest: list[Tensor] = list(probes.parameters())
    for name, parameter in model.named_parameters():
        (inner if '.layers.' in name and parameter.ndim == 2 else rest).append(parameter)
    groups: list[dict[str, Any]] = [
        {'params': [p for p in rest if p.ndim > 1], 'weight_decay': 0.05, 'peak': plan.adam_rate},
        {'params': [p for p in rest if p.ndim < 2], 'weight_decay': 0.0, 'peak': plan.adam_rate},
    ]
    adam = torch.optim.AdamW(groups, lr=plan.adam_rate, betas=(0.9, 0.98), fused=True)
    return [adam, Muon(inner, plan.muon_rate)]
