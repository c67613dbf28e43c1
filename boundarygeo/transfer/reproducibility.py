"""Reproducibility of decision regions: agreement of several models on the same random planes."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from boundarygeo.checks import check_count
from boundarygeo.choices import MapMethod, Precision
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import analysis
from boundarygeo.maps.maps import BoundaryMaps, boundary_maps
from boundarygeo.maps.planes import planes_through
from boundarygeo.maps.regions import WINDOW_MARGIN, agreement, fragmentation, image_window
from boundarygeo.results import Result, array
from boundarygeo.results.statistics import Estimate, mean
from boundarygeo.transfer.classifiers import Classifiers, check_classifiers, pair_number, position

CHECKED = 500
"""Number of examples on which the classifiers are checked against the true classes first."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Reproducibility(Result):
    """Agreement of models on planes through random triplets of examples, and fragmentation of their regions.

    Attributes:
        agreement: share of the whole map's pixels to which both models give the same label, float64 `[pair, plane]`, as
            computed by `agreement`; NaN on planes that do not exist.
        window_agreement: the same for the pixels inside the rectangle around the three examples, with a tenth of its
            width and height as margin: the window of dbViz, `[pair, plane]`.
        intersection: number of pixels, over all planes, that both models assign to a class, int64 `[pair, class]`.
        union: number of pixels that at least one model assigns to it, int64 `[pair, class]`.
        fragments: number of 8-connected components of equal label in the same window, summed over classes, int64
            `[classifier, plane]`: result of `boundarygeo.fragmentation`; 0 on planes that do not exist.
        evaluated: share of pixels evaluated by each model, float64 `[classifier, plane]`.
        triplets: numbers of the examples that span each plane, int64 `[plane, 3]`.
        index: number of each plane, int64 `[plane]`; determines its triplet.
        valid: whether the plane exists, bool `[plane]`: False where the three examples are collinear.
        pairs: positions of the two models of each pair, in `names`, int64 `[pair, 2]`.
        names: name of each model.
        resolution: pixels per side.
        clip: whether points were clipped to the bounds.
        method: how the maps were made, `"adaptive"` or `"dense"`.
    """

    joint = "planes go through three of all examples"

    agreement: Tensor = array("pair", "plane")
    window_agreement: Tensor = array("pair", "plane")
    intersection: Tensor = array("pair", "class", unit="pixels")
    union: Tensor = array("pair", "class", unit="pixels")
    fragments: Tensor = array("classifier", "plane")
    evaluated: Tensor = array("classifier", "plane")
    triplets: Tensor = array("plane", "corner")
    index: Tensor = array("plane", coordinate=True)
    valid: Tensor = array("plane")
    pairs: Tensor = array("pair", "side")
    names: tuple[str, ...]
    resolution: int
    clip: bool
    method: MapMethod

    @property
    def iou(self) -> Tensor:
        """Jaccard index of each class's regions, over all planes, float64 `[pair, class]`; NaN without the class.

        This is the true intersection over union; dbViz calls the plain agreement IoU.
        """
        return self.intersection.double() / self.union.double()

    @property
    def score(self) -> Estimate:
        """Reproducibility score: agreement in dbViz's window, averaged over pairs and planes.

        The 95 % interval is over the draw of the planes; the models are fixed.
        """
        return mean(self.window_agreement[:, self.valid].mean(0).numpy(), within=(0, 1))

    def estimate(self, a: str | int, b: str | int) -> Estimate:
        """Agreement of two models (name or number) in dbViz's window, averaged over planes, with its 95 % interval."""
        return mean(self.window_agreement[self.pair(a, b)][self.valid].numpy(), within=(0, 1))

    def mean_iou(self, a: str | int, b: str | int) -> float:
        """Intersection over union of two models' regions, averaged over the classes that either has, from 0 to 1."""
        return float(self.iou[self.pair(a, b)].nanmean())

    def fragmentation(self, which: str | int) -> Estimate:
        """Number of components of a model in dbViz's window, averaged over planes, with its 95 % interval."""
        return mean(self.fragments[position(self.names, which, "which")][self.valid].double().numpy())

    def pair(self, a: str | int, b: str | int) -> int:
        """Number of a pair of models, each given by name or number, in any order; `ValueError` without such a pair."""
        return pair_number(self.names, self.pairs, a, b)


