"""Directions found one after another, as a count: the sequential method of `adversarial_dimension`."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from boundarygeo.checks import check_count, check_positive, plain
from boundarygeo.classifier import Classifier
from boundarygeo.subspace.sequential.sequential import BOXES, sequential_directions
from boundarygeo.subspace.study import Best, Settings
from boundarygeo.subspace.verification import Verified, chunks

SEQUENTIAL_CAP = 50
"""Largest count by default, as in Paiton et al. 2021."""


def check_chains(
    dimension: int, *, eps: float, max_dimension: int | None, steps: int, seed: int, **others: Any
) -> Settings:
    """Check the settings for `method="sequential"`.

    Args:
        dimension: number of input dimensions.
        eps: as in `adversarial_dimension`, like all settings below.
        max_dimension: likewise.
        steps: likewise.
        seed: likewise.
        **others: likewise.

    Returns:
        The settings, with defaults filled in.

    Raises:
        ValueError: if a setting is invalid.
    """
    for name, only in (("norm", "l2"), ("rule", "all"), ("grid", None), ("restarts", 1)):
        if others[name] != only:
            raise ValueError(f"method='sequential' allows {name}={only!r} only, got {others[name]!r}")
    if others["box"] not in BOXES:
        raise ValueError(f"method='sequential' needs box in {list(BOXES)}, got {others['box']!r}")
    eps, max_dimension, steps, seed = plain(eps, max_dimension, steps, seed)
    check_positive(eps, "eps")
    check_count(steps, "steps", least=4)
    cap = min(SEQUENTIAL_CAP, dimension) if max_dimension is None else max_dimension
    check_count(cap, "max_dimension")
    if cap > dimension:
        raise ValueError(f"max_dimension must be at most the number of input dimensions, {dimension}, got {cap}")
    return Settings(float(eps), cap=cap, steps=steps, seed=seed, **{**others, "grid": ()})


def chains(
    clf: Classifier, x: Tensor, y: Tensor, settings: Settings, index: Tensor, progress: bool
) -> tuple[Best, Tensor]:
    """Search for one direction after another.

    Args:
        clf: the classifier.
        x: correctly classified examples `[example, *input]`; may be empty.
        y: their classes, int64 `[example]`.
        settings: checked settings.
        index: number of each example, int64 `[example]`.
        progress: whether to show a bar.

    Returns:
        The number of searches and of directions found, in one column each; and why each search ended, int64
        `[example]`, indices into `STOPS`.
    """
    if not len(x):
        none = torch.zeros(0, 1, dtype=torch.int64)
        return Best(none, none, lambda: iter(())), none[:, 0]
    found = sequential_directions(
        clf,
        x,
        y,
        eps=settings.eps,
        max_directions=settings.cap,
        box=settings.box,
        steps=settings.steps,
        index=index,
        seed=settings.seed,
        progress=progress,
    )

    def parts() -> Iterator[tuple[Tensor, Tensor]]:
        for start, stop in chunks(found.count, x[0].numel()):
            rows = (found.owner >= start) & (found.owner < stop)
            if bool(rows.any()):
                yield found.perturbations[rows], found.owner[rows]

    return Best(found.attempts[:, None], found.count[:, None], parts), found.stopped


def lengths(seen: Verified, cap: int) -> Tensor:
    """Lengths of each example's directions.

    Args:
        seen: verified directions, by example and in the order of finding.
        cap: largest number of directions per example.

    Returns:
        Their L2 norms, float64 `[example, cap]`; inf after the last direction.
    """
    assert seen.perturbations is not None
    assert seen.owner is not None
    first = seen.count.cumsum(0) - seen.count
    norms = torch.full((len(first), cap), torch.inf, dtype=torch.float64)
    rank = torch.arange(len(seen.owner)) - first[seen.owner]
    norms[seen.owner, rank] = seen.perturbations.flatten(1).double().norm(dim=1)
    return norms
