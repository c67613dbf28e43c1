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
    """One half-axis of the maps."""

    name: str  # the axis with its sign, e.g. "+ FGSM sign direction"
    changed: Estimate  # share of the examples whose label changes within the extent
    distance: Estimate  # median distance to that change, in axis units; inf if half do not change
    true_share: float  # mean share of the pixels on that side with the true class; NaN without examples


@dataclass(frozen=True)
class MapSummary:
    """Maps through examples in a few numbers."""

    halves: tuple[HalfAxis, ...]  # + and - along the first axis, then along the second
    n: int  # number of examples counted: classified correctly, on planes that exist
    misclassified: int  # examples left out because they are misclassified
    missing: int  # examples left out because they have no plane
    count: int  # number of maps
    evaluated: float  # mean share of the pixels that were sent through the model


def map_summary(parts: Iterable[BoundaryMaps]) -> MapSummary:
    """How often, and how near, the label changes along each half-axis.

    The maps have true classes and planes of one kind; all examples may come at once or in parts.
    """
    rows: list[tuple[Tensor, ...]] = []
    names: tuple[str, ...] = ()
    for maps in parts:
        assert maps.true_labels is not None
        correct, regions = maps.center_labels == maps.true_labels, region_summary(maps)
        rows.append((correct, maps.valid, maps.evaluated, regions.found, regions.axis_distance, regions.true_share))
        names = maps.axis_names
    correct, valid, evaluated, found, distance, true_share = map(torch.cat, zip(*rows, strict=True))
    counted = valid & correct
    n = int(counted.sum())
    signed = [f"{sign} {name}" for name in names for sign in "+-"]
    halves = tuple(
        HalfAxis(
            name,
            share(int(found[counted, half].sum()), n),
            median(distance[counted, half].numpy()),
            float(true_share[counted, half].mean()),
        )
        for half, name in enumerate(signed)
    )
    misclassified, missing = int((valid & ~correct).sum()), int((~valid).sum())
    return MapSummary(halves, n, misclassified, missing, len(valid), float(evaluated.mean()))


def mean_agreement(first: Iterable[BoundaryMaps], second: Iterable[BoundaryMaps]) -> float:
    """Mean `agreement` of two models over the planes, from maps in the same parts."""
    return float(torch.cat([agreement(*pair) for pair in zip(first, second, strict=True)]).mean())
