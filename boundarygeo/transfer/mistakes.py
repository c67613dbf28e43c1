"""Whether models that are fooled by the same example make the same mistake (Waseda et al. 2023, arXiv 2112.14337)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.evaluation import analysis
from boundarygeo.results import Result, array
from boundarygeo.results.statistics import Estimate, share
from boundarygeo.transfer.classifiers import position
from boundarygeo.transfer.matrix import TransferMatrix

OUTCOMES = ("unfooled", "same", "different")


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TransferMistakes(Result):
    """Outcomes on the targets of the adversarial examples that fool their source.

    Counted over the examples that all models classify correctly without an attack and on which the attack fools its
    source (`TransferMatrix.fooled`). The target is *unfooled* if its label is correct, makes the *same* mistake if its
    label is the source's, and a *different* mistake otherwise. The three counts add up to `fooled`.

    Attributes:
        unfooled: number of examples that the target classifies correctly, int64 `[source, target]`.
        same: number with the same wrong label from both, int64 `[source, target]`.
        different: number with two different wrong labels, int64 `[source, target]`.
        chance: expected number of same mistakes if the target's wrong label depends on the true class alone, see
            `transfer_mistakes`; float64 `[source, target]`.
        chance_sd: standard deviation of that number, float64 `[source, target]`.
        names: name of each model, the same for sources and targets.
    """

    joint = "mistakes are counted over all examples of a transfer matrix"

    unfooled: Tensor = array("source", "target")
    same: Tensor = array("source", "target")
    different: Tensor = array("source", "target")
    chance: Tensor = array("source", "target")
    chance_sd: Tensor = array("source", "target")
    names: tuple[str, ...]

    @property
    def fooled(self) -> Tensor:
        """Number of examples that fool the source, int64 `[source]`."""
        return (self.unfooled + self.same + self.different)[:, 0]

    def shares(self, source: str | int, target: str | int) -> dict[str, Estimate]:
        """Shares of the three outcomes, by their names, among the examples that fool the source.

        With 95 % Wilson intervals; models by name or number; a `ValueError` if there is no such model.
        """
        i, j = self._pair(source, target)
        return {name: share(int(getattr(self, name)[i, j]), int(self.fooled[i])) for name in OUTCOMES}

    def same_share(self, source: str | int, target: str | int) -> Estimate:
        """Share of same mistakes among the target's mistakes, with its 95 % Wilson interval."""
        i, j = self._pair(source, target)
        return share(int(self.same[i, j]), int(self.same[i, j] + self.different[i, j]))

    def chance_share(self, source: str | int, target: str | int) -> Estimate:
        """Share of same mistakes among the target's mistakes expected by chance: the exact expectation.

        Its interval is the range of 95 % of the shares under the null, in the normal approximation (±1.96 of the exact
        standard deviation, cut at 0 and 1).
        """
        i, j = self._pair(source, target)
        n = int(self.same[i, j] + self.different[i, j])
        if not n:
            return share(0, 0)
        middle, half = float(self.chance[i, j]) / n, 1.96 * float(self.chance_sd[i, j]) / n
        return Estimate(middle, max(0.0, middle - half), min(1.0, middle + half), n)

    def _pair(self, source: str | int, target: str | int) -> tuple[int, int]:
        return position(self.names, source, "source"), position(self.names, target, "target")


@analysis
def transfer_mistakes(matrix: TransferMatrix) -> TransferMistakes:
    r"""Classify the targets' predictions as unfooled, same mistake or different mistake.

    With few classes, or one wrong class that attracts everything, two models often make the same mistake by chance. The
    null hypothesis: among the examples that fool both source and target, *which* wrong label the target gives depends
    on the true class alone, not on the source's label. Then, given how often source and target give each label to the
    examples of each true class y, all orders of the target's labels within a class are equally likely, and for
    :math:`n_y` examples of the class, :math:`a_{yc}` of which get label c from the source and :math:`b_{yc}` from the
    target,

    .. math:: \mathrm E[\text{same}] = \sum_y \sum_c a_{yc} b_{yc} / n_y

    with the variance of Hoeffding's permutation theorem (1951). A class with only one example that fools both carries
    no information: it enters the expectation as observed, without variance. In targeted attacks all examples of one
    class and target have the same source label: the expectation is useful only if targets differ within a class.

    Args:
        matrix: result of `transfer_matrix`.

    Returns:
        The counts, and those expected by chance.

    Raises:
        TypeError: if `matrix` is not a `TransferMatrix`.
    """
    if not isinstance(matrix, TransferMatrix):
        raise TypeError(f"matrix must be a TransferMatrix, got {type(matrix).__name__}")
    given = matrix.predicted.diagonal(dim1=0, dim2=1).T  # each source's labels of its own examples
    counted, y = matrix.fooled[:, None], matrix.true_labels
    wrong = matrix.predicted != y
    same = counted & wrong & (matrix.predicted == given[:, None])
    different = counted & wrong & (matrix.predicted != given[:, None])
    count = len(matrix.names)
    chance, deviation = torch.zeros(2, count, count, dtype=torch.float64)
    for i in range(count):
        for j in range(count):
            both = (same | different)[i, j]
            chance[i, j], deviation[i, j] = _matches(given[i, both], matrix.predicted[i, j, both], y[both])
    return TransferMistakes(
        provenance=matrix.provenance,
        unfooled=(counted & ~wrong).sum(2),
        same=same.sum(2),
        different=different.sum(2),
        chance=chance,
        chance_sd=deviation,
        names=matrix.names,
    )


def _matches(first: Tensor, second: Tensor, strata: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of the number of matches when the second labels are shuffled within each stratum."""
    mean, variance = 0.0, 0.0
    for stratum in strata.unique().tolist():
        inside = strata == stratum
        n, classes = int(inside.sum()), int(torch.maximum(first, second).max()) + 1
        a, b = (labels[inside].bincount(minlength=classes).double() for labels in (first, second))
        matches = float(a @ b)
        mean += matches / n
        if n > 1:  # 0/1 matrix of matches, centred by rows and columns
            centred = torch.eye(classes, dtype=torch.float64) - (b[:, None] + a[None, :]) / n + matches / n**2
            variance += float(a @ centred.square() @ b) / (n - 1)
    return mean, math.sqrt(variance)
