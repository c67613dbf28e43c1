"""BatchOut: features moved towards those of other examples in the batch (Subramanya, Mopuri, Babu 2018, ICVGIP)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from boundarygeo.checks import check_choice
from boundarygeo.training.layers import forward_changed, weighted_layers
from boundarygeo.training.method import check_names, check_number

DRAWS = ("fixed", "uniform", "choice")
PARTNERS = ("any", "same_class")


@dataclass(frozen=True)
class BatchOut:
    r"""Cross-entropy of the true labels, with features of some examples moved towards (or away from) those of others.

    .. math:: x^*_j = x_j + \eta\,(x_{R(j)} - x_j)

    at pre-activations, for the first part of the batch, with no gradient through the added term. All layers of a step
    share the partner R(j). The module is unchanged at test time: hooks exist during training steps only.

    Attributes:
        eta: η, one value for all layers or one per layer; negative values move away. The paper uses 0.05, 0.1, 0.1
            (MNIST).
        draw: `"fixed"`: η as given; `"uniform"`: uniform between 0 and η per example and layer (as in the paper for
            CIFAR-10); `"choice"`: each example draws one of the values of `eta` for all layers (mixed signs).
        layers: names of the layers whose outputs are moved, and `"input"` for the images; by default all linear and
            convolution layers but the last one.
        partners: `"any"`: another example of the batch; `"same_class"`: another of the same class, if there is one.
        share: share of the batch that is moved, from its start; ½ in the paper.
    """

    eta: tuple[float, ...] = (0.1,)
    draw: str = "fixed"
    layers: tuple[str, ...] = ()
    partners: str = "any"
    share: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.eta, tuple) or not self.eta:
            raise ValueError(f"eta must be a tuple of numbers, got {self.eta!r}")
        for value in self.eta:
            check_number(value, "eta")
        check_choice(self.draw, "draw", DRAWS)
        check_names(self.layers)
        check_choice(self.partners, "partners", PARTNERS)
        check_number(self.share, "share", above=0)
        if self.share > 1:
            raise ValueError(f"share must be at most 1, got {self.share}")

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `Method`; the partners are drawn, then the values of η as `draw` says."""
        names = self.layers or weighted_layers(module)[:-1]
        if not names:
            raise ValueError(
                "pass layers=: the module has a single linear or convolution layer, so there is no default"
            )
        moved = round(self.share * len(x))
        partner = draw_partners(y, self.partners, generator)[:moved].to(x.device)
        etas = {name: eta.to(x.device) for name, eta in self._draw_etas(names, moved, generator).items()}

        def move(name: str, h: Tensor) -> Tensor:
            values = h.detach()
            eta = etas[name].to(h.dtype).view(-1, *(1,) * (h.ndim - 1))
            added = torch.zeros_like(values)
            added[:moved] = eta * (values[partner] - values[:moved])
            return h + added

        logits = forward_changed(module, x, names, move)
        return F.cross_entropy(logits, y), logits

    def _draw_etas(self, names: tuple[str, ...], count: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Values of η `[moved example]` of each layer."""
        if self.draw == "choice":
            rows = torch.randint(len(self.eta), (count,), generator=generator)
            return dict.fromkeys(names, torch.tensor(self.eta)[rows])
        if len(self.eta) not in (1, len(names)):
            raise ValueError(f"eta must have 1 value or one per layer ({len(names)}), got {len(self.eta)}")
        ends = self.eta * len(names) if len(self.eta) == 1 else self.eta
        if self.draw == "fixed":
            return {name: torch.full((count,), end) for name, end in zip(names, ends, strict=True)}
        return {name: end * torch.rand(count, generator=generator) for name, end in zip(names, ends, strict=True)}


def draw_partners(y: Tensor, partners: str, generator: torch.Generator) -> Tensor:
    """Row of another example of the batch for each one, uniform among the eligible; its own if there is none."""
    labels, count = y.cpu(), len(y)
    allowed = ~torch.eye(count, dtype=torch.bool)
    if partners == "same_class":
        allowed &= labels[:, None] == labels[None, :]
    keys = torch.rand(count, count, generator=generator).masked_fill(~allowed, -1.0)
    return torch.where(allowed.any(1), keys.argmax(1), torch.arange(count))
