"""The transfer matrix: how often one attack's adversarial examples for each model fool each of the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from boundarygeo.attacks import NORMS, AdversarialExamples, fgsm, minimal_norm, pgd
from boundarygeo.attacks.external import External, check_any_model, check_made_for, external_attack, name_of
from boundarygeo.attacks.norms import DrawnOnce, length
from boundarygeo.attacks.projected_gradient import check_settings
from boundarygeo.checks import check_choice, check_count, check_eps
from boundarygeo.choices import Norm, TransferAttack
from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import analysis
from boundarygeo.results import Result, array
from boundarygeo.results.statistics import Estimate, share
from boundarygeo.transfer.classifiers import Classifiers, check_classifiers, position

OVER = ("shared", "fooled", "all")
"""Sets of examples over which success is counted, see `TransferMatrix.counted`."""

SETTINGS = {
    "fgsm": (),
    "pgd": ("steps", "step_size", "restarts", "random_start", "early_stop"),
    "minimal_norm": ("steps",),
}
"""The attacks and their own settings."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TransferMatrix(Result):
    """Every model's predictions on the adversarial examples made for each model.

    All rates are derived from these labels by the properties and methods.

    Attributes:
        predicted: class that a target predicts on the examples made for a source, int64 `[source, target, example]`.
        clean: class that each model predicts on the unperturbed examples, int64 `[classifier, example]`.
        true_labels: int64 `[example]`.
        targets: target class of each example, int64 `[example]`, or None for any wrong class.
        distance: norm of the perturbation as evaluated, float64 `[source, example]`.
        index: number of each example, int64 `[example]`; determines its random starts.
        names: name of each model, the same for sources and targets.
        attack: `"fgsm"`, `"pgd"` or `"minimal_norm"`, or the name of an external attack.
        norm: `"l2"` or `"linf"`.
        eps: largest norm allowed, in input units, or None without limit.
        eight_bit: whether the adversarial examples were rounded to the 256 values of an 8-bit image.
    """

    predicted: Tensor = array("source", "target", "example")
    clean: Tensor = array("classifier", "example")
    true_labels: Tensor = array("example")
    targets: Tensor | None = array("example")
    distance: Tensor = array("source", "example", unit="input units")
    index: Tensor = array("example", coordinate=True)
    names: tuple[str, ...]
    attack: str
    norm: Norm
    eps: float | None
    eight_bit: bool

    @property
    def correct(self) -> Tensor:
        """Whether each model classifies the unperturbed example correctly, bool `[classifier, example]`."""
        return self.clean == self.true_labels

    @property
    def shared(self) -> Tensor:
        """Whether all models classify the unperturbed example correctly, bool `[example]`."""
        return self.correct.all(0)

    @property
    def success(self) -> Tensor:
        """Whether the target's label is a success: wrong, or equal to `targets`; bool `[source, target, example]`.

        Also True for examples that the model misclassifies without an attack.
        """
        return self.predicted != self.true_labels if self.targets is None else self.predicted == self.targets

    @property
    def fooled(self) -> Tensor:
        """Whether all models are correct without an attack that fools its source, bool `[source, example]`."""
        return self.success.diagonal(dim1=0, dim2=1).T & self.shared

    def counted(self, over: str = "shared") -> Tensor:
        """The examples over which success is counted, bool `[source, example]`.

        Args:
            over: `"shared"`: examples that all models classify correctly without an attack, the same for all pairs, so
                that success is due to the attack; `"fooled"`: those of them on which the attack fools its source, for
                the share of its adversarial examples that transfer; `"all"`: all examples, for one minus the accuracy
                under transfer. Examples that the source misclassifies are not perturbed, so `"all"` counts the target's
                own errors there.
        """
        check_choice(over, "over", OVER)
        if over == "fooled":
            return self.fooled
        rows = self.shared if over == "shared" else torch.ones_like(self.shared)
        return rows.expand(len(self.names), -1)

    def counts(self, over: str = "shared") -> tuple[Tensor, Tensor]:
        """Numbers of successes, int64 `[source, target]`, and of examples, int64 `[source]`; `over` as in `counted`."""
        counted = self.counted(over)
        return (self.success & counted[:, None]).sum(2), counted.sum(1)

    def rate(self, over: str = "shared") -> Tensor:
        """Share of successes, float64 `[source, target]`; NaN without examples; `over` as in `counted`."""
        hits, n = self.counts(over)
        return hits.double() / n[:, None].double()

    def estimate(self, source: str | int, target: str | int, over: str = "shared") -> Estimate:
        """Share of successes of one pair with its 95 % Wilson interval, over the draw of the examples.

        Models by name or number; `over` as in `counted`; a `ValueError` if there is no such model.
        """
        i, j = position(self.names, source, "source"), position(self.names, target, "target")
        hits, n = self.counts(over)
        return share(int(hits[i, j]), int(n[i]))

    def intervals(self, over: str = "shared") -> Tensor:
        """Low and high ends of the 95 % Wilson intervals, float64 `[source, target, 2]`; NaN without examples."""
        numbers = range(len(self.names))
        pairs = [[self.estimate(i, j, over) for j in numbers] for i in numbers]
        return torch.tensor([[[e.low, e.high] for e in row] for row in pairs], dtype=torch.float64)


