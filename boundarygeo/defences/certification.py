r"""Certificates of randomised smoothing (Cohen, Rosenfeld, Kolter 2019, arXiv 1902.02918, section 3.2).

The smoothed classifier g returns the class that the base classifier f predicts most often under Gaussian noise of
standard deviation σ. If f predicts c with probability :math:`p_A \ge \underline{p_A} > 1/2`, then g predicts c at every
point closer than :math:`R = \sigma\Phi^{-1}(\underline{p_A})` in L2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from boundarygeo.checks import check_count, check_positive
from boundarygeo.classifier import Classifier
from boundarygeo.defences.noise import Noise, count_labels
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import analysis
from boundarygeo.results import Result, array
from boundarygeo.results.statistics import Estimate, lower_bound, share

ABSTAIN = -1
"""The label of an example on which the smoothed classifier abstains."""

_SELECTION, _ESTIMATION, _PREDICTION = range(3)  # purposes of the noise


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class CertifiedRadii(Result):
    r"""L2 radius within which the smoothed classifier provably keeps its label, for each example.

    Each certificate holds with probability at least 1 - `alpha` over the noise, for each example separately.

    Attributes:
        radius: :math:`\sigma\Phi^{-1}(\underline{p_A})`, float64 `[example]`, in input units; 0 for abstentions.
        predicted: class of the smoothed classifier, int64 `[example]`; -1 for abstentions.
        abstained: whether the lower bound is below one half, bool `[example]`.
        lower: lower bound of the probability of the class, one-sided Clopper-Pearson at level `alpha`, float64
            `[example]`.
        hits: how often the selected class was predicted among `n` draws, int64 `[example]`.
        selected: class predicted most often among the first `n0`, int64 `[example]`.
        true_labels: int64 `[example]`.
        index: number of each example, int64 `[example]`; determines its noise.
        sigma: standard deviation of the noise, in input units.
        n0: number of noise vectors used to select the class.
        n: number of further noise vectors, used for the bound.
        alpha: probability that a certificate is wrong.
    """

    radius: Tensor = array("example", unit="L2 in input units")
    predicted: Tensor = array("example")
    abstained: Tensor = array("example")
    lower: Tensor = array("example")
    hits: Tensor = array("example")
    selected: Tensor = array("example")
    true_labels: Tensor = array("example")
    index: Tensor = array("example", coordinate=True)
    sigma: float
    n0: int
    n: int
    alpha: float

    @property
    def correct(self) -> Tensor:
        """Whether the label is the true one, bool `[example]`; False for abstentions."""
        return self.predicted == self.true_labels

    @property
    def largest(self) -> float:
        """Largest radius that `n` noise vectors can certify, reached if all agree: σ Φ⁻¹(α^(1/n))."""
        return self.sigma * float(stats.norm.ppf(self.alpha ** (1 / self.n)))

    def accuracy_at(self, radii: Sequence[float] | Tensor) -> list[Estimate]:
        """Certified accuracy at each L2 radius, in input units: the share correctly classified with at least it.

        Abstentions count as errors. The 95 % Wilson intervals are over the draw of the examples; they do not include
        the share `alpha` of certificates that may be wrong.
        """
        sizes = [float(radius) for radius in radii]
        if any(not radius >= 0 for radius in sizes):
            raise ValueError(f"radii must be >= 0, got {sizes}")
        return [share(int((self.correct & (self.radius >= radius)).sum()), len(self.radius)) for radius in sizes]


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SmoothedPredictions(Result):
    """Predictions of the smoothed classifier, or abstentions.

    Attributes:
        predicted: class predicted most often, int64 `[example]`; -1 for abstentions.
        abstained: whether the p-value exceeds `alpha`, bool `[example]`.
        p_value: p-value of the two-sided binomial test that the two most frequent classes are equally likely, float64
            `[example]`.
        counts: how often each class was predicted, int64 `[example, class]`.
        index: number of each example, int64 `[example]`; determines its noise.
        sigma: standard deviation of the noise, in input units.
        n: number of noise vectors.
        alpha: probability that a prediction is not the class of the smoothed classifier.
    """

    predicted: Tensor = array("example")
    abstained: Tensor = array("example")
    p_value: Tensor = array("example")
    counts: Tensor = array("example", "class")
    index: Tensor = array("example", coordinate=True)
    sigma: float
    n: int
    alpha: float


@analysis
def certify(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    sigma: float,
    n0: int = 100,
    n: int = 10_000,
    alpha: float = 0.001,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> CertifiedRadii:
    r"""Certify the smoothed classifier around each example (CERTIFY of Cohen et al. 2019, section 3.2.2).

    The class is selected by majority among `n0` noise vectors; `n` further ones give the lower bound of its
    probability. The radius is at most :math:`\sigma\Phi^{-1}(\alpha^{1/n})`, about 3.2 σ with the default settings; the
    paper uses n = 100,000, for 3.8 σ. Noisy inputs are not clipped, because the theorem assumes Gaussian noise.

    Args:
        clf: the base classifier, not one that already averages over noise.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        sigma: standard deviation of the noise, in input units.
        n0: number of noise vectors used to select the class.
        n: number of noise vectors used for the bound.
        alpha: probability that a certificate is wrong, per example.
        seed: seed of the noise.
        index: number of each example, which determines its noise; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Returns:
        The radii.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind.
        ValueError: if an argument or the module's output is invalid.
    """
    check_count(n0, "n0")
    _check(sigma, n, alpha)
    clf.check_inputs(x)
    clf.check_labels(y, len(x))
    numbers = numbers_of(index, len(x))
    provenance = clf.record()
    with clf.session(x, y) as session:
        votes = [
            count_labels(session, x, Noise(x.shape[1:], numbers, count, (seed, stage)), sigma, progress=progress)
            for stage, count in ((_SELECTION, n0), (_ESTIMATION, n))
        ]
    selected = votes[0].argmax(1)
    hits = votes[1].gather(1, selected[:, None])[:, 0]
    lower = lower_bound(hits.numpy(), n, alpha)
    abstained = torch.from_numpy(lower < 0.5)
    return CertifiedRadii(
        provenance=provenance(seed=seed),
        radius=torch.from_numpy(sigma * stats.norm.ppf(np.maximum(lower, 0.5))),
        predicted=torch.where(abstained, ABSTAIN, selected),
        abstained=abstained,
        lower=torch.from_numpy(lower),
        hits=hits,
        selected=selected,
        true_labels=y.detach().cpu().long(),
        index=numbers,
        sigma=float(sigma),
        n0=n0,
        n=n,
        alpha=float(alpha),
    )


@analysis
def predict_smoothed(
    clf: Classifier,
    x: Tensor,
    *,
    sigma: float,
    n: int = 1000,
    alpha: float = 0.001,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> SmoothedPredictions:
    """Predict with the smoothed classifier, or abstain (PREDICT of Cohen et al. 2019, section 3.2.1).

    It abstains where the binomial test cannot tell the two most frequent classes apart at level `alpha`.

    Args:
        clf: the base classifier, not one that already averages over noise.
        x: inputs `[example, *input]` within the bounds.
        sigma: standard deviation of the noise, in input units.
        n: number of noise vectors.
        alpha: probability that a prediction is not the class of the smoothed classifier.
        seed: seed of the noise; independent of the noise of `certify` with the same seed.
        index: number of each example, which determines its noise; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Returns:
        The predictions.

    Raises:
        TypeError: if `x` is not a float tensor.
        ValueError: if an argument or the module's output is invalid.
    """
    _check(sigma, n, alpha)
    clf.check_inputs(x)
    numbers = numbers_of(index, len(x))
    provenance = clf.record()
    with clf.session(x) as session:
        noise = Noise(x.shape[1:], numbers, n, (seed, _PREDICTION))
        counts = count_labels(session, x, noise, sigma, progress=progress)
    first, second = counts.topk(2, dim=1).values.T.tolist()
    p_values = [stats.binomtest(a, a + b, 0.5).pvalue for a, b in zip(first, second, strict=True)]
    p_value = torch.tensor(p_values, dtype=torch.float64)
    abstained = p_value > alpha
    return SmoothedPredictions(
        provenance=provenance(seed=seed),
        predicted=torch.where(abstained, ABSTAIN, counts.argmax(1)),
        abstained=abstained,
        p_value=p_value,
        counts=counts,
        index=numbers,
        sigma=float(sigma),
        n=n,
        alpha=float(alpha),
    )


def _check(sigma: float, n: int, alpha: float) -> None:
    check_positive(sigma, "sigma")
    check_count(n, "n")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha must be in (0, 0.5), got {alpha}")
