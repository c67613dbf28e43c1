"""Accuracy against ε: the share of examples that a classifier still gets right under an attack."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from boundarygeo.attacks import NORMS, AdversarialExamples, apgd, pgd, square, strongest
from boundarygeo.attacks.external import External, check_any_eps, external_attack, name_of
from boundarygeo.attacks.norms import steepest
from boundarygeo.attacks.projected_gradient import check_settings
from boundarygeo.checks import check_choice, check_count, check_eps
from boundarygeo.choices import ATTACKS, Attack, Norm
from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import analysis
from boundarygeo.results import Result, array
from boundarygeo.results.statistics import Estimate, share

_SEARCHES: dict[str, tuple[Callable[..., AdversarialExamples], tuple[str, ...]]] = {
    "pgd": (pgd, ("steps", "step_size", "restarts", "random_start")),
    "apgd": (apgd, ("steps", "restarts")),
    "square": (square, ("queries",)),
    "strongest": (strongest, ("steps", "queries", "restarts")),
}
"""Attacks that search, and the settings of theirs that a curve takes."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class AccuracyCurve(Result):
    """Share of examples that stay correctly classified under an attack, against its size.

    Attributes:
        eps: sizes of the perturbation in `norm`, ascending, float64 `[eps]`, in input units.
        accuracy: share of the examples that are right at each size, float64 `[eps]`.
        low: lower end of its 95 % Wilson interval, over the draw of the examples, float64 `[eps]`.
        high: upper end, float64 `[eps]`.
        correct: whether each example is right, bool `[eps, example]`.
        index: number of each example, int64 `[example]`: decides its random starts.
        n: number of examples, those misclassified without an attack included.
        attack: `"fgsm"`, `"pgd"`, `"apgd"`, `"square"` or `"strongest"`, or the name of an external attack.
        norm: `"l2"` or `"linf"`.
    """

    pooled: ClassVar[tuple[str, ...]] = ("accuracy", "low", "high", "n")

    eps: Tensor = array("eps", unit="input units", coordinate=True)
    accuracy: Tensor = array("eps")
    low: Tensor = array("eps")
    high: Tensor = array("eps")
    correct: Tensor = array("eps", "example")
    index: Tensor = array("example", coordinate=True)
    n: int
    attack: str
    norm: Norm

    @property
    def estimates(self) -> list[Estimate]:
        """Accuracy at each size with its 95 % interval."""
        rows = zip(self.accuracy.tolist(), self.low.tolist(), self.high.tolist(), strict=True)
        return [Estimate(value, low, high, self.n) for value, low, high in rows]

    def pool(self) -> "AccuracyCurve":
        """The curve with accuracy, interval and n of its examples."""
        n = self.correct.shape[1]
        return replace(self, n=n, **_shares(self.correct))


@analysis
def accuracy_curve(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    attack: Attack | External = "fgsm",
    norm: Norm = "linf",
    eps: Sequence[float] | Tensor,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
    **settings: Any,
) -> AccuracyCurve:
    """Accuracy under an attack against ε, with its interval.

    The value at ε = 0 is the clean accuracy; an example that is misclassified there counts as wrong at every ε.
    Under the attacks that search, an example that was fooled at a smaller ε counts as fooled at a larger one, since the
    smaller perturbation is allowed there, too: the curve is an upper bound of the accuracy in the worst case, and
    falls. `"strongest"` is the tightest, and what to call robust accuracy. Under `"fgsm"` an example is right where its
    own step of length ε leaves it right. FGSM is one direction, not a worst case: its curve may rise again, and is
    shown as it is.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        attack: `"fgsm"`, `"pgd"`, `"apgd"`, `"square"` or `"strongest"`; or a function `(module, x, y, eps) → x_adv` or
            an attack of foolbox, as in `external_attack`, called once for each ε with the examples that are still
            right.
        norm: `"linf"` or `"l2"`.
        eps: sizes of the perturbation in `norm`, ascending, in input units, e.g. `[k / 255 for k in range(9)]`.
        seed: seed of what an attack draws.
        index: number of each example; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.
        **settings: of the attack: `steps`, `step_size`, `restarts` and `random_start` of `boundarygeo.pgd`; `steps` and
            `restarts` of `boundarygeo.apgd`; `queries` of `boundarygeo.square`; `steps`, `queries` and `restarts` of
            `boundarygeo.strongest`; FGSM and external attacks have none.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind, a setting is unknown, or the attack is made for one
            ε: pass a function that makes it, e.g. `lambda module, x, y, eps: torchattacks.PGD(module, eps=eps)(x, y)`.
        ValueError: if an argument or the module's output is invalid.
    """
    name, search, known = _search_of(attack)
    sizes = _check_problem(clf, x, y, norm, eps)
    _check_settings(name, known, settings)
    provenance = clf.record()
    numbers = numbers_of(index, len(x))
    if search is None:
        correct = _right_under_fgsm(clf, x, y, sizes, norm, progress=progress)
    else:
        chosen = partial(search, norm=norm, seed=seed, progress=progress, **settings)
        correct = _right_under(chosen, clf, x, y, sizes, numbers)
    return AccuracyCurve(
        provenance=provenance(seed=None if search is None else seed, eps=sizes),
        eps=torch.tensor(sizes, dtype=torch.float64),
        **_shares(correct),
        correct=correct,
        index=numbers,
        n=len(x),
        attack=name,
        norm=norm,
    )


