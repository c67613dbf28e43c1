"""Square attack: random search without gradients (Andriushchenko et al. 2020, arXiv 1912.00049)."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from boundarygeo.attacks.examples import AdversarialExamples, attack_examples
from boundarygeo.attacks.norms import length, random_in_ball
from boundarygeo.checks import check_count, check_eps
from boundarygeo.choices import Norm
from boundarygeo.classifier import Classifier
from boundarygeo.evaluation import Session, analysis
from boundarygeo.linalg import like
from boundarygeo.losses import true_margin

_SHARE = 0.8  # of the pixels that the first squares cover, as in AutoAttack
_HALVED_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries after which they cover half as many
_TILES = 5  # per side of the image, in the first perturbation in L2
_BLOCK = 100  # queries whose random numbers are drawn at once
_TINY = 1e-12  # keeps quotients finite where a perturbation is zero

Window = tuple[Tensor, Tensor, Tensor]
"""Indices `[batch, 1, 1]`, `[batch, row, 1]` and `[batch, 1, column]` of one rectangle of each image."""


@analysis
def square(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    queries: int = 5000,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> AdversarialExamples:
    """Square attack: random search that needs logits only (Andriushchenko et al. 2020, arXiv 1912.00049).

    In L∞ a perturbation is ±ε everywhere, at first in vertical stripes, and each query gives one random square a new
    sign per channel. In L2 each query moves the perturbation of one random square into another, as a bump and a dent.
    What does not raise the margin of the true class is kept. The squares become smaller with the number of queries,
    by AutoAttack's schedule. Without gradients, it is a check of attacks that use them: where it finds more, gradients
    are masked; otherwise it is the weaker attack.

    An example stops at its first success, and one that is misclassified to begin with is left as it is: found,
    distance 0. Random draws are decided by (seed, index of the example, query): results do not depend on the batch
    size, the order or the splitting of the examples, and more queries are never worse.

    Args:
        clf: the classifier.
        x: inputs `[example, channel, row, column]` within the bounds. Inputs `[example, row, column]` are taken as one
            channel, all others as one row.
        y: true classes, int64 `[example]`.
        eps: radius of the ball in `norm`, in input units.
        norm: `"linf"` or `"l2"`.
        queries: number of forward passes per example, besides one of the input itself.
        seed: seed of the random draws.
        index: number of each example; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Returns:
        The adversarial examples; where none was found, the point with the smallest margin.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind.
        ValueError: if an argument is out of its range, or the module's output is invalid.
    """
    radius = check_eps(eps)
    check_count(queries, "queries")
    first, change = (_tiles, _transfer) if norm == "l2" else (_stripes, _recolour)
    draw = partial(random_in_ball, norm="linf", seed=seed)

    def search(session: Session, inputs: Tensor, classes: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        points, labels = inputs.clone(), session.evaluate(inputs).argmax(1)
        found = labels != classes
        live = (~found).nonzero()[:, 0]
        origin, wanted = _as_images(inputs)[live], classes[live]
        best = drawn = origin
        margins = torch.full_like(wanted, torch.inf, dtype=torch.float32)
        for query in range(queries):
            if not len(live):
                break
            block, number = divmod(query - 1, _BLOCK)
            if query == 0:
                several = torch.Size([origin.shape[1] + 1, *origin.shape[2:]])
                drawn = draw(several, numbers[live.cpu()], draw=0).to(origin)
                moved = first(origin, radius, drawn)
            else:
                if number == 0:
                    several = torch.Size([_BLOCK, origin.shape[1] + 5])
                    drawn = draw(several, numbers[live.cpu()], draw=1 + block).to(origin)
                moved = change(best - origin, radius, drawn[:, number], query)
            candidates = moved.add_(origin).clamp_(*session.bounds)
            logits = session.evaluate(candidates.view(-1, *inputs.shape[1:]))
            margin, done = true_margin(logits, wanted), logits.argmax(1) != wanted
            kept = done | (margin <= margins)  # equal ones, too: on a plateau the search must wander
            best, margins = torch.where(like(kept, best), candidates, best), torch.where(kept, margin, margins)
            rows = done.nonzero()[:, 0]
            if len(rows):
                at = live[rows]
                points[at], labels[at] = best[rows].view_as(points[at]), logits[rows].argmax(1)
                found[at] = torch.ones_like(done[rows])
                rows = (~done).nonzero()[:, 0]
                live, origin, wanted, best, margins, drawn = (
                    v[rows] for v in (live, origin, wanted, best, margins, drawn)
                )
        points[live] = best.view_as(points[live])
        return points, labels, found

    return attack_examples(
        clf, x, y, search, attack="square", norm=norm, eps=radius, seed=seed, index=index, progress=progress
    )


def _as_images(v: Tensor) -> Tensor:
    """Vectors `[batch, *input]` as `[batch, channel, row, column]`."""
    if v.ndim == 4:
        return v
    return v[:, None] if v.ndim == 3 else v.flatten(1)[:, None, None]


def _sides(query: int, rows: int, columns: int, least: int) -> tuple[int, int]:
    """Rows and columns of the rectangle that a query changes: square where the image has room for it."""
    area = _SHARE / 2 ** sum(query > limit for limit in _HALVED_AT) * rows * columns
    height = min(max(round(math.sqrt(area)), least), rows)
    return height, min(max(round(math.sqrt(area) if height < rows else area / height), least), columns)


def _place(draws: Tensor, height: int, width: int, rows: int, columns: int) -> Window:
    """Rectangles at places given by two numbers of [-1, 1] each, `[batch, 2]`."""
    top, left = (
        ((1 + draws[:, k]) / 2 * (room + 1)).long().clamp(0, room).view(-1, 1, 1)
        for k, room in enumerate((rows - height, columns - width))
    )
    down, along = (torch.arange(size, device=draws.device) for size in (height, width))
    return torch.arange(len(draws), device=draws.device).view(-1, 1, 1), top + down[:, None], left + along


def _signs(draws: Tensor) -> Tensor:
    """-1 or 1 for numbers of [-1, 1]."""
    return torch.where(draws < 0, -1.0, 1.0)


def _stripes(images: Tensor, radius: float, draws: Tensor) -> Tensor:
    """First perturbation in L∞: vertical stripes."""
    return (radius * _signs(draws[:, :-1, :1])).expand_as(images).clone()


def _recolour(delta: Tensor, radius: float, draws: Tensor, query: int) -> Tensor:
    """A rectangle with another sign in each channel."""
    rows, columns = delta.shape[2:]
    sample, row, column = _place(draws[:, -2:], *_sides(query, rows, columns, 1), rows, columns)
    moved = delta.clone()
    moved[sample, :, row, column] = (radius * _signs(draws[:, :-5]))[:, None, None]
    return moved


def _tiles(images: Tensor, radius: float, draws: Tensor) -> Tensor:
    """First perturbation in L2: a bump and a dent in each of 5 × 5 tiles."""
    rows, columns = images.shape[2:]
    height, width = max(rows // _TILES, 1), max(columns // _TILES, 1)
    moved = torch.zeros_like(images)
    for top in range(0, rows - height + 1, height):
        for left in range(0, columns - width + 1, width):
            own = draws[:, :, top, left]
            tile = _signs(own[:, :-1, None, None]) * _bumps(height, width, own[:, -1])[:, None]
            moved[:, :, top : top + height, left : left + width] = tile
    return moved * like(radius / length(moved, "l2"), moved)


def _transfer(delta: Tensor, radius: float, draws: Tensor, query: int) -> Tensor:
    """Move what a perturbation has in one rectangle into another, and mix it there with a bump and a dent.

    The length that the bounds had cut off is spent, too (Algorithm 3 of the paper).
    """
    rows, columns = delta.shape[2:]
    height, width = _sides(query, rows, columns, 3)
    goal, source = (_place(draws[:, k], height, width, rows, columns) for k in (slice(-2, None), slice(-4, -2)))
    moved = delta.clone()
    here = moved[goal[0], :, goal[1], goal[2]]  # [batch, row, column, channel]
    own = here.square().sum((1, 2), keepdim=True)
    bumps = _signs(draws[:, :-5])[:, None, None] * _bumps(height, width, draws[:, -5])[..., None]
    mixed = bumps + here / own.sqrt().clamp_min(_TINY)
    moved[goal[0], :, goal[1], goal[2]] = 0.0
    taken = moved[source[0], :, source[1], source[2]].square().sum((1, 2), keepdim=True)
    unused = (radius**2 - length(delta, "l2").square()).clamp_min(0).view(-1, 1, 1, 1) / delta.shape[1]
    moved[source[0], :, source[1], source[2]] = 0.0
    size = mixed.square().sum((1, 2), keepdim=True).sqrt().clamp_min(_TINY)
    moved[goal[0], :, goal[1], goal[2]] = mixed / size * (own + taken + unused).sqrt()
    return moved * like(radius / length(moved, "l2").clamp_min(_TINY), moved)


def _bumps(height: int, width: int, draws: Tensor) -> Tensor:
    """A bump and a dent of L2 length 1 side by side, `[batch, row, column]`; in a square, some are transposed."""
    long, short = max(height, width), min(height, width)
    halves = torch.cat([_bump(long // 2, short), -_bump(long - long // 2, short)])
    halves = (halves / halves.norm()).to(draws)
    if height != width:
        return (halves if height > width else halves.T).expand(len(draws), height, width)
    return torch.where(draws.view(-1, 1, 1) < 0, halves, halves.T)


def _bump(height: int, width: int) -> Tensor:
    """A pyramid of flat rectangles, of which the n-th from the middle is 1/n² high."""
    down, along = ((torch.arange(size) - size // 2).abs() for size in (height, width))
    rank = torch.maximum(down[:, None], along)  # 0 in the middle
    steps = 1 / torch.arange(1, max(height, width) // 2 + 2).square()
    return steps.flip(0).cumsum(0).flip(0)[rank]
