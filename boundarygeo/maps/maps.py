"""Boundary maps: predicted labels on a grid of points of a plane."""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor

from boundarygeo.checks import check_choice
from boundarygeo.choices import MAP_EXTRAS, MAP_METHODS, SMALLEST_RESOLUTION, MapMethod, Precision
from boundarygeo.classifier import Classifier
from boundarygeo.evaluation import analysis, progress_bar
from boundarygeo.linalg import like, norms
from boundarygeo.maps.pixels import Decisions, PixelJudge
from boundarygeo.maps.planes import Planes
from boundarygeo.maps.refine import refine
from boundarygeo.results import Result, array

PER_PIXEL = ("margin", "probability")
COARSE_CELLS = 16  # across the width of a map at any resolution, so that pixel size does not decide what is found
# Pixels of planes that are refined together: enough to fill batches, few enough for memory and a moving progress bar.
PIXELS_AT_ONCE = {"cpu": 1 << 19, "cuda": 1 << 23}
CHUNK_BYTES = 1 << 30


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class BoundaryMaps(Result):
    """Predicted labels on square grids of 2-D planes through the input space.

    Row 0 is the lowest coordinate on the second axis and column 0 the lowest on the first (draw with
    `origin="lower"`). On planes through an example, it is the middle pixel; planes through three images may have an
    even number of pixels per side and no middle pixel.

    Attributes:
        labels: predicted class per pixel `[example, row, col]`, int16, or int32 for more than 32,768 classes; -1 on
            planes that do not exist.
        u: coordinate of each column along the first axis, float64 `[col]`, in `unit`.
        v: coordinate of each row along the second axis, float64 `[row]`, in `unit`.
        index: number of each example, int64 `[example]`, which seeds its random directions.
        true_labels: true class, int64 `[example]`, or None for planes through three images.
        center_labels: class predicted at the plane's origin, int64 `[example]`.
        valid: whether the plane exists, bool `[example]`: False where the gradient is zero.
        axis_length: L2 length in input units of one unit of either axis, float64 `[example]`.
        anchors: coordinates `(u, v)` of the images that span the plane, float64 `[example, anchor, 2]`, or None.
        evaluated: share of the pixels that were sent through the network, float64 `[example]`.
        margin: at the evaluated pixels (NaN elsewhere) the true class's logit minus the largest other one, or the
            largest minus the second largest without a true class; float32 `[example, row, col]`, or None.
        probability: softmax of the true class at the evaluated pixels (NaN elsewhere), or None.
        origin: the planes' origins, float32 `[example, *input]`, or None.
        axes: both axes of each plane, float32 `[example, axis, *input]`, in input units per axis unit, or None.
        kind: name of the planes, e.g. `"fgsm_random"`.
        axis_names: names of the two axes.
        unit: unit of `u` and `v`.
        clip: whether points were clipped to the bounds.
        method: `"adaptive"` or `"dense"`.
        bounds: the classifier's bounds, or None in old stores.
        class_names: name of each class for figures, or None.
    """

    labels: Tensor = array("example", "row", "col")
    u: Tensor = array("col", unit="axis units", coordinate=True)
    v: Tensor = array("row", unit="axis units", coordinate=True)
    index: Tensor = array("example", coordinate=True)
    true_labels: Tensor | None = array("example")
    center_labels: Tensor = array("example")
    valid: Tensor = array("example")
    axis_length: Tensor = array("example", unit="L2 in input units")
    anchors: Tensor | None = array("example", "anchor", "axis", unit="axis units")
    evaluated: Tensor = array("example")
    margin: Tensor | None = array("example", "row", "col", unit="logits")
    probability: Tensor | None = array("example", "row", "col")
    origin: Tensor | None = array("example", "*input")
    axes: Tensor | None = array("example", "axis", "*input")
    kind: str
    axis_names: tuple[str, str]
    unit: str
    clip: bool
    method: MapMethod
    bounds: tuple[float, float] | None = None
    class_names: tuple[str, ...] | None = dataclasses.field(default=None, repr=False)

    def inputs(self, example: int, rows: Tensor, cols: Tensor) -> Tensor:
        """Inputs at some pixels of a map, before normalisation, float32 `[pixel, *input]`; needs `keep=["planes"]`."""
        if self.origin is None or self.axes is None or self.bounds is None:
            raise ValueError('maps were made without their planes: call boundary_maps(..., keep=["planes"])')
        u, v = (like(axis[pixels].float(), self.origin) for axis, pixels in ((self.u, cols), (self.v, rows)))
        inputs = self.origin[example] + u * self.axes[example, 0] + v * self.axes[example, 1]
        return inputs.clamp(*self.bounds) if self.clip else inputs


