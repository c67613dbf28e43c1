"""Course and settings of a training."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class TrainingResult:
    """Course and settings of a training.

    Attributes:
        loss: mean training loss of each epoch.
        accuracy: share of training examples classified correctly, in each epoch.
        test_accuracy: accuracy on the test split after each epoch; empty without a test split.
        seconds: wall-clock time in s, excluding work lost when a run was killed.
        seed: seed of the data order, the method and dropout.
        config: other settings that determine the result; `rule` says how the best epoch is chosen and when to stop.
        validation_accuracy: robust accuracy on the validation split after each epoch; empty without one.
        best_epoch: number of the best epoch, from 1, or None without a validation split.
        stopped: why the training ended before its last epoch, or empty.
    """

    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    seconds: float
    seed: int
    config: dict[str, Any]
    validation_accuracy: tuple[float, ...] = field(default=())
    best_epoch: int | None = None
    stopped: str = ""


def seed_spread(results: Sequence[TrainingResult]) -> tuple[float, float]:
    """Mean and standard deviation of the last test accuracy of trainings that differ in their seed."""
    accuracies = np.array([result.test_accuracy[-1] for result in results])
    return float(accuracies.mean()), float(accuracies.std(ddof=1))


class NonFiniteLossError(ValueError):
    """The loss became NaN or infinite.

    The module gets the weights of the last complete epoch, or its initial ones.

    Attributes:
        result: result up to that point.
    """

    def __init__(self, message: str, result: TrainingResult) -> None:
        super().__init__(message)
        self.result = result
