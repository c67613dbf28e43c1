"""Bases of adversarial subspaces, computed from many perturbations instead of one gradient."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from boundarygeo.attacks.external import External, check_made_for, external_attack, name_of
from boundarygeo.attacks.projected_gradient import pgd
from boundarygeo.checks import check_choice, check_count, check_eps
from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import analysis, current_call
from boundarygeo.linalg import norms, row_space, scaled_to
from boundarygeo.results import Provenance, Result, array
from boundarygeo.subspace.sequential.sequential import SequentialDirections

_MOST_RESTARTS = 1 << 20
_STEPS_PER_RADIUS = 6
_EXACT_COST = 4e9
"""Largest n·d·min(n, d) of an exact singular value decomposition: seconds on one core."""
_OVERSAMPLING = 10
_POWER_ITERATIONS = 6
_ROWS_AT_ONCE = 4096
_VALUES_AT_ONCE = 1 << 25  # perturbation values of the examples attacked together: 128 MiB


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SubspaceBases(Result):
    """Orthonormal bases of subspaces of the (flattened) input space, one per example or one for the whole set.

    Attributes:
        vectors: orthonormal rows, float64 `[example, direction, coordinate]`, padded with zero rows.
        singular_values: singular values of the perturbations, each scaled to L2 length 1, float64 `[example,
            direction]`.
        energy: share of those perturbations' squared length that lies in the basis, float64 `[example]`.
        rank: number of nonzero rows, int64 `[example]`.
        samples: number of perturbations behind the basis, int64 `[example]`.
        valid: whether the basis has as many rows as requested, bool `[example]`.
        index: number of each example, int64 `[example]`; 0 for the basis of a set.
        kind: `"sequential"`, `"perturbations"` or `"set"`.
        attack: `"pgd"` or the name of an external attack, for the kind `"perturbations"`.
    """

    vectors: Tensor = array("example", "direction", "coordinate")
    singular_values: Tensor = array("example", "direction")
    energy: Tensor = array("example")
    rank: Tensor = array("example")
    samples: Tensor = array("example")
    valid: Tensor = array("example")
    index: Tensor = array("example", coordinate=True)
    kind: str
    attack: str | None = None


@analysis
def sequential_bases(found: SequentialDirections, *, dimension: int) -> SubspaceBases:
    """Bases of the first few sequential directions of each example: its shortest orthogonal perturbations.

    Args:
        found: result of `sequential_directions`.
        dimension: number of directions to take, from the shortest.

    Returns:
        The bases. An example with fewer directions is marked in `valid`.

    Raises:
        ValueError: if `dimension` is not a number from 1 to the size of an input.
    """
    flat = found.perturbations.double().flatten(1)
    _check_dimension(dimension, flat.shape[1])
    taken = found.rank < dimension
    rows = torch.zeros(len(found.index), dimension, flat.shape[1], dtype=torch.float64)
    rows[found.owner[taken], found.rank[taken]] = scaled_to(flat, torch.ones(len(flat)))[taken]
    made = found.provenance
    provenance = Provenance(current_call().command(), seed=made.seed, model=made.model, device=made.device)
    return _bases(rows, dimension, found.index, "sequential", provenance)


@analysis
def perturbation_bases(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    dimension: int,
    attack: Literal["pgd"] | External = "pgd",
    eps: float,
    restarts: int = 32,
    steps: int = 40,
    step_size: float | None = None,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> SubspaceBases:
    """Bases of each example's leading directions among many of its adversarial perturbations.

    The perturbations come from L2 PGD from random starts with all steps taken (`pgd(..., early_stop=False)`), or from
    an external attack that gets each example `restarts` times. Those that fool the classifier are scaled to length 1,
    and their leading right singular vectors form the basis (not centred: the mean perturbation is a direction, too).
    Random starts leave traces in the perturbations, so bases of two models need different seeds.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        dimension: number of directions in each basis.
        attack: `"pgd"`, or an attack in L2 as `external_attack` takes it. It must start at random: one that gives every
            copy of an example the same perturbation finds one direction.
        eps: L2 radius of the ball, in input units.
        restarts: perturbations searched for per example, at least `dimension`.
        steps: steps of each search of PGD; an external attack has its own.
        step_size: length of a step of PGD (L2); by default ε / 6. Many such steps leave less of the random starts than
            the steps of `pgd`: one model's bases from two seeds are more alike.
        seed: seed of the random starts.
        index: number of each example, which determines its random starts; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Returns:
        The bases. Misclassified examples, and those with fewer than `dimension` independent perturbations found, are
        marked in `valid`.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind, or the attack is of another kind.
        ValueError: if an argument or the module's output is invalid.
    """
    clf.check_inputs(x)
    clf.check_labels(y, len(x))
    _check_dimension(dimension, x[0].numel())
    check_count(restarts, "restarts", least=dimension)
    if restarts > _MOST_RESTARTS:
        raise ValueError(f"restarts must be at most {_MOST_RESTARTS}, got {restarts}")
    radius = check_eps(eps)
    common = {"eps": radius, "norm": "l2", "seed": seed, "progress": progress}
    if isinstance(attack, str):
        check_choice(attack, "attack", ("pgd",))
        stride = radius / _STEPS_PER_RADIUS if step_size is None else step_size
        name, own = attack, {"steps": steps, "step_size": stride}
        search = partial(pgd, early_stop=False, **own, **common)
    else:
        check_made_for(attack, radius)
        name, own = name_of(attack), {"steps": None, "step_size": None}
        search = partial(external_attack, attack=attack, **common)
    numbers = numbers_of(index, len(x))
    provenance = clf.record()
    parts = []
    for some in torch.arange(len(x)).split(max(1, _VALUES_AT_ONCE // (restarts * x[0].numel()))):
        # Each start has its own number, independent of the number of restarts and of the other examples.
        starts = (numbers[some, None] * _MOST_RESTARTS + torch.arange(restarts)).flatten()
        repeated = x[some].detach().cpu().repeat_interleave(restarts, 0)
        classes = y[some].cpu().repeat_interleave(restarts)
        attacked = search(clf, repeated, classes, index=starts)
        used = (attacked.found & (attacked.distance > 0)).double()
        delta = scaled_to(attacked.x_adv.double() - repeated.double().clamp(*clf.bounds), used).flatten(1)
        parts.append(_bases(delta.view(len(some), restarts, -1), dimension, numbers[some], "perturbations"))
    return replace(SubspaceBases.concatenate(parts), provenance=provenance(seed=seed, **own), attack=name)


@analysis
def set_basis(perturbations: Tensor, *, dimension: int, seed: int = 0) -> SubspaceBases:
    """One basis for a whole set: the leading directions among perturbations of many examples.

    Perturbations are scaled to length 1 and not centred. Small problems are decomposed exactly, large ones by blockwise
    subspace iteration from a random start (Halko, Martinsson & Tropp 2011, SIAM Review 53(2), Algorithms 4.4 and 5.1):
    directions whose singular values are well separated are accurate to many digits; within a plateau of equal singular
    values, any directions are equally good.

    Args:
        perturbations: perturbations of one model, one or more per example, `[n, *input]`, e.g. `x_adv - x` where
            `found`.
        dimension: number of directions in the basis.
        seed: seed of the random start.

    Returns:
        The bases, with one "example": the set.

    Raises:
        ValueError: if `dimension` does not fit, or perturbations are zero or not finite.
    """
    if perturbations.ndim < 2 or not perturbations.numel():
        raise ValueError(f"perturbations must have shape [n, *input], got {list(perturbations.shape)}")
    count, size = len(perturbations), perturbations[0].numel()
    _check_dimension(dimension, min(count, size), "perturbations and coordinates")
    lengths = norms(perturbations)
    if not bool((lengths.isfinite() & (lengths > 0)).all()):
        raise ValueError("perturbations must be finite and not zero: leave out those that failed")
    provenance, index = Provenance(command=current_call().command(), seed=seed), torch.zeros(1, dtype=torch.int64)
    if float(count) * size * min(count, size) <= _EXACT_COST:
        rows = scaled_to(perturbations, torch.ones(count)).flatten(1)
        return _bases(rows[None].cpu(), dimension, index, "set", provenance)
    vectors, values = _subspace_iteration(perturbations.flatten(1), dimension, seed)
    rank = (values > max(count, size) * torch.finfo(perturbations.dtype).eps * values[0]).sum()
    kept = torch.arange(dimension) < rank
    return SubspaceBases(
        provenance=provenance,
        vectors=torch.where(kept[:, None], vectors, 0.0)[None],
        singular_values=torch.where(kept, values, 0.0)[None],
        energy=((values * kept).square().sum() / count)[None],
        rank=rank[None],
        samples=torch.tensor([count]),
        valid=(rank == dimension)[None],
        index=index,
        kind="set",
    )


def _check_dimension(dimension: int, most: int, what: str = "coordinates") -> None:
    check_count(dimension, "dimension")
    if dimension > most:
        raise ValueError(f"dimension must be at most {most}, the number of {what}, got {dimension}")


def _bases(
    rows: Tensor, dimension: int, index: Tensor, kind: str, provenance: Provenance | None = None
) -> SubspaceBases:
    """Leading directions of unit (or zero: unused) vectors `[example, sample, coordinate]`."""
    # The vectors come from float32: anything below its rounding is not a direction.
    rcond = max(rows.shape[1:]) * torch.finfo(torch.float32).eps
    vectors, values, rank = row_space(rows, rcond=rcond)
    missing = max(0, dimension - values.shape[1])
    vectors = torch.nn.functional.pad(vectors[:, :dimension], (0, 0, 0, missing))
    values = torch.nn.functional.pad(values[:, :dimension], (0, missing))
    rank = rank.clamp_max(dimension)
    samples = (rows.norm(dim=2) > 0).sum(1)
    values = torch.where(torch.arange(dimension) < rank[:, None], values, 0.0)
    return SubspaceBases(
        provenance=provenance or Provenance(command=""),
        vectors=vectors,
        singular_values=values,
        energy=values.square().sum(1) / samples,  # 0 / 0 is NaN: no perturbations have no energy
        rank=rank,
        samples=samples,
        valid=rank == dimension,
        index=index,
        kind=kind,
    )


def _subspace_iteration(rows: Tensor, dimension: int, seed: int) -> tuple[Tensor, Tensor]:
    """Leading right singular vectors `[dimension, d]` and values of the rows, each scaled to length 1."""
    blocks = rows.split(_ROWS_AT_ONCE)

    def unit(block: Tensor) -> Tensor:
        return scaled_to(block, torch.ones(len(block))).cpu()

    def gram(basis: Tensor) -> Tensor:
        """RᵀR applied to columns `[d, k]`."""
        total = torch.zeros_like(basis)
        for block in blocks:
            part = unit(block)
            total += part.mT @ (part @ basis)
        return total

    size = min(dimension + _OVERSAMPLING, *rows.shape)
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(rows.shape[1], size, dtype=torch.float64, generator=generator)
    for _ in range(_POWER_ITERATIONS + 1):
        basis = torch.linalg.qr(gram(basis)).Q
    small = torch.cat([unit(block) @ basis for block in blocks])
    _, values, turned = torch.linalg.svd(small, full_matrices=False)
    return (turned @ basis.mT)[:dimension], values[:dimension]
