"""The goal of a perturbation: any class but the true one, or a target class."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.evaluation import Session
from boundarygeo.losses import true_margin

LOSSES = ("margin", "log_odds", "cross_entropy")


@dataclass(frozen=True, eq=False)
class Goal:
    """What counts as a success on each example: leaving its class, or reaching it if `targeted`."""

    classes: Tensor
    targeted: bool

    def reached(self, labels: Tensor, example: Tensor) -> Tensor:
        """Whether predicted labels `[row]` of points of examples `[row]` are successes, bool `[row]`."""
        return (labels == self.classes[example].to(labels.device)) == self.targeted

    def gain(self, logits: Tensor, example: Tensor) -> Tensor:
        """How far logits `[row, class]` lie beyond the boundary, in logits `[row]`: positive is a success."""
        margin = true_margin(logits, self.classes[example].to(logits.device))
        return margin if self.targeted else -margin

    def gradient(self, clf: Classifier, x: Tensor, loss: str) -> Tensor:
        """Directions of fastest progress at the examples themselves, `[example, *input]`."""
        uphill = clf.input_gradient(x, self.classes, loss=self.loss(loss))
        return -uphill if self.targeted else uphill

    def missing(self, logits: Tensor, loss: str) -> Tensor:
        """Increase of the loss that changes the label, to first order, `[example]`.

        The margin for `"margin"`; the distance to even odds for `"log_odds"` and, equivalently, the distance to log 2
        for `"cross_entropy"`.
        """
        z = -self._log_odds(logits)
        if self.loss(loss) == "margin":
            return -self.gain(logits, torch.arange(len(logits)))
        if self.loss(loss) == "log_odds":
            return z
        return torch.log(torch.tensor(2.0, dtype=z.dtype)) - torch.nn.functional.softplus(-z)

    def loss(self, name: str) -> str:
        """The loss whose gradient is used: with targets, the target's log-odds."""
        return "log_odds" if self.targeted else name

    def _log_odds(self, logits: Tensor) -> Tensor:
        column = self.classes[:, None].to(logits.device)
        z = logits.scatter(1, column, -torch.inf).logsumexp(1) - logits.gather(1, column)[:, 0]
        return -z if self.targeted else z


class Turn:
    """A random rotation of the space of perturbations: a signed permutation of their coordinates.

    It preserves lengths and angles, and makes one model's gradient align with another's only by chance: the inner
    product has mean 0 and the variance 1/d of Haar-distributed rotations.
    """

    def __init__(self, shape: torch.Size, *, seed: int, draw: int) -> None:
        random = np.random.default_rng((seed, draw))
        size = shape.numel()
        self._place = torch.from_numpy(random.permutation(size))
        self._sign = torch.from_numpy(random.choice(np.array([-1.0, 1.0], dtype=np.float32), size))

    def __call__(self, v: Tensor) -> Tensor:
        """Perturbations `[row, *input]`, rotated."""
        flat = v.flatten(1)
        return (flat[:, self._place.to(v.device)] * self._sign.to(v)).view(v.shape)

    def back(self, v: Tensor) -> Tensor:
        """Inverse rotation, also for gradients."""
        flat = v.flatten(1) * self._sign.to(v)
        return torch.empty_like(flat).index_copy_(1, self._place.to(v.device), flat).view(v.shape)


@dataclass(frozen=True, eq=False)
class Opponent:
    """A classifier to be fooled, in its open session, by perturbations that `turn` rotates first, unless it is None.

    `margin` is the distance from success at the examples themselves, in logits, `[example]`.
    """

    clf: Classifier
    session: Session
    goal: Goal
    margin: Tensor
    turn: Turn | None = None

    def shown(self, delta: Tensor) -> Tensor:
        """Perturbations `[row, *input]` as this classifier receives them."""
        return delta if self.turn is None else self.turn(delta)
