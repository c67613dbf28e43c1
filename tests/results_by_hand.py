"""Results made by hand, for figures and texts."""

import math

import torch
from transfer_by_hand import MADE, matrix_of

import boundarygeo as bg
from boundarygeo.results import Provenance
from boundarygeo.results.statistics import share

INF, NAN = math.inf, math.nan
T = [-0.2, 0.0, 0.1]


def accuracy_curve_of(
    hits: list[int], eps: list[float], *, norm: str = "linf", attack: str = "fgsm", model: str = "a", n: int = 100
) -> bg.AccuracyCurve:
    shares = [share(count, n) for count in hits]
    return bg.AccuracyCurve(
        provenance=Provenance(command="by hand", model=model),
        eps=torch.tensor(eps, dtype=torch.float64),
        accuracy=torch.tensor([s.value for s in shares], dtype=torch.float64),
        low=torch.tensor([s.low for s in shares], dtype=torch.float64),
        high=torch.tensor([s.high for s in shares], dtype=torch.float64),
        correct=torch.arange(n)[None] < torch.tensor(hits)[:, None],
        index=torch.arange(n),
        n=n,
        attack=attack,
        norm=norm,
    )


def distances_of(
    values: list[float], *, reach: float = 1.0, name: str = "+ random", unit: str = "L2", model: str = "a"
):
    distance = torch.tensor(values, dtype=torch.float64)
    count = len(values)
    return bg.BoundaryDistances(
        provenance=Provenance(command="by hand", model=model),
        distance=distance,
        found=distance.isfinite(),
        predicted=torch.zeros(count).long(),
        adversarial_label=torch.ones(count).long(),
        true_labels=torch.zeros(count).long(),
        index=torch.arange(count),
        valid=~distance.isnan(),
        max_distance=reach,
        scan=8,
        tolerance=1e-6,
        name=name,
        unit=unit,
        clip=True,
    )


def reproduced() -> bg.Reproducibility:
    equal = torch.tensor([[0.5, 1.0, NAN], [0.25, 0.75, NAN], [0.0, 0.04, NAN]], dtype=torch.float64)
    return bg.Reproducibility(
        provenance=MADE,
        agreement=equal,
        window_agreement=equal,
        intersection=torch.ones(3, 2, dtype=torch.int64),
        union=torch.ones(3, 2, dtype=torch.int64),
        fragments=torch.ones(3, 3, dtype=torch.int64),
        evaluated=torch.ones(3, 3, dtype=torch.float64),
        triplets=torch.zeros(3, 3, dtype=torch.int64),
        index=torch.arange(3),
        valid=torch.tensor([True, True, False]),
        pairs=torch.tensor([[0, 1], [0, 2], [1, 2]]),
        names=("a", "b", "c"),
        resolution=11,
        clip=True,
        method="dense",
    )


def shared_counts(*, null: bool = True, correct: tuple[bool, ...] = (True,) * 4) -> bg.SharedDimension:
    zero = torch.zeros(4, dtype=torch.float64)
    return bg.SharedDimension(
        provenance=MADE,
        claimed=torch.tensor([9, 4, 2, 0]),
        verified=torch.tensor([6, 3, 1, 0]),
        found=torch.tensor([True, True, True, False]),
        correct=torch.tensor(correct),
        valid=torch.ones(4, dtype=torch.bool),
        tried=torch.zeros(4, 1, dtype=torch.int64),
        successes=torch.zeros(4, 1, dtype=torch.int64),
        first_order=None,
        null_claimed=torch.tensor([3, 1, 0, 0]),
        null_verified=torch.tensor([2, 0, 0, 0]) if null else None,
        cosine=zero,
        orthogonality=zero,
        effective_rank=zero,
        perturbations=None,
        owner=None,
        true_labels=torch.zeros(4, dtype=torch.int64),
        index=torch.arange(4),
        names=("a", "b"),
        eps=2.0,
        method="gaas",
        rule="all",
        box="ignore" if null else "feasible",
        max_dimension=8,
    )


def cosines_of(values, *, name="FGSM sign direction", unit="ε (L∞)", model="a", t=T, clip=True) -> bg.GradientCosines:
    return bg.GradientCosines(
        provenance=Provenance(command="by hand", model=model),
        cosine=torch.tensor(values, dtype=torch.float64),
        index=torch.arange(len(values)),
        t=torch.tensor(t, dtype=torch.float64),
        name=name,
        unit=unit,
        clip=clip,
    )


def pair_distances() -> bg.InterBoundaryDistance:
    """Along the directions of a, five examples: one without a direction, one censored in b, another in c."""
    own, second, third = [1.0, 2, 3, 4, NAN], [1.5, 2.5, INF, 3, NAN], [2.0, INF, 3, 1, NAN]
    here = torch.tensor([own, second, third], dtype=torch.float64)
    nothing = torch.full((3, 5), INF, dtype=torch.float64)
    return bg.InterBoundaryDistance(
        provenance=MADE,
        distance=torch.stack([torch.stack([here] * 3), torch.stack([nothing] * 3)]),
        true_labels=torch.zeros(5, dtype=torch.int64),
        index=torch.arange(5),
        correct=torch.ones(3, 5, dtype=torch.bool),
        names=("a", "b", "c"),
        directions=("adversarial", "random"),
        adversarial="gradient",
        max_distance=5.0,
        scan=8,
        tolerance=1e-6,
        clip=True,
    )


def two_by_two(*, names: tuple[str, ...] = ("plain", "robust"), targeted: bool = False) -> bg.TransferMatrix:
    """Twenty examples of class 0: 20, 1, 5 and 0 of them labelled 1."""
    labels = torch.zeros(2, 2, 20, dtype=torch.int64)
    for (i, j), count in {(0, 0): 20, (0, 1): 1, (1, 0): 5}.items():
        labels[i, j, :count] = 1
    y = torch.zeros(20, dtype=torch.int64)
    return matrix_of(labels, y, targets=torch.ones_like(y) if targeted else None, names=names, eight_bit=targeted)


def mistakes_of_two() -> bg.TransferMistakes:
    counts = {"unfooled": [[0, 5], [0, 0]], "same": [[10, 4], [0, 0]], "different": [[0, 1], [0, 0]]}
    return bg.TransferMistakes(
        provenance=MADE,
        **{name: torch.tensor(values) for name, values in counts.items()},
        chance=torch.tensor([[5.0, 2.5], [0, 0]], dtype=torch.float64),
        chance_sd=torch.tensor([[1.0, 0.5], [0, 0]], dtype=torch.float64),
        names=("a", "b"),
    )
