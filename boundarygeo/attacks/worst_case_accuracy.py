"""Accuracy in the worst case of several attacks, ours or others': what all of them leave right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from boundarygeo.attacks.adaptive_gradient import apgd, apgd_targeted
from boundarygeo.attacks.examples import AdversarialExamples
from boundarygeo.attacks.external import External, check_made_for, external_attack, name_of
from boundarygeo.attacks.fast_gradient import fgsm
from boundarygeo.attacks.minimum_norm import minimal_norm
from boundarygeo.attacks.norms import NORMS
from boundarygeo.attacks.projected_gradient import pgd
from boundarygeo.attacks.random_squares import square
from boundarygeo.attacks.worst_case import in_turn, strongest
from boundarygeo.checks import check_choice, check_eps
from boundarygeo.choices import Norm
from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import analysis
from boundarygeo.results import Result, array
from boundarygeo.results.statistics import Estimate, share

_NONE = -1

_OURS: dict[str, Callable[..., AdversarialExamples]] = {
    "fgsm": fgsm,
    "pgd": pgd,
    "apgd": apgd,
    "apgd_targeted": apgd_targeted,
    "minimal_norm": minimal_norm,
    "square": square,
    "strongest": strongest,
}


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class WorstCaseAccuracy(Result):
    """What several attacks, one after another, left right.

    Attributes:
        clean: whether each example is right without an attack, bool `[example]`.
        by: number of the attack that broke each example, int64 `[example]`; -1 for examples that no attack broke: those
            that withstood all, and those that are wrong without an attack.
        index: number of each example, int64 `[example]`: decides what is drawn for it.
        names: names of the attacks, in their order.
        norm: `"l2"` or `"linf"`.
        eps: radius of the ball in `norm`, in input units.
    """

    clean: Tensor = array("example")
    by: Tensor = array("example")
    index: Tensor = array("example", coordinate=True)
    names: tuple[str, ...]
    norm: Norm
    eps: float

    @property
    def correct(self) -> Tensor:
        """Whether each example is right without an attack and under all of them, bool `[example]`."""
        return self.clean & (self.by == _NONE)

    @property
    def accuracy(self) -> Estimate:
        """Share of the examples that stay right, with its 95 % Wilson interval over the draw of the examples."""
        return share(int(self.correct.sum()), len(self.by))


@analysis
def worst_case_accuracy(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    attacks: Sequence[str | External],
    eps: float,
    norm: Norm = "linf",
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> WorstCaseAccuracy:
    """Accuracy under several attacks together: an example counts as right if none of them breaks it.

    The attacks run one after another, each only on the examples that are left, so that cheap ones belong first. The
    share is an upper bound of the accuracy in the worst case, and certifies nothing.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        attacks: names of attacks of this package (`"fgsm"`, `"pgd"`, `"apgd"`, `"apgd_targeted"`, `"minimal_norm"`,
            `"square"`, `"strongest"`), which run with their defaults, and attacks as `external_attack` takes them.
        eps: radius of the ball in `norm`, in input units.
        norm: `"linf"` or `"l2"`.
        seed: seed of what the attacks draw.
        index: number of each example; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Returns:
        Which attack broke which example; `accuracy` is the share that is left. The provenance counts the passes of all
        attacks.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind, or an attack is of another kind.
        ValueError: if an argument is out of its range, there is no attack, or an external one does what
            `external_attack` refuses.
    """
    radius = check_eps(eps)
    check_choice(norm, "norm", NORMS)
    if isinstance(attacks, str) or not isinstance(attacks, Sequence) or not attacks:
        raise ValueError(f"attacks must be a list of one attack or more, got {attacks!r}")
    names = tuple(_checked(attack, radius) for attack in attacks)
    clf.check_inputs(x)
    clf.check_labels(y, len(x))
    numbers = numbers_of(index, len(x))
    provenance = clf.record()
    inputs, classes = x.detach().cpu(), y.detach().cpu().long()
    clean = clf.predict(inputs) == classes
    clf.check_labels(y, len(x))  # again: now the number of classes is known
    right = clean.nonzero()[:, 0]
    by = torch.full((len(x),), _NONE)
    chosen = [partial(_search(attack, seed), eps=radius, norm=norm, progress=progress) for attack in attacks]
    for number, (rows, result) in enumerate(in_turn(chosen, clf, inputs[right], classes[right], numbers[right])):
        by[right[rows[result.found]]] = number
    return WorstCaseAccuracy(
        provenance=provenance(seed=seed),
        clean=clean,
        by=by,
        index=numbers,
        names=names,
        norm=norm,
        eps=radius,
    )


def _checked(attack: str | External, eps: float) -> str:
    """The name of an attack; raises unless it can run."""
    if isinstance(attack, str):
        check_choice(attack, "attacks", _OURS)
        return attack
    check_made_for(attack, eps)
    return name_of(attack)


def _search(attack: str | External, seed: int) -> Callable[..., AdversarialExamples]:
    if not isinstance(attack, str):
        return partial(external_attack, attack=attack, seed=seed)
    return fgsm if attack == "fgsm" else partial(_OURS[attack], seed=seed)  # FGSM draws nothing
