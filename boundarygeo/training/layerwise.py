"""Layer-wise adversarial training: every layer's output is perturbed (Chen, Zhang 2020, IJCNN)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from boundarygeo.checks import check_choice
from boundarygeo.training.layers import (
    INPUT,
    Network,
    bare,
    changed_outputs,
    find_layers,
    forward_changed,
    weighted_layers,
)
from boundarygeo.training.method import check_names, check_number
from boundarygeo.training.perturbation import evaluating

PRODUCTS = ("layer", "path")


@dataclass(frozen=True)
class Layerwise:
    r"""Cross-entropy with each layer's output y moved up the loss, as far as an input change within ε could move it.

    .. math:: y \leftarrow y + R, \qquad
              R = \varepsilon\,\Big(\prod_i |W_i|\Big)\mathbf{1} \odot \mathrm{sign}\,\partial L / \partial y

    where |W_i| acts as its layer does: as a matrix, or as a convolution with its kernel. At the input the product is
    empty, and R is the FGSM step. The product can be read in two ways. Over this layer alone, ε bounds a change of the
    layer's input. Over all layers up to this one, ε bounds a change of the image. These bounds are far from tight and
    accumulate: in our tests, networks then trained only with ε too small to gain anything (except with `layers` of
    `("input", first layer)`).

    The gradient is that of the previous backward pass: on the same batch, which is passed through the network several
    times; or, without such `replays`, of the previous batch, matched by position (the first step has no perturbation).

    Attributes:
        eps: ε, in input units (for the image, and for the layer that receives it) and, with `product="layer"`, in units
            of the input of each other layer.
        product: `"layer"` or `"path"`: the product over this layer alone, or over all layers up to it.
        layers: names of the linear or convolution layers, and `"input"`; by default all of them.
        replays: forward and backward passes over the batch that refresh the perturbations before the training pass; 0
            to reuse those of the previous batch.
        memory: signs of the gradients of the previous batch; not a setting.
    """

    eps: float = 0.01
    product: str = "layer"
    layers: tuple[str, ...] = ()
    replays: int = 1
    memory: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_number(self.eps, "eps", least=0)
        check_choice(self.product, "product", PRODUCTS)
        check_names(self.layers)
        if not isinstance(self.replays, int) or isinstance(self.replays, bool) or self.replays < 0:
            raise ValueError(f"replays must be a whole number, at least 0, got {self.replays!r}")

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `Method`; nothing is random."""
        names = self.layers or (INPUT, *weighted_layers(module))
        for name, layer in find_layers(module, names).items():
            if not isinstance(layer, nn.Linear | nn.Conv2d):
                raise ValueError(f"layer {name!r} must be linear or a convolution, got {type(layer).__name__}")
        lengths = reach(module, x[:1], names, self.eps, self.product)
        if not self.replays:
            return self._carried(module, x, y, names, lengths)
        signs: dict[str, Tensor] = {}
        for _ in range(self.replays):
            outputs: dict[str, Tensor] = {}
            with evaluating(module):  # these passes must not update batch normalisation statistics
                loss, _ = perturbed_loss(module, x, y, lengths, signs, outputs)
            gradients = torch.autograd.grad(loss, list(outputs.values()))
            signs = {name: gradient.sign() for name, gradient in zip(outputs, gradients, strict=True)}
        return perturbed_loss(module, x, y, lengths, signs, {})

    def _carried(
        self, module: nn.Module, x: Tensor, y: Tensor, names: tuple[str, ...], lengths: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        outputs: dict[str, Tensor] = {}
        loss, logits = perturbed_loss(module, x, y, lengths, dict(self.memory), outputs)

        def keep(name: str, gradient: Tensor) -> None:
            self.memory[name] = gradient.detach().sign()

        for name in names:  # called in the backward pass of the training step
            outputs[name].register_hook(lambda gradient, name=name: keep(name, gradient))
        return loss, logits


def perturbed_loss(
    module: nn.Module,
    x: Tensor,
    y: Tensor,
    lengths: dict[str, Tensor],
    signs: dict[str, Tensor],
    outputs: dict[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and logits `[batch, class]` with each layer's output moved by `lengths` `[1, …]` along `signs`.

    Signs `[example, …]`, of the layers that have some, are repeated or cut to the length of the batch; `outputs`
    receives what was moved. Moved images are clipped to [0, 1].
    """

    def move(name: str, h: Tensor) -> Tensor:
        if name in signs:
            rows = torch.arange(len(h), device=h.device) % len(signs[name])
            h = h + (lengths[name] * signs[name][rows]).to(h.dtype)
        if name == INPUT:
            h = h.clamp(0, 1).requires_grad_()
        outputs[name] = h
        return h.clone()  # later layers may change it in place

    logits = forward_changed(module, x, lengths, move)
    return F.cross_entropy(logits, y), logits


def reach(module: nn.Module, x: Tensor, names: tuple[str, ...], eps: float, product: str) -> dict[str, Tensor]:
    """How far a change within ε of a layer's input, or of the image, can move each output of each layer: `[1, …]`.

    ε·1 is propagated with |W| as weights and no biases, in eval mode. This is exact for linear and convolution layers,
    average pooling, batch normalisation (|γ|/σ is part of the product) and ReLUs, and a bound for sums and maxima. With
    `product="layer"`, every layer but the one that receives the image starts again from ε·1.
    """
    inner, room = bare(module), torch.full_like(x, eps)
    lengths = {INPUT: room} if INPUT in names else {}
    if isinstance(module, Network):
        room = module.normalise(room) - module.normalise(torch.zeros_like(room))
    parameters = {name: value.detach().abs() for name, value in inner.named_parameters()}
    offsets = {
        name: torch.zeros_like(value)
        for name, value in (*parameters.items(), *inner.named_buffers())
        if name.rpartition(".")[2] in ("bias", "running_mean")
    }
    used: set[nn.Module] = set()

    def start_afresh(layer: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        used.add(layer)
        return inputs if len(used) == 1 else (torch.full_like(inputs[0], eps),)

    def keep(name: str, h: Tensor) -> Tensor:
        lengths[name] = h.clone()  # later layers may change it in place
        return h

    weighted = find_layers(inner, weighted_layers(inner)).values() if product == "layer" else ()
    handles = [layer.register_forward_pre_hook(start_afresh) for layer in weighted]
    try:
        with evaluating(inner), torch.no_grad(), changed_outputs(find_layers(inner, names), keep):
            functional_call(inner, parameters | offsets, (room,))
    finally:
        for handle in handles:
            handle.remove()
    return {name: lengths[name] for name in names}
