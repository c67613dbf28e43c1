"""PGD: many small steps along the gradient, each projected onto the ball (Madry et al. 2018, arXiv 1706.06083)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from boundarygeo.attacks.examples import AdversarialExamples, attack_examples
from boundarygeo.attacks.norms import project, random_in_ball, steepest
from boundarygeo.checks import check_count, check_eps
from boundarygeo.choices import Norm
from boundarygeo.classifier import Classifier
from boundarygeo.evaluation import Session, analysis
from boundarygeo.losses import true_margin

_REACH = 2.5  # radii that all steps together can go (Madry et al.): to the other side of the ball, and some more


@analysis
def pgd(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    early_stop: bool = True,
    targets: Tensor | None = None,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    draw: Callable[..., Tensor] = random_in_ball,
    progress: bool = True,
) -> AdversarialExamples:
    """Projected gradient ascent of the cross-entropy inside a ball and the bounds.

    Each step goes along the gradient's sign (L∞) or the unit gradient (L2), back onto the ball, and into the bounds.
    An example that needs no change (misclassified, or on its target, to begin with) is left as it is: found, distance
    0. Random starts are decided by (seed, index of the example, restart): results do not depend on the batch size, the
    order or the splitting of the examples, but for the float32 rounding of the network itself.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        eps: radius of the ball in `norm`, in input units.
        norm: `"linf"` or `"l2"`.
        steps: number of steps, each one forward and one backward pass.
        step_size: length of a step in `norm`, in input units; by default 2.5 ε / steps.
        restarts: how often the search is started; kept is a success, and among equals the largest margin.
        random_start: whether to start at a uniformly random point of the ball, not at the input.
        early_stop: whether an example stops at its first success. Without, every search takes all its steps: such
            examples lie deeper in the wrong region and transfer better.
        targets: classes to be reached, int64 `[example]`; by default any other than the true one is a success.
        seed: seed of the random starts.
        index: number of each example; by default 0, 1, 2, ….
        draw: draws the random starts, called as `random_in_ball`; a `DrawnOnce` shares them between several attacks.
        progress: whether to show a progress bar after two seconds.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind.
        ValueError: if an argument is out of its range, or the module's output is invalid.
    """
    radius = check_eps(eps)
    check_settings(steps=steps, step_size=step_size, restarts=restarts, random_start=random_start)
    targeted = targets is not None
    stride = _REACH * radius / steps if step_size is None else float(step_size)

    def climb(session: Session, inputs: Tensor, classes: Tensor, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One search: where it ended, the labels there, and how far beyond the boundary (in logits)."""
        ends, labels = torch.empty_like(inputs), torch.empty_like(classes)
        margins = torch.empty(len(classes), device=inputs.device)
        live = torch.arange(len(inputs), device=inputs.device)
        origin, wanted, points = inputs, classes, starts

        def stop(rows: Tensor, logits: Tensor) -> None:
            at, towards = live[rows], wanted[rows]
            ends[at], labels[at] = points[rows], logits.argmax(1)
            margins[at] = true_margin(logits, towards) * (1 if targeted else -1)

        for _ in range(steps):
            logits, uphill = session.differentiate(points, wanted, "log_odds")
            if early_stop:
                done = (logits.argmax(1) == wanted) == targeted
                rows = done.nonzero()[:, 0]
                if len(rows):
                    stop(rows, logits[rows])
                    rows = (~done).nonzero()[:, 0]
                    live, origin, wanted, points, uphill = (v[rows] for v in (live, origin, wanted, points, uphill))
                    if not len(live):
                        return ends, labels, margins
            move = steepest(uphill, norm).mul_(-stride if targeted else stride)
            points = project(move.add_(points).sub_(origin), radius, norm).add_(origin).clamp_(*session.bounds)
        stop(torch.arange(len(live), device=live.device), session.evaluate(points))
        return ends, labels, margins

    def search(session: Session, inputs: Tensor, classes: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        points, labels = inputs.clone(), session.evaluate(inputs).argmax(1)
        found = (labels == classes) == targeted
        margins = torch.full_like(labels, -torch.inf, dtype=torch.float32)
        attacked = (~found).nonzero()[:, 0]
        for restart in range(restarts):
            live = attacked[~found[attacked]] if early_stop else attacked
            if not len(live):
                break
            origin, wanted = inputs[live], classes[live]
            starts = origin
            if random_start:
                drawn = draw(inputs.shape[1:], numbers[live.cpu()], norm, seed=seed, draw=restart)
                starts = (origin + radius * drawn.to(origin)).clamp(*session.bounds)
            ends, seen, margin = climb(session, origin, wanted, starts)
            hit = (seen == wanted) == targeted
            better = (hit & ~found[live]) | ((hit == found[live]) & (margin > margins[live]))
            rows = better.nonzero()[:, 0]
            kept = live[rows]
            points[kept], labels[kept], margins[kept], found[kept] = (
                values[rows] for values in (ends, seen, margin, hit)
            )
        return points, labels, found

    return attack_examples(
        clf,
        x,
        y,
        search,
        attack="pgd",
        norm=norm,
        eps=radius,
        targets=targets,
        resolved={"step_size": stride},
        seed=seed,
        index=index,
        progress=progress,
    )


def check_settings(
    *, steps: int = 1, step_size: float | None = None, restarts: int = 1, random_start: bool = True
) -> None:
    """Refuse settings of `pgd` that are out of their range."""
    check_count(steps, "steps")
    check_count(restarts, "restarts")
    if step_size is not None:
        check_eps(step_size, "step_size")
    if restarts > 1 and not random_start:
        raise ValueError(f"restarts must be 1 without random_start, got {restarts}: all of them would be the same")
