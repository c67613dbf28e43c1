r"""How smooth the loss is near an example, and how many directions a smooth loss guarantees.

A loss J is β-smooth if :math:`\|\nabla J(a)-\nabla J(b)\|_2\le\beta\|a-b\|_2`. Then a first-order claim becomes a
guarantee for fewer directions (Tramèr et al. 2017, arXiv 1704.03453, §3.1): see `second_order_count`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.attacks.norms import NORMS, random_in_ball, steepest
from boundarygeo.checks import check_choice, check_count, check_eps, plain
from boundarygeo.choices import Norm
from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of, random_directions
from boundarygeo.evaluation import Session, analysis
from boundarygeo.linalg import norms
from boundarygeo.losses import LOSSES, loss_of
from boundarygeo.results import Result, array
from boundarygeo.subspace.frames.gaas import claimed_dimension


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class LocalSmoothness(Result):
    """Measured smoothness β of a loss in a ball around each example: lower bounds of the true β.

    Points are numbered 0, the example; 1 to p, steps along its gradient of 1/p to p/p of ε; p + 1 to 2p, random points.

    Attributes:
        value: loss at the example, float64 `[example]`.
        gradient_norm: L2 norm of its input gradient, float64 `[example]`, in loss per input unit.
        curvature: largest absolute eigenvalue of the input Hessian at each point, float64 `[example, point]`: a lower
            bound from power iteration.
        growth: share by which the last iteration raised `curvature`, float64 `[example, point]`; 0 if converged.
        change_along: change of the gradient from the example to each step along its gradient, divided by the L2 length
            of that step, float64 `[example, step]`; 0 where clipping removed the whole step.
        change_random: likewise from the example to each random point, float64 `[example, draw]`.
        change_between: likewise from each step to the random point of the same number, float64 `[example, draw]`.
        step: length of the steps along the gradient in `norm`, before clipping, float64 `[step]`.
        index: number of each example, int64 `[example]`; determines its random points.
        eps: radius of the ball in `norm`, in input units.
        norm: `"l2"` or `"linf"`, of the ball; β refers to L2 lengths in both.
        loss: name of the loss.
        iterations: number of power iterations.
        clip: whether points were clipped to the bounds.
    """

    value: Tensor = array("example", unit="loss")
    gradient_norm: Tensor = array("example", unit="loss per input unit")
    curvature: Tensor = array("example", "point", unit="loss per squared input unit")
    growth: Tensor = array("example", "point")
    change_along: Tensor = array("example", "step", unit="loss per squared input unit")
    change_random: Tensor = array("example", "draw", unit="loss per squared input unit")
    change_between: Tensor = array("example", "draw", unit="loss per squared input unit")
    step: Tensor = array("step", unit="input units", coordinate=True)
    index: Tensor = array("example", coordinate=True)
    eps: float
    norm: Norm
    loss: str
    iterations: int
    clip: bool

    @property
    def hessian_norm(self) -> Tensor:
        """Largest curvature seen at any point, float64 `[example]`."""
        return self.curvature.amax(1)

    @property
    def gradient_change(self) -> Tensor:
        """Largest change of the gradient per distance seen between any pair, float64 `[example]`."""
        return torch.cat([self.change_along, self.change_random, self.change_between], 1).amax(1)

    @property
    def beta(self) -> Tensor:
        """The largest of these: β is at least this, float64 `[example]`."""
        return torch.maximum(self.hessian_norm, self.gradient_change)


@analysis
def local_smoothness(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "l2",
    loss: str = "cross_entropy",
    points: int = 4,
    iterations: int = 20,
    clip: bool = True,
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> LocalSmoothness:
    r"""Measure how fast the input gradient of a loss changes in a ball around each example.

    The Hessian's largest absolute eigenvalue comes from power iteration with Hessian-vector products (two backward
    passes): from a random unit vector, :math:`v\leftarrow Hv/\|Hv\|`. For a symmetric H, :math:`\|Hv\|` never falls and
    never exceeds the eigenvalue, even where both :math:`\pm\lambda` are eigenvalues.

    Networks of ReLUs have gradients that jump. Between the jumps the Hessian of `"margin"` is zero, and that of the
    other losses comes from the softmax alone; across a jump :math:`\|\nabla J(a)-\nabla J(b)\|/\|a-b\|` grows without
    limit as a and b approach each other, so no β holds. Measuring between points some share of ε apart gives the
    smoothness at that scale, which is the scale at which `second_order_count` is used.

    Everything is float32: a curvature below about a millionth of the squared logit gradients is rounding error.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: classes, int64 `[example]`.
        eps: radius of the ball in `norm`, in input units.
        norm: `"l2"` or `"linf"`.
        loss: `"cross_entropy"`, `"log_odds"` or `"margin"`, as in `Classifier.input_gradient`.
        points: number p of steps along the gradient, and of points drawn uniformly from the ball.
        iterations: number of power iterations at each of the 2p + 1 points.
        clip: whether points are clipped to the bounds.
        seed: seed of the random points and of the first vectors.
        index: number of each example; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Returns:
        Curvatures and gradient changes, with the derived `beta`.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind.
        ValueError: if an argument or the module's output is invalid.
    """
    eps, points, iterations, seed = plain(eps, points, iterations, seed)
    radius = check_eps(eps)
    check_choice(norm, "norm", NORMS)
    check_choice(loss, "loss", LOSSES)
    check_count(points, "points")
    check_count(iterations, "iterations")
    clf.check_inputs(x)
    clf.check_labels(y, len(x))
    numbers = numbers_of(index, len(x))
    provenance = clf.record()
    step = torch.arange(1, points + 1, dtype=torch.float64) * (radius / points)
    with clf.session(x, y) as session:
        value, uphill = _losses_and_steps(session, x, y, loss, norm, progress=progress)
        places = _points(x.detach().cpu().float(), uphill, numbers, step, norm, seed=seed)
        places = places.clamp(*clf.bounds) if clip else places
        gradients, curvature, growth = _curvatures(
            session, places, y, numbers, loss, iterations=iterations, seed=seed, progress=progress
        )
    here, along, drawn = ([0] * points, range(1, points + 1), range(points + 1, 2 * points + 1))
    change_along, change_random, change_between = (
        torch.stack([_change(gradients, places, a, b) for a, b in zip(first, second, strict=True)], 1)
        for first, second in ((here, along), (here, drawn), (along, drawn))
    )
    return LocalSmoothness(
        provenance=provenance(seed=seed),
        value=value,
        gradient_norm=norms(gradients[0]),
        curvature=curvature.T,
        growth=growth.T,
        change_along=change_along,
        change_random=change_random,
        change_between=change_between,
        step=step,
        index=numbers,
        eps=radius,
        norm=norm,
        loss=loss,
        iterations=iterations,
        clip=clip,
    )


@analysis
def second_order_count(
    gradient_norm: Tensor, eps: float, gamma: Tensor | float, beta: Tensor | float, dimension: int
) -> Tensor:
    r"""How many orthogonal directions of norm ε are guaranteed to raise a β-smooth loss by γ.

    .. math:: k = \min(d, \lfloor \varepsilon^2 \|g\|^2 / (\gamma + \beta\varepsilon^2/2)^2 \rfloor)

    For β-smooth J, :math:`J(x+r) - J(x) - g^Tr = \int_0^1 (\nabla J(x+tr) - g)^T r\,dt \ge -\int_0^1 \beta t \|r\|^2
    dt = -\beta\varepsilon^2/2` (only gradients between x and points near it enter). So :math:`g^Tr \ge \gamma +
    \beta\varepsilon^2/2` is enough, and that many orthogonal r of norm ε have it (see `claimed_dimension`). No larger
    number is guaranteed: for the quadratic function whose Hessian is -β times the identity, both inequalities are
    equalities.

    The count falls with γ and with β. (The often quoted claim that it is proportional to the increase of the loss
    contradicts the formula.)

    Args:
        gradient_norm: L2 norms of the gradients, `[example]`.
        eps: L2 norm of the perturbations, in input units.
        gamma: increase of the loss required, one number or `[example]`.
        beta: smoothness of the loss between x and points at distance ε, one number or `[example]`.
        dimension: number of dimensions d of the input space.

    Returns:
        Counts, int64 `[example]`.

    Examples:
        >>> second_order_count(torch.tensor([2.0]), 1.0, 0.5, torch.tensor([0.0, 0.5, 1.0]), 784)
        tensor([16,  7,  4])
    """
    wanted = torch.as_tensor(gamma, dtype=torch.float64) + torch.as_tensor(beta, dtype=torch.float64) * eps**2 / 2
    g, wanted = torch.broadcast_tensors(gradient_norm.double(), wanted)
    return claimed_dimension(g, eps, wanted, dimension)


@analysis
def best_second_order_count(
    gradient_norm: Tensor, gamma: Tensor | float, beta: Tensor | float, dimension: int
) -> tuple[Tensor, Tensor]:
    r"""The radius that maximises `second_order_count`, and the count there.

    :math:`\varepsilon\|g\|/(\gamma+\beta\varepsilon^2/2)` has its only maximum where its derivative vanishes, at
    :math:`\gamma + \beta\varepsilon^2/2 = \beta\varepsilon^2`: at :math:`\varepsilon = \sqrt{2\gamma/\beta}`. Its
    squared value there is :math:`\|g\|^2/(2\beta\gamma)`.

    Args:
        gradient_norm: L2 norms of the gradients, `[example]`.
        gamma: increase of the loss required, >= 0, one number or `[example]`.
        beta: smoothness of the loss, >= 0, one number or `[example]`.
        dimension: number of dimensions d of the input space.

    Returns:
        Radii, float64 `[example]`, inf where the loss is linear; and counts, int64 `[example]`.

    Examples:
        >>> best_second_order_count(torch.tensor([4.0]), 0.5, 1.0, 784)
        (tensor([1.], dtype=torch.float64), tensor([16]))
    """
    values = (torch.as_tensor(value, dtype=torch.float64) for value in (gradient_norm, gamma, beta))
    g, wanted, smoothness = torch.broadcast_tensors(*values)
    radius = (2 * wanted / smoothness).sqrt()
    return radius, claimed_dimension(g, 1.0, (2 * smoothness * wanted).sqrt(), dimension)


def guarantee_share(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    perturbations: Tensor,
    *,
    gamma: Tensor | float,
    loss: str = "cross_entropy",
    count: Tensor | None = None,
    clip: bool = False,
    progress: bool = True,
) -> Tensor:
    r"""Check a guarantee on the network: the share of perturbations with :math:`J(x+r) \ge J(x)+\gamma`, `[example]`.

    Of the perturbations `[example, direction, *input]`, the first `count` of each example are used, by default all.
    Losses are computed in float64 where the module supports it. The guarantee assumes that points are not clipped.
    """
    check_choice(loss, "loss", LOSSES)
    clf.check_inputs(x)
    clf.check_labels(y, len(x))
    if perturbations.ndim != x.ndim + 1 or len(perturbations) != len(x) or perturbations.shape[2:] != x.shape[1:]:
        raise ValueError(
            f"perturbations must have shape [{len(x)}, direction, {', '.join(str(n) for n in x.shape[1:])}], "
            f"got {list(perturbations.shape)}"
        )
    most = perturbations.shape[1]
    sizes = torch.full((len(x),), most) if count is None else count.cpu()
    if sizes.shape != (len(x),) or int(sizes.min()) < 0 or int(sizes.max()) > most:
        raise ValueError(f"count must hold {len(x)} numbers from 0 to {most}, one per example, got {count}")
    example, direction = (torch.arange(most) < sizes[:, None]).nonzero(as_tuple=True)
    origin = x.detach().cpu()

    def moved(i: int, j: int) -> Tensor:
        points = origin[example[i:j]].double() + perturbations[example[i:j], direction[i:j]].detach().cpu().double()
        return points.clamp(*clf.bounds) if clip else points

    def losses(points: Callable[[int, int], Tensor], classes: Tensor) -> Tensor:
        rows = [torch.zeros(0, session.num_classes)]  # there may be no perturbations
        session.run(
            lambda i, j: clf.normalise(points(i, j).to(clf.device)),
            len(classes),
            lambda logits: rows.append(logits.cpu()),
            precision=session.ladder("float32", x.shape[1:])[-1],
            progress=progress,
        )
        return loss_of(torch.cat(rows).double(), classes, loss)

    with clf.session(x, y) as session:
        before = losses(lambda i, j: origin[i:j].double(), y.cpu())
        increase = losses(moved, y.cpu()[example]) - before[example]
    wanted = torch.as_tensor(gamma, dtype=torch.float64).cpu().expand(len(x))
    held = torch.zeros(len(x), dtype=torch.float64).index_add(0, example, (increase >= wanted[example]).double())
    return held / sizes


def _losses_and_steps(
    session: Session, x: Tensor, y: Tensor, loss: str, norm: Norm, *, progress: bool
) -> tuple[Tensor, Tensor]:
    """Losses, float64 `[example]`, and the steepest steps of norm 1, `[example, *input]`, on the CPU."""
    rows: list[tuple[Tensor, Tensor]] = []

    def work(start: int, stop: int) -> None:
        logits, gradient = session.differentiate(x[start:stop], y[start:stop], loss)
        value = loss_of(logits, y[start:stop].to(logits.device), loss)
        rows.append((value.double().cpu(), steepest(gradient, norm).cpu()))

    session.in_batches(work, len(x), x.shape[1:], kind="gradient", progress=progress)
    value, uphill = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return value, uphill


def _points(x: Tensor, uphill: Tensor, numbers: Tensor, step: Tensor, norm: Norm, *, seed: int) -> Tensor:
    """The examples, steps along their gradients, and random points of their balls, `[point, example, *input]`."""
    drawn = [random_in_ball(x.shape[1:], numbers, norm, seed=seed, draw=draw) for draw in range(len(step))]
    along = [x + length * uphill for length in step.tolist()]
    return torch.stack([x, *along, *(x + float(step[-1]) * unit for unit in drawn)])


def _curvatures(
    session: Session,
    places: Tensor,
    y: Tensor,
    numbers: Tensor,
    loss: str,
    *,
    iterations: int,
    seed: int,
    progress: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients `[point, example, *input]`, largest absolute eigenvalues and their last growth `[point, example]`."""
    count, examples = places.shape[:2]
    flat, classes = places.flatten(0, 1), y.cpu().repeat(count)
    rows: list[tuple[Tensor, ...]] = []

    def work(start: int, stop: int) -> None:
        row = torch.arange(start, stop)
        # The random points are drawn on the first axes: the vectors are independent of them.
        drawn = [
            random_directions(places.shape[2:], numbers[row[row // examples == point] % examples], seed=seed, axis=axis)
            for point, axis in zip(range(count), range(count, 2 * count), strict=True)
        ]
        inputs, v = flat[start:stop].to(session.device), steepest(torch.cat(drawn).to(session.device), "l2")
        gradient = torch.zeros_like(inputs)
        size = growth = torch.zeros(len(row), dtype=torch.float64, device=v.device)
        for _ in range(iterations):
            gradient, product = session.hessian_vector(inputs, classes[start:stop], v, loss)
            v = steepest(product, "l2")
            # Norm of the product without squaring small numbers. It falls by rounding only.
            longer = torch.maximum(size, (product.double() * v.double()).flatten(1).sum(1))
            growth, size = 1 - torch.where(longer > 0, size / longer, 1.0), longer
        rows.append((gradient.cpu(), size.cpu(), growth.cpu()))

    session.in_batches(work, len(flat), places.shape[2:], kind="smoothness", progress=progress)
    gradients, size, growth = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return gradients.view_as(places), size.view(count, examples), growth.view(count, examples)


def _change(gradients: Tensor, places: Tensor, first: int, second: int) -> Tensor:
    """Change of the gradients per L2 distance from one point to another, `[example]`; 0 where the points coincide."""
    distance = norms(places[second].double() - places[first].double())
    change = norms(gradients[second].double() - gradients[first].double())
    return torch.where(distance > 0, change / distance, 0.0)
