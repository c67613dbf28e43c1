"""Access to a module's layers by name, and changes of their outputs.

This works through hooks, and so for any module, including torchvision's. Names are those of `module.named_modules()`,
and `"input"` for the images.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torchvision.transforms import Normalize

INPUT = "input"

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Softplus)


class Network(nn.Module):
    """A module preceded by the normalisation of its images; layer names are those of the module."""

    def __init__(
        self, module: nn.Module, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
    ) -> None:
        super().__init__()
        self.normalise = nn.Identity() if mean is None or std is None else Normalize(mean, std)
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Images in [0, 1] `[batch, channel, row, col]` to logits `[batch, class]`."""
        return self.module(self.normalise(x))


def bare(module: nn.Module) -> nn.Module:
    """The module without the normalisation added by `Network`."""
    return module.module if isinstance(module, Network) else module


def find_layers(module: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    """Layers by name, without `"input"`, in the order of the names; ValueError lists those that exist."""
    there = {name: layer for name, layer in bare(module).named_modules() if name}
    for name in names:
        if name != INPUT and name not in there:
            raise ValueError(f"module has no layer {name!r}: use any of {', '.join((INPUT, *there))}")
    return {name: there[name] for name in names if name != INPUT}


def weighted_layers(module: nn.Module) -> tuple[str, ...]:
    """Names of all linear and convolution layers, in order of creation."""
    return tuple(name for name, layer in bare(module).named_modules() if isinstance(layer, nn.Linear | nn.Conv2d))


def hidden_layers(module: nn.Module) -> tuple[str, ...]:
    """Names of the submodules whose outputs are the hidden representations, possibly none.

    These are the direct children of the module except the last one, which gives the logits: the activations of an
    `nn.Sequential`, or otherwise the stages, i.e. children that are an `nn.Sequential`: `layer1` … `layer4` of a
    ResNet.

    Examples:
        >>> hidden_layers(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)))
        ('1',)
    """
    inner = bare(module)
    children = list(inner.named_children())[:-1]
    if isinstance(inner, nn.Sequential) and any(isinstance(child, _ACTIVATIONS) for _, child in children):
        return tuple(name for name, child in children if isinstance(child, _ACTIVATIONS))
    return tuple(name for name, child in children if isinstance(child, nn.Sequential))


def forward_changed(
    module: nn.Module, x: Tensor, names: Iterable[str], change: Callable[[str, Tensor], Tensor]
) -> Tensor:
    """Logits `[batch, class]` of a forward pass in which `change(name, output)` replaces the outputs of some layers.

    `"input"` stands for the images. The module keeps its own hooks, also after an exception. ValueError if a layer does
    not exist, returns no tensor, or is not used exactly once.
    """
    names = tuple(names)
    with changed_outputs(find_layers(module, names), change):
        return module(change(INPUT, x) if INPUT in names else x)


@contextmanager
def changed_outputs(layers: Mapping[str, nn.Module], change: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
    """Change the outputs of layers during a single forward pass, as in `forward_changed`."""
    calls: Counter[str] = Counter()
    handles = []
    try:
        for name, layer in layers.items():
            handles.append(layer.register_forward_hook(_hook(name, change, calls)))
        yield
    finally:
        for handle in handles:
            handle.remove()
    for name in layers:
        if calls[name] != 1:
            raise ValueError(f"layer {name!r} must be used once in a forward pass, got {calls[name]} times")


def _hook(
    name: str, change: Callable[[str, Tensor], Tensor], calls: Counter[str]
) -> Callable[[nn.Module, Any, Any], Tensor]:
    def act(layer: nn.Module, inputs: Any, output: Any) -> Tensor:
        calls[name] += 1
        if not isinstance(output, Tensor):
            raise ValueError(f"layer {name!r} must return a tensor, got {type(output).__name__}")
        return change(name, output)

    return act
