"""Decision regions on boundary maps: areas, components, distances, line fits to the boundary, agreement."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from boundarygeo.evaluation import analysis, current_call
from boundarygeo.maps.maps import BoundaryMaps
from boundarygeo.results import Result, array

HALVES = ("right", "left", "top", "bottom")
"""Order of the dimension `half`: along +u, -u, +v and -v."""

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)

WINDOW_MARGIN = 0.1
"""Space around three images in dbViz's window, as a share of their rectangle's width and height."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class RegionSummary(Result):
    """Numbers that describe the decision regions of each map.

    The *reference* class of a map is the true class, or, for maps without true labels, the class predicted at the
    centre. The *centre* is the plane's origin (u, v) = (0, 0). Distances are in the maps' axis units. Where `valid` is
    False, integers are 0, `found` is False and floats are NaN.

    Attributes:
        true_share: share of the pixels of each half-plane with the reference class, float64 `[example, half]`; NaN
            for a half without pixels. The line that separates two halves belongs to neither.
        class_share: share of the map's pixels with each class, float64 `[example, class]`.
        classes: number of different labels in the map, int64 `[example]`.
        components: number of 8-connected components of equal label, int64 `[example]`.
        class_components: the same for each class, int64 `[example, class]`.
        axis_distance: distance from the centre, along each half-axis, to the first change of class (midway between two
            pixels), float64 `[example, half]`; inf if there is none within the extent (censored).
        found: whether there is such a change, bool `[example, half]`.
        nearest_distance: distance from the centre to the nearest pixel of a class other than the centre's, over all
            angles, float64 `[example]`; inf if there is none within the extent (censored).
        boundary_angle: orientation of the line fitted to the boundary of the reference class in degrees, in
            [0, 180), float64 `[example]`: 0 is parallel to u, 90 perpendicular to u. NaN without a boundary, and
            arbitrary if `boundary_straightness` is near 0.
        boundary_straightness: 1 - (variance of the boundary points across the fitted line) / (variance along
            it), in [0, 1], float64 `[example]`: 1 for an exact line, 0 for a circle. NaN without a boundary.
        boundary_rms: root mean square distance of the boundary points from the fitted line, float64
            `[example]`. The pixel grid alone gives an oblique line up to 0.3 pixels. NaN without a boundary.
        valid: whether the plane exists, bool `[example]`.
        index: number of each example, int64 `[example]`.
        halves: names along the dimension `half`.
        unit: unit of the distances.
    """

    true_share: Tensor = array("example", "half")
    class_share: Tensor = array("example", "class")
    classes: Tensor = array("example")
    components: Tensor = array("example")
    class_components: Tensor = array("example", "class")
    axis_distance: Tensor = array("example", "half", unit="axis units")
    found: Tensor = array("example", "half")
    nearest_distance: Tensor = array("example", unit="axis units")
    boundary_angle: Tensor = array("example", unit="degrees")
    boundary_straightness: Tensor = array("example")
    boundary_rms: Tensor = array("example", unit="axis units")
    valid: Tensor = array("example")
    index: Tensor = array("example", coordinate=True)
    halves: tuple[str, ...]
    unit: str


@analysis
def region_summary(maps: BoundaryMaps) -> RegionSummary:
    r"""Areas, components, distances and a line fit to the boundary for each map.

    The line is the total-least-squares fit through the boundary points: midpoints between 4-neighbours of which exactly
    one has the reference class. With \(\lambda_1 \ge \lambda_2\) the eigenvalues of their covariance, the line follows
    the first eigenvector, its straightness is \(1 - \lambda_2 / \lambda_1\) and the rms distance from it
    \(\sqrt{\lambda_2}\). Components are counted on the whole map; on planes through three images, `fragmentation`
    counts only those in the images' window.

    Args:
        maps: boundary maps on any planes.

    Returns:
        The summary; the cost in its provenance is that of the maps.

    Raises:
        TypeError: if `maps` is not a `BoundaryMaps`.
    """
    _check_maps(maps)
    labels, valid = maps.labels.numpy(), maps.valid.numpy()
    u, v = maps.u.numpy(), maps.v.numpy()
    center = maps.center_labels.numpy()
    reference = center if maps.true_labels is None else maps.true_labels.numpy()
    in_reference = (labels == reference[:, None, None]) & valid[:, None, None]
    other = (labels != center[:, None, None]) & valid[:, None, None]

    components = _class_components(labels, valid)
    axis_distance, found = _axis_distances(other, u, v)
    nearest = np.where(other, np.hypot(u, v[:, None]), np.inf).min(axis=(1, 2))
    angle, straightness, rms = _boundary_line(in_reference, u, v)

    fields: dict[str, NDArray] = {
        "true_share": np.where(valid[:, None], _half_shares(in_reference, u, v), np.nan),
        "class_share": _class_shares(labels, valid, components.shape[1]),
        "classes": (components > 0).sum(axis=1),
        "components": components.sum(axis=1),
        "class_components": components,
        "axis_distance": np.where(valid[:, None], axis_distance, np.nan),
        "found": found,
        "nearest_distance": np.where(valid, nearest, np.nan),
        "boundary_angle": angle,
        "boundary_straightness": straightness,
        "boundary_rms": rms,
    }
    return RegionSummary(
        **{name: torch.from_numpy(value) for name, value in fields.items()},
        valid=maps.valid.clone(),
        index=maps.index.clone(),
        halves=HALVES,
        unit=maps.unit,
        provenance=replace(maps.provenance, command=current_call().command()),
    )


