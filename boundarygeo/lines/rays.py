"""Checked directions and extents, for lines and distances."""

from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.directions import Directions, named_directions
from boundarygeo.linalg import norms


def resolve_direction(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    direction: str | Tensor | Directions,
    *,
    seed: int,
    index: Tensor,
) -> Directions:
    """Directions by name, from a tensor, or given as `Directions`, checked against the inputs.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]`.
        y: true classes, int64 `[example]`.
        direction: a name (see `boundarygeo.directions.named_directions`), vectors `[example, *input]`, or directions.
        seed: seed of random directions.
        index: number of each example.

    Returns:
        The directions.

    Raises:
        TypeError: if `direction` is of another type.
        ValueError: if it has the wrong shape, is not finite, or is a tensor with a zero vector.
    """
    if isinstance(direction, str):
        return named_directions(clf, x, y, direction, seed=seed, index=index)
    return given_directions(direction, x)


def given_directions(direction: Tensor | Directions, x: Tensor) -> Directions:
    """Directions from a tensor or `Directions`, checked against the inputs; float64 stays float64.

    Args:
        direction: vectors `[example, *input]`, or `Directions`, of which some may be zero.
        x: inputs `[example, *input]`.

    Returns:
        The directions.

    Raises:
        TypeError: if `direction` is neither, or its vectors are not floats.
        ValueError: if it has the wrong shape, is not finite, or is a tensor with a zero vector.
    """
    named = isinstance(direction, Directions)
    vectors = direction.vectors if isinstance(direction, Directions) else direction
    if not isinstance(vectors, Tensor) or not vectors.dtype.is_floating_point:
        got = f"a tensor of {vectors.dtype}" if isinstance(vectors, Tensor) else type(vectors).__name__
        raise TypeError(f"direction must be a float tensor or Directions, got {got}")
    if vectors.shape != x.shape:
        raise ValueError(f"direction must have the shape of x, {list(x.shape)}, got {list(vectors.shape)}")
    if not bool(vectors.isfinite().all()):
        raise ValueError("direction must be finite, got NaN or infinity")
    zero = int((norms(vectors) == 0).sum())
    if zero and not named:
        raise ValueError(f"direction must not be zero, got {zero} vectors of length zero")
    return direction if isinstance(direction, Directions) else Directions(vectors, "lengths of the direction", "given")


def reach(extent: float | tuple[float, float]) -> tuple[float, float]:
    """Ends of a line: ±extent, or (low, high).

    Args:
        extent: a positive number, or (low, high).

    Returns:
        Low and high.

    Raises:
        ValueError: if low is not below high, or one is not finite.
    """
    low, high = (-extent, extent) if isinstance(extent, int | float) else extent
    if not (-float("inf") < low < high < float("inf")):
        raise ValueError(f"extent must be a positive number or (low, high) with low < high, got {extent}")
    return float(low), float(high)