@analysis
def boundary_maps(
    clf: Classifier,
    planes: Planes,
    *,
    extent: float | None = None,
    resolution: int = 129,
    method: MapMethod = "adaptive",
    precision: Precision = "auto",
    clip: bool = True,
    coarse: int | None = None,
    keep: Collection[str] = (),
    progress: bool = True,
) -> BoundaryMaps:
    """Predicted labels on planes: the cells of a church-window plot.

    `method="dense"` sends every pixel through the network. `method="adaptive"` evaluates a coarse grid, predicts all
    labels from its logits, and evaluates along the predicted boundaries until every change of label on the map lies
    between two evaluated pixels. It misses islands and thin fingers between the coarse points if the logits there do
    not hint at them; a smaller `coarse` finds more, and `dense` all that are at least a pixel wide. Both miss what lies
    between the pixels.

    Labels are those of float32; ties within float32's rounding are decided in float64, so that they depend on neither
    the batch size nor the device. With `precision="auto"`, hardware that is fast at bfloat16 uses it for pixels whose
    margin exceeds 6 standard deviations of its error, measured on each plane; the others are decided in float32. This
    is not proof against errors: of 250,000 pixels of each of eleven networks, dense, up to 7 had another label than in
    float32 (benchmarks/reproducibility_errors.py).

    Args:
        clf: the classifier; planes of another one are allowed.
        planes: planes through examples.
        extent: half-width of the maps in axis units (for FGSM planes: ε); optional for `planes_through`.
        resolution: pixels per side, at least 5, and odd, so that one pixel is the centre; for `planes_through` also
            even.
        method: `"adaptive"` or `"dense"`.
        precision: `"auto"`, `"float32"`, `"float64"`, or `"bfloat16"` (a preview: nothing is re-checked).
        clip: whether points are clipped to the bounds, as images are.
        coarse: spacing of the adaptive method's coarse grid, in pixels; by default a sixteenth of the map's width.
        keep: what to store besides labels: `"margin"` and `"probability"` of each evaluated pixel, in the precision
            that decided its label, and `"planes"`, which `BoundaryMaps.inputs` needs.
        progress: whether to show a progress bar after two seconds.

    Raises:
        TypeError: if the module does not return a tensor.
        ValueError: if an argument is out of range, the planes do not fit the classifier, or its logits are NaN.
    """
    stride = max(1, resolution // COARSE_CELLS) if coarse is None else coarse
    half = _check_settings(clf, planes, extent, resolution, method, stride, keep)
    resolution, stride = int(resolution), int(stride)  # they may be NumPy's
    provenance = clf.record()
    axis = torch.linspace(-half, half, resolution, dtype=torch.float64)
    count = len(planes)
    kept = {name: torch.full((count, resolution, resolution), torch.nan) for name in PER_PIXEL if name in keep}
    share = torch.zeros(count, dtype=torch.float64)
    with (
        clf.session(planes.origin.clamp(*clf.bounds)) as session,
        progress_bar(count, description="boundary maps", unit="planes", progress=progress) as bar,
    ):
        ladder = session.ladder(precision, planes.origin.shape[1:])
        labels = torch.full((count, resolution, resolution), -1, dtype=_label_dtype(clf.num_classes))
        if planes.labels is not None:
            clf.check_labels(planes.labels, count, "planes.labels")
        bar.update(int((~planes.valid).sum()))
        existing = planes.valid.nonzero()[:, 0]
        at_once = _planes_at_once(clf, planes, resolution)
        for chunk in (existing[start : start + at_once] for start in range(0, len(existing), at_once)):
            judge = PixelJudge(clf, session, planes.select(chunk), axis, ladder=ladder, clip=clip)
            if method == "dense":
                part, evaluated, decisions = _every_pixel(judge, len(chunk))
            else:
                part, evaluated, decisions = refine(judge, len(chunk), stride)
            labels[chunk] = part.to("cpu", labels.dtype)
            share[chunk] = evaluated.double().mean((1, 2)).cpu()
            for name, values in kept.items():
                flat = torch.full((part.numel(),), torch.nan, device=clf.device)
                for pixels, decided in decisions:
                    flat[pixels] = getattr(decided, name)
                values[chunk] = flat.view(part.shape).cpu()
            bar.update(len(chunk))
        center = torch.full((count,), -1, dtype=torch.int64)
        if resolution % 2:
            center = labels[:, resolution // 2, resolution // 2].long()
        elif len(existing):
            origins = PixelJudge(clf, session, planes.select(existing), torch.zeros(1), ladder=ladder[-1:], clip=clip)
            center[existing] = origins.decide(torch.arange(len(existing), device=clf.device)).labels.cpu()
    return BoundaryMaps(
        provenance=provenance(seed=planes.seed, precision=", ".join(ladder), extent=half, coarse=stride),
        labels=labels,
        u=axis,
        v=axis.clone(),
        index=planes.index,
        true_labels=planes.labels,
        center_labels=center,
        valid=planes.valid,
        axis_length=norms(planes.u),
        anchors=planes.anchors,
        evaluated=share,
        margin=kept.get("margin"),
        probability=kept.get("probability"),
        origin=planes.origin if "planes" in keep else None,
        axes=torch.stack([planes.u, planes.v], 1) if "planes" in keep else None,
        kind=planes.kind,
        axis_names=planes.axis_names,
        unit=planes.unit,
        clip=clip,
        method=method,
        bounds=clf.bounds,
    )


def _label_dtype(classes: int | None) -> torch.dtype:
    """The dtype of labels, from the number of classes, so that all parts of a run agree."""
    return torch.int16 if classes is None or classes <= torch.iinfo(torch.int16).max + 1 else torch.int32


def _every_pixel(judge: PixelJudge, planes: int) -> tuple[Tensor, Tensor, list[tuple[Tensor, Decisions]]]:
    shape = (planes, judge.resolution, judge.resolution)
    pixels = torch.arange(planes * judge.resolution**2, device=judge.clf.device)
    decided = judge.decide(pixels)
    evaluated = torch.ones(shape, dtype=torch.bool, device=judge.clf.device)
    return decided.labels.view(shape), evaluated, [(pixels, decided)]


def _planes_at_once(clf: Classifier, planes: Planes, resolution: int) -> int:
    most = PIXELS_AT_ONCE.get(clf.device.type, PIXELS_AT_ONCE["cuda"]) // resolution**2
    per_plane = 4 * (3 * planes.origin[0].numel() + 12 * resolution**2)
    return max(1, min(most, CHUNK_BYTES // per_plane))


def _check_settings(
    clf: Classifier,
    planes: Planes,
    extent: float | None,
    resolution: int,
    method: MapMethod,
    coarse: int,
    keep: Collection[str],
) -> float:
    """Raise for invalid settings before any work; returns the extent to use."""
    if not len(planes):
        raise ValueError("planes must hold at least one plane, got none")
    half = planes.extent if extent is None else extent
    if half is None:
        raise ValueError(f"{planes.kind!r} planes need an extent, e.g. extent=16 / 255")
    if not 0 < half < float("inf"):
        raise ValueError(f"extent must be a positive number, in axis units, got {half}")
    centred = planes.kind != "through"  # on an example, which must be the middle pixel
    if not isinstance(resolution, Integral) or resolution < SMALLEST_RESOLUTION or (centred and resolution % 2 == 0):
        raise ValueError(
            f"resolution must be {'an odd' if centred else 'a whole'} number of pixels, at least "
            f"{SMALLEST_RESOLUTION}, got {resolution}"
        )
    check_choice(method, "method", MAP_METHODS)
    if not isinstance(coarse, Integral) or coarse < 1:
        raise ValueError(f"coarse must be a whole number of pixels, at least 1, got {coarse}")
    unknown = sorted(set(keep) - set(MAP_EXTRAS))
    if unknown:
        raise ValueError(f"keep must hold any of {list(MAP_EXTRAS)}, got {unknown}")
    if planes.kind != "through":
        clf.check_inputs(planes.origin, "planes.origin")
    return float(half)
