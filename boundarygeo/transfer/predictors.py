r"""Predictors of transferability: properties of the models, and the transfer rates of all ordered pairs.

After Demontis et al. 2019 (arXiv 1809.02861), who relate transfer to the size of the target's input gradients, the
alignment of the gradients of source and target, and the variability of the source's loss. The definitions below are
this package's own, not the paper's formulas.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.attacks import minimal_norm
from boundarygeo.attacks.norms import random_in_ball
from boundarygeo.checks import check_count, check_eps
from boundarygeo.choices import Norm
from boundarygeo.classifier import Classifier
from boundarygeo.evaluation import analysis
from boundarygeo.linalg import norms
from boundarygeo.losses import loss_of
from boundarygeo.results import Result, array
from boundarygeo.results.statistics import Estimate, median, rank_correlation_of_pairs
from boundarygeo.transfer.classifiers import Classifiers, MatchedClassifiers, check_classifiers, check_shared
from boundarygeo.transfer.matrix import TransferMatrix

PREDICTORS = (
    "gradient_cosine",
    "target_gradient_norm",
    "source_loss_variability",
    "target_boundary_distance",
    "source_dimension",
    "target_dimension",
)

_HELD = 2**25  # gradient values of all models held in memory at once: 256 MB


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TransferPredictors(Result):
    r"""Properties of models and pairs, on the examples that all models classify correctly.

    Attributes:
        gradient_cosine: mean over the examples of the cosine between the loss gradients of source and target at the
            unperturbed example, float64 `[source, target]`; NaN if no example has both gradients.
        gradient_norm: mean L2 norm of each model's input gradient of the cross-entropy, in loss per input unit,
            float64 `[classifier]`.
        loss_variability: mean over the examples of the variance of each model's cross-entropy J(x + δ, y), over δ
            drawn uniformly from the ball of radius `eps` in `norm` (x + δ clipped to the bounds; the same δ for all
            models; sample variance of `draws` draws), in squared nats, float64 `[classifier]`.
        boundary_distance: median over the examples of the distance to the nearest adversarial example found by
            `minimal_norm`, in `norm`, in input units, float64 `[classifier]`; inf if it finds none on half of them.
        dimension: a given number per model, e.g. the mean dimension of its adversarial subspaces, float64
            `[classifier]`, or None.
        rate: transfer rate of each pair, float64 `[source, target]`.
        without_gradient: number of examples on which each model's gradient is zero, int64 `[classifier]`; they have no
            cosine.
        n: number of examples.
        names: name of each model.
        over: examples over which the rate is taken, see `TransferMatrix.counted`.
        norm: `"l2"` or `"linf"`, of the ball and the distances.
        eps: radius of the ball, in input units.
        draws: number of points drawn from the ball.
    """

    joint = "predictors are averages over all examples"

    gradient_cosine: Tensor = array("source", "target")
    gradient_norm: Tensor = array("classifier", unit="1 / input units")
    loss_variability: Tensor = array("classifier")
    boundary_distance: Tensor = array("classifier", unit="input units")
    dimension: Tensor | None = array("classifier")
    rate: Tensor = array("source", "target")
    without_gradient: Tensor = array("classifier")
    n: int
    names: tuple[str, ...]
    over: str
    norm: Norm
    eps: float
    draws: int

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names of source and target of each ordered pair of different models, in the order of `values`."""
        return [(a, b) for i, a in enumerate(self.names) for j, b in enumerate(self.names) if i != j]

    def values(self, predictor: str) -> Tensor:
        """One of `PREDICTORS`, or `"rate"`, for each ordered pair of different models, float64 `[pair]`."""
        return self._square(predictor)[~torch.eye(len(self.names), dtype=torch.bool)]

    def _square(self, predictor: str) -> Tensor:
        """A predictor, or `"rate"`, `[source, target]`."""
        if predictor not in (*PREDICTORS, "rate"):
            raise ValueError(f"predictor must be one of {[*PREDICTORS, 'rate']}, got {predictor!r}")
        if predictor in ("gradient_cosine", "rate"):
            return getattr(self, predictor)
        side, name = predictor.split("_", 1)
        numbers = getattr(self, name)
        if numbers is None:
            raise ValueError(f"{predictor!r} was not measured: pass dimensions= to transfer_predictors")
        return (numbers[:, None] if side == "source" else numbers[None, :]).expand(len(numbers), len(numbers))

    def correlation(self, predictor: str) -> Estimate:
        """Spearman's rank correlation of a predictor with the transfer rate, over ordered pairs of different models.

        Pairs that share a model are dependent, and a property of one model has only M values, so the interval (see
        `boundarygeo.results.statistics.rank_correlation_of_pairs`) is over the choice of models. With four models it
        covers nearly all of [-1, 1], with fewer it is NaN. n is the number of pairs for which both are known.
        """
        return rank_correlation_of_pairs(self._square(predictor).numpy(), self.rate.numpy())

    def correlations(self) -> dict[str, Estimate]:
        """The rank correlation of every measured predictor with the transfer rate."""
        measured = [name for name in PREDICTORS if self.dimension is not None or not name.endswith("dimension")]
        return {name: self.correlation(name) for name in measured}


