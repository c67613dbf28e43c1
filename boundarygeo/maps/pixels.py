"""Labels of single pixels of planes, in a fast precision where that is safe and exactly elsewhere."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.evaluation import Session
from boundarygeo.losses import true_margin
from boundarygeo.maps.planes import Planes
from boundarygeo.points import AffinePoints

# A pixel's label is trusted if the gap between its two largest logits exceeds this many standard deviations of the
# precision's error, measured on a few pixels of the same plane. With a ResNet-20 on CIFAR-10 (benchmarks/README.md),
# bfloat16 at 6 leaves about 1 wrong pixel in 100,000. Float32's error is so small that a much wider margin is free.
TRUST = {"bfloat16": 6.0, "float32": 20.0}
# Where each precision's error is measured, as shares of the plane's height and width. Few points for float32: comparing
# needs float64, which is slow (seven times slower for a small CNN), and float32's rounding varies little over a plane.
CALIBRATION = {
    "bfloat16": tuple(itertools.product((1 / 8, 3 / 8, 5 / 8, 7 / 8), repeat=2)),
    "float32": ((1 / 4, 1 / 4), (3 / 4, 3 / 4)),
}


@dataclass(frozen=True, eq=False)
class Decisions:
    """Labels and margins of some pixels, each tensor `[pixel]` on the classifier's device."""

    labels: Tensor  # predicted class, int64
    gap: Tensor  # largest minus second largest logit
    margin: Tensor  # true class's logit minus the largest other one; without a true class, the gap
    probability: Tensor  # softmax of the true class; without one, of the predicted class

    def put(self, where: Tensor, others: "Decisions") -> None:
        """Overwrite the decisions of some pixels with others, in place."""
        self.labels[where] = others.labels
        self.gap[where] = others.gap
        self.margin[where] = others.margin
        self.probability[where] = others.probability


class PixelJudge:
    """Labels of pixels on a few valid planes, in a ladder of precisions, fastest first.

    A pixel is a number `(plane · R + row) · R + col`, on planes of R × R pixels with the coordinates `axis`.
    """

    def __init__(
        self, clf: Classifier, session: Session, planes: Planes, axis: Tensor, *, ladder: tuple[str, ...], clip: bool
    ) -> None:
        self.clf, self._session = clf, session
        self.ladder = ladder
        self.resolution = len(axis)
        self._axis = axis.to(clf.device)
        self._points = AffinePoints(clf, planes.origin, (planes.u, planes.v), clip=clip)
        self._true = None if planes.labels is None else planes.labels.to(clf.device)
        self._thresholds = [self._calibrate(fast, exact, len(planes)) for fast, exact in itertools.pairwise(ladder)]

    def decide(
        self,
        pixels: Tensor,
        *,
        expected_gap: Tensor | None = None,
        first_logits: Callable[[Tensor], None] | None = None,
    ) -> Decisions:
        """Decide labels of pixels, re-checking doubtful ones in the next precision of the ladder.

        Pixels whose `expected_gap` would not be trusted in the first precision skip it; `first_logits` is called with
        its logits, batch by batch. Margins and probabilities are in the precision that decided.
        """
        count, device = len(pixels), pixels.device
        nan = torch.full((count,), torch.nan, device=device)
        decided = Decisions(torch.zeros(count, dtype=torch.int64, device=device), nan, nan.clone(), nan.clone())
        pending = torch.arange(count, device=device)
        skipping = pending[:0]
        if expected_gap is not None and len(self.ladder) > 1:
            doubtful = expected_gap <= self._thresholds[0][self._plane(pixels)]
            pending, skipping = pending[~doubtful], pending[doubtful]
        for level, precision in enumerate(self.ladder):
            if level == 1:
                pending = torch.cat([pending, skipping])
            if not len(pending):
                continue
            latest = self._evaluate(pixels[pending], precision, first_logits if level == 0 else None)
            decided.put(pending, latest)
            if level < len(self._thresholds):
                pending = pending[latest.gap <= self._thresholds[level][self._plane(pixels[pending])]]
        return decided

    def _evaluate(self, pixels: Tensor, precision: str, also: Callable[[Tensor], None] | None = None) -> Decisions:
        parts: list[tuple[Tensor, ...]] = []
        done = 0

        def consume(logits: Tensor) -> None:
            nonlocal done
            top = logits.topk(2, dim=1)
            label, gap = top.indices[:, 0], top.values[:, 0] - top.values[:, 1]
            if self._true is None:
                of, margin = label, gap
            else:
                of = self._true[self._plane(pixels[done : done + len(logits)])]
                margin = true_margin(logits, of)
            chance = logits.softmax(1).gather(1, of[:, None])[:, 0]
            parts.append((label, gap.float(), margin.float(), chance.float()))
            if also is not None:
                also(logits)
            done += len(logits)

        self._run(pixels, precision, consume)
        labels, gap, margin, probability = (torch.cat(column) for column in zip(*parts, strict=True))
        return Decisions(labels, gap, margin, probability)

    def _run(self, pixels: Tensor, precision: str, consume: Callable[[Tensor], None]) -> None:
        make = self._points.exact if precision == "float64" else self._points.fast
        side = self.resolution

        def points(start: int, stop: int) -> Tensor:
            batch = pixels[start:stop]
            return make(self._plane(batch), self._axis[batch % side], self._axis[batch // side % side])

        self._session.run(points, len(pixels), consume, precision=precision)

    def _plane(self, pixels: Tensor) -> Tensor:
        return pixels // (self.resolution * self.resolution)

    def _calibrate(self, fast: str, exact: str, planes: int) -> Tensor:
        """Gap `[plane]` below which the faster precision is not trusted, measured on pixels of the plane itself."""
        device = self.clf.device
        row, col = (torch.tensor(CALIBRATION[fast]) * (self.resolution - 1)).round().long().T
        spots = (row * self.resolution + col).to(device)
        pixels = (torch.arange(planes, device=device)[:, None] * self.resolution**2 + spots).flatten()
        rows: dict[str, list[Tensor]] = {fast: [], exact: []}
        for precision, batches in rows.items():
            self._run(pixels, precision, batches.append)
        low, high = (torch.cat(rows[precision]).double().view(planes, len(spots), -1) for precision in (fast, exact))
        error = low - high
        error = error - error.mean(2, keepdim=True)  # an error common to all logits changes no label
        rounding = torch.finfo(torch.float32).eps * high.abs().amax((1, 2))
        return TRUST[fast] * error.square().mean((1, 2)).sqrt().maximum(rounding).float()
