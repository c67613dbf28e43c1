"""Rays: what lines and distances share: one origin and one checked direction per example."""

from collections.abc import Sequence

import torch
from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.directions import Directions, named_directions


def resolve_direction(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    direction: str | Tensor | Directions,
    *,
    seed: int,
    index: Tensor,
) -> Directions:
    """Directions by name, as a tensor, or as they are, checked against the inputs.

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
        ValueError: if it has the wrong shape, is not finite, or a vector that was given is zero.
    """
    if isinstance(direction, str):
        return named_directions(clf, x, y, direction, seed=seed, index=index)
    given = Directions(direction, "lengths of the direction", "given") if isinstance(direction, Tensor) else direction
    if not isinstance(given, Directions):
        raise TypeError(f"direction must be a name, a tensor or Directions, got {type(direction).__name__}")
    vectors = given.vectors
    if vectors.shape != x.shape or not vectors.dtype.is_floating_point:
        raise ValueError(
            f"direction must be float vectors of the shape {list(x.shape)} of x, got {vectors.dtype} "
            f"{list(vectors.shape)}"
        )
    if not bool(vectors.isfinite().all()):
        raise ValueError("direction must be finite, got NaN or infinity")
    zero = int((vectors.flatten(1) == 0).all(1).sum())
    if zero:
        raise ValueError(f"direction must not be zero, got {zero} vectors of length zero")
    return Directions(vectors.detach().float().cpu(), given.unit, given.name)


def numbers_of(index: Sequence[int] | Tensor | None, count: int) -> Tensor:
    """Numbers of the examples: those given, or 0, 1, 2, ….

    Args:
        index: integers >= 0, one per example, or None.
        count: number of examples.

    Returns:
        Int64 `[example]`.

    Raises:
        ValueError: if they are anything else.
    """
    numbers = torch.arange(count) if index is None else torch.as_tensor(index).detach().cpu()
    if numbers.shape != (count,) or numbers.dtype.is_floating_point or bool((numbers < 0).any()):
        raise ValueError(f"index must be {count} integers >= 0, one per example, got {index!r}")
    return numbers.long()


def reach(extent: float | tuple[float, float]) -> tuple[float, float]:
    """Ends of a line: ±extent, or the two given.

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
