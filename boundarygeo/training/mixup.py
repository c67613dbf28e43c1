"""mixup: training on lines between images (Zhang et al. 2018, arXiv 1710.09412)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from boundarygeo.training.method import check_number


@dataclass(frozen=True)
class Mixup:
    """Cross-entropy of λx_i + (1−λ)x_j against λy_i + (1−λ)y_j, with one λ ~ Beta(α, α) per batch.

    This is torchvision's transform: j is the example before i in the shuffled batch. The reported accuracy counts y_i,
    regardless of its weight.

    Attributes:
        alpha: α; 1 is uniform, small values leave most images almost unchanged.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        check_number(self.alpha, "alpha", above=0)

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `Method`; draws one λ."""
        seen = int(y.max()) + 1
        with drawn_from(generator):
            mixed, shares = v2.MixUp(alpha=self.alpha, num_classes=seen)(x, y)
        logits = module(mixed)
        # The transform needs the number of classes, which is known from the logits.
        return F.cross_entropy(logits, F.pad(shares, (0, logits.shape[1] - seen))), logits


def draw_weight(alpha: float, generator: torch.Generator) -> float:
    """Draw a weight λ ~ Beta(α, α); it takes one number from the generator."""
    with drawn_from(generator):
        return float(torch.distributions.Beta(alpha, alpha).sample())


@contextmanager
def drawn_from(generator: torch.Generator) -> Iterator[None]:
    """Make draws from the CPU's global generator depend on one number from another generator, and restore it.

    PyTorch's distributions do not accept a generator.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
