"""Training of a small Kosmos-2 on the tabletop, on a CPU, from random or existing weights."""

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
from kosmos_ros.tabletop.training.batches import Batch, BatchSize, PrefetchQueue
from kosmos_ros.tabletop.training.checkpoint import WORD_MODEL, save
from kosmos_ros.tabletop.training.checks import DialogueCheck, ExpressionCheck, ExpressionScore
from kosmos_ros.tabletop.training.initial_weights import (
    fresh_model,
    model_from_checkpoint,
    tabletop_config,
)
from kosmos_ros.tabletop.training.losses import losses, make_probes
from kosmos_ros.tabletop.training.muon import Muon

Report = Callable[[str], None]

# Targets are blurred by _BLUR cells until one fraction of the training, then less and less, and
# are single cells from another fraction on.
_BLURRED_UNTIL, _SHARP_FROM, _BLUR = 0.55, 0.9, 0.8
# The last model has the highest confidence, so it is kept if others are better only within the
# sampling error.
_SAMPLING_ERROR = 0.005
# Models below this score of expressions are kept only if no model is above it.
_MIN_IOU50 = 0.993
# The weight of expressions when checkpoints are compared; dialogues have the weight 1.
_EXPRESSION_WEIGHT = 3.0
# The factor of the learning rates for training from existing weights.
_CONTINUED_RATE = 0.5


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Training parameters; the defaults are for random weights on an otherwise idle machine."""

    minutes: float
    seed: int = 0
    start: Path | None = None  # a checkpoint or engine directory; None for random weights
    rows: int = 16
    tokens: int = 67 + 189  # the image prefix and about fourteen questions
    uses: int = 4
    adam_rate: float = 2e-3
    muon_rate: float = 2e-2
    warm_up_steps: int = 200
    threads: int = 2  # 1 on a busy machine: every product waits for the slowest thread
    minutes_between_checks: float = 2.0
    check_scenes: int = 500
    check_dialogues: int = 360
    max_steps: int | None = None


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Scores of a checkpoint on held-out scenes: of expressions, and of dialogues by kind."""

    expressions: ExpressionScore
    dialogues: dict[str, float]

    @property
    def quality(self) -> float:
        """Return a number to compare checkpoints by; the maximum is 5."""
        dialogues = sum(self.dialogues.values()) / len(self.dialogues)
        expressions = self.expressions.iou50
        return float(expressions >= _MIN_IOU50) + _EXPRESSION_WEIGHT * expressions + dialogues


def train(
    out: Path,
    *,
    minutes: float,
    seed: int = 0,
    start: Path | None = None,
    report: Report = print,
) -> TrainingProgress:
    """Train for `minutes` and write the best checkpoint to `out`, in the layout of `transformers`.

    :param start: a checkpoint or engine directory with the initial weights.
    :return: the scores of the best checkpoint on held-out scenes.
    :raises EngineFileError: when `start` cannot be read, or its model has other sizes.
    """
    plan = TrainingPlan(minutes, seed)
    if start is not None:
        rates = plan.adam_rate * _CONTINUED_RATE, plan.muon_rate * _CONTINUED_RATE
        plan = TrainingPlan(minutes, seed, start, adam_rate=rates[0], muon_rate=rates[1])
    return train_with_plan(out, plan, report)