@analysis
def reproducibility(
    classifiers: Classifiers,
    x: Tensor,
    y: Tensor,
    *,
    planes: int = 500,
    resolution: int = 50,
    clip: bool = False,
    method: MapMethod = "adaptive",
    coarse: int | None = None,
    precision: Precision = "auto",
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> Reproducibility:
    """Agreement of models on random planes: the reproducibility score of dbViz.

    Somepalli et al. 2022, "Can Neural Nets Learn the Same Model Twice?", arXiv 2203.08124, §3-4: 500 planes through
    random triplets of test images, 50 × 50 points each, 10 % margin, points not clipped to the range of images. This
    function differs as follows: maps are square and isometric, so dbViz's rectangle is cut out of them (for the score
    and the regions; IoU is of whole maps), with fewer points along its shorter side; and most pixels' labels are
    interpolated, not evaluated (`boundary_maps`). Against dense float32 maps of 100 planes, 0 to 0.8 of 100,000 pixels
    were wrong for four networks of MNIST and 0.4 to 3.2 for seven of CIFAR-10, plain and robust, and at most 3 of the
    2,500 of one map (benchmarks/reproducibility_errors.py; 4 in another draw of planes). `method="dense"` with
    `precision="float32"` evaluates all pixels, in four to seven times the time.

    Args:
        classifiers: at least two, in a list or by name.
        x: at least three inputs `[example, *input]` within the bounds, correctly classified or not.
        y: true classes, int64 `[example]`.
        planes: number of planes. Each depends only on the seed and its number, so more planes extend the same sequence.
        resolution: pixels per side.
        clip: whether points are clipped to the bounds, as images are.
        method: `"adaptive"` or `"dense"`, as in `boundary_maps`.
        coarse: as in `boundary_maps`; by default a sixteenth of the width: 3 pixels of 50.
        precision: as in `boundary_maps`.
        seed: seed of the triplets.
        index: number of each example, by which `triplets` names it; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Returns:
        Agreement and fragmentation.

    Raises:
        TypeError: if the classifiers, `x` or `y` are not of the right kind.
        ValueError: if there are fewer than two classifiers or three examples, the classifiers do not fit together, a
            setting is out of range, or no triplet spans a plane.
    """
    check_count(planes, "planes")
    models = check_classifiers(classifiers, x[:CHECKED], y[:CHECKED])
    clf = models.classifiers[0]
    clf.check_inputs(x)
    clf.check_labels(y, len(x))
    numbers = numbers_of(index, len(x))
    if len(x) < 3:
        raise ValueError(f"x must hold at least three examples, got {len(x)}")
    triplets = random_triplets(len(x), planes, seed=seed)
    inputs = x.detach().float().cpu().clamp(*clf.bounds)
    through = planes_through(*(inputs[column] for column in triplets.T), margin=WINDOW_MARGIN)
    if not bool(through.valid.any()):
        raise ValueError(f"x must hold three examples that are not collinear, got none in {planes} triplets")
    settings = {"method": method, "precision": precision, "clip": clip, "coarse": coarse, "progress": progress}
    maps = [boundary_maps(clf, through, resolution=resolution, **settings) for clf in models.classifiers]
    classes = clf.num_classes or int(max(each.labels.max() for each in maps)) + 1
    pairs = list(itertools.combinations(range(len(maps)), 2))
    window = image_window(maps[0])
    counts = [_intersection_and_union(maps[i], maps[j], classes) for i, j in pairs]
    return Reproducibility(
        provenance=models.provenance(seed=seed),
        agreement=torch.stack([agreement(maps[i], maps[j]) for i, j in pairs]),
        window_agreement=torch.stack([_agreement_in(window, maps[i], maps[j]) for i, j in pairs]),
        intersection=torch.stack([both for both, _ in counts]),
        union=torch.stack([either for _, either in counts]),
        fragments=torch.stack([fragmentation(each) for each in maps]),
        evaluated=torch.stack([each.evaluated for each in maps]),
        triplets=numbers[triplets],
        index=through.index,
        valid=through.valid,
        pairs=torch.tensor(pairs),
        names=models.names,
        resolution=resolution,
        clip=clip,
        method=method,
    )


def random_triplets(examples: int, count: int, *, seed: int = 0) -> Tensor:
    """Positions of different examples, int64 `[count, 3]`; each triplet depends on the seed and its number alone."""
    drawn = [np.random.default_rng((seed, number)).choice(examples, 3, replace=False) for number in range(count)]
    return torch.from_numpy(np.stack(drawn))


def _agreement_in(window: Tensor, a: BoundaryMaps, b: BoundaryMaps) -> Tensor:
    """Share of equal labels in the window, float64 `[plane]`; NaN on planes that do not exist."""
    equal = ((a.labels == b.labels) & window).sum((1, 2)).double() / window.sum((1, 2)).double()
    return equal.masked_fill(~(a.valid & b.valid), torch.nan)


def _intersection_and_union(a: BoundaryMaps, b: BoundaryMaps, classes: int) -> tuple[Tensor, Tensor]:
    """Pixels of each class in both maps, and in at least one, over all planes, int64 `[class]`."""
    first, second = (maps.labels[maps.valid].long().flatten() for maps in (a, b))
    both, one, other = (torch.bincount(labels, minlength=classes) for labels in (first[first == second], first, second))
    return both, one + other - both
