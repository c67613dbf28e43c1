"""What attacks find, and what all of them do around their search: checks, batches, distances."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from boundarygeo.attacks.norms import NORMS, length
from boundarygeo.checks import check_choice
from boundarygeo.choices import Norm
from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import Session
from boundarygeo.results import Result, array

Search = Callable[[Session, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""From a batch of inputs `[batch, *input]` and classes, both on the device, and numbers `[batch]` of the examples on
the CPU, to perturbed inputs, the classes predicted there and whether the attack succeeded, on the device."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class AdversarialExamples(Result):
    """What an attack found. An attack that fails on an example is a result, too: `found` is False there.

    Attributes:
        x_adv: perturbed inputs within the bounds, float32 `[example, *input]`; where the attack failed, its best try,
            or the input itself (minimal norm, strongest).
        found: whether the label is what the attack wants: another than the true class, or the target; bool
            `[example]`.
        predicted: class predicted at `x_adv`, int64 `[example]`.
        distance: norm of `x_adv - x`, float64 `[example]`; 0 for examples that needed no change (misclassified to
            begin with), inf where the attack failed.
        true_labels: int64 `[example]`.
        targets: the classes to be reached, int64 `[example]`, or None if any other class is a success.
        index: number of each example, int64 `[example]`: decides its random starts.
        attack: name of the attack, e.g. `"pgd"`.
        norm: `"l2"` or `"linf"`.
        eps: largest norm allowed, in input units, or None without limit.
    """

    x_adv: Tensor = array("example", "*input", unit="input units")
    found: Tensor = array("example")
    predicted: Tensor = array("example")
    distance: Tensor = array("example", unit="input units")
    true_labels: Tensor = array("example")
    targets: Tensor | None = array("example")
    index: Tensor = array("example", coordinate=True)
    attack: str
    norm: Norm
    eps: float | None


def attack_examples(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    search: Search,
    *,
    attack: str,
    norm: Norm,
    eps: float | None,
    targets: Tensor | None = None,
    resolved: Mapping[str, Any] = MappingProxyType({}),
    seed: int | None = None,
    index: Sequence[int] | Tensor | None = None,
    progress: bool,
) -> AdversarialExamples:
    """Check the problem, run an attack's search batch by batch, and put the result together.

    With `targets`, these are given to the search instead of `y`. `resolved` holds arguments of the attack whose value
    was worked out, for the record; `seed` is None where nothing is drawn.
    """
    check_choice(norm, "norm", NORMS)
    clf.check_inputs(x)
    clf.check_labels(y, len(x))
    if targets is not None:
        clf.check_labels(targets, len(x), name="targets")
    numbers = numbers_of(index, len(x))
    provenance = clf.record()
    inputs, classes = x.detach().float().clamp(*clf.bounds), (y if targets is None else targets).detach().long()
    x_adv = torch.empty(inputs.shape)
    labels = torch.empty(len(x), dtype=torch.int64)
    found = torch.empty(len(x), dtype=torch.bool)

    def work(start: int, stop: int) -> None:
        batch = inputs[start:stop].to(clf.device), classes[start:stop].to(clf.device), numbers[start:stop]
        for whole, part in zip((x_adv, labels, found), search(session, *batch), strict=True):
            whole[start:stop] = part.cpu()

    with clf.session(x, y) as session:
        session.in_batches(work, len(x), x.shape[1:], kind=attack, progress=progress)
    distance = length(x_adv.double() - inputs.cpu().double(), norm)
    return AdversarialExamples(
        provenance=provenance(seed=seed, **resolved),
        x_adv=x_adv,
        found=found,
        predicted=labels,
        distance=torch.where(found, distance, torch.inf),
        true_labels=y.detach().cpu().long(),
        targets=None if targets is None else classes.cpu(),
        index=numbers,
        attack=attack,
        norm=norm,
        eps=eps,
    )
