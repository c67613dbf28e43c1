"""The nearest adversarial points found by a search, checked on the network in float32."""

import torch
from torch import Tensor

from boundarygeo.evaluation import Session
from boundarygeo.losses import true_margin
from boundarygeo.subspace.sequential.orthogonal import products

TOLERANCE = 1e-5
"""Largest |cos| between two directions of an example."""

_SHRINKING = 0.01  # share of its length that a perturbation may be too long along its own ray
_ROUNDING = 1e-6  # of the largest logit: smaller margins prove no change of label; also used for lengths


class Candidates:
    """The nearest adversarial points found by one search.

    Attributes:
        delta: perturbations float32 `[batch, d]`; zero where none was found.
        distance: their L2 norms, float64 `[batch]`; inf where none was found.
        adversarial_label: classes predicted there, int64 `[batch]`, once the search is concluded.
        sloped: whether any nonzero gradient was seen, bool `[batch]`.
    """

    def __init__(self, session: Session, inputs: Tensor, classes: Tensor, *, inside: bool) -> None:
        self.session, self.inputs, self.classes, self.inside = session, inputs, classes, inside
        self.delta = torch.zeros_like(inputs).flatten(1)
        self.distance = torch.full((len(inputs),), torch.inf, dtype=torch.float64, device=inputs.device)
        self.adversarial_label = torch.full_like(classes, -1)
        self.sloped = torch.zeros_like(classes, dtype=torch.bool)

    @property
    def found(self) -> Tensor:
        """Whether a point was found, bool `[batch]`."""
        return self.distance.isfinite()

    def rows(self, chosen: Tensor) -> "Candidates":
        """A copy with the given rows, int64, possibly repeated; each continues as its own search."""
        others = Candidates(self.session, self.inputs[chosen], self.classes[chosen], inside=self.inside)
        others.delta, others.distance = self.delta[chosen], self.distance[chosen]
        others.adversarial_label, others.sloped = self.adversarial_label[chosen], self.sloped[chosen]
        return others

    def look(self, delta: Tensor, allowed: Tensor, loss: str, targets: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Evaluate one point per example, and store it if it is adversarial, nearer than the best, and `allowed`.

        `targets` are classes to head for, int64 `[batch]`, -1 (the default) for any but the true class. Returns margins
        (negative: misclassified) `[batch]` and gradients `[batch, d]`, float64.
        """
        points, moved = self._points(delta, self.inputs)
        if targets is None:
            logits, uphill = differentiate(self.session, points, self.classes, loss)
        else:
            aimed = targets >= 0
            logits, uphill = differentiate(self.session, points, torch.where(aimed, targets, self.classes), loss)
            uphill = torch.where(aimed[:, None], -uphill, uphill)
        size = moved.double().norm(dim=1)
        # Points on one ball are equally near: the choice among them must not depend on rounding.
        nearer = allowed & _fooled(logits, self.classes) & (size < (1 - _ROUNDING) * self.distance)
        self.delta = torch.where(nearer[:, None], moved, self.delta)
        self.distance = torch.where(nearer, size, self.distance)
        self.sloped |= uphill.any(1)
        return true_margin(logits, self.classes).double(), uphill

    def offer(self, delta: Tensor, allowed: Tensor) -> None:
        """Start from perturbations `[batch, d]` of another search, where bool `[batch]` allows it."""
        rows = allowed.nonzero()[:, 0]
        self._keep(rows, delta[rows])

    def conclude(self, basis: Tensor) -> None:
        """Shorten the results along their rays; drop those that fail a last check or are not orthogonal to a basis."""
        live, whole = self.found.nonzero()[:, 0], self.delta.double()
        self.distance = torch.full_like(self.distance, torch.inf)
        live = live[self._keep(live, whole[live])]
        scale, step = torch.ones_like(self.distance), torch.full_like(self.distance, _SHRINKING)
        while len(live):
            shorter = scale[live] * (1 - step[live])
            hit = self._keep(live, shorter[:, None] * whole[live])
            scale[live[hit]] = shorter[hit]
            step[live] = torch.where(hit, 2 * step[live], step[live] / 2).clamp_max(0.5)
            live = live[step[live] >= _SHRINKING]
        if basis.shape[1]:
            product = products(basis, self.delta.double()).abs().amax(1)
            # Half the tolerance, because the basis matches the directions up to rounding only.
            self.distance = torch.where(product <= TOLERANCE / 2 * self.distance, self.distance, torch.inf)

    def _keep(self, rows: Tensor, delta: Tensor) -> Tensor:
        """Store perturbations of some rows where they are adversarial; returns where they are."""
        if not len(rows):
            return rows.bool()
        points, moved = self._points(delta, self.inputs[rows])
        logits = _evaluate(self.session, points)
        hit = _fooled(logits, self.classes[rows])
        kept = rows[hit]
        self.delta[kept], self.distance[kept] = moved[hit], moved[hit].double().norm(dim=1)
        self.adversarial_label[kept] = logits[hit].argmax(1)
        return hit

    def _points(self, delta: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Perturbed inputs, and the float32 perturbations `[batch, d]`: their sum does not round out of the bounds."""
        low, high = self.session.bounds
        moved = delta.float().view_as(inputs)
        points = inputs + moved
        while self.inside:
            outside = (points < low) | (points > high)
            if not bool(outside.any()):
                break
            moved = torch.where(outside, torch.nextafter(moved, torch.zeros_like(moved)), moved)
            points = inputs + moved
        return points, moved.flatten(1)


def differentiate(session: Session, points: Tensor, classes: Tensor, loss: str) -> tuple[Tensor, Tensor]:
    """Logits and flat gradients in float64, in batches that suit the network."""
    logits: list[Tensor] = []
    gradients: list[Tensor] = []

    def work(start: int, stop: int) -> None:
        there, slope = session.differentiate(points[start:stop], classes[start:stop], loss)
        slope = slope.flatten(1).double()
        logits.append(there)  # last, because a batch that runs out of memory is repeated
        gradients.append(slope)

    session.in_batches(work, len(points), points.shape[1:], kind="gradient")
    return torch.cat(logits), torch.cat(gradients)


def _evaluate(session: Session, points: Tensor) -> Tensor:
    """Logits, in batches that suit the network."""
    logits: list[Tensor] = []
    session.in_batches(
        lambda start, stop: logits.append(session.evaluate(points[start:stop])),
        len(points),
        points.shape[1:],
        kind="float32",
    )
    return torch.cat(logits)


def _fooled(logits: Tensor, classes: Tensor) -> Tensor:
    """Where another class wins by more than rounding, so that the label does not depend on the batch size."""
    return true_margin(logits, classes) < -_ROUNDING * logits.abs().amax(1)
