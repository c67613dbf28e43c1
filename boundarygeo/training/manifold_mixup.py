"""Manifold mixup: mixup of hidden representations (Verma et al. 2019, arXiv 1806.05236)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from boundarygeo.training.layers import INPUT, find_layers, forward_changed, hidden_layers
from boundarygeo.training.method import check_names, check_number
from boundarygeo.training.mixup import draw_weight


@dataclass(frozen=True)
class ManifoldMixup:
    """Mixup of one layer's output: per batch, one layer of a list, one λ ~ Beta(α, α) and one permutation are drawn.

    L = λ CE(f(h̃), y) + (1−λ) CE(f(h̃), y_π) with h̃ = λh + (1−λ)h_π, section 2 of the paper.

    Attributes:
        alpha: α, 2 in the paper.
        layers: names of the layers, with `"input"` for mixing the images; by default the input and the first two of
            `hidden_layers`, as in the paper.
    """

    alpha: float = 2.0
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_number(self.alpha, "alpha", above=0)
        check_names(self.layers)

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `Method`; draws the layer, λ and the permutation, in this order."""
        names = self.layers or (INPUT, *hidden_layers(module)[:2])
        find_layers(module, names)  # raise for a wrong name even if it is not drawn
        name = names[int(torch.randint(len(names), (), generator=generator))]
        weight = draw_weight(self.alpha, generator)
        partner = torch.randperm(len(x), generator=generator).to(x.device)
        logits = forward_changed(module, x, (name,), lambda _, h: weight * h + (1 - weight) * h[partner])
        loss = weight * F.cross_entropy(logits, y) + (1 - weight) * F.cross_entropy(logits, y[partner])
        return loss, logits
