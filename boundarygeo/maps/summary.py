"""Boundary maps in a few numbers: how often and how near the label changes along the axes."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.maps.maps import BoundaryMaps
from boundarygeo.maps.regions import agreement, region_summary
from boundarygeo.results.statistics import Estimate, median, share


@dataclass(frozen=True)
class HalfAxis:
    """One half-axis of the maps.

    Attributes:
        name: the axis with its sign, e.g. `"+ FGSM sign direction"`.
        changed: share of the examples whose label changes within the extent, with its 95 % interval.
        distance: median distance to that change, in axis units, with its 95 % interval; inf if half do not change.
        true_share: mean share of the pixels on that side with the true class; NaN without examples.
    """

    name: str
    changed: Estimate
    distance: Estimate
    true_share: float


@dataclass(frozen=True)
class MapSummary:
    """Maps through examples in a few numbers.

    Attributes:
        halves: the four half-axes: + and - along the first axis, then along the second.
        n: number of examples counted: classified correctly, on planes that exist.
        misclassified: number of misclassified examples, which are left out.
        missing: number of examples without a plane, which are left out.
        count: number of maps.
        evaluated: mean share of the pixels that were sent through the model.
    """

    halves: tuple[HalfAxis, ...]
    n: int
    misclassified: int
    missing: int
    count: int
    evaluated: float


def map_summary(parts: Iterable[BoundaryMaps]) -> MapSummary:
    """How often, and how near, the label changes along each half-axis.

    Args:
        parts: maps with true classes on planes of one kind, of all examples at once or in parts.

    Returns:
        The summary of all parts.
    """
    columns: dict[str, list[Tensor]] = {}
    names: tuple[str, ...] = ()
    for maps in parts:
        assert maps.true_labels is not None
        regions = region_summary(maps)
        names = maps.axis_names
        for name, values in (
            ("correct", maps.center_labels == maps.true_labels),
            ("valid", maps.valid),
            ("evaluated", maps.evaluated),
            ("found", regions.found),
            ("distance", regions.axis_distance),
            ("true_share", regions.true_share),
        ):
            columns.setdefault(name, []).append(values)
    all_of = {name: torch.cat(values) for name, values in columns.items()}
    correct, valid = all_of["correct"], all_of["valid"]
    counted = valid & correct
    n = int(counted.sum())
    signed = [f"{sign} {name}" for name in names for sign in "+-"]
    halves = tuple(
        HalfAxis(
            name,
            share(int(all_of["found"][counted, half].sum()), n),
            median(all_of["distance"][counted, half].numpy()),
            float(all_of["true_share"][counted, half].mean()),
        )
        for half, name in enumerate(signed)
    )
    return MapSummary(
        halves, n, int((valid & ~correct).sum()), int((~valid).sum()), len(valid), float(all_of["evaluated"].mean())
    )


def mean_agreement(first: Iterable[BoundaryMaps], second: Iterable[BoundaryMaps]) -> float:
    """Share of the pixels that two models label alike, averaged over the planes.

    Args:
        first: maps of one model, at once or in parts.
        second: maps of the other model on the same planes, in the same parts.

    Returns:
        The mean of `agreement`.
    """
    return float(torch.cat([agreement(*pair) for pair in zip(first, second, strict=True)]).mean())
