"""The Muon optimizer: momentum steps, orthogonalised by Newton-Schulz iterations.

Keller Jordan, https://kellerjordan.github.io/posts/muon/.  Matrices of one shape share a batched
product, which is several times faster on a CPU than one matrix at a time.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

FACTORS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon, for the weight matrices inside a transformer's layers; use AdamW for other weights."""

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
        """Take one step; parameters without a gradient do not change."""
        for group in self.param_groups:
            shapes = defaultdict[tuple[int, ...], list[nn.Parameter]](list)
            for parameter in group['params']:
                if parameter.grad is not None:
                    # Tall and wide matrices of the same size share a batch.
                    shapes[min(parameter.shape), max(parameter.shape)].append(parameter)
            for same_shape in shapes.values():
                self._step_same_shape(same_shape, group['lr'], group['momentum'], group['decay'])

    def _step_same_shape(
        self, parameters: list[nn.Parameter], rate: float, momentum: float, decay: float
    ) -> None:
        steps = list[Tensor]()
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is None:
                continue
            average = self.state[parameter].setdefault('momentum', torch.zeros_like(gradient))
            average.lerp_(gradient, 1 - momentum)
            step = gradient.lerp(average, momentum)
            steps.append(step if step.shape[0] <= step.shape[1] else step.T)
        for parameter, step in zip(parameters, orthogonal(torch.stack(steps)), strict=True):
            tall = parameter.shape[0] > parameter.shape[1]
            scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
            parameter.mul_(1 - rate * decay).add_(step.T if tall else step, alpha=-rate * scale)


def orthogonal(matrices: Tensor) -> Tensor:
    """Return approximately the orthogonal factor of each of N matrices [N, R, C], R <= C."""
    a, b, c = FACTORS
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x
