"""PGD training: the cross-entropy of the worst image found in a ball (Madry et al. 2018, arXiv 1706.06083)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from boundarygeo.choices import Norm
from boundarygeo.training.perturbation import check_ball, climb_loss, random_start


@dataclass(frozen=True)
class Pgd:
    """Cross-entropy after several steps of gradient ascent inside a ball, from a random point of it.

    Attributes:
        eps: radius of the ball in `norm`, in input units; 8/255 is usual for CIFAR-10, 0.3 for MNIST.
        steps: number of steps; Madry et al. use 7 for CIFAR-10.
        step_size: length of a step in `norm`; by default 2.5 ε / steps, as in `boundarygeo.attacks.pgd`.
        norm: `"linf"` or `"l2"`.
    """

    eps: float = 8 / 255
    steps: int = 7
    step_size: float | None = None
    norm: Norm = "linf"

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, self.step_size, self.steps)

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `Method`; the starting points are random."""
        start = random_start(x, self.eps, self.norm, generator)
        worst = climb_loss(
            module, x, y, start, eps=self.eps, norm=self.norm, steps=self.steps, step_size=self.step_size
        )
        logits = module(worst)
        return F.cross_entropy(logits, y), logits
