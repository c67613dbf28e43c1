"""Directions in the input space, one per example."""

import numpy as np
import torch
from torch import Tensor

from boundarygeo.classifier import Classifier


def gradient_directions(clf: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """Directions in which the cross-entropy grows fastest: its input gradient, up to a positive factor per example.

    The factor is that of `Classifier.input_gradient(..., loss="log_odds")`: the direction does not vanish where the
    classifier is confident.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.

    Returns:
        Directions, float32 `[example, *input]`; zero where the logits do not depend on the input.

    Raises:
        TypeError: as `Classifier.input_gradient`.
        ValueError: as `Classifier.input_gradient`.
    """
    return clf.input_gradient(x, y, loss="log_odds")


def random_directions(shape: torch.Size, index: Tensor, *, seed: int, axis: int = 0) -> Tensor:
    """Isotropic random directions (standard normal vectors), each decided by seed, example and axis alone.

    Args:
        shape: shape of one input.
        index: number of each example, int64 `[example]`.
        seed: seed of all examples.
        axis: which of several independent directions of an example.

    Returns:
        Directions, float32 `[example, *input]`.
    """
    size = int(np.prod(shape))
    drawn = np.empty((len(index), size), dtype=np.float32)
    for row, number in zip(drawn, index.tolist(), strict=True):
        # One generator per example: what it draws cannot depend on which other examples are in the call.
        np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, number, axis)))).standard_normal(
            out=row, dtype=np.float32
        )
    return torch.from_numpy(drawn).view(len(index), *shape)