@analysis
def fragmentation(maps: BoundaryMaps) -> Tensor:
    """Number of 8-connected components of equal label in each map, summed over classes.

    On planes through three images, only within the images' window (`image_window`), as in Somepalli et al. 2022, arXiv
    2203.08124: a region that leaves the window and comes back counts twice. On other planes, on the whole map.

    Args:
        maps: boundary maps on any planes.

    Returns:
        Counts, int64 `[example]`; 0 on planes that do not exist.

    Raises:
        TypeError: if `maps` is not a `BoundaryMaps`.
    """
    _check_maps(maps)
    labels = maps.labels.masked_fill(~image_window(maps), -1) if maps.kind == "through" else maps.labels
    return torch.from_numpy(_class_components(labels.numpy(), maps.valid.numpy()).sum(axis=1))


def image_window(maps: BoundaryMaps) -> Tensor:
    """Pixels `[plane, row, col]` inside dbViz's window: the three images' rectangle and a tenth of its sides around it.

    Maps are square: they end with the window along its longer side and extend beyond it along the shorter one.
    """
    assert maps.anchors is not None
    low, high = maps.anchors.amin(1), maps.anchors.amax(1)
    space = WINDOW_MARGIN * (high - low) + 1e-9  # the longer side ends at the map's edge, up to rounding
    columns, rows = (
        (axis >= (low - space)[:, which, None]) & (axis <= (high + space)[:, which, None])
        for which, axis in enumerate((maps.u, maps.v))
    )
    return rows[:, :, None] & columns[:, None, :]


@analysis
def agreement(a: BoundaryMaps, b: BoundaryMaps) -> Tensor:
    """Share of the pixels that two models label alike, on the whole of each map.

    The reproducibility score of Somepalli et al. 2022, a mean over planes and pairs of models within the images'
    window, is `reproducibility`.

    Args:
        a: maps of one classifier.
        b: maps of another classifier on the same planes.

    Returns:
        Shares, float64 `[example]`; NaN on planes that do not exist.

    Raises:
        TypeError: if one of them is not a `BoundaryMaps`.
        ValueError: if their planes differ in shape, examples or axes.
    """
    check_same_planes(a, b)
    share = (a.labels == b.labels).double().mean(dim=(1, 2))
    return share.masked_fill(~(a.valid & b.valid), torch.nan)


def check_same_planes(a: BoundaryMaps, b: BoundaryMaps) -> None:
    """Raise if maps visibly lie on different planes: differ in shape, examples or axes.

    Maps need not store their directions: planes along the gradients of two models pass if nothing else differs.
    """
    _check_maps(a)
    _check_maps(b)
    if a.labels.shape != b.labels.shape:
        raise ValueError(f"maps must have the same shape, got {list(a.labels.shape)} and {list(b.labels.shape)}")
    if not torch.equal(a.index, b.index):
        position = int(torch.nonzero(a.index != b.index)[0, 0])
        raise ValueError(
            f"maps must show the same examples, got index {int(a.index[position])} and "
            f"{int(b.index[position])} at position {position}"
        )
    if a.axis_names != b.axis_names or a.unit != b.unit:
        raise ValueError(
            f"maps must have the same axes, got {a.axis_names} in {a.unit!r} and {b.axis_names} in {b.unit!r}"
        )
    for name in ("u", "v", "axis_length"):
        mine, others = getattr(a, name), getattr(b, name)
        # Planes made on different devices differ in the last digits.
        if not torch.allclose(mine, others, rtol=1e-5, atol=0, equal_nan=True):
            far = torch.nonzero(~torch.isclose(mine, others, rtol=1e-5, atol=0, equal_nan=True))[0, 0]
            raise ValueError(
                f"maps must have the same {name}, got {mine[far].item():.6g} and {others[far].item():.6g} "
                f"at position {int(far)}"
            )


def _check_maps(maps: BoundaryMaps) -> None:
    if not isinstance(maps, BoundaryMaps):
        raise TypeError(f"maps must be a BoundaryMaps, got {type(maps).__name__}")