def _search_of(attack: Attack | External) -> tuple[str, Callable[..., AdversarialExamples] | None, tuple[str, ...]]:
    """Name of an attack, its search (None for FGSM, which is one step), and the settings that a curve takes."""
    if not isinstance(attack, str):
        check_any_eps(attack)
        return name_of(attack), partial(external_attack, attack=attack), ()
    check_choice(attack, "attack", ATTACKS)
    search, known = _SEARCHES.get(attack, (None, ()))
    return attack, search, known


def _shares(correct: Tensor) -> dict[str, Tensor]:
    """Share of the examples that are right at each size, and the ends of its interval, float64 `[eps]`."""
    estimates = [share(int(right.sum()), correct.shape[1]) for right in correct]
    rows = torch.tensor([(one.value, one.low, one.high) for one in estimates], dtype=torch.float64)
    return dict(zip(("accuracy", "low", "high"), rows.T.contiguous(), strict=True))


def _right_under_fgsm(
    clf: Classifier, x: Tensor, y: Tensor, sizes: list[float], norm: Norm, *, progress: bool
) -> Tensor:
    """Whether each example is right at each size, `[eps, example]`: one gradient, and one forward pass per size."""
    correct = torch.zeros(len(sizes), len(x), dtype=torch.bool)

    def work(start: int, stop: int) -> None:
        inputs = x[start:stop].detach().to(clf.device, torch.float32).clamp(*clf.bounds)
        classes = y[start:stop].to(clf.device).long()
        logits, uphill = session.differentiate(inputs, classes, "log_odds")
        right = logits.argmax(1) == classes
        live = right.nonzero()[:, 0]
        step = steepest(uphill[live], norm)
        for number, size in enumerate(sizes):
            if size and len(live):
                moved = (inputs[live] + size * step).clamp(*clf.bounds)
                right[live] = session.evaluate(moved).argmax(1) == classes[live]
            correct[number, start:stop] = right.cpu()

    with clf.session(x, y) as session:
        session.in_batches(work, len(x), x.shape[1:], kind="accuracy", progress=progress)
    return correct


def _right_under(
    search: Callable[..., AdversarialExamples], clf: Classifier, x: Tensor, y: Tensor, sizes: list[float], index: Tensor
) -> Tensor:
    """Whether each example is right at each size, `[eps, example]`: only those that still are, are attacked again."""
    right = clf.predict(x).eq(y.cpu())
    clf.check_labels(y, len(x))  # again: now the number of classes is known
    rows = []
    for size in sizes:
        live = right.nonzero()[:, 0]
        if size and len(live):
            attacked = search(clf, x.cpu()[live], y.cpu()[live], eps=size, index=index[live])
            right = right.index_put((live,), ~attacked.found)
        rows.append(right)
    return torch.stack(rows)


def _check_settings(attack: str, known: tuple[str, ...], settings: dict[str, Any]) -> None:
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise TypeError(f"settings of {attack!r} must be any of {list(known)}, got {unknown}")
    check_settings(**{name: value for name, value in settings.items() if name != "queries"})
    check_count(settings.get("queries", 1), "queries")


def _check_problem(clf: Classifier, x: Tensor, y: Tensor, norm: Norm, eps: Sequence[float] | Tensor) -> list[float]:
    """Refuse a problem before any work; returns the sizes."""
    check_choice(norm, "norm", NORMS)
    if isinstance(eps, str | int | float):
        raise TypeError(f"eps must be a list of numbers, got {eps!r}")
    sizes = [check_eps(float(size)) for size in eps]
    if not sizes or any(later <= former for former, later in pairwise(sizes)):
        raise ValueError(f"eps must be at least one size, in ascending order, got {sizes}")
    clf.check_inputs(x)
    clf.check_labels(y, len(x))
    return sizes
