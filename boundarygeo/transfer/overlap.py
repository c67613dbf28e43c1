"""Overlap of the adversarial subspaces of several models, compared with chance and with other examples."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from boundarygeo.checks import check_count
from boundarygeo.evaluation import analysis, current_call
from boundarygeo.linalg import principal_angles
from boundarygeo.results import Provenance, Result, array
from boundarygeo.results.statistics import Estimate, mean
from boundarygeo.transfer.bases import SubspaceBases, perturbation_bases
from boundarygeo.transfer.problem import Classifiers, check_classifiers, check_shared, position

_ROUNDING = 1e-9  # energies closer than this count as equal
_VALUES_AT_ONCE = 1 << 24  # 128 MiB


@dataclass(frozen=True)
class PairOverlap:
    """The overlap of one pair of models, over the examples at which both have a full subspace.

    Attributes:
        energy: mean energy, with its 95 % interval.
        intersection: mean number of angles within the tolerance, with its 95 % interval.
        random: mean energy of random subspaces.
        random_p: p-value of all examples together under the random null.
        permuted: mean energy with another example's subspace.
        permuted_p: p-value of all examples together under the permuted null.
    """

    energy: Estimate
    intersection: Estimate
    random: float
    random_p: float
    permuted: float
    permuted_p: float


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SubspaceOverlap(Result):
    r"""Principal angles between the subspaces of pairs of models, with two nulls.

    The *energy* of two subspaces of dimensions k1 and k2 is :math:`\sum_i\cos^2\theta_i`, from 0 (orthogonal) to
    min(k1, k2) (one contains the other). Its *share* is the energy divided by min(k1, k2).

    **Random** null: subspaces of these dimensions, uniformly distributed in all d dimensions. It tests whether the
    overlap exceeds that of blindly drawn directions. On images that is easily so: perturbations of otherwise unrelated
    networks share their smoothness, the pixels that matter at all, and the bounds.

    **Permuted** null: the first model's subspace at an example and the second model's at *another* example. It tests
    whether the models share something at *this* example, beyond what their subspaces share everywhere. What belongs to
    the example counts as shared: its image, its class, and the bounds at its pixels.

    P-values are one-sided, :math:`(1+\#\{\text{null}\ge\text{observed}\})/(1+\#\text{null})`, which is valid for any
    number of draws (Phipson & Smyth 2010). For all examples together the statistic is the mean energy over the
    examples: under the random null, of as many independent random pairs of subspaces; under the permuted null, after a
    random permutation of the second model's examples.

    Attributes:
        angles: principal angles in radians, smallest first, float64 `[pair, example, angle]`; NaN for examples that are
            not `valid`.
        random_energy: energy of pairs of random subspaces, float64 `[pair, draw]`.
        random_angles: their principal angles in radians, smallest first, float64 `[pair, draw, angle]`.
        random_mean: mean energy of as many random pairs as there are valid examples, float64 `[pair, draw]`.
        permuted_energy: energy of the first model's subspace at the example with the second's at another, averaged over
            all others, float64 `[pair, example]`; NaN with fewer than two examples.
        permuted_mean: mean energy after each permutation of the examples, float64 `[pair, draw]`; likewise NaN.
        random_p: p-value of each example under the random null, float64 `[pair, example]`.
        permuted_p: under the permuted null, float64 `[pair, example]`: not below 1 / number of valid examples.
        random_p_all: p-value of all examples together under the random null, float64 `[pair]`.
        permuted_p_all: under the permuted null, float64 `[pair]`.
        valid: whether both models have a subspace of full dimension at the example, bool `[pair, example]`.
        index: number of each example, int64 `[example]`.
        pairs: positions of the two models of each pair, in `names`, int64 `[pair, 2]`.
        names: name of each model.
        dimensions: dimension of each model's subspaces.
        input_size: dimension d of the input space.
        tolerance: angles of at most this many radians count as shared directions.
        kind: origin of the bases, e.g. `"perturbations"`.
    """

    angles: Tensor = array("pair", "example", "angle", unit="rad")
    random_energy: Tensor = array("pair", "draw")
    random_angles: Tensor = array("pair", "draw", "angle", unit="rad")
    random_mean: Tensor = array("pair", "draw")
    permuted_energy: Tensor = array("pair", "example")
    permuted_mean: Tensor = array("pair", "draw")
    random_p: Tensor = array("pair", "example")
    permuted_p: Tensor = array("pair", "example")
    random_p_all: Tensor = array("pair")
    permuted_p_all: Tensor = array("pair")
    valid: Tensor = array("pair", "example")
    index: Tensor = array("example", coordinate=True)
    pairs: Tensor = array("pair", "side")
    names: tuple[str, ...]
    dimensions: tuple[int, ...]
    input_size: int
    tolerance: float
    kind: str

    @property
    def energy(self) -> Tensor:
        """Sum of the squared cosines, float64 `[pair, example]`; NaN where not valid."""
        squares = self.angles.cos().square().nansum(2)
        return squares.masked_fill(~self.valid, torch.nan)

    @property
    def share(self) -> Tensor:
        """Energy divided by the smaller dimension, float64 `[pair, example]`, from 0 to 1; NaN where not valid."""
        return self.energy / self._smaller[:, None]

    @property
    def intersection(self) -> Tensor:
        """Effective dimension of the intersection: number of angles within the tolerance, int64 `[pair, example]`.

        0 where not valid.
        """
        return (self.angles <= self.tolerance).sum(2)

    @property
    def random_intersection(self) -> Tensor:
        """As `intersection`, for the pairs of random subspaces, int64 `[pair, draw]`."""
        return (self.random_angles <= self.tolerance).sum(2)

    @property
    def expected(self) -> Tensor:
        """Mean energy of random subspaces by `random_overlap`: k1·k2/d, float64 `[pair]`."""
        return self._moments(0)

    @property
    def expected_std(self) -> Tensor:
        """Standard deviation of the energy of one pair of random subspaces by `random_overlap`, float64 `[pair]`."""
        return self._moments(1)

    def estimate(self, a: str | int, b: str | int) -> Estimate:
        """Mean share over the valid examples of one pair, with its 95 % interval over the examples.

        Args:
            a: name or number of one model.
            b: name or number of the other.

        Returns:
            The estimate; NaN without valid examples.

        Raises:
            ValueError: if there is no such pair.
        """
        pair = self.pair(a, b)
        return mean(self.share[pair][self.valid[pair]].numpy(), within=(0, 1))

    def excess(self, a: str | int, b: str | int) -> Estimate:
        """Mean of the share minus the permuted null's, over the valid examples, with its 95 % interval.

        The examples' differences are treated as independent, though each is compared with all the others. This makes
        the interval too wide: what an example has in common with all others is in its difference, but not in the mean.

        Args:
            a: name or number of one model.
            b: name or number of the other.

        Returns:
            The estimate; NaN without two valid examples.

        Raises:
            ValueError: if there is no such pair.
        """
        pair = self.pair(a, b)
        difference = (self.share - self.permuted_energy / self._smaller[:, None])[pair]
        return mean(difference[~difference.isnan()].numpy(), within=(-1, 1))

    def compare(self, a: str | int, b: str | int) -> PairOverlap:
        """The overlap of one pair, with both nulls.

        Args:
            a: name or number of one model.
            b: name or number of the other.

        Returns:
            Estimates and p-values.

        Raises:
            ValueError: if there is no such pair.
        """
        pair = self.pair(a, b)
        valid, within = self.valid[pair], (0.0, float(self._smaller[pair]))
        return PairOverlap(
            energy=mean(self.energy[pair, valid].numpy(), within=within),
            intersection=mean(self.intersection[pair, valid].double().numpy(), within=within),
            random=float(self.expected[pair]),
            random_p=float(self.random_p_all[pair]),
            permuted=float(self.permuted_mean[pair].mean()),
            permuted_p=float(self.permuted_p_all[pair]),
        )

    def pair(self, a: str | int, b: str | int) -> int:
        """Number of a pair of models, given by name or position, in any order.

        Args:
            a: one model.
            b: the other.

        Returns:
            The number of the pair.

        Raises:
            ValueError: if there is no such pair.
        """
        wanted = sorted((position(self.names, a, "a"), position(self.names, b, "b")))
        if wanted not in self.pairs.tolist():
            raise ValueError(f"a and b must be different models, got {a!r} twice")
        return self.pairs.tolist().index(wanted)

    @property
    def _smaller(self) -> Tensor:
        return torch.tensor(self.dimensions)[self.pairs].amin(1).double()

    def _moments(self, which: int) -> Tensor:
        sizes = torch.tensor(self.dimensions)[self.pairs].tolist()
        return torch.tensor([random_overlap(a, b, self.input_size)[which] for a, b in sizes], dtype=torch.float64)


def random_overlap(k1: int, k2: int, d: int) -> tuple[float, float]:
    r"""Mean and standard deviation of the energy of two random subspaces.

    With projections P1 and P2 the energy is :math:`\mathrm{tr}\,P_1P_2 = k_1k_2/d + \langle Q_1, Q_2\rangle`, where
    :math:`Q_i = P_i - (k_i/d)I` has trace 0 and squared length :math:`k_i(d-k_i)/d`. A uniformly random rotation of Q2
    has mean 0 and no preferred direction among the symmetric matrices of trace 0, of which there are
    :math:`(d-1)(d+2)/2` dimensions (they are an irreducible representation of the rotations), so that

    .. math:: \mathbf{E} = \frac{k_1k_2}{d}, \qquad
        \mathrm{Var} = \frac{\|Q_1\|^2\|Q_2\|^2}{(d-1)(d+2)/2} = \frac{2k_1k_2(d-k_1)(d-k_2)}{d^2(d-1)(d+2)}.

    Args:
        k1: dimension of one subspace.
        k2: dimension of the other.
        d: dimension of the space.

    Returns:
        Mean and standard deviation of the sum of squared cosines.

    Raises:
        ValueError: if a subspace is larger than the space, or a dimension is not a positive whole number.

    Examples:
        >>> random_overlap(10, 10, 784)[0]
        0.12755102040816327
    """
    for name, size in (("d", d), ("k1", k1), ("k2", k2)):
        check_count(size, name)
    if max(k1, k2) > d:
        raise ValueError(f"k1 and k2 must be at most d = {d}, got {k1} and {k2}")
    if d == 1:
        return 1.0, 0.0
    variance = 2 * k1 * k2 * (d - k1) * (d - k2) / (d * d * (d - 1) * (d + 2))
    return k1 * k2 / d, math.sqrt(variance)


def random_subspace_angles(k1: int, k2: int, d: int, count: int, rng: np.random.Generator) -> Tensor:
    """Principal angles between pairs of independent, uniformly random subspaces; the cost does not grow with d.

    Without loss of generality the first subspace is that of the first k1 coordinates, and the second is spanned by k2
    normal vectors: their coordinates inside and outside the first make two normal matrices A (k1 × k2) and B (d - k1 ×
    k2), the angles depend on AᵀA and BᵀB alone, and BᵀB is drawn by Bartlett's decomposition as a k2 × k2 triangular
    matrix (Muirhead 1982, Theorem 3.2.14). The tangents of the angles are the singular values of B against A.

    Args:
        k1: dimension of the first subspaces.
        k2: dimension of the second.
        d: dimension of the space.
        count: number of pairs.
        rng: source of the randomness.

    Returns:
        Angles in radians, smallest first, float64 `[count, min(k1, k2)]`.
    """
    k1, k2 = max(k1, k2), min(k1, k2)
    inside = rng.standard_normal((count, k1, k2))
    rest = d - k1
    if rest >= k2:
        outside = np.triu(rng.standard_normal((count, k2, k2)), 1)
        outside[:, range(k2), range(k2)] = np.sqrt(rng.chisquare(rest - np.arange(k2), (count, k2)))
    else:
        outside = rng.standard_normal((count, rest, k2))
    basis = np.linalg.qr(np.concatenate([inside, outside], 1)).Q
    return torch.acos(torch.linalg.svdvals(torch.from_numpy(basis[:, :k1])).clamp_max(1))


@analysis
def subspace_overlap(
    classifiers: Classifiers,
    x: Tensor,
    y: Tensor,
    *,
    dimension: int,
    eps: float,
    restarts: int = 32,
    steps: int = 40,
    step_size: float | None = None,
    draws: int = 999,
    tolerance: float = math.pi / 6,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> SubspaceOverlap:
    """Overlap of the subspaces that many adversarial perturbations of each example span, for all pairs of models.

    Each model gets its own random starts, so that two models do not share the noise of the starts. A model listed twice
    is compared with itself from other starts: an upper limit of the overlap to expect. For other bases (sequential
    directions, one basis for a set) use `basis_overlap`.

    Args:
        classifiers: at least two, in a list or by name.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        dimension: number of directions per model and example.
        eps: L2 radius of the perturbations, in input units.
        restarts: perturbations searched for per model and example.
        steps: steps of each, see `perturbation_bases`.
        step_size: length of a step (L2); by default ε / 6.
        draws: number of draws of the nulls.
        tolerance: angles of at most this many radians count as shared directions.
        seed: seed of the random starts and the nulls.
        index: number of each example, which determines its random starts; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Returns:
        The overlap. Examples that a model of the pair misclassifies, or without a full basis, are not valid.

    Raises:
        TypeError: if the classifiers, `x` or `y` are not of the right kind.
        ValueError: if there are fewer than two classifiers, they do not fit together, no example is classified
            correctly by all, or a setting is out of range.
    """
    _check_settings(draws, tolerance)
    problem = check_classifiers(classifiers, x, y)
    check_shared(problem)
    bases = {}
    for number, (name, clf) in enumerate(zip(problem.names, problem.classifiers, strict=True)):
        bases[name] = perturbation_bases(
            clf,
            problem.x,
            problem.y,
            dimension=dimension,
            eps=eps,
            restarts=restarts,
            steps=steps,
            step_size=step_size,
            seed=seed_of_model(seed, number),
            index=index,
            progress=progress,
        )
    return _overlap(bases, draws, tolerance, seed, problem.provenance(seed=seed))


@analysis
def basis_overlap(
    bases: Mapping[str, SubspaceBases] | Sequence[SubspaceBases],
    *,
    draws: int = 999,
    tolerance: float = math.pi / 6,
    seed: int = 0,
) -> SubspaceOverlap:
    """Overlap of given subspaces, for all pairs of models.

    Args:
        bases: bases of at least two models for the same examples (or the same set), in a list or by name.
        draws: number of draws of the nulls.
        tolerance: angles of at most this many radians count as shared directions.
        seed: seed of the nulls.

    Returns:
        The overlap.

    Raises:
        TypeError: if `bases` are not bases.
        ValueError: if there are fewer than two, their examples or inputs differ, or a setting is out of range.
    """
    _check_settings(draws, tolerance)
    named = dict(bases) if isinstance(bases, Mapping) else {str(i): each for i, each in enumerate(bases)}
    for each in named.values():
        if not isinstance(each, SubspaceBases):
            raise TypeError(f"bases must be SubspaceBases, got {type(each).__name__}")
    if len(named) < 2:
        raise ValueError(f"bases must be of at least two models, got {len(named)}")
    first, *others = named.values()
    for other in others:
        if not torch.equal(first.index, other.index):
            raise ValueError("bases must be of the same examples in the same order, got another index")
        if first.vectors.shape[2] != other.vectors.shape[2]:
            sizes = sorted({each.vectors.shape[2] for each in named.values()})
            raise ValueError(f"bases must be of the same inputs, got {sizes} coordinates")
    made = Provenance(
        command=current_call().command(),
        seed=seed,
        model=", ".join(each.provenance.model for each in named.values()),
        device=first.provenance.device,
        seconds=sum(each.provenance.seconds for each in named.values()),
        forwards=sum(each.provenance.forwards for each in named.values()),
        backwards=sum(each.provenance.backwards for each in named.values()),
    )
    return _overlap(named, draws, tolerance, seed, made)


def _overlap(
    bases: Mapping[str, SubspaceBases], draws: int, tolerance: float, seed: int, provenance: Provenance
) -> SubspaceOverlap:
    several = list(bases.values())
    dimensions = tuple(each.vectors.shape[1] for each in several)
    d, count = several[0].vectors.shape[2], len(several[0].index)
    pairs = list(itertools.combinations(range(len(several)), 2))
    width = max(min(dimensions[i], dimensions[j]) for i, j in pairs)
    columns: dict[str, list[Tensor]] = {}
    for number, (i, j) in enumerate(pairs):
        rng = np.random.default_rng((seed, number))
        valid = several[i].valid & several[j].valid
        a, b = several[i].vectors[valid], several[j].vectors[valid]
        angles = torch.full((count, width), torch.nan, dtype=torch.float64)
        smaller = min(dimensions[i], dimensions[j])
        if len(a):
            angles[valid, :smaller] = principal_angles(a, b)
        energy = angles[valid].cos().square().nansum(1)
        drawn = random_subspace_angles(dimensions[i], dimensions[j], d, draws, rng)
        column = {
            "angles": angles,
            "random_angles": torch.nn.functional.pad(drawn, (0, width - smaller), value=torch.nan),
            "random_energy": drawn.cos().square().sum(1),
            "random_mean": _random_means(dimensions[i], dimensions[j], d, len(a), draws, rng),
            "valid": valid,
        }
        crossed = _crossed(a, b)
        column["permuted_mean"] = _permuted_means(crossed, draws, rng)
        others = crossed.clone().fill_diagonal_(0).sum(1) / (len(a) - 1 or torch.nan)
        by_other = (crossed >= energy[:, None] - _ROUNDING).fill_diagonal_(False).sum(1)
        permuted_p = (1 + by_other).double() / len(a) if len(a) > 1 else torch.full((len(a),), torch.nan)
        column |= {
            "permuted_energy": _spread(others, valid),
            "random_p": _spread(p_values(energy, column["random_energy"]), valid),
            "permuted_p": _spread(permuted_p, valid),
            "random_p_all": p_values(energy.mean()[None], column["random_mean"])[0],
            "permuted_p_all": p_values(energy.mean()[None], column["permuted_mean"])[0],
        }
        for name, values in column.items():
            columns.setdefault(name, []).append(values)
    return SubspaceOverlap(
        provenance=provenance,
        **{name: torch.stack(values) for name, values in columns.items()},
        index=several[0].index,
        pairs=torch.tensor(pairs),
        names=tuple(bases),
        dimensions=dimensions,
        input_size=d,
        tolerance=float(tolerance),
        kind=", ".join(dict.fromkeys(each.kind for each in several)),
    )


def p_values(observed: Tensor, null: Tensor) -> Tensor:
    """One-sided p-values (1 + #{null ≥ observed}) / (1 + #null) (Phipson & Smyth 2010).

    Args:
        observed: statistics `[value]`.
        null: draws of the same statistic under the null `[draw]`.

    Returns:
        P-values, float64 `[value]`; NaN where the statistic or the null is.
    """
    ordered = null.sort().values.contiguous()
    below = torch.searchsorted(ordered, (observed - _ROUNDING).contiguous())
    p = (1 + len(null) - below).double() / (1 + len(null))
    return p.masked_fill(observed.isnan() | null.isnan().any(), torch.nan)


def random_energies(k1: int, k2: int, d: int, count: int, rng: np.random.Generator) -> np.ndarray:
    r"""Energies of pairs of independent, uniformly random subspaces, exactly distributed, without the subspaces.

    The squared cosines are the eigenvalues of a Jacobi ensemble, for which Edelman & Sutton (2008, Found. Comput. Math.
    8, 259) give a bidiagonal matrix of independent beta variables. The energy is the sum of its squared entries: with
    m = k2 ≤ k1, k1 + k2 ≤ d,

    .. math:: \sum_{i=1}^m C_i(1-C'_i) + \sum_{i=2}^m (1-C_i)\,C'_{i-1}, \quad
        C_i \sim \mathrm{B}\big(\tfrac{k_1-m+i}2, \tfrac{d-k_1-m+i}2\big), \;
        C'_i \sim \mathrm{B}\big(\tfrac i2, \tfrac{d-2m+1+i}2\big), \; C'_m = 0.

    Subspaces too large to be disjoint share k1 + k2 - d directions, plus the overlap of their complements.

    Args:
        k1: dimension of the first subspaces.
        k2: dimension of the second.
        d: dimension of the space.
        count: number of pairs.
        rng: source of the randomness.

    Returns:
        Sums of squared cosines, float64 `[count]`.
    """
    certain = max(0, k1 + k2 - d)
    k1, m = sorted((d - k1, d - k2) if certain else (k1, k2), reverse=True)
    if not m:
        return np.full(count, float(certain))
    i = np.arange(1, m + 1)
    c = rng.beta((k1 - m + i) / 2, (d - k1 - m + i) / 2, (count, m))
    other = rng.beta(i[:-1] / 2, (d - 2 * m + 1 + i[:-1]) / 2, (count, m - 1))
    return certain + c.sum(1) + ((1 - c[:, 1:] - c[:, :-1]) * other).sum(1)


def _random_means(k1: int, k2: int, d: int, examples: int, draws: int, rng: np.random.Generator) -> Tensor:
    """Mean energy of as many random pairs of subspaces as there are examples, float64 `[draw]`."""
    if not examples:
        return torch.full((draws,), torch.nan, dtype=torch.float64)
    at_once = max(1, _VALUES_AT_ONCE // (8 * examples * min(k1, k2)))  # 128 MiB, including intermediate values
    means = [
        random_energies(k1, k2, d, some * examples, rng).reshape(some, examples).mean(1)
        for some in (min(at_once, draws - start) for start in range(0, draws, at_once))
    ]
    return torch.from_numpy(np.concatenate(means))


def _crossed(a: Tensor, b: Tensor) -> Tensor:
    """Energy of each of a's subspaces with each of b's, float64 `[example of a, example of b]`."""
    rows = []
    for block in a.split(max(1, _VALUES_AT_ONCE // max(1, a.shape[1] * b.shape[0] * b.shape[1]))):
        products = (block.flatten(0, 1) @ b.flatten(0, 1).T).square()
        rows.append(products.view(len(block), a.shape[1], len(b), b.shape[1]).sum((1, 3)))
    return torch.cat(rows) if rows else a.new_zeros(0, 0)


def _permuted_means(crossed: Tensor, draws: int, rng: np.random.Generator) -> Tensor:
    """Mean energy after random permutations of the second examples, float64 `[draw]`."""
    count = len(crossed)
    if count < 2:
        return torch.full((draws,), torch.nan, dtype=torch.float64)
    rows = torch.arange(count)
    orders = (torch.from_numpy(rng.permutation(count)) for _ in range(draws))
    return torch.stack([crossed[rows, order].mean() for order in orders])


def _spread(values: Tensor, valid: Tensor) -> Tensor:
    """Values of the valid examples, NaN for the others, float64 `[example]`."""
    whole = torch.full(valid.shape, torch.nan, dtype=torch.float64)
    whole[valid] = values.double()
    return whole


def seed_of_model(seed: int, number: int) -> int:
    """A separate seed per model: models with the same seed would share their random starts.

    Args:
        seed: common seed.
        number: position of the model.

    Returns:
        The model's seed.
    """
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _check_settings(draws: int, tolerance: float) -> None:
    check_count(draws, "draws")
    if not 0 <= tolerance <= math.pi / 2:
        raise ValueError(f"tolerance must be an angle from 0 to π/2 in radians, got {tolerance!r}")
