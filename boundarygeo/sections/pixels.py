"""Deciding the label of single pixels of planes, fast where that is safe and exactly where it is not."""

from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.classifier import Classifier, true_margin
from boundarygeo.sections.planes import Planes

# A pixel's label is trusted when the gap between its two largest logits exceeds this many standard deviations of
# the arithmetic's error, which is measured on a few pixels of the same plane. Measured with a ResNet-20 on CIFAR-10
# (benchmarks/README.md): bfloat16 at 6 leaves about 1 wrong pixel in 100,000. float32 errs so little that a much
# wider safety costs nothing.
TRUST = {"bfloat16": 6.0, "float32": 20.0}
# Pixels per plane side on which each arithmetic's error is measured. float64 is slow, and rounding of float32 varies
# little over a plane.
CALIBRATION_SIDE = {"bfloat16": 4, "float32": 2}


@dataclass(frozen=True, eq=False)
class Decisions:
    """What was decided for some pixels; every tensor is `[pixel, ...]` on the classifier's device.

    Attributes:
        labels: class, int64.
        gap: largest minus second largest logit.
        margin: true class's logit minus the best other's (the gap, where there is no true class).
        probability: softmax of the true class (of the predicted one, where there is none).
        logits: logits of the first rung, only if asked for.
    """

    labels: Tensor
    gap: Tensor
    margin: Tensor
    probability: Tensor
    logits: Tensor | None


class PixelJudge:
    """Labels of pixels on a few planes, whose tensors it keeps on the classifier's device.

    A pixel is a number `(plane · R + row) · R + col`. To be used inside `Classifier.running`.

    Args:
        clf: the classifier.
        planes: planes, all of them valid.
        axis: coordinates of the R columns, and of the R rows, in axis units.
        ladder: arithmetics in which labels are decided, fastest first.
        clip: whether points are clipped to the classifier's bounds.
    """

    def __init__(
        self, clf: Classifier, planes: Planes, axis: Tensor, *, ladder: tuple[str, ...], clip: bool
    ) -> None:
        self.clf = clf
        self.ladder = ladder
        self.resolution = len(axis)
        self._clip = clip
        self._shape = planes.origin.shape[1:]
        self._origin, self._u, self._v = (
            t.to(clf.device).flatten(1) for t in (planes.origin, planes.u, planes.v)
        )
        self._axis = axis.to(clf.device, torch.float32)
        self._true = None if planes.labels is None else planes.labels.to(clf.device)
        self._thresholds = [
            self._calibrate(fast, exact) for fast, exact in zip(ladder[:-1], ladder[1:], strict=True)
        ]

    def decide(self, pixels: Tensor, *, logits: bool = False) -> Decisions:
        """Decide labels of pixels, re-checking doubtful ones in the next arithmetic up the ladder.

        Args:
            pixels: numbers of pixels, int64 `[pixel]` on the classifier's device.
            logits: whether to return the first arithmetic's logits, too.

        Returns:
            The decisions. Margins and probabilities come from the arithmetic that decided.

        Raises:
            ValueError: if a logit is NaN.
        """
        first = self._evaluate(pixels, self.ladder[0], logits=logits)
        doubtful, latest = torch.arange(len(pixels), device=pixels.device), first
        for rung, threshold in zip(self.ladder[1:], self._thresholds, strict=True):
            again = (latest.gap <= threshold[self._plane(pixels[doubtful])]).nonzero()[:, 0]
            if not len(again):
                break
            doubtful = doubtful[again]
            latest = self._evaluate(pixels[doubtful], rung)
            for name in ("labels", "gap", "margin", "probability"):
                getattr(first, name)[doubtful] = getattr(latest, name)
        if bool(first.gap.isnan().any()):
            raise ValueError("module must return finite logits, got NaN on a plane through the examples")
        return first

    def _evaluate(self, pixels: Tensor, precision: str, *, logits: bool = False) -> Decisions:
        parts: list[tuple[Tensor, ...]] = []
        kept: list[Tensor] = []
        done = 0

        def consume(rows: Tensor) -> None:
            nonlocal done
            top = rows.topk(2, dim=1)
            gap = top.values[:, 0] - top.values[:, 1]
            label = top.indices[:, 0]
            if self._true is None:
                of, margin = label, gap
            else:
                of = self._true[self._plane(pixels[done : done + len(rows)])]
                margin = true_margin(rows, of)
            chance = rows.softmax(1).gather(1, of[:, None])[:, 0]
            parts.append((label, gap.float(), margin.float(), chance.float()))
            if logits:
                kept.append(rows.float())
            done += len(rows)

        self.clf.run(lambda i, j: self._points(pixels[i:j]), len(pixels), consume, precision=precision)
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        return Decisions(*columns, torch.cat(kept) if logits else None)

    def _points(self, pixels: Tensor) -> Tensor:
        """The points themselves, made on the device."""
        plane = self._plane(pixels)
        a = self._axis[pixels % self.resolution][:, None]
        b = self._axis[pixels // self.resolution % self.resolution][:, None]
        points = self._origin[plane].addcmul_(a, self._u[plane]).addcmul_(b, self._v[plane])
        if self._clip:
            points.clamp_(*self.clf.bounds)
        return points.view(-1, *self._shape)

    def _plane(self, pixels: Tensor) -> Tensor:
        return pixels // (self.resolution * self.resolution)

    def _calibrate(self, fast: str, exact: str) -> Tensor:
        """Per plane, the gap between logits below which the faster arithmetic is not trusted, `[plane]`.

        Measured on the plane's own pixels, so that it does not depend on which other planes are in the call.
        """
        side = CALIBRATION_SIDE[fast]
        ticks = ((torch.arange(side) + 0.5) / side * (self.resolution - 1)).round().long()
        spots = (ticks[:, None] * self.resolution + ticks).flatten().to(self.clf.device)
        count = len(self._origin)
        first = torch.arange(count, device=self.clf.device) * self.resolution**2
        pixels = (first[:, None] + spots).flatten()
        low = self._raw_logits(pixels, fast).double().view(count, len(spots), -1)
        high = self._raw_logits(pixels, exact).double().view(count, len(spots), -1)
        # An error that all logits share moves no label.
        error = low - high
        error = error - error.mean(2, keepdim=True)
        rounding = torch.finfo(torch.float32).eps * high.abs().amax((1, 2))
        return TRUST[fast] * error.square().mean((1, 2)).sqrt().maximum(rounding).float()

    def _raw_logits(self, pixels: Tensor, precision: str) -> Tensor:
        rows: list[Tensor] = []
        self.clf.run(lambda i, j: self._points(pixels[i:j]), len(pixels), rows.append, precision=precision)
        return torch.cat(rows)
