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
from boundarygeo.transfer.chance import mean_energies, p_values, random_overlap, random_subspace_angles
from boundarygeo.transfer.classifiers import Classifiers, check_classifiers, check_shared, pair_number
from boundarygeo.transfer.permuted import against_others, crossed_energies, permuted_means


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

    joint = "each example is compared with all others; basis_overlap takes bases that were computed in parts"

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
        return self.angles.cos().square().nansum(2).masked_fill(~self.valid, torch.nan)

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
        return self._moments[:, 0]

    @property
    def expected_std(self) -> Tensor:
        """Standard deviation of the energy of one pair of random subspaces by `random_overlap`, float64 `[pair]`."""
        return self._moments[:, 1]

    def estimate(self, a: str | int, b: str | int) -> Estimate:
        """Mean share over the valid examples of two models (name or number), with its 95 % interval over the examples.

        NaN without valid examples; a `ValueError` if there is no such pair.
        """
        pair = self.pair(a, b)
        return mean(self.share[pair][self.valid[pair]].numpy(), within=(0, 1))

    def excess(self, a: str | int, b: str | int) -> Estimate:
        """Mean over the valid examples of the share minus the permuted null's, with its 95 % interval; models as above.

        The examples' differences are treated as independent, though each is compared with all the others. This makes
        the interval too wide: what an example has in common with all others is in its difference, but not in the mean.
        NaN without two valid examples.
        """
        pair = self.pair(a, b)
        difference = (self.share - self.permuted_energy / self._smaller[:, None])[pair]
        return mean(difference[~difference.isnan()].numpy(), within=(-1, 1))

    def compare(self, a: str | int, b: str | int) -> PairOverlap:
        """The overlap of two models (name or number) as estimates and p-values, with both nulls."""
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
        """Number of a pair of models, each given by name or number, in any order; `ValueError` without such a pair."""
        return pair_number(self.names, self.pairs, a, b)

    @property
    def _sizes(self) -> Tensor:
        """Dimensions of both sides, int64 `[pair, 2]`."""
        return torch.tensor(self.dimensions)[self.pairs]

    @property
    def _smaller(self) -> Tensor:
        return self._sizes.amin(1).double()

    @property
    def _moments(self) -> Tensor:
        """Mean and standard deviation of the energy of random subspaces, float64 `[pair, 2]`."""
        rows = [random_overlap(k1, k2, self.input_size) for k1, k2 in self._sizes.tolist()]
        return torch.tensor(rows, dtype=torch.float64)


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
    models = check_classifiers(classifiers, x, y)
    check_shared(models)
    settings = {"dimension": dimension, "eps": eps, "restarts": restarts, "steps": steps, "step_size": step_size}
    bases = {
        name: perturbation_bases(
            clf, models.x, models.y, seed=seed_of_model(seed, number), index=index, progress=progress, **settings
        )
        for number, (name, clf) in enumerate(zip(models.names, models.classifiers, strict=True))
    }
    return _overlap(bases, draws, tolerance, seed, models.provenance(seed=seed))


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
    parts = [each.provenance for each in named.values()]
    made = Provenance(
        command=current_call().command(),
        seed=seed,
        model=", ".join(part.model for part in parts),
        device=parts[0].device,
        seconds=sum(part.seconds for part in parts),
        forwards=sum(part.forwards for part in parts),
        backwards=sum(part.backwards for part in parts),
    )
    return _overlap(named, draws, tolerance, seed, made)


def seed_of_model(seed: int, number: int) -> int:
    """A seed for each model, by its position: models with the same seed would share their random starts."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _overlap(
    bases: Mapping[str, SubspaceBases], draws: int, tolerance: float, seed: int, provenance: Provenance
) -> SubspaceOverlap:
    several = list(bases.values())
    dimensions = tuple(each.vectors.shape[1] for each in several)
    d = several[0].vectors.shape[2]
    pairs = list(itertools.combinations(range(len(several)), 2))
    width = max(min(dimensions[i], dimensions[j]) for i, j in pairs)
    columns = [
        _pair_columns(several[i], several[j], width, draws, np.random.default_rng((seed, number)))
        for number, (i, j) in enumerate(pairs)
    ]
    return SubspaceOverlap(
        provenance=provenance,
        **{name: torch.stack([column[name] for column in columns]) for name in columns[0]},
        index=several[0].index,
        pairs=torch.tensor(pairs),
        names=tuple(bases),
        dimensions=dimensions,
        input_size=d,
        tolerance=float(tolerance),
        kind=", ".join(dict.fromkeys(each.kind for each in several)),
    )


def _pair_columns(
    first: SubspaceBases, second: SubspaceBases, width: int, draws: int, rng: np.random.Generator
) -> dict[str, Tensor]:
    """The fields of `SubspaceOverlap` of one pair; angles are padded with NaN to `width`."""
    valid = first.valid & second.valid
    a, b = first.vectors[valid], second.vectors[valid]
    (_, k1, d), k2 = first.vectors.shape, second.vectors.shape[1]
    smaller = min(k1, k2)
    angles = torch.full((len(valid), width), torch.nan, dtype=torch.float64)
    if len(a):
        angles[valid, :smaller] = principal_angles(a, b)
    energy = angles[valid].cos().square().nansum(1)
    random_angles = random_subspace_angles(k1, k2, d, draws, rng)
    random_energy = random_angles.cos().square().sum(1)
    random_mean = mean_energies(k1, k2, d, len(a), draws, rng)
    crossed = crossed_energies(a, b)
    permuted_mean = permuted_means(crossed, draws, rng)
    permuted_energy, permuted_p = against_others(crossed, energy)

    def spread(values: Tensor) -> Tensor:
        """Values of the valid examples, NaN for the others."""
        whole = torch.full(valid.shape, torch.nan, dtype=torch.float64)
        whole[valid] = values.double()
        return whole

    return {
        "angles": angles,
        "random_angles": torch.nn.functional.pad(random_angles, (0, width - smaller), value=torch.nan),
        "random_energy": random_energy,
        "random_mean": random_mean,
        "permuted_energy": spread(permuted_energy),
        "permuted_mean": permuted_mean,
        "random_p": spread(p_values(energy, random_energy)),
        "permuted_p": spread(permuted_p),
        "random_p_all": p_values(energy.mean()[None], random_mean)[0],
        "permuted_p_all": p_values(energy.mean()[None], permuted_mean)[0],
        "valid": valid,
    }


def _check_settings(draws: int, tolerance: float) -> None:
    check_count(draws, "draws")
    if not 0 <= tolerance <= math.pi / 2:
        raise ValueError(f"tolerance must be an angle from 0 to π/2 in radians, got {tolerance!r}")
