"""The inner maximisation of adversarial training: gradient ascent inside a ball and the bounds [0, 1].

`boundarygeo.attacks` evaluates finished classifiers on frozen copies, with random starts tied to the examples; in
training the network changes with every batch, and speed matters most.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral

import torch
from torch import Tensor, nn

from boundarygeo.attacks.norms import NORMS, length, like, project, steepest
from boundarygeo.checks import check_choice
from boundarygeo.choices import Norm
from boundarygeo.losses import loss_of
from boundarygeo.training.method import check_number


def climb(
    module: nn.Module,
    x: Tensor,
    start: Tensor,
    objective: Callable[[Tensor], Tensor],
    *,
    eps: float,
    norm: Norm,
    steps: int,
    step_size: float | None,
) -> Tensor:
    """Projected gradient ascent of `objective(logits)`, a sum over examples, from `start` in the balls around `x`.

    Without a `step_size`, steps have the length 2.5 ε / steps.

    The network is in eval mode meanwhile: the steps do not update batch normalisation statistics, and every example has
    its own gradient (Pang et al. 2021, arXiv 2010.00467, section 3.5, compare both).
    """
    size = 2.5 * eps / steps if step_size is None else step_size
    points = start.detach()
    with evaluating(module), torch.enable_grad():
        for _ in range(steps):
            points.requires_grad_()
            (gradient,) = torch.autograd.grad(objective(module(points)), points)
            moved = points.detach() + size * steepest(gradient, norm)
            points = (x + project(moved - x, eps, norm)).clamp(0, 1)
    return points


def climb_loss(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    start: Tensor,
    *,
    eps: float,
    norm: Norm,
    steps: int,
    step_size: float | None,
) -> Tensor:
    """`climb` of the cross-entropy of the labels."""

    def objective(logits: Tensor) -> Tensor:
        # Gradient of the cross-entropy without the factor that underflows in float32; the step is the same.
        return loss_of(logits, y, "log_odds").sum()

    return climb(module, x, start, objective, eps=eps, norm=norm, steps=steps, step_size=step_size)


def random_start(x: Tensor, eps: float, norm: Norm, generator: torch.Generator) -> Tensor:
    """A uniformly random point of the ball around each image, clipped to [0, 1]."""
    if norm == "linf":
        drawn = 2 * torch.rand(x.shape, generator=generator) - 1
    else:
        normal = torch.randn(x.shape, generator=generator)
        radius = torch.rand(len(x), generator=generator) ** (1 / x[0].numel())
        drawn = normal * like(radius / length(normal, "l2"), normal)
    return (x + eps * drawn.to(x)).clamp(0, 1)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode, and restore the mode of every submodule afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def check_ball(eps: float, norm: Norm, step_size: float | None, steps: int = 1) -> None:
    """Check settings of `climb`."""
    check_number(eps, "eps", least=0)
    check_choice(norm, "norm", NORMS)
    if step_size is not None:
        check_number(step_size, "step_size", above=0)
    if not isinstance(steps, Integral) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"steps must be a whole number, at least 1, got {steps!r}")
