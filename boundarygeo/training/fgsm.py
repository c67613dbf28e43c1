"""FGSM training with a random start (Goodfellow et al. 2015, arXiv 1412.6572; Wong et al. 2020, arXiv 2001.03994)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from boundarygeo.choices import Norm
from boundarygeo.training.perturbation import check_ball, climb_loss, random_start


@dataclass(frozen=True)
class Fgsm:
    """Cross-entropy after one step of gradient ascent from a random point of the ball, projected back onto the ball.

    Attributes:
        eps: radius of the ball in `norm`, in input units; 8/255 is usual for CIFAR-10, 0.3 for MNIST.
        step_size: length of the step in `norm`; by default 1.25 ε, as in Wong et al.
        norm: `"linf"` or `"l2"`.
        random_start: whether to start at a random point. Without it, and with a step of ε, this is the method of
            Goodfellow et al., which tends to catastrophic overfitting.
    """

    eps: float = 8 / 255
    step_size: float | None = None
    norm: Norm = "linf"
    random_start: bool = True

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, self.step_size)

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `Method`; the starting points are random."""
        start = random_start(x, self.eps, self.norm, generator) if self.random_start else x
        size = 1.25 * self.eps if self.step_size is None else self.step_size
        logits = module(climb_loss(module, x, y, start, eps=self.eps, norm=self.norm, steps=1, step_size=size))
        return F.cross_entropy(logits, y), logits
