"""The strongest attack there is here: several that fail for different reasons, one after another."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from boundarygeo.attacks.adaptive_gradient import apgd, apgd_targeted
from boundarygeo.attacks.examples import AdversarialExamples
from boundarygeo.attacks.minimum_norm import minimal_norm
from boundarygeo.attacks.random_squares import square
from boundarygeo.checks import check_count, check_eps
from boundarygeo.choices import Norm
from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import analysis
from boundarygeo.linalg import like

_Attack = Callable[..., AdversarialExamples]
"""Called as `attack(clf, x, y, index=...)`."""


@analysis
def strongest(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    steps: int = 100,
    queries: int = 5000,
    restarts: int = 1,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> AdversarialExamples:
    """Several attacks one after another, each on the examples that are left: the worst case per example.

    `apgd` with the cross-entropy, `minimal_norm`, `apgd_targeted` and `square`, in the order of their cost: the plan of
    AutoAttack's standard version (Croce & Hein 2020, arXiv 2003.01690) with `minimal_norm` in the place of FAB. The
    share of examples that withstand is an upper bound of the accuracy in the worst case, and certifies nothing. The
    last attack uses no gradient, so that a module whose gradients vanish or mislead is less easily taken for robust;
    one that is random, or that adapts to its input, needs an attack made for it.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        eps: radius of the ball in `norm`, in input units.
        norm: `"linf"` or `"l2"`.
        steps: steps of each search of APGD.
        queries: forward passes of `square`.
        restarts: how often APGD's searches are started, while none has succeeded.
        seed: seed of everything drawn.
        index: number of each example; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Returns:
        The adversarial examples; where none was found, the input itself. The provenance counts the passes of all
        attacks.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind.
        ValueError: if an argument is out of its range, or the module's output is invalid.
    """
    radius = check_eps(eps)
    for name, value in (("steps", steps), ("queries", queries), ("restarts", restarts)):
        check_count(value, name)
    clf.check_inputs(x)
    clf.check_labels(y, len(x))
    numbers = numbers_of(index, len(x))
    provenance = clf.record()
    common = {"norm": norm, "seed": seed, "progress": progress}
    attacks: list[_Attack] = [
        partial(apgd, eps=radius, steps=steps, restarts=restarts, **common),
        partial(minimal_norm, eps=radius, **common),
        partial(apgd_targeted, eps=radius, steps=steps, restarts=restarts, **common),
        partial(square, eps=radius, queries=queries, **common),
    ]
    most = clf.batch_size or clf.steady_batch_size(x)
    x_adv, labels = x.detach().float().clamp(*clf.bounds).cpu(), y.detach().long().cpu().clone()
    distance = torch.full((len(x),), torch.inf, dtype=torch.float64)
    found = torch.zeros(len(x), dtype=torch.bool)
    for rows, result in in_turn([partial(_in_batches, attack, most) for attack in attacks], clf, x, y, numbers):
        x_adv[rows] = torch.where(like(result.found, result.x_adv), result.x_adv, x_adv[rows])
        found[rows], labels[rows], distance[rows] = result.found, result.predicted, result.distance
    return AdversarialExamples(
        provenance=provenance(seed=seed),
        x_adv=x_adv,
        found=found,
        predicted=labels,
        distance=distance,
        true_labels=y.detach().cpu().long(),
        targets=None,
        index=numbers,
        attack="strongest",
        norm=norm,
        eps=radius,
    )


def in_turn(
    attacks: Sequence[_Attack], clf: Classifier, x: Tensor, y: Tensor, index: Tensor
) -> Iterator[tuple[Tensor, AdversarialExamples]]:
    """Attacks one after another, each on what is left: the positions of its examples, and what it found."""
    live = torch.arange(len(x))
    for attack in attacks:
        if not len(live):
            return
        result = attack(clf, x[live], y[live], index=index[live])
        yield live, result
        live = live[~result.found]


def _in_batches(
    attack: _Attack, most: int, clf: Classifier, x: Tensor, y: Tensor, index: Tensor
) -> AdversarialExamples:
    """The attack on so many examples at once.

    Trying out which batch size is fastest would cost more than it gains where a batch takes thousands of passes.
    """
    parts = []
    for rows in torch.arange(len(x)).tensor_split(math.ceil(len(x) / most)):
        whole = clf.with_batch_size(len(rows))
        whole.counts = clf.counts
        parts.append(attack(whole, x[rows], y[rows], index=index[rows]))
    return AdversarialExamples.concatenate(parts)