@analysis
def transfer_matrix(
    classifiers: Classifiers,
    x: Tensor,
    y: Tensor,
    *,
    attack: TransferAttack | External = "pgd",
    eps: float | None = None,
    norm: Norm = "linf",
    targets: Tensor | None = None,
    eight_bit: bool = False,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
    **settings: Any,
) -> TransferMatrix:
    """Make adversarial examples once for each model, and evaluate them on all models.

    All targets get the same float32 inputs. An example that its source misclassifies without an attack (targeted:
    already assigns to the target class) stays unperturbed. A matrix of S models costs S attacks, S² - S forward passes
    per example for the targets, and S for the labels without an attack; with `eight_bit`, S more.

    PGD takes all its steps here (`early_stop=False`, unlike `boundarygeo.pgd`): an example that stops at its first
    success lies just beyond its source's boundary and transfers worse. For the same reason, examples of
    `"minimal_norm"` hardly transfer: they measure how close boundaries are.

    Args:
        classifiers: at least two with the same classes and bounds, in a list or by name.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        attack: `"fgsm"`, `"pgd"` or `"minimal_norm"`; or an external attack that is given each model in turn: a
            function, or an attack of foolbox or torchattacks, as in `external_attack`.
        eps: largest perturbation in `norm`, in input units; optional for `"minimal_norm"`.
        norm: `"linf"` or `"l2"`.
        targets: target class of each example, int64 `[example]`, other than `y`; by default any wrong class. For
            `"fgsm"` and `"pgd"` only.
        eight_bit: whether to round the adversarial examples to the nearest of 256 equally spaced values between the
            bounds, as in an image file. Rounding can make a perturbation longer than ε; `distance` reports its actual
            length.
        seed: seed of what the attack draws.
        index: number of each example, which determines its random starts; by default 0, 1, 2, ….
        progress: whether to show progress bars after two seconds.
        **settings: settings of the attack: PGD's `steps`, `step_size`, `restarts`, `random_start` and `early_stop`, or
            the `steps` of `"minimal_norm"`; FGSM and external attacks have none.

    Returns:
        The matrix.

    Raises:
        TypeError: if an argument has the wrong type, or a setting is unknown.
        ValueError: if an argument is out of its range, or the classifiers cannot be compared.
    """
    name = attack if isinstance(attack, str) else name_of(attack)
    _check(attack, name, eps, norm, targets, settings)
    models = check_classifiers(classifiers, x, y)
    numbers = numbers_of(index, len(x))
    if targets is not None:
        models.classifiers[0].check_labels(targets, len(x), "targets")
        targets = targets.detach().cpu().long()
        if bool((targets == models.y).any()):
            raise ValueError(f"targets must differ from y, got {int((targets == models.y).sum())} equal ones")
    shared: dict[str, Any] = {"norm": norm, "progress": progress, "index": numbers}
    if attack != "fgsm":
        shared["seed"] = seed
    if attack == "pgd":
        shared |= {"early_stop": False, "draw": DrawnOnce()}
    shared |= settings
    count = len(models.names)
    predicted = torch.empty(count, count, len(x), dtype=torch.int64)
    distance = torch.empty(count, len(x), dtype=torch.float64)
    for i, source in enumerate(models.classifiers):
        found = _attack(attack, source, models.x, models.y, eps=eps, targets=targets, **shared)
        points = _rounded(found.x_adv, source.bounds) if eight_bit else found.x_adv
        distance[i] = length(points.double() - models.x.double(), norm)
        for j, target in enumerate(models.classifiers):
            known = i == j and not eight_bit
            predicted[i, j] = found.predicted if known else target.logits(points, progress=progress).argmax(1)
    return TransferMatrix(
        provenance=models.provenance(
            seed=None if attack == "fgsm" else seed,
            targeted=targets is not None,
            **{key: value for key, value in shared.items() if key in SETTINGS.get(name, ())},
        ),
        predicted=predicted,
        clean=models.predicted,
        true_labels=models.y,
        targets=targets,
        distance=distance,
        index=numbers,
        names=models.names,
        attack=name,
        norm=norm,
        eps=None if eps is None else float(eps),
        eight_bit=bool(eight_bit),
    )


def _check(
    attack: TransferAttack | External,
    name: str,
    eps: float | None,
    norm: Norm,
    targets: Tensor | None,
    settings: dict[str, Any],
) -> None:
    """Check the settings before any work."""
    own = isinstance(attack, str)
    if own:
        check_choice(attack, "attack", SETTINGS)
    check_choice(norm, "norm", NORMS)
    known = SETTINGS[attack] if own else ()
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise TypeError(f"attack {name!r} has no settings {unknown}: use any of {list(known)}")
    if eps is None and attack != "minimal_norm":
        raise ValueError(f"attack {name!r} needs eps")
    radius = None if eps is None else check_eps(eps)
    if attack == "pgd":
        check_settings(**{key: value for key, value in settings.items() if key != "early_stop"})
    if attack == "minimal_norm":
        check_count(settings.get("steps", 4), "steps", least=4)
    if not own and radius is not None:
        check_any_model(attack)
        check_made_for(attack, radius)
    if targets is not None and (attack == "minimal_norm" or not own):
        raise ValueError(f"{name!r} is untargeted: pass targets=None")


def _attack(
    attack: TransferAttack | External,
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    eps: float | None,
    targets: Tensor | None,
    **settings: Any,
) -> AdversarialExamples:
    if eps is None or attack == "minimal_norm":
        return minimal_norm(clf, x, y, eps=eps, **settings)
    if not isinstance(attack, str):
        return external_attack(clf, x, y, attack=attack, eps=eps, **settings)
    return (fgsm if attack == "fgsm" else pgd)(clf, x, y, eps=eps, targets=targets, **settings)


def _rounded(x: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Round to the nearest of 256 equally spaced values between the bounds."""
    low, high = bounds
    step = (high - low) / 255
    return (((x.double() - low) / step).round() * step + low).float().clamp(low, high)
