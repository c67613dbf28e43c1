"""Choice of the best epoch, and early stopping: robust accuracy on held-out training images.

Robust accuracy declines late in adversarial training (Rice, Wong, Kolter 2020, arXiv 2002.11569), while the loss and
the clean accuracy still improve.
"""

from dataclasses import dataclass

import torch
from torch import nn

from boundarygeo.choices import Norm
from boundarygeo.training.perturbation import check_ball, climb_loss, random_start
from boundarygeo.zoo.data import Split

_BATCH = 512


@dataclass(frozen=True)
class Selection:
    """How to compare epochs.

    Attributes:
        eps: radius of the PGD ball in `norm`, in input units; 0 compares clean accuracy.
        norm: `"linf"` or `"l2"`.
        steps: number of PGD steps, of length 2.5 ε / steps.
        patience: number of epochs without a new best after which training stops, or None to disable.
    """

    eps: float = 8 / 255
    norm: Norm = "linf"
    steps: int = 10
    patience: int | None = None

    def __post_init__(self) -> None:
        check_ball(self.eps, self.norm, None, self.steps)
        if self.patience is not None and (not isinstance(self.patience, int) or self.patience < 1):
            raise ValueError(f"patience must be None or a whole number, at least 1, got {self.patience!r}")

    def rule(self, examples: int) -> str:
        """The rule in words, for the checkpoint.

        Args:
            examples: number of held-out examples.

        Returns:
            One sentence.
        """
        attack = f"under PGD-{self.steps} ({self.norm}, eps {self.eps:g}, one random start) " if self.eps else ""
        patience = "" if self.patience is None else f"; stop after {self.patience} epochs without a new best"
        return f"best: highest accuracy {attack}on {examples} held-out training examples, first of equals{patience}"

    def accuracy(self, module: nn.Module, split: Split, device: torch.device) -> float:
        """Robust accuracy, with the same random starts every time.

        Args:
            module: the network, of images in [0, 1].
            split: held-out examples.
            device: the network's device.

        Returns:
            Share of the examples classified correctly under the attack.
        """
        generator = torch.Generator().manual_seed(0)
        correct = 0
        module.eval()
        for x, y in zip(split.x.split(_BATCH), split.y.split(_BATCH), strict=True):
            x, y = x.to(device), y.to(device)
            if self.eps:
                start = random_start(x, self.eps, self.norm, generator)
                x = climb_loss(module, x, y, start, eps=self.eps, norm=self.norm, steps=self.steps, step_size=None)
            with torch.no_grad():
                correct += int((module(x).argmax(1) == y).sum())
        return correct / len(split)