@analysis
def transfer_predictors(
    classifiers: Classifiers,
    x: Tensor,
    y: Tensor,
    matrix: TransferMatrix,
    *,
    over: str = "shared",
    eps: float | None = None,
    draws: int = 16,
    steps: int = 600,
    dimensions: Mapping[str, float] | Sequence[float] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> TransferPredictors:
    """Measure quantities that may predict the rates of a transfer matrix.

    The predictors are defined in `TransferPredictors`. Per example and model they cost one forward and one backward
    pass for the gradient, `draws` forward passes, and `steps` passes of `minimal_norm`.

    Args:
        classifiers: the classifiers of the matrix, in the same order and under the same names.
        x: the inputs of the matrix `[example, *input]`.
        y: their true classes, int64 `[example]`.
        matrix: result of `transfer_matrix`; its norm also defines the ball and the distances.
        over: examples over which the transfer rate is taken, see `TransferMatrix.counted`.
        eps: radius of the ball in which the loss varies, in input units; by default the ε of the matrix.
        draws: number of points drawn from it, at least 2.
        steps: steps of `minimal_norm`, at least 4.
        dimensions: one number per model, by name or in the order of the models, e.g. the means of
            `dimension_summary`.
        seed: seed of the points drawn; an example's points also depend on its number in the matrix.
        progress: whether to show progress bars after two seconds.

    Returns:
        The predictors.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if an argument is out of range, no example is classified correctly by all models, or the matrix
            belongs to other models or examples.
    """
    if not isinstance(matrix, TransferMatrix):
        raise TypeError(f"matrix must be a TransferMatrix, got {type(matrix).__name__}")
    rate = matrix.rate(over)
    check_count(draws, "draws", least=2)
    check_count(steps, "steps", least=4)
    eps = matrix.eps if eps is None else eps
    if eps is None:
        raise ValueError("pass eps=: the matrix has none to use instead")
    eps = check_eps(eps)
    models = check_classifiers(classifiers, x, y)
    check_shared(models)
    _check_same(models, matrix)
    numbers = None if dimensions is None else _dimensions(dimensions, models.names)
    keep = models.shared
    here, truth, index = models.x[keep], models.y[keep], matrix.index[keep]
    lengths, cosine, absent = _gradients(models.classifiers, here, truth)
    losses = []
    for around in _nearby(here, index, norm=matrix.norm, eps=eps, draws=draws, seed=seed):
        points = around.clamp(*models.classifiers[0].bounds)
        each = [loss_of(clf.logits(points).double(), truth, "cross_entropy") for clf in models.classifiers]
        losses.append(torch.stack(each))
    settings = {"norm": matrix.norm, "steps": steps, "seed": seed, "index": index, "progress": progress}
    nearest = [minimal_norm(clf, here, truth, **settings).distance for clf in models.classifiers]
    return TransferPredictors(
        provenance=models.provenance(seed=seed, eps=eps),
        gradient_cosine=cosine,
        gradient_norm=lengths,
        loss_variability=torch.stack(losses, 1).var(1).mean(1),
        boundary_distance=torch.tensor([median(each.numpy()).value for each in nearest], dtype=torch.float64),
        dimension=numbers,
        rate=rate,
        without_gradient=absent,
        n=len(here),
        names=models.names,
        over=over,
        norm=matrix.norm,
        eps=eps,
        draws=draws,
    )


def _check_same(models: MatchedClassifiers, matrix: TransferMatrix) -> None:
    if models.names != matrix.names:
        raise ValueError(f"classifiers must be those of the matrix, {list(matrix.names)}, got {list(models.names)}")
    if not torch.equal(models.y, matrix.true_labels):
        raise ValueError("x and y must be the examples of the matrix, got other classes")
    if not torch.equal(models.shared, matrix.shared):
        raise ValueError("x and classifiers must be those of the matrix, got other predictions")


def _dimensions(dimensions: Mapping[str, float] | Sequence[float], names: tuple[str, ...]) -> Tensor:
    if isinstance(dimensions, Mapping):
        if set(dimensions) != set(names):
            raise ValueError(f"dimensions must have one number for each of {list(names)}, got {list(dimensions)}")
        dimensions = [dimensions[name] for name in names]
    numbers = torch.as_tensor([float(number) for number in dimensions], dtype=torch.float64)
    if len(numbers) != len(names) or bool(numbers.isnan().any()):
        raise ValueError(f"dimensions must be {len(names)} numbers, one per classifier, got {numbers.tolist()}")
    return numbers


def _gradients(classifiers: Sequence[Classifier], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean norms of the gradients of the cross-entropy, mean cosines of pairs, numbers of zero gradients."""
    count = len(classifiers)
    rows = max(1, _HELD // (count * x[0].numel()))
    total = torch.zeros(count, dtype=torch.float64)
    cosines, together = torch.zeros(2, count, count, dtype=torch.float64)
    absent = torch.zeros(count, dtype=torch.int64)
    for start in range(0, len(x), rows):
        part, classes = x[start : start + rows], y[start : start + rows]
        units = []
        for number, clf in enumerate(classifiers):
            logits, uphill = _differentiated(clf, part, classes)
            size = norms(uphill)
            # The gradient of the cross-entropy log(1 + exp z) is sigmoid(z) times that of the log-odds z.
            total[number] += (loss_of(logits.double(), classes, "log_odds").sigmoid() * size).sum()
            absent[number] += int((size == 0).sum())
            units.append(uphill.flatten(1) / size.clamp_min(torch.finfo(torch.float64).tiny)[:, None])
        for i in range(count):
            for j in range(count):
                cosines[i, j] += (units[i] * units[j]).sum()
                together[i, j] += (units[i].any(1) & units[j].any(1)).sum()
    return total / len(x), (cosines / together).clamp(-1, 1), absent


def _differentiated(clf: Classifier, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and gradients of the log-odds (float64, so that quotients are accurate), on the CPU."""
    logits: list[Tensor] = []
    gradients: list[Tensor] = []

    def work(start: int, stop: int) -> None:
        both = session.differentiate(x[start:stop], y[start:stop], "log_odds")
        logits.append(both[0].cpu())
        gradients.append(both[1].cpu())

    with clf.session(x, y) as session:
        session.in_batches(work, len(x), x.shape[1:], kind="gradient")
    return torch.cat(logits), torch.cat(gradients).double()


def _nearby(x: Tensor, index: Tensor, *, norm: Norm, eps: float, draws: int, seed: int) -> Iterator[Tensor]:
    """Points drawn uniformly from the ball around each example, one of each at a time."""
    for draw in range(draws):
        yield x + eps * random_in_ball(x.shape[1:], index, norm, seed=seed, draw=draw)
