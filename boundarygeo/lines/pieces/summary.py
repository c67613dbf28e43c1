"""Affine pieces in a few numbers: their count, straightness of the logits, distance to the first change of label."""

from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.lines.pieces.pieces import LinearPieces
from boundarygeo.lines.straightness import GradientCosines, Straightness, straightness
from boundarygeo.results.statistics import Estimate, median, share


@dataclass(frozen=True)
class PieceSummary:
    """Medians over the examples with a direction, with 95 % intervals; first over an example's logits where needed."""

    pieces: Estimate  # number of affine pieces
    density: Estimate  # affine pieces per unit along the segment
    r_squared: Estimate  # R² of the best line, without constant logits
    line_deviation: Estimate  # largest deviation from the best line, divided by the logit's range
    tangent_deviation: Estimate  # largest deviation from the tangent at t = 0, divided by the logit's range
    cosines: tuple[Estimate, Estimate]  # between the input gradients at t = 0 and at the first and last point
    changed: tuple[Estimate, Estimate]  # share of the examples whose label changes, towards the first and the last t
    distance: tuple[Estimate, Estimate]  # exact distance to that change; inf if half do not change
    missing: int  # number of examples without a direction


def piece_summary(pieces: LinearPieces, cosines: GradientCosines) -> PieceSummary:
    """Pieces, straightness and distances of all examples together; only the first and last cosine of each are used."""
    exists = pieces.length > 0
    low, high = pieces.extent
    straight = straightness(pieces)
    assert straight.tangent_deviation is not None  # t = 0 is inside

    def known(values: Tensor) -> Estimate:
        """The median without NaN: constant logits have no R², points without a gradient no cosine."""
        values = values[exists]
        return median(values[~values.isnan()].numpy())

    low_change, high_change = first_changes(pieces)[:, exists]
    return PieceSummary(
        pieces=known(pieces.count.double()),
        density=known(pieces.count.double() / (high - low)),
        r_squared=known(straight.r_squared.nanmedian(1).values),
        line_deviation=known(_relative(straight.line_deviation, straight)),
        tangent_deviation=known(_relative(straight.tangent_deviation, straight)),
        cosines=(known(cosines.cosine[:, 0]), known(cosines.cosine[:, -1])),
        changed=(_finite(low_change), _finite(high_change)),
        distance=(median(low_change.numpy()), median(high_change.numpy())),
        missing=int((~exists).sum()),
    )


def first_changes(pieces: LinearPieces) -> Tensor:
    """Exact distance from t = 0 to the first change of label towards smaller and larger t, `[side, example]`."""
    found = pieces.boundaries()
    nearest = torch.full((2, len(pieces.count)), torch.inf, dtype=torch.float64)
    for row, here in zip(nearest, (found.t < 0, found.t >= 0), strict=True):
        row.scatter_reduce_(0, found.example[here], found.t[here].abs(), "amin")
    return nearest


def _finite(distances: Tensor) -> Estimate:
    return share(int(distances.isfinite().sum()), len(distances))


def _relative(deviation: Tensor, straight: Straightness) -> Tensor:
    """Median of deviation / range over an example's logits, without constant ones, `[example]`."""
    return (deviation / straight.range).masked_fill(straight.r_squared.isnan(), torch.nan).nanmedian(1).values
