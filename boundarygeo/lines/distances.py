"""Distance to the decision boundary along a direction: the first change of label, bracketed and bisected."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.checks import check_count, check_positive
from boundarygeo.classifier import Classifier
from boundarygeo.directions import Directions
from boundarygeo.evaluation import Session, analysis
from boundarygeo.lines.rays import prepare
from boundarygeo.points import AffinePoints
from boundarygeo.results import Result, array
from boundarygeo.results.statistics import Estimate, median, share

SCAN_BLOCK = 8  # points per example and call: examples whose label has changed are left out of the next block


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class BoundaryDistances(Result):
    """First change of the predicted label along one direction per example.

    MD_d(f, x) of Tramèr et al. 2017, §4: the smallest ε > 0 with f(x + ε d) ≠ f(x), up to the resolution of the scan.

    Attributes:
        distance: float64 `[example]`, in `unit`; inf where no change was found, NaN without a direction.
        found: whether a change was found, bool `[example]`.
        predicted: class predicted at the example, int64 `[example]`.
        adversarial_label: class predicted beyond the boundary, int64 `[example]`; -1 where none was found.
        true_labels: int64 `[example]`.
        index: number of each example, int64 `[example]`.
        valid: whether the direction exists, bool `[example]`: False where a gradient is zero.
        max_distance: length of the search, in `unit`.
        scan: number of equally spaced points of the scan; regions thinner than their spacing can be missed.
        tolerance: the change lies at most this far before `distance`, in `unit`.
        name: name of the directions.
        unit: unit of the distances.
        clip: whether points were clipped to the bounds.
    """

    distance: Tensor = array("example", unit="direction units")
    found: Tensor = array("example")
    predicted: Tensor = array("example")
    adversarial_label: Tensor = array("example")
    true_labels: Tensor = array("example")
    index: Tensor = array("example", coordinate=True)
    valid: Tensor = array("example")
    max_distance: float
    scan: int
    tolerance: float
    name: str
    unit: str
    clip: bool

    @property
    def changed(self) -> Estimate:
        """Share of the examples with a direction whose label changes within `max_distance`, with its 95 % interval."""
        return share(int(self.found.sum()), int(self.valid.sum()))

    @property
    def median(self) -> Estimate:
        """Median distance of the examples with a direction, with its 95 % interval; inf if half do not change."""
        return median(self.distance[self.valid].numpy())


@analysis
def boundary_distance(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    direction: str | Tensor | Directions,
    max_distance: float,
    scan: int = 64,
    tolerance: float | None = None,
    clip: bool = True,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
) -> BoundaryDistances:
    """Distance to the first change of the predicted label along a direction, for a batch of examples.

    Equally spaced points are scanned from the example outwards until the label differs; the change is then bisected in
    float32. Regions between two neighbouring points of the scan are missed; for piecewise affine modules,
    `exact_boundary_distance` misses none of them. For the other side of a line, negate the direction.

    Args:
        clf: the classifier.
        x: examples `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        direction: `"fgsm"`, `"gradient"`, `"random"`, vectors `[example, *input]`, or `Directions`.
        max_distance: length of the search, in steps of the direction (for `"fgsm"`: ε in L∞).
        scan: number of points in the scan.
        tolerance: largest error of the distance, which is never too small; by default a millionth of `max_distance`.
        clip: whether points are clipped to the bounds, as images are.
        seed: seed of random directions.
        index: number of each example, which seeds its random direction; by default 0, 1, 2, ….

    Returns:
        The distances; inf with `found=False` where no change was found within `max_distance`.

    Raises:
        TypeError: if an argument or the module's output has the wrong type.
        ValueError: if an argument is out of range.
    """
    tolerance = check_reach(max_distance, scan, tolerance)
    directions, numbers, provenance = prepare(clf, x, y, direction, seed=seed, index=index)
    vectors = directions.vectors.detach().float().cpu()
    valid = vectors.flatten(1).any(1)
    with clf.session(x, y) as session:
        ray = _Ray(clf, session, x, vectors, clip=clip)
        label = ray.labels(torch.arange(len(x), device=clf.device), torch.zeros(len(x), device=clf.device))
        near, far, beyond = _bracket(ray, label, valid.to(clf.device), max_distance, scan)
        found = beyond >= 0
        _bisect(ray, label, near, far, beyond, found, tolerance)
    distance = torch.where(found, far, torch.inf).cpu()
    return BoundaryDistances(
        provenance=provenance(seed=seed, direction=directions, tolerance=tolerance),
        distance=torch.where(valid, distance, torch.nan),
        found=found.cpu(),
        predicted=label.cpu(),
        adversarial_label=beyond.cpu(),
        true_labels=y.detach().cpu().long(),
        index=numbers,
        valid=valid,
        max_distance=float(max_distance),
        scan=scan,
        tolerance=float(tolerance),
        name=directions.name,
        unit=directions.unit,
        clip=clip,
    )


def check_reach(max_distance: float, scan: int, tolerance: float | None) -> float:
    """Check the settings of a search along rays; returns the tolerance."""
    check_positive(max_distance, "max_distance")
    check_count(scan, "scan")
    return check_positive(1e-6 * max_distance if tolerance is None else tolerance, "tolerance")


class _Ray:
    """Labels at points of the rays, in float32."""

    def __init__(self, clf: Classifier, session: Session, x: Tensor, vectors: Tensor, *, clip: bool) -> None:
        self._session = session
        self._points = AffinePoints(clf, x.detach().float(), [vectors], clip=clip)

    def labels(self, example: Tensor, eps: Tensor) -> Tensor:
        rows: list[Tensor] = []
        self._session.run(
            lambda i, j: self._points.fast(example[i:j], eps[i:j]),
            len(example),
            lambda logits: rows.append(logits.argmax(1)),
            precision="float32",
        )
        return torch.cat(rows) if rows else example[:0]


def _bracket(ray: _Ray, label: Tensor, valid: Tensor, most: float, scan: int) -> tuple[Tensor, Tensor, Tensor]:
    """Neighbouring points of the scan between which the label changes, and the label beyond; -1 if it does not."""
    device = label.device
    near = torch.zeros(len(label), dtype=torch.float64, device=device)
    far, beyond = near.clone(), torch.full_like(label, -1)
    ticks = torch.arange(1, scan + 1, device=device, dtype=torch.float64) * (most / scan)
    pending = valid.nonzero()[:, 0]
    for block in ticks.split(SCAN_BLOCK):
        if not len(pending):
            break
        seen = ray.labels(pending.repeat_interleave(len(block)), block.repeat(len(pending))).view(-1, len(block))
        differs = seen != label[pending, None]
        changed = differs.any(1)
        rows = changed.nonzero()[:, 0]
        who, first = pending[rows], differs.int().argmax(1)[rows]
        far[who] = block[first]
        near[who] = block[first] - most / scan
        beyond[who] = seen[rows].gather(1, first[:, None])[:, 0]
        pending = pending[(~changed).nonzero()[:, 0]]
    return near.clamp_min_(0), far, beyond


def _bisect(
    ray: _Ray, label: Tensor, near: Tensor, far: Tensor, beyond: Tensor, found: Tensor, tolerance: float
) -> None:
    """Halve the brackets, in place, until they are as narrow as the tolerance (or float32 steps)."""
    who = found.nonzero()[:, 0]
    widest = float((far - near).amax()) if len(who) else 0.0
    for _ in range(max(0, math.ceil(math.log2(widest / tolerance))) if widest > 0 else 0):
        middle = (near[who] + far[who]) / 2
        seen = ray.labels(who, middle)
        differs = seen != label[who]
        far[who] = torch.where(differs, middle, far[who])
        beyond[who] = torch.where(differs, seen, beyond[who])
        near[who] = torch.where(differs, near[who], middle)
