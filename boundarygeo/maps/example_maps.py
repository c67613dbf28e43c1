"""Planes through examples and maps on them in one call, for long runs."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from torch import Tensor

from boundarygeo.checks import check_choice
from boundarygeo.choices import PLANE_KINDS, MapMethod, PlaneKind, Precision
from boundarygeo.classifier import Classifier
from boundarygeo.evaluation import analysis
from boundarygeo.maps.maps import BoundaryMaps, boundary_maps
from boundarygeo.maps.planes import fgsm_adversarial_planes, fgsm_random_planes, random_planes


@analysis
def example_maps(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    planes: PlaneKind = "fgsm_random",
    planes_of: Classifier | None = None,
    extent: float,
    resolution: int = 129,
    method: MapMethod = "adaptive",
    precision: Precision = "auto",
    clip: bool = True,
    coarse: int | None = None,
    keep: Collection[str] = (),
    class_names: Sequence[str] | None = None,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> BoundaryMaps:
    """Boundary maps on planes through examples, which are made on the way.

    Args:
        clf: the classifier whose labels are mapped.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        planes: `"fgsm_random"`, `"fgsm_adversarial"` or `"random"`.
        planes_of: the classifier whose gradients span the planes, to map several models on the same planes; by default
            `clf`.
        extent: half-width of the maps in axis units (ε).
        resolution: as in `boundary_maps`.
        method: as in `boundary_maps`.
        precision: as in `boundary_maps`.
        clip: as in `boundary_maps`.
        coarse: as in `boundary_maps`.
        keep: as in `boundary_maps`.
        class_names: name of each class, for figures.
        seed: seed of the random directions.
        index: number of each example, which seeds its random directions; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind.
        ValueError: if an argument or the module's output is invalid.
    """
    check_choice(planes, "planes", PLANE_KINDS)
    spanned_by = clf if planes_of is None else planes_of
    if planes == "random":
        through = random_planes(x, y, seed=seed, index=index)
    elif planes == "fgsm_adversarial":
        through = fgsm_adversarial_planes(spanned_by, x, y, index=index)
    else:
        through = fgsm_random_planes(spanned_by, x, y, seed=seed, index=index)
    maps = boundary_maps(
        clf,
        through,
        extent=extent,
        resolution=resolution,
        method=method,
        precision=precision,
        clip=clip,
        coarse=coarse,
        keep=keep,
        progress=progress,
    )
    return maps if class_names is None else replace(maps, class_names=tuple(class_names))
