"""Exact distance to the decision boundary along a direction, from the affine pieces of the segment."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from boundarygeo.checks import check_positive
from boundarygeo.classifier import Classifier
from boundarygeo.directions import Directions
from boundarygeo.evaluation import analysis
from boundarygeo.lines.distances import BoundaryDistances
from boundarygeo.lines.pieces.pieces import TOLERANCE, linear_pieces
from boundarygeo.lines.rays import prepare

_FIRST_BLOCK = 1 / 64  # share of max_distance in the first block; each later block is as long as all before it
_OVERLAP = 1e-9  # relative overlap of two blocks, so that a change at the end of one lies inside the next


@analysis
def exact_boundary_distance(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    direction: str | Tensor | Directions,
    max_distance: float,
    clip: bool = True,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    max_bytes: int | None = None,
    progress: bool = True,
) -> BoundaryDistances:
    """The first change of the predicted label along a direction, from the exact pieces of the logits.

    The segments are cut into the pieces on which the network is affine (see `linear_pieces`), from the example outwards
    in blocks that double the distance, until the label changes. Labels are those of float64. Nothing is sampled: only
    regions thinner than float64 resolves, 1e-12 of a block, are missed (see `LinearPieces`).

    Args:
        clf: the classifier; `linear_pieces` must support its module.
        x: examples `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        direction: `"fgsm"`, `"gradient"`, `"random"`, vectors `[example, *input]`, or `Directions`.
        max_distance: length of the search, in steps of the direction (for `"fgsm"`: ε in L∞).
        clip: whether points are clipped to the bounds, as images are.
        seed: seed of random directions.
        index: number of each example, which seeds its random direction; by default 0, 1, 2, ….
        max_bytes: as in `linear_pieces`.
        progress: whether to show a progress bar after two seconds.

    Returns:
        The distances, with `scan=0`, as nothing is scanned.

    Raises:
        TypeError: if an argument or the module's output has the wrong type.
        ValueError: if an argument is out of range, or as `linear_pieces` for modules that it does not support.

    Examples:
        >>> clf = Classifier(torch.nn.Linear(2, 2, bias=False))
        >>> with torch.no_grad():
        ...     _ = clf.module.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        >>> x, towards = torch.tensor([[0.75, 0.25]]), torch.tensor([[-1.0, 1.0]])
        >>> exact_boundary_distance(clf, x, torch.tensor([0]), direction=towards, max_distance=1.0).distance
        tensor([0.2500], dtype=torch.float64)
    """
    check_positive(max_distance, "max_distance")
    along, numbers, provenance = prepare(clf, x, y, direction, seed=seed, index=index)
    valid = along.vectors.flatten(1).any(1).cpu()
    with clf.session(x, y):
        label = clf.logits(x, precision="float64").argmax(1)
    distance = torch.full((len(x),), torch.inf, dtype=torch.float64)
    beyond = torch.full((len(x),), -1)
    pending = valid.nonzero()[:, 0]
    near, far = 0.0, max_distance * _FIRST_BLOCK
    while len(pending):
        part = replace(along, vectors=along.vectors[pending])
        pieces = linear_pieces(
            clf,
            x[pending],
            y[pending],
            direction=part,
            extent=(near, far),
            clip=clip,
            max_bytes=max_bytes,
            progress=progress,
        )
        changes = pieces.boundaries()
        first = torch.ones(len(changes.example), dtype=torch.bool)
        first[1:] = changes.example[1:] != changes.example[:-1]
        who = pending[changes.example[first]]
        distance[who], beyond[who] = changes.t[first], changes.after[first]
        pending = pending[distance[pending].isinf()]
        if far >= max_distance:
            break
        near, far = far * (1 - _OVERLAP), min(2 * far, max_distance)
    return BoundaryDistances(
        provenance=provenance(seed=seed, precision="float64", direction=along),
        distance=torch.where(valid, distance, torch.nan),
        found=beyond >= 0,
        predicted=label,
        adversarial_label=beyond,
        true_labels=y.detach().cpu().long(),
        index=numbers,
        valid=valid,
        max_distance=float(max_distance),
        scan=0,
        tolerance=TOLERANCE * float(max_distance),
        name=along.name,
        unit=along.unit,
        clip=clip,
    )