def train_with_plan(out: Path, plan: TrainingPlan, report: Report) -> TrainingProgress:
    """Train with a plan; see ``train``."""
    torch.set_num_threads(plan.threads)
    out.mkdir(parents=True, exist_ok=True)
    write_word_model(out / WORD_MODEL)
    vocabulary = Vocabulary.from_file(out / WORD_MODEL)
    config = tabletop_config(vocabulary.size)
    side, patch, latents = (
        config.vision.image_size,
        config.vision.patch_size,
        config.latent_query_num,
    )
    size = BatchSize(plan.rows, plan.tokens, side, patch, latents, plan.uses)
    model = (
        fresh_model(config, plan.seed)
        if plan.start is None
        else model_from_checkpoint(config, vocabulary, plan.seed, plan.start)
    )
    trainer = Trainer(vocabulary, model, plan)
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    scenes = plan.check_scenes + plan.check_dialogues
    report(f'{parameters:,} parameters; rendering {scenes} scenes to evaluate on')
    expression_check = ExpressionCheck(vocabulary, side, latents, plan.check_scenes, seed=0)
    dialogue_check = DialogueCheck(vocabulary, side, latents, plan.check_dialogues, seed=0)
    best: TrainingProgress | None = None
    begin = checked = time.monotonic()
    with PrefetchQueue(plan.seed, out / WORD_MODEL, size) as queue:
        while True:
            now = time.monotonic()
            done = (now - begin) / (60 * plan.minutes)
            if plan.max_steps is not None:
                done = max(done, trainer.step / plan.max_steps)
            if done >= 1 or now - checked > 60 * plan.minutes_between_checks:
                checked = now
                progress = TrainingProgress(
                    expression_check.score(trainer.model), dialogue_check.score(trainer.model)
                )
                report(progress_line(progress, (now - begin) / 60, trainer))
                slack = _SAMPLING_ERROR if done >= 1 else 0.0
                if best is None or progress.quality >= best.quality - slack:
                    best = progress
                    save(trainer.model, out)
                if done >= 1:
                    return best
            trainer.train_step(queue.get(), done)


class Trainer:
    """A model in training with its probes and optimizers.

    Attributes: `step` is the number of steps so far; `loss` is the cross entropy of boxes and
    `text_loss` that of text in the last step.
    """

    def __init__(self, vocabulary: Vocabulary, model: Kosmos2, plan: TrainingPlan) -> None:
        self.model, self.step, self.loss, self.text_loss = model, 0, math.nan, math.nan
        self._vocabulary, self._plan = vocabulary, plan
        config = model.config
        self._probes = make_probes(config.vision.hidden_size, config.text.embed_dim)
        self._optimizers = _optimizers(model, self._probes, plan)

    def train_step(self, batch: Batch, done: float) -> None:
        """Take one step; `done` is the fraction of the training that is over, 0 to 1."""
        rate = min(1.0, self.step / self._plan.warm_up_steps) * _rate_factor(done)
        loss, self.loss, self.text_loss = losses(
            self.model, self._probes, self._vocabulary, batch, target_blur(done)
        )
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group['lr'] = group['peak'] * rate
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1


def target_blur(done: float) -> float:
    """Return the blur of the targets in cells: constant at first, then decreasing to 0."""
    if done < _BLURRED_UNTIL:
        return _BLUR
    return max(0.0, _BLUR * (_SHARP_FROM - done) / (_SHARP_FROM - _BLURRED_UNTIL))


def progress_line(progress: TrainingProgress, minutes: float, trainer: Trainer) -> str:
    """Format the progress as one line for logs."""
    score = progress.expressions
    fractions = [*score.by_kind.items(), *progress.dialogues.items()]
    kinds = '  '.join(f'{kind} {fraction:.3f}' for kind, fraction in fractions)
    return (
        f'{minutes:6.1f} min  step {trainer.step:5}  loss {trainer.loss:5.2f}  '
        f'words {trainer.text_loss:5.2f}  '
        f'IoU>=0.5 {score.iou50:.3f}  mean IoU {score.mean_iou:.3f}  '
        f'confidence {score.confidence:.2f}  {kinds}'
    )


def _rate_factor(done: float) -> float:
    """Return the factor of the learning rate: a cosine that ends at 0.01."""
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0))) + 0.01


def _optimizers(
    model: Kosmos2, probes: nn.Module, plan: TrainingPlan
) -> list[torch.optim.Optimizer]:
    """Create Muon for the matrices inside the layers and AdamW for other parameters."""
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