def _class_components(labels: NDArray, valid: NDArray) -> NDArray[np.int64]:
    """Number of 8-connected components `[example, class]`; pixels with negative labels are left out."""
    counts = np.zeros((len(labels), max(int(labels.max(initial=0)), 0) + 1), dtype=np.int64)
    numbered = np.empty(labels.shape[1:], dtype=np.int32)
    for example in np.flatnonzero(valid):
        for label in np.unique(labels[example][labels[example] >= 0]):
            # With an output array, the function returns only the count.
            counts[example, label] = ndimage.label(labels[example] == label, EIGHT_NEIGHBOURS, numbered)
    return counts


def _class_shares(labels: NDArray, valid: NDArray, classes: int) -> NDArray[np.float64]:
    """Share of the pixels of each class `[example, class]`, NaN on invalid planes."""
    bins = labels[valid].astype(np.int64) + classes * np.arange(valid.sum())[:, None, None]
    share = np.full((len(labels), classes), np.nan)
    share[valid] = np.bincount(bins.ravel(), minlength=int(valid.sum()) * classes).reshape(-1, classes)
    return share / (labels.shape[1] * labels.shape[2])


def _half_shares(region: NDArray[np.bool_], u: NDArray, v: NDArray) -> NDArray[np.float64]:
    """Share of each half-plane that a region covers `[example, half]`."""
    right, left = _beyond_center(u)
    top, bottom = _beyond_center(v)
    halves = (region[:, :, right], region[:, :, left], region[:, top], region[:, bottom])
    return np.stack([half.sum(axis=(1, 2)) / (half[0].size or np.nan) for half in halves], axis=1)


def _beyond_center(coordinate: NDArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Positions above and below zero, each from the centre outwards."""
    rounding = 1e-9 * np.abs(coordinate).max()  # a centre line at 1e-18 is on neither side
    return np.flatnonzero(coordinate > rounding), np.flatnonzero(coordinate < -rounding)[::-1]


def _axis_distances(other: NDArray[np.bool_], u: NDArray, v: NDArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Distance to the first pixel of another class along each half-axis, and whether there is one."""
    row, col = np.abs(v).argmin(), np.abs(u).argmin()
    distances, found = [], []
    for line, coordinate in ((other[:, row], u), (other[:, :, col], v)):
        for outwards in _beyond_center(coordinate):
            # Each ray starts with the origin, which has its own class.
            changed = np.pad(line[:, outwards], ((0, 0), (1, 0)))
            away = np.concatenate([[0.0], np.abs(coordinate[outwards])])
            midpoint = np.concatenate([[0.0], (away[1:] + away[:-1]) / 2])
            found.append(changed.any(axis=1))
            distances.append(np.where(found[-1], midpoint[changed.argmax(axis=1)], np.inf))
    return np.stack(distances, axis=1), np.stack(found, axis=1)


def _boundary_line(
    region: NDArray[np.bool_], u: NDArray, v: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Angle in degrees, straightness and rms of the total-least-squares line through a region's boundary."""
    # Boundary points as masks over a grid of (x, y): midpoints between columns, then between rows.
    points = (
        ((region[:, :, 1:] != region[:, :, :-1]).astype(np.float64), (u[1:] + u[:-1]) / 2, v),
        ((region[:, 1:] != region[:, :-1]).astype(np.float64), u, (v[1:] + v[:-1]) / 2),
    )
    count = sum(mask.sum(axis=(1, 2)) for mask, _, _ in points)
    count = np.where(count == 0, np.nan, count)
    mean_x = sum(mask.sum(axis=1) @ x for mask, x, _ in points) / count
    mean_y = sum(mask.sum(axis=2) @ y for mask, _, y in points) / count
    # Centred before squaring: with raw moments, points of an exact line would lie off it.
    xx = yy = xy = np.zeros(len(region))
    for mask, x, y in points:
        dx, dy = x - mean_x[:, None], y - mean_y[:, None]
        xx = xx + (mask.sum(axis=1) * dx**2).sum(axis=1) / count
        yy = yy + (mask.sum(axis=2) * dy**2).sum(axis=1) / count
        xy = xy + np.einsum("nrc,nr,nc->n", mask, dy, dx) / count
    spread = np.hypot((xx - yy) / 2, xy)
    along, across = (xx + yy) / 2 + spread, np.maximum((xx + yy) / 2 - spread, 0)
    along = np.where(along > 0, along, np.nan)  # a single boundary point has no direction
    # The modulus twice, because -1e-17 % 180 rounds to 180.
    angle = np.degrees(np.arctan2(2 * xy, xx - yy) / 2) % 180 % 180
    return np.where(np.isnan(along), np.nan, angle), 1 - across / along, np.sqrt(across)
