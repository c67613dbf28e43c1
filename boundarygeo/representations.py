"""Singular values of hidden representations per class: in how many directions a class varies."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import Session, analysis, few_inputs, frozen_copy, plain_form
from boundarygeo.results import Result, array

INPUT = "input"
"""Layer name of the module's input."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class HiddenSpectrum(Result):
    """Singular values of the matrices of hidden representations, one row per example, of each layer and class.

    Attributes:
        values: singular values of the uncentred representations, largest first, float64 `[layer, class, rank]`; NaN
            beyond min(examples of the class, features of the layer).
        centred: as `values`, after subtracting the mean representation of the class.
        classes: the classes, int64 `[class]`.
        n: number of examples of each class, int64 `[class]`.
        features: number of features of each layer, int64 `[layer]`.
        index: number of each example, int64 `[member]`; None in stores of version 0.1.
        layers: names of the layers.
    """

    joint = "singular values are of all examples of a class together"

    values: Tensor = array("layer", "class", "rank")
    centred: Tensor = array("layer", "class", "rank")
    classes: Tensor = array("class", coordinate=True)
    n: Tensor = array("class")
    features: Tensor = array("layer")
    index: Tensor | None = array("member", coordinate=True)
    layers: tuple[str, ...]

    @property
    def rest(self) -> Tensor:
        """Sum of all singular values but the largest, not centred, float64 `[layer, class]`: the number of Verma et al.

        It grows with the scale of the representations and with √n.
        """
        return self.values[..., 1:].nansum(2)

    @property
    def rest_share(self) -> Tensor:
        """`rest` as a share of the sum of all, float64 `[layer, class]`: scale-free, 0 for one direction."""
        return self.rest / self.values.nansum(2)

    @property
    def effective_rank(self) -> Tensor:
        r"""Participation ratio of the centred spectrum, :math:`(\sum s_i^2)^2/\sum s_i^4`, float64 `[layer, class]`.

        The number of directions with equal shares that would give this variance; NaN without variance.
        """
        squares = self.centred.square()
        return squares.nansum(2).square() / squares.square().nansum(2)


@analysis
def hidden_spectrum(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    layers: Sequence[str],
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> HiddenSpectrum:
    r"""Singular values of the hidden representations of each class (Verma et al. 2019, arXiv 1806.05236, section 3).

    Manifold mixup is said to flatten representations: within a class they vary in fewer directions, as measured by the
    sum of all singular values but the largest. Leaving out the largest makes sense for representations that are *not*
    centred, where it is about :math:`\sqrt n` times the length of their mean: this is our reading of the paper, and the
    definition of `rest`. Both spectra are returned.

    Representations are the layer's output, flattened, in float32; the decomposition is in float64.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: classes to group by, int64 `[example]`.
        layers: names of submodules, as `module.named_modules()` gives them, each called once in a forward pass; or
            `"input"`.
        index: number of each example, kept with the result; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Returns:
        The spectra, layers in the order given, classes ascending.

    Raises:
        TypeError: if `layers` is a single string, or a layer does not give a tensor.
        ValueError: if a layer does not exist or is not called once, its output is not one finite row per example, or an
            argument is invalid.

    Examples:
        >>> clf = Classifier(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3)))
        >>> hidden_spectrum(clf, torch.rand(9, 2), torch.arange(9) % 3, layers=["0", "1"]).values.shape
        torch.Size([2, 3, 3])
    """
    _check_layers(clf.module, layers)
    clf.check_inputs(x)
    clf.check_labels(y, len(x))
    numbers = numbers_of(index, len(x))
    provenance = clf.record()
    with clf.session(x, y) as session:
        rows = _representations(clf, session, x, tuple(layers), progress=progress)
    labels = y.detach().cpu().long()
    classes, n = labels.unique(return_counts=True)
    widest = max(min(int(n.max()), row.shape[1]) for row in rows)
    spectra = torch.full((2, len(rows), len(classes), widest), torch.nan, dtype=torch.float64)
    for number, row in enumerate(rows):
        for place, label in enumerate(classes):
            members = row[labels == label].double()
            for kind, matrix in enumerate((members, members - members.mean(0))):
                found = torch.linalg.svdvals(matrix)
                spectra[kind, number, place, : len(found)] = found
    return HiddenSpectrum(
        provenance=provenance(),
        values=spectra[0],
        centred=spectra[1],
        classes=classes,
        n=n,
        features=torch.tensor([row.shape[1] for row in rows]),
        index=numbers,
        layers=tuple(layers),
    )


def _representations(
    clf: Classifier, session: Session, x: Tensor, layers: tuple[str, ...], *, progress: bool
) -> list[Tensor]:
    """Outputs of each layer, flattened, float32 `[example, feature]` on the CPU."""
    module = frozen_copy(clf.module, clf.device)  # not a rearranged form, so that layers keep their names
    form = plain_form(module, few_inputs(clf.normalise, x, clf.device))
    kept: dict[str, list[Tensor]] = {name: [] for name in layers}
    seen: dict[str, list[Tensor]] = {}

    def hook(name: str):
        def keep(_: nn.Module, __: tuple, output: Tensor) -> None:
            if not isinstance(output, Tensor):
                raise TypeError(
                    f"layer {name!r} must return a tensor, got {type(output).__name__}: choose another layer"
                )
            # A copy, because an in-place ReLU may overwrite the output.
            seen.setdefault(name, []).append(output.detach().flatten(1).to("cpu", torch.float32, copy=True))

        return keep

    def work(start: int, stop: int) -> None:
        seen.clear()
        inputs = clf.normalise(x[start:stop].detach().to(clf.device, torch.float32))
        if INPUT in kept:
            seen[INPUT] = [inputs.flatten(1).cpu()]
        form(inputs)
        clf.counts.forwards += stop - start
        for name in layers:
            calls = seen.get(name, [])
            if len(calls) != 1:
                raise ValueError(f"layer {name!r} must be called once in a forward pass, got {len(calls)} calls")
            if len(calls[0]) != stop - start or not bool(calls[0].isfinite().all()):
                raise ValueError(f"layer {name!r} must return one finite row per example")
        for name in layers:
            kept[name].append(seen[name][0])

    named = dict(module.named_modules())
    handles = [named[name].register_forward_hook(hook(name)) for name in layers if name != INPUT]
    try:
        session.in_batches(work, len(x), x.shape[1:], kind="hidden", progress=progress)
    finally:
        for handle in handles:
            handle.remove()
    return [torch.cat(kept[name]) for name in layers]


def _check_layers(module: nn.Module, layers: Sequence[str]) -> None:
    if isinstance(layers, str):
        raise TypeError(f"layers must be a list of names, got {layers!r}")
    names = [INPUT, *(name for name, _ in module.named_modules() if name)]
    unknown = [name for name in layers if name not in names]
    if not layers or unknown:
        raise ValueError(f"layers must be any of {names}, got {unknown or 'none'}")
    if len(set(layers)) < len(layers):
        raise ValueError(f"layers must be different, got {list(layers)}")
