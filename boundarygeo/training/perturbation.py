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
    step_size: float,
) -> Tensor:
    """Projected gradient ascent of `objective(logits)`, a sum over examples, from `start` in the balls around `x`.

    The network is in eval mode meanwhile: the steps do not update batch normalisation statistics, and every example has
    its own gradient (Pang et al. 2021, arXiv 2010.00467, section 3.5, compare both).
    """
    points = start.detach()
    with evaluating(module), torch.enable_grad():
        for _ in range(steps):
            points.requires_grad_()
            (gradient,) = torch.autograd.grad(objective(module(points)), points)
            moved = points.detach() + step_size * steepest(gradient, norm)
            points = (x + project(moved - x, eps, norm)).clamp(0, 1)
    return points


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
