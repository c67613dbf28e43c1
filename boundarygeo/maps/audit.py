"""What a boundary map may have missed: random points of its plane, compared with the labels that it shows there."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from boundarygeo.checks import check_count
from boundarygeo.classifier import Classifier
from boundarygeo.directions import generator_of
from boundarygeo.evaluation import analysis
from boundarygeo.maps.maps import BoundaryMaps
from boundarygeo.maps.planes import Planes
from boundarygeo.points import AffinePoints
from boundarygeo.results import Result, array
from boundarygeo.results.statistics import CONFIDENCE, lower_bound

_PURPOSE = 0xA0D17
"""Tells the points' generators from those of the planes' random directions, which may have the same seed."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class MapAudit(Result):
    """How often random points of a map's plane have another label than the map shows.

    A point whose label is that of one of the 8 pixels around its own lies beside a drawn boundary, within a pixel of
    it: `near`. All other disagreements are `missed`: the map shows nothing of that region there.

    Attributes:
        missed: number of points in regions that the map does not show there, int64 `[example]`.
        near: number of points on the other side of a drawn boundary, int64 `[example]`.
        missed_share: upper end of the one-sided 95 % interval of the missed share of the map's area (Clopper & Pearson
            1934), float64 `[example]`; 1 on planes that do not exist.
        valid: whether the plane exists, bool `[example]`; nothing is counted on others.
        index: number of each example, int64 `[example]`, which seeds its points.
        points: number of points per map.
    """

    missed: Tensor = array("example")
    near: Tensor = array("example")
    missed_share: Tensor = array("example")
    valid: Tensor = array("example")
    index: Tensor = array("example", coordinate=True)
    points: int

    def missed_at_most(self) -> float:
        """Upper end of the one-sided 95 % interval of the missed share of all maps' area together; NaN without maps."""
        maps = int(self.valid.sum())
        return float(upper_end(self.missed[self.valid].sum()[None], maps * self.points)[0]) if maps else float("nan")


@analysis
def audit_maps(
    clf: Classifier,
    maps: BoundaryMaps,
    planes: Planes,
    *,
    points: int = 10_000,
    seed: int = 0,
    progress: bool = True,
) -> MapAudit:
    """Test boundary maps at uniformly random points of their planes.

    The points lie between the pixels, too, where an adaptive and a dense map alike see nothing. Each point costs one
    forward pass in float32.

    Args:
        clf: the classifier of the maps.
        maps: result of `boundary_maps`.
        planes: the planes on which the maps were made, in the same order.
        points: number of points per map.
        seed: seed of the points.
        progress: whether to show a progress bar after two seconds.

    Returns:
        The counts and bounds, in the order of the maps.

    Raises:
        ValueError: if `planes` are not those of the maps, or as `boundary_maps`.
    """
    check_count(points, "points")
    if len(planes) != len(maps.labels) or not torch.equal(planes.index, maps.index) or planes.kind != maps.kind:
        raise ValueError(
            f"planes must be those of the maps, {len(maps.labels)} of kind {maps.kind!r} in the same order, got "
            f"{len(planes)} of kind {planes.kind!r}"
        )
    provenance = clf.record()
    existing = planes.valid.nonzero()[:, 0]
    missed, near = torch.zeros(len(planes), dtype=torch.int64), torch.zeros(len(planes), dtype=torch.int64)
    if len(existing):
        some = planes.select(existing)
        at = _points(some.index, points, float(maps.u[-1]), seed)
        labels = _labels(clf, some, at, maps.clip, progress)
        shown = _around(maps.labels[existing], maps.u, at)
        missed[existing] = (shown != labels[:, :, None]).all(2).sum(1)
        near[existing] = (shown[:, :, 4] != labels).sum(1) - missed[existing]
    bound = torch.ones(len(planes), dtype=torch.float64)
    bound[existing] = upper_end(missed[existing], points)
    return MapAudit(
        provenance=provenance(seed=seed),
        missed=missed,
        near=near,
        missed_share=bound,
        valid=planes.valid,
        index=planes.index,
        points=int(points),
    )


def upper_end(hits: Tensor, n: int) -> Tensor:
    """Upper end of the one-sided 95 % Clopper-Pearson interval of a share, float64."""
    return 1 - torch.from_numpy(lower_bound(n - hits.numpy(), n, 1 - CONFIDENCE))


def _points(index: Tensor, count: int, half: float, seed: int) -> Tensor:
    """Uniform points of each square `[example, point, 2]`, decided by seed and example."""
    drawn = [generator_of(seed, number, 0, _PURPOSE).uniform(-half, half, (count, 2)) for number in index.tolist()]
    return torch.from_numpy(np.stack(drawn))


def _labels(clf: Classifier, planes: Planes, at: Tensor, clip: bool, progress: bool) -> Tensor:
    """The network's labels at the points, int64 `[example, point]`."""
    count = at.shape[1]
    flat = at.view(-1, 2).to(clf.device)
    rows: list[Tensor] = []
    with clf.session(planes.origin.clamp(*clf.bounds)) as session:
        plane_points = AffinePoints(clf, planes.origin, (planes.u, planes.v), clip=clip)

        def batch(start: int, stop: int) -> Tensor:
            which = torch.arange(start, stop, device=clf.device) // count
            return plane_points.fast(which, flat[start:stop, 0], flat[start:stop, 1])

        session.run(
            batch, len(flat), lambda logits: rows.append(logits.argmax(1).cpu()), precision="float32", progress=progress
        )
    return torch.cat(rows).view(-1, count)


def _around(labels: Tensor, axis: Tensor, at: Tensor) -> Tensor:
    """Labels of the nearest pixel (in the middle) and its 8 neighbours, int64 `[example, point, 9]`."""
    side, step = len(axis), float(axis[1] - axis[0])
    col, row = (((at[..., k] - float(axis[0])) / step).round().long() for k in (0, 1))
    shown = [
        (row + up).clamp(0, side - 1) * side + (col + right).clamp(0, side - 1)
        for up in (-1, 0, 1)
        for right in (-1, 0, 1)
    ]
    pixels = torch.stack(shown, 2).flatten(1)
    return labels.flatten(1).gather(1, pixels).long().view(*at.shape[:2], 9)
