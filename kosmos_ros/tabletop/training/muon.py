"""Muon: momentum whose every step is made an orthogonal matrix, by Newton-Schulz iterations.

Keller Jordan, https://kellerjordan.github.io/posts/muon/.  Matrices of one shape share a batched
product, which on a CPU is several times faster than one at a time.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

FACTORS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """For the weight matrices inside a transformer's layers; everything else wants AdamW."""

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        rate: float,
        momentum: float = 0.95,
        decay: float = 0.01,
    ) -> None:
        super().__init__(
            [{'params': list(parameters), 'peak': rate}],
            {'lr': rate, 'momentum': momentum, 'decay': decay},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; parameters without a gradient stay."""
        for group in self.param_groups:
            shapes = defaultdict[tuple[int, ...], list[nn.Parameter]](list)
            for parameter in group['params']:
                if parameter.grad is not None:
                    # Tall and wide matrices of the same size share a batch.
                    shapes[min(parameter.shape), max(parameter.shape)].append(parameter)
            for alike in shapes.values():
                self._step_alike(alike, group['lr'], group['momentum'], group['decay'])

    def _step_alike(
        self, parameters: list[nn.Parameter], rate: float, momentum: float, decay: float
    ) -> None:
        ahead = list[Tensor]()
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is None:
                continue
            moving = self.state[parameter].setdefault('momentum', torch.zeros_like(gradient))
            moving.lerp_(gradient, 1 - momentum)
            step = gradient.lerp(moving, momentum)
            ahead.append(step if step.shape[0] <= step.shape[1] else step.T)
        for parameter, step in zip(parameters, orthogonal(torch.stack(ahead)), strict=True):
            tall = parameter.shape[0] > parameter.shape[1]
            scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
            parameter.mul_(1 - rate * decay).add_(step.T if tall else step, alpha=-rate * scale)


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly the orthogonal factor of each of a batch of matrices [N, R, C], R <= C."""
    a, b, c = FACTORS
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x
