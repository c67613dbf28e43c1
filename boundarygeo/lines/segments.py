r"""Segments between two examples: a classifier's predictions and input gradients in-between.

At :math:`x_\lambda = \lambda x_i + (1-\lambda) x_j`, as in mixup (Zhang et al. 2018, arXiv 1710.09412, Fig. 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from boundarygeo.checks import check_choice, check_count
from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import analysis
from boundarygeo.linalg import like
from boundarygeo.results import Provenance, Result, array
from boundarygeo.results.statistics import mean, share

KINDS = ("any", "same", "different")


class Pairs(NamedTuple):
    """Examples in pairs."""

    x1: Tensor  # first examples, `[pair, *input]`
    y1: Tensor  # their classes, int64 `[pair]`
    x2: Tensor  # second examples, `[pair, *input]`
    y2: Tensor  # their classes, int64 `[pair]`


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SegmentCurves(Result):
    """Misses and input gradients along segments between examples, against λ.

    As in the paper, pairs with a misclassified end count, too; `select(curves.correct)` leaves them out.

    The 95 % intervals are over the draw of the pairs among the given examples. As intervals for new examples they are
    too short if examples are in many pairs (benchmarks/coverage.py measures by how much).

    Attributes:
        lam: weight λ of the first example, float64 `[point]`, from 0 (the second example) to 1 (the first).
        miss: share of the pairs whose prediction is the class of neither example, float64 `[point]`.
        miss_low: lower end of its 95 % interval (`boundarygeo.results.statistics.share`), float64 `[point]`.
        miss_high: upper end.
        gradient: mean over the pairs of the norm (L2) of the loss's input gradient, float64 `[point]`, in loss per
            input unit.
        gradient_low: lower end of its 95 % interval (`boundarygeo.results.statistics.mean`), float64 `[point]`.
        gradient_high: upper end.
        predicted: predicted class, int64 `[pair, point]`.
        gradient_norm: norm of the gradient, float64 `[pair, point]`.
        y1: class of the first example, int64 `[pair]`.
        y2: class of the second, int64 `[pair]`.
        index: number of each pair, int64 `[pair]`.
        n: number of pairs.
    """

    lam: Tensor = array("point", coordinate=True)
    miss: Tensor = array("point")
    miss_low: Tensor = array("point")
    miss_high: Tensor = array("point")
    gradient: Tensor = array("point", unit="loss per input unit")
    gradient_low: Tensor = array("point", unit="loss per input unit")
    gradient_high: Tensor = array("point", unit="loss per input unit")
    predicted: Tensor = array("pair", "point")
    gradient_norm: Tensor = array("pair", "point", unit="loss per input unit")
    y1: Tensor = array("pair")
    y2: Tensor = array("pair")
    index: Tensor = array("pair", coordinate=True)
    n: int

    @property
    def same(self) -> Tensor:
        """Whether both examples are of one class, bool `[pair]`."""
        return self.y1 == self.y2

    @property
    def correct(self) -> Tensor:
        """Whether both examples are classified correctly, bool `[pair]`."""
        return (self.predicted[:, -1] == self.y1) & (self.predicted[:, 0] == self.y2)

    @property
    def missed(self) -> Tensor:
        """Whether the prediction is the class of neither example, bool `[pair, point]`."""
        return (self.predicted != self.y1[:, None]) & (self.predicted != self.y2[:, None])

    def select(self, which: Tensor) -> "SegmentCurves":
        """The curves of some pairs, given by positions or a mask (e.g. `curves.same`), with new intervals."""
        return _curves(
            self.provenance,
            self.lam,
            self.predicted[which],
            self.gradient_norm[which],
            (self.y1[which], self.y2[which]),
            self.index[which],
        )


@analysis
def segment_curves(
    clf: Classifier,
    x1: Tensor,
    y1: Tensor,
    x2: Tensor,
    y2: Tensor,
    *,
    points: int = 21,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> SegmentCurves:
    r"""Share of misses, and norm of the loss's input gradient, along segments between pairs of examples.

    A prediction at :math:`x_\lambda=\lambda x_1+(1-\lambda)x_2` is a miss if it is neither :math:`y_1` nor :math:`y_2`.
    The gradient is that of mixup's loss, :math:`\lambda\,\ell(f(x_\lambda),y_1)+(1-\lambda)\,\ell(f(x_\lambda),y_2)`
    with the cross-entropy :math:`\ell`, with respect to the input before normalisation.

    Args:
        clf: the classifier.
        x1: first examples `[pair, *input]` within the bounds.
        y1: their classes, int64 `[pair]`.
        x2: second examples `[pair, *input]`.
        y2: their classes, int64 `[pair]`.
        points: number of equally spaced points, both ends included, at least 2.
        index: number of each pair; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Raises:
        TypeError: if an input is not a float tensor, or a class not an integer.
        ValueError: if shapes, ranges or the module's output are invalid.

    Examples:
        >>> clf = Classifier(torch.nn.Linear(2, 3))
        >>> x, y = torch.rand(8, 2), torch.arange(8) % 3
        >>> segment_curves(clf, *random_pairs(x, y, pairs=20), points=11).miss.shape
        torch.Size([11])
    """
    check_count(points, "points", 2)
    clf.check_inputs(x1, "x1")
    clf.check_inputs(x2, "x2")
    if x1.shape != x2.shape:
        raise ValueError(f"x2 must have the shape of x1, {list(x1.shape)}, got {list(x2.shape)}")
    clf.check_labels(y1, len(x1), "y1")
    clf.check_labels(y2, len(x2), "y2")
    numbers = numbers_of(index, len(x1))
    provenance = clf.record()
    lam = torch.linspace(0, 1, points, dtype=torch.float64)
    first, second = (x.detach().float().cpu() for x in (x1, x2))
    classes = tuple(y.detach().cpu().long() for y in (y1, y2))
    labels: list[Tensor] = []
    lengths: list[Tensor] = []

    def work(start: int, stop: int) -> None:
        number = torch.arange(start, stop)
        pair, weight = number // points, lam[number % points].float()
        column = like(weight, x1)
        inputs = column * first[pair] + (1 - column) * second[pair]
        logits, gradient = session.differentiate(inputs, classes[0][pair], "cross_entropy")
        # The loss is linear in the two targets, and so is its gradient; one target needs no second pass.
        mixed = (classes[0][pair] != classes[1][pair]) & (weight < 1)
        rows = mixed.nonzero()[:, 0]
        if len(rows):
            other = session.differentiate(inputs[rows], classes[1][pair][rows], "cross_entropy")[1]
            share_of_first = column[rows].to(gradient)
            rows = rows.to(gradient.device)
            gradient[rows] = share_of_first * gradient[rows] + (1 - share_of_first) * other
        labels.append(logits.argmax(1).cpu())
        lengths.append(gradient.flatten(1).norm(dim=1).double().cpu())

    with clf.session(x1, y1) as session:
        clf.check_labels(y2, len(x2), "y2")  # again, as the number of classes is known now
        session.in_batches(work, len(x1) * points, x1.shape[1:], kind="segments", progress=progress)
    return _curves(
        provenance(),
        lam,
        torch.cat(labels).view(-1, points),
        torch.cat(lengths).view(-1, points),
        (classes[0], classes[1]),
        numbers,
    )


@analysis
def random_pairs(x: Tensor, y: Tensor, *, pairs: int, kind: str = "any", seed: int = 0) -> Pairs:
    """Pairs of different examples, drawn uniformly among all ordered pairs of a kind, with replacement.

    Args:
        x: examples `[example, *input]`; training examples in mixup's figure.
        y: their classes, int64 `[example]`.
        pairs: number of pairs.
        kind: `"same"`, both of one class; `"different"`, of two classes; or `"any"`.
        seed: seed of the draw; the first pairs do not depend on the number of pairs.

    Raises:
        ValueError: if an argument is out of range, or there is no pair of the kind.
    """
    check_count(pairs, "pairs")
    check_choice(kind, "kind", KINDS)
    if x.ndim < 2 or y.shape != x.shape[:1]:
        raise ValueError(f"y must have shape [{len(x)}], one class per example, got {list(y.shape)}")
    classes = y.detach().cpu().numpy()
    counts = np.unique(classes, return_counts=True)[1]
    possible = {
        "any": len(classes) > 1,
        "same": bool((counts > 1).any()),
        "different": len(counts) > 1,
    }
    if not possible[kind]:
        raise ValueError(f"no pairs of kind {kind!r} in {len(classes)} examples of {len(counts)} classes")
    rng = np.random.default_rng(seed)
    drawn = np.empty((0, 2), dtype=np.int64)
    while len(drawn) < pairs:  # rejection keeps the draw uniform
        candidates = rng.integers(len(classes), size=(1024, 2))
        alike = classes[candidates[:, 0]] == classes[candidates[:, 1]]
        fitting = {"any": np.ones_like(alike), "same": alike, "different": ~alike}[kind]
        drawn = np.concatenate([drawn, candidates[fitting & (candidates[:, 0] != candidates[:, 1])]])
    i, j = torch.from_numpy(drawn[:pairs].T.copy()).to(x.device)
    labels = y.to(x.device)
    return Pairs(x[i], labels[i], x[j], labels[j])


def _curves(
    provenance: Provenance,
    lam: Tensor,
    labels: Tensor,
    gradient_norm: Tensor,
    classes: tuple[Tensor, Tensor],
    index: Tensor,
) -> SegmentCurves:
    """Share of pairs with neither end's class, and mean gradient norm, at each λ, from labels and norms [pair, λ]."""
    if not len(labels):
        raise ValueError("which must select at least one pair, got none")
    y1, y2 = classes
    missed = (labels != y1[:, None]) & (labels != y2[:, None])
    shares = [share(int(column.sum()), len(column)) for column in missed.T]
    means = [mean(column.numpy(), within=(0, np.inf)) for column in gradient_norm.T]

    def column(estimates: list, name: str) -> Tensor:
        return torch.tensor([getattr(estimate, name) for estimate in estimates], dtype=torch.float64)

    return SegmentCurves(
        provenance=provenance,
        lam=lam,
        miss=column(shares, "value"),
        miss_low=column(shares, "low"),
        miss_high=column(shares, "high"),
        gradient=column(means, "value"),
        gradient_low=column(means, "low"),
        gradient_high=column(means, "high"),
        predicted=labels,
        gradient_norm=gradient_norm,
        y1=y1,
        y2=y2,
        index=index,
        n=len(labels),
    )
