"""TRADES: a trade-off between clean accuracy and smoothness inside a ball (Zhang et al. 2019, arXiv 1901.08573)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from boundarygeo.training.method import check_number
from boundarygeo.training.perturbation import check_ball, climb, evaluating


@dataclass(frozen=True)
class Trades:
    r"""Cross-entropy of the images plus β times the divergence of predictions at the worst points near them.

    .. math:: L = \mathrm{CE}(f(x), y) + \beta\,\mathrm{KL}(f(x)\,\|\,f(x'))

    where x' maximises the divergence inside the L∞ ball, from x plus a little noise (at x itself its gradient is zero).

    Attributes:
        eps: radius of the ball in L∞, in input units.
        beta: β, 6 in the paper's best row.
        steps: number of steps.
        step_size: length of a step; by default 2.5 ε / steps. The paper uses ε = 0.031 and 10 steps of 0.007.
        noise: standard deviation of the Gaussian start, in input units.
    """

    eps: float = 8 / 255
    beta: float = 6.0
    steps: int = 10
    step_size: float | None = None
    noise: float = 1e-3

    def __post_init__(self) -> None:
        check_ball(self.eps, "linf", self.step_size, self.steps)
        check_number(self.beta, "beta", least=0)
        check_number(self.noise, "noise", above=0)

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `Method`; the noise is random. The logits are those of the unperturbed images."""
        with evaluating(module), torch.no_grad():
            clean = F.log_softmax(module(x), 1)
        nearby = climb(
            module,
            x,
            x + self.noise * torch.randn(x.shape, generator=generator).to(x),
            lambda logits: divergence(clean, logits),
            eps=self.eps,
            norm="linf",
            steps=self.steps,
            step_size=self.step_size,
        )
        logits, nearby_logits = module(x), module(nearby)
        robust = divergence(F.log_softmax(logits, 1), nearby_logits) / len(x)
        return F.cross_entropy(logits, y) + self.beta * robust, logits


def divergence(log_p: Tensor, logits: Tensor) -> Tensor:
    """KL(p ‖ softmax(logits)), summed over the batch, from log-probabilities `[batch, class]`."""
    return F.kl_div(F.log_softmax(logits, 1), log_p, reduction="sum", log_target=True)
