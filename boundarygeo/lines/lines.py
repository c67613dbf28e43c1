"""Logits along lines: every class's logit against t, for many examples at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.checks import check_count
from boundarygeo.classifier import Classifier
from boundarygeo.directions import Directions
from boundarygeo.evaluation import analysis
from boundarygeo.linalg import like
from boundarygeo.lines.rays import prepare, reach
from boundarygeo.points import AffinePoints
from boundarygeo.results import Result, array
from boundarygeo.results.statistics import Estimate, share


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class LogitLines(Result):
    """Logits at equally spaced points of one line through each example.

    Attributes:
        logits: float32 `[example, point, class]`.
        t: coordinate of each point, float64 `[point]`, in `unit`; 0 is the example.
        true_labels: int64 `[example]`.
        index: number of each example, int64 `[example]`.
        valid: whether the line exists, bool `[example]`: False where the direction is zero.
        origin: the examples, float32 `[example, *input]`.
        direction: the directions, float32 `[example, *input]`, in input units per `unit`.
        name: name of the directions.
        unit: unit of `t`.
        clip: whether points were clipped to the bounds.
        bounds: the classifier's bounds.
    """

    logits: Tensor = array("example", "point", "class", unit="logits")
    t: Tensor = array("point", unit="direction units", coordinate=True)
    true_labels: Tensor = array("example")
    index: Tensor = array("example", coordinate=True)
    valid: Tensor = array("example")
    origin: Tensor = array("example", "*input")
    direction: Tensor = array("example", "*input")
    name: str
    unit: str
    clip: bool
    bounds: tuple[float, float]

    def probabilities(self) -> Tensor:
        """Softmax of the logits, float32 `[example, point, class]`."""
        return self.logits.softmax(2)

    def labels(self) -> Tensor:
        """Predicted classes, int64 `[example, point]`."""
        return self.logits.argmax(2)

    def accuracy(self, point: int) -> Estimate:
        """Share of the examples classified correctly at a point (-1: the last), with its 95 % interval."""
        correct = self.logits[:, point].argmax(1) == self.true_labels
        return share(int(correct.sum()), len(correct))

    def inputs(self, example: int, points: Tensor) -> Tensor:
        """Inputs at some points (int64 `[n]`) of one line, before normalisation: float32 `[n, *input]`."""
        inputs = self.origin[example] + like(self.t[points].float(), self.origin) * self.direction[example]
        return inputs.clamp(*self.bounds) if self.clip else inputs


@analysis
def logit_lines(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    direction: str | Tensor | Directions = "fgsm",
    extent: float | tuple[float, float],
    points: int = 201,
    clip: bool = True,
    precision: str = "float32",
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> LogitLines:
    """Logits along a line through each example (Goodfellow et al. 2015, arXiv 1412.6572, Fig. 4).

    Args:
        clf: the classifier.
        x: examples `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        direction: `"fgsm"`, `"gradient"`, `"random"`, vectors `[example, *input]`, or `Directions`.
        extent: the line covers ±extent, or (low, high), in steps of the direction (for `"fgsm"`: ε in L∞).
        points: number of points, at least 2; with an odd number, one of ±extent is the example.
        clip: whether points are clipped to the bounds, as images are.
        precision: `"float32"`, `"float64"` or `"bfloat16"`.
        seed: seed of random directions.
        index: number of each example, which seeds its random direction; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Returns:
        The lines. Examples without a direction (zero gradient) are marked in `valid`; their line stays at the example.

    Raises:
        TypeError: if an argument or the module's output has the wrong type.
        ValueError: if an argument is out of range or the logits are not finite.
    """
    low, high = reach(extent)
    check_count(points, "points", least=2)
    directions, numbers, provenance = prepare(clf, x, y, direction, seed=seed, index=index)
    vectors = directions.vectors.detach().float().cpu()
    t = torch.linspace(low, high, points, dtype=torch.float64)
    rows: list[Tensor] = []
    with clf.session(x, y) as session:
        line = AffinePoints(clf, x.detach().float(), [vectors], clip=clip)
        make = line.exact if precision == "float64" else line.fast
        steps = t.to(clf.device)

        def points_of(start: int, stop: int) -> Tensor:
            number = torch.arange(start, stop, device=clf.device)
            return make(number // points, steps[number % points])

        session.run(points_of, len(x) * points, lambda r: rows.append(r.cpu()), precision=precision, progress=progress)
    logits = torch.cat(rows).float().view(len(x), points, -1)
    return LogitLines(
        provenance=provenance(seed=seed, precision=precision, direction=directions, extent=(low, high)),
        logits=logits,
        t=t,
        true_labels=y.detach().cpu().long(),
        index=numbers,
        valid=vectors.flatten(1).any(1),
        origin=x.detach().float().cpu(),
        direction=vectors,
        name=directions.name,
        unit=directions.unit,
        clip=clip,
        bounds=clf.bounds,
    )
