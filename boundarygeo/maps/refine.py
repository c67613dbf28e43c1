"""Adaptive labelling: predict labels from a coarse grid, then evaluate along the predicted boundaries until they hold.

On a plane, logits are piecewise linear and nearly smooth, so a spline through their values on a coarse grid predicts
almost every label. Then pixels on both sides of each change of label are evaluated, and again where that moves the
change, until every change of label lies between two evaluated pixels.
"""

import torch
from scipy.interpolate import make_interp_spline
from torch import Tensor

from boundarygeo.maps.pixels import Decisions, PixelJudge


def coarse_ticks(resolution: int, stride: int) -> Tensor:
    """Rows (and columns) of the coarse grid: both ends, and rows in-between at most `stride` apart.

    Of an odd number of rows, every `stride`-th from the centre outwards; of an even number, which has no central row,
    as evenly spaced as possible.

    >>> coarse_ticks(11, 4)
    tensor([ 0,  1,  5,  9, 10])
    >>> coarse_ticks(10, 4)
    tensor([0, 3, 6, 9])
    """
    if resolution % 2 == 0:
        cells = -(-(resolution - 1) // stride)
        return (torch.arange(cells + 1) * (resolution - 1) / cells).round().long()
    middle = resolution // 2
    half = torch.arange(0, middle + 1, stride)
    ends = torch.tensor([0, resolution - 1])
    return torch.cat([middle - half, middle + half, ends]).unique()


def interpolation_matrix(resolution: int, ticks: Tensor) -> Tensor:
    """The linear map `[resolution, tick]` from values at the coarse ticks to values at all rows, by a cubic spline."""
    degree = min(3, len(ticks) - 1)
    spline = make_interp_spline(ticks.numpy(), torch.eye(len(ticks)).numpy(), k=degree)
    return torch.from_numpy(spline(torch.arange(resolution).numpy())).float()


def changes(labels: Tensor) -> Tensor:
    """Pixels of maps `[plane, row, col]` whose label differs from that of a pixel beside, above or below.

    >>> changes(torch.tensor([[[0, 0, 1]]]))
    tensor([[[False,  True,  True]]])
    """
    found = torch.zeros_like(labels, dtype=torch.bool)
    for dim in (1, 2):
        length = labels.shape[dim] - 1
        one, other = found.narrow(dim, 0, length), found.narrow(dim, 1, length)
        differ = labels.narrow(dim, 0, length) != labels.narrow(dim, 1, length)
        one |= differ
        other |= differ
    return found


def refine(judge: PixelJudge, planes: int, stride: int) -> tuple[Tensor, Tensor, list[tuple[Tensor, Decisions]]]:
    """Label all pixels of the judge's planes, evaluating few of them.

    Returns labels and which pixels were evaluated, `[plane, row, col]`, and the decisions, each with its pixels.
    """
    side, device = judge.resolution, judge.clf.device
    ticks = coarse_ticks(side, stride)
    grid = (ticks[:, None] * side + ticks).flatten().to(device)
    pixels = (torch.arange(planes, device=device)[:, None] * side * side + grid).flatten()
    rows: list[Tensor] = []
    decided = judge.decide(pixels, first_logits=rows.append)
    coarse = torch.cat(rows).float().view(planes, len(ticks), len(ticks), -1)
    spread = interpolation_matrix(side, ticks).to(device)
    guesses = [guess(values, spread) for values in coarse]
    labels, gaps = (torch.stack(column).flatten() for column in zip(*guesses, strict=True))
    evaluated = torch.zeros_like(labels, dtype=torch.bool)
    decisions = []
    while len(pixels):
        labels[pixels] = decided.labels
        evaluated[pixels] = True
        decisions.append((pixels, decided))
        wanted = changes(labels.view(planes, side, side)).flatten() & ~evaluated
        pixels = wanted.nonzero()[:, 0]
        if len(pixels):
            decided = judge.decide(pixels, expected_gap=gaps[pixels])
    return labels.view(planes, side, side), evaluated.view(planes, side, side), decisions


def guess(coarse: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Predict labels and gaps `[row, col]` of one map from the logits `[tick, tick, class]` on its coarse grid."""
    logits = torch.einsum("sb,crb->crs", spread, torch.einsum("ra,abc->crb", spread, coarse))
    first, labels = logits.max(0)  # with classes first and few of them, much faster than topk
    return labels, first - logits.scatter_(0, labels[None], -torch.inf).amax(0)
