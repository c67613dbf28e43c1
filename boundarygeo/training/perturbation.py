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
from boundarygeo.choices import Norm
from boundarygeo.training.method import check_choice, check_number


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
    """Projected gradient ascent from given starting points.

    The network is in eval mode meanwhile: the steps do not update batch normalisation statistics, and every example has
    its own gradient (Pang et al. 2021, arXiv 2010.00467, section 3.5, compare both).

    Args:
        module: the network, of images in [0, 1].
        x: centres of the balls `[batch, channel, row, col]`.
        start: starting points, of the same shape.
        objective: maps logits `[batch, class]` to the scalar to maximise, a sum over examples.
        eps: radius of the ball in `norm`.
        norm: `"linf"` or `"l2"`.
        steps: number of steps.
        step_size: length of a step in `norm`.

    Returns:
        The points reached, detached.
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
    """A uniformly random point of the ball around each image, clipped to [0, 1].

    Args:
        x: images `[batch, channel, row, col]`.
        eps: radius in `norm`.
        norm: `"linf"` or `"l2"`.
        generator: generator on the CPU.

    Returns:
        Points of the same shape.
    """
    if norm == "linf":
        drawn = 2 * torch.rand(x.shape, generator=generator) - 1
    else:
        normal = torch.randn(x.shape, generator=generator)
        radius = torch.rand(len(x), generator=generator) ** (1 / x[0].numel())
        drawn = normal * like(radius / length(normal, "l2"), normal)
    return (x + eps * drawn.to(x)).clamp(0, 1)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode, and restore the mode of every submodule afterwards.

    Args:
        module: the module.

    Yields:
        Nothing.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def check_ball(eps: float, norm: Norm, step_size: float | None, steps: int = 1) -> None:
    """Check settings of `climb`.

    Args:
        eps: radius.
        norm: norm of the radius.
        step_size: length of a step, or None.
        steps: number of steps.

    Raises:
        ValueError: if one is out of range.
    """
    check_number(eps, "eps", least=0)
    check_choice(norm, "norm", NORMS)
    if step_size is not None:
        check_number(step_size, "step_size", above=0)
    if not isinstance(steps, Integral) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"steps must be a whole number, at least 1, got {steps!r}")
