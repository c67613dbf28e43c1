"""What all measurements along lines begin with: checked examples, directions and extents."""

from collections.abc import Callable, Sequence

from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.directions import Directions, named_directions, numbers_of
from boundarygeo.linalg import norms
from boundarygeo.results import Provenance


def prepare(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    direction: str | Tensor | Directions,
    *,
    seed: int,
    index: Sequence[int] | Tensor | None,
) -> tuple[Directions, Tensor, Callable[..., Provenance]]:
    """Check the examples and start the record: their directions, their numbers, and `Classifier.record`'s function."""
    clf.check_inputs(x)
    clf.check_labels(y, len(x))
    numbers = numbers_of(index, len(x))
    provenance = clf.record()
    if isinstance(direction, str):
        return named_directions(clf, x, y, direction, seed=seed, index=numbers), numbers, provenance
    return _given(direction, x), numbers, provenance


def _given(direction: Tensor | Directions, x: Tensor) -> Directions:
    """Directions checked against the inputs; they may be zero, plain vectors must not. Float64 stays float64."""
    vectors = direction.vectors if isinstance(direction, Directions) else direction
    if not isinstance(vectors, Tensor) or not vectors.dtype.is_floating_point:
        got = f"a tensor of {vectors.dtype}" if isinstance(vectors, Tensor) else type(vectors).__name__
        raise TypeError(f"direction must be a float tensor or Directions, got {got}")
    if vectors.shape != x.shape:
        raise ValueError(f"direction must have the shape of x, {list(x.shape)}, got {list(vectors.shape)}")
    if not bool(vectors.isfinite().all()):
        raise ValueError("direction must be finite, got NaN or infinity")
    if isinstance(direction, Directions):
        return direction
    zero = int((norms(vectors) == 0).sum())
    if zero:
        raise ValueError(f"direction must not be zero, got {zero} vectors of length zero")
    return Directions(vectors, "lengths of the direction", "given")


def reach(extent: float | tuple[float, float]) -> tuple[float, float]:
    """Ends of a line from ±extent or (low, high)."""
    low, high = (-extent, extent) if isinstance(extent, int | float) else extent
    if not (-float("inf") < low < high < float("inf")):
        raise ValueError(f"extent must be a positive number or (low, high) with low < high, got {extent}")
    return float(low), float(high)
