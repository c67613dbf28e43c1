"""Adversarial directions one after another, each the shortest that is orthogonal to all before it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.attacks.examples import check_count, check_eps, labels_of
from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of, random_directions
from boundarygeo.evaluation import progress_bar
from boundarygeo.losses import true_margin
from boundarygeo.results import Result, array
from boundarygeo.subspace.orthogonal import Bounds, nearest, nearest_beyond, orthogonal_unit

BOXES = ("feasible", "ignore")
STOPS = ("max_directions", "failures", "max_norm", "misclassified", "no_gradient")

TOLERANCE = 1e-5
"""Largest |cos| between two directions of an example."""

# What follows was chosen on an MLP and a CNN on MNIST and on random networks, with and without bounds.
_IN_BALL = 0.65  # share of the steps of the first search
_WIDER = 1.3  # first radius, in distances of the direction before
_STRIDES = (5.0, 5e-3)  # first and last step inside the ball, in radii
_CHANGES = (0.3, 1e-3)  # first and last share by which the radius changes
_ALL_CLASSES = 0.6  # share of the steps along the gradient of the log-odds of all other classes, not of the nearest one
_STRETCH = 10.0  # most by which a step is stretched to make up for what the bounds take away
_BOLDNESS = (0.5, 0.05)  # first and last share of the way along the boundary to the point nearest the input
_OVERSHOOT = (2e-2, 1e-3)  # first and last share of the distance by which a linearised boundary is crossed
_FARTHER = 1.3  # longest perturbation after a linearisation, in distances of the best found
_SHRINKING = 0.01  # share of its length by which a perturbation could be shorter along its own ray
_BLIND = 0.05  # first radius where the input has no gradient, in diagonals of the bounds
_ROUNDING = 1e-6  # of the largest logit: a margin this small is no proof of another label
_NEWTON_STEPS = 4  # of each projection: where that is not enough, the next one goes on
_LAST_NEWTON_STEPS = 30
_WORKING_BYTES = 1 << 28  # of the directions of the examples that are searched together, in float64
_TINY = 1e-30  # keeps quotients finite


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SequentialDirections(Result):
    """Orthogonal adversarial perturbations of each example, the shortest first.

    Attributes:
        distance: L2 norm of each perturbation, float64 `[example, direction]`; inf where none was found.
        met: class predicted there, int64 `[example, direction]`; -1 where none was found.
        found: how many were found, int64 `[example]`.
        stopped: why there are no more, int64 `[example]`: an index into `stops`.
        attempts: how many searches were made, int64 `[example]`.
        orthogonality: largest |cos| between two perturbations of the example, measured on the float32 perturbations in
            float64, `[example]`; 0 with fewer than two.
        perturbations: all of them, float32 `[row, *input]`: by example, then by length.
        owner: example of each row, int64 `[row]`.
        rank: which of its example's directions each row is, from 0, int64 `[row]`.
        true_labels: int64 `[example]`.
        index: number of each example, int64 `[example]`: decides its random starts.
        valid: whether the example is classified correctly to begin with, bool `[example]`; no others are searched.
        stops: names of the reasons: `"max_directions"` (or as many as the input has dimensions); `"failures"`, so many
            attempts in a row found none; `"max_norm"`, the same, but some found longer ones; `"misclassified"` to begin
            with; `"no_gradient"`, none was found, and no gradient at any point looked at.
        max_directions: most directions that were wanted.
        max_norm: longest perturbation accepted, in input units, or None.
        box: `"feasible"`, inside the bounds, or `"ignore"`.
        tolerance: |cos| between two directions is at most this.
    """

    distance: Tensor = array("example", "direction", unit="input units")
    met: Tensor = array("example", "direction")
    found: Tensor = array("example")
    stopped: Tensor = array("example")
    attempts: Tensor = array("example")
    orthogonality: Tensor = array("example")
    perturbations: Tensor = array("row", "*input", unit="input units")
    owner: Tensor = array("row")
    rank: Tensor = array("row")
    true_labels: Tensor = array("example")
    index: Tensor = array("example", coordinate=True)
    valid: Tensor = array("example")
    stops: tuple[str, ...]
    max_directions: int
    max_norm: float | None
    box: str
    tolerance: float

    def of(self, example: int) -> Tensor:
        """Perturbations of one example, float32 `[found, *input]`."""
        return self.perturbations[self.owner == example]


def sequential_directions(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    max_norm: float | None = None,
    max_directions: int = 50,
    box: str = "feasible",
    steps: int = 40,
    starts: int = 1,
    failures: int = 3,
    index: Sequence[int] | Tensor | None = None,
    seed: int = 0,
    progress: bool = True,
) -> SequentialDirections:
    r"""The shortest adversarial perturbation found, then the shortest orthogonal to it, and so on.

    The method of Paiton et al. 2021, "The Geometry of Adversarial Subspaces": direction i solves

    .. math:: \min \|\delta_i\|_2 \text{ such that } f(x + \delta_i) \ne y,\ \delta_i^T\delta_j = 0 \text{ for } j < i,
        \text{ and } x + \delta_i \text{ inside the bounds}

    approximately: distances are upper bounds. They solve it with a general solver, one image at a time; here examples
    are searched together, each for its own next direction, and the constraints hold at every step.

    A search has two parts, both keep the nearest adversarial point that they meet, inside the constraints:

    1. A shortest adversarial perturbation is itself the farthest that a perturbation of its length can go along the
       gradient there. Two thirds of the steps iterate that map, from gradient to perturbation, on a ball whose radius
       shrinks where it is adversarial and grows where it is not: first with steps longer than the radius, as what is
       orthogonal to the directions before often has little gradient at the input, and the boundary has to be found
       where it bends; then with ever shorter ones, as in DDN (Rony et al. 2019, arXiv 1811.09600).
    2. The others linearise the boundary at the current point and go to a point of that hyperplane between the nearest
       to the current point and the nearest to the input, as in FAB (Croce & Hein 2020, arXiv 1907.02044).

    What is found is shortened along its own ray, as long as it stays adversarial when shortened by one in a hundred,
    and checked once more on the network in float32.

    Any order of an example's directions is orthogonal: they are sorted by length, so that one that was missed at first
    and found later takes its place.

    Inside the bounds, a coordinate that lies on a bound can only move one way: two perturbations that move it are
    orthogonal only if others make up for it. Images with many such pixels (MNIST) have far fewer directions.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`. Examples that are classified otherwise are marked, and not searched.
        max_norm: longest perturbation to accept, in input units (L2).
        max_directions: most directions per example.
        box: `"feasible"`: each perturbed input is inside the bounds; `"ignore"`: anywhere (no farther than the diagonal
            of the bounds).
        steps: points looked at in one search, each one forward and one backward pass, at least 4; a search that finds
            something takes two to about a dozen forward passes more.
        starts: searches for each direction, of which the shortest result is kept: the first goes along the gradient at
            first, the others at random. Where the landscape is rugged, two searches find shorter ones than one of twice
            the length.
        failures: an example is done after so many attempts in a row (of `starts` searches each) that found no new
            direction; all but the first of them start at random.
        index: number of each example, which decides its random starts; by default 0, 1, 2, ….
        seed: seed of the random starts.
        progress: whether to show a bar when it takes more than two seconds.

    Returns:
        The directions. They depend on neither the batch size nor the order of the examples, but for float32 rounding of
        the network, which can lead a search to another local minimum, and all after it with it.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind.
        ValueError: if an argument or the module's output is not usable.
    """
    if box not in BOXES:
        raise ValueError(f"box must be one of {list(BOXES)}, got {box!r}")
    limit = math.inf if max_norm is None else check_eps(max_norm, "max_norm")
    check_count(max_directions, "max_directions")
    check_count(steps, "steps", least=4)
    check_count(starts, "starts")
    check_count(failures, "failures")
    clf.check_inputs(x)
    clf.check_labels(y, len(x))
    numbers = numbers_of(index, len(x))
    provenance = clf.record()
    inputs, classes = x.detach().float().clamp(*clf.bounds), y.detach().long()
    width = min(max_directions, x[0].numel())
    parts: list[dict[str, Tensor]] = []

    together = max(1, _WORKING_BYTES // (8 * width * x[0].numel()))
    with (
        clf.running(x, y),
        progress_bar(len(x), description="sequential", unit="examples", progress=progress) as bar,
    ):
        for start in range(0, len(x), together):
            some = slice(start, start + together)
            chains = _Chains(clf, inputs[some], classes[some], numbers[some], box, width)
            bar.update(len(chains.found) - len(chains.live))
            while before := len(chains.live):
                chains.extend(steps=steps, starts=starts, limit=limit, failures=failures, seed=seed)
                bar.update(before - len(chains.live))
            parts.append(chains.fields(first=start))
    fields = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return SequentialDirections(
        provenance=provenance(
            f"sequential_directions(max_norm={max_norm!r}, max_directions={max_directions}, box={box!r}, "
            f"steps={steps}, starts={starts}, failures={failures})",
            seed=seed,
        ),
        **fields,
        true_labels=classes.cpu(),
        index=numbers,
        valid=fields["stopped"] != STOPS.index("misclassified"),
        stops=STOPS,
        max_directions=max_directions,
        max_norm=max_norm,
        box=box,
        tolerance=TOLERANCE,
    )


class _Chains:
    """The directions found so far for a batch of examples, and which examples are still searched.

    Attributes:
        live: those that are, int64 `[live]`.
    """

    def __init__(self, clf: Classifier, inputs: Tensor, classes: Tensor, numbers: Tensor, box: str, width: int) -> None:
        self.clf, self.numbers, self.width = clf, numbers, width
        self.inputs, self.classes = inputs.to(clf.device), classes.to(clf.device)
        count, device = len(inputs), clf.device
        logits, self.uphill = _differentiate(clf, self.inputs, self.classes, "log_odds")
        # The bounds as float32 has them: an input on its bound cannot leave it by rounding.
        low, high = (float(torch.tensor(bound)) for bound in clf.bounds)
        flat = self.inputs.flatten(1).double()
        self.reach = (high - low) * math.sqrt(flat.shape[1])
        self.bounds = Bounds(low - flat, high - flat, high - low) if box == "feasible" else None
        self.basis = flat.new_zeros(count, 0, flat.shape[1])
        slope = self.uphill.norm(dim=1)
        linear = true_margin(logits, self.classes).double() / slope.clamp_min(_TINY)
        self.radius = torch.where(slope > 0, _WIDER * linear, _BLIND * self.reach).clamp_max(self.reach)
        self.failed, self.attempts, self.found = torch.zeros(3, count, dtype=torch.int64, device=device)
        # Since the last direction: whether one too long was found, and whether a gradient was met.
        self.beyond, self.sloped = torch.zeros(2, count, dtype=torch.bool, device=device)
        self.distance = torch.full((count, width), torch.inf, dtype=torch.float64, device=device)
        self.met = torch.full((count, width), -1, device=device)
        right = labels_of(logits) == self.classes
        self.stopped = torch.where(right, -1, STOPS.index("misclassified"))
        self.live = right.nonzero()[:, 0]
        # Of each direction: its example, its place among those found, the perturbation. None so far.
        self.rows = [(self.live[:0], self.live[:0], self.inputs.flatten(1)[:0])]

    def extend(self, *, steps: int, starts: int, limit: float, failures: int, seed: int) -> None:
        """Some searches for each live example, and the next direction of those that found one."""
        live = self.live
        basis = self.basis[live, : int(self.found[live].max())]
        best = self._search(basis, steps=steps, random=self.failed[live] > 0, seed=seed)
        for _ in range(starts - 1):
            best.take(self._search(basis, steps=steps, random=torch.ones_like(live, dtype=torch.bool), seed=seed))
        self._keep(best, basis, limit)
        reason = torch.where(self.sloped, STOPS.index("failures"), STOPS.index("no_gradient"))
        reason = torch.where(self.beyond, STOPS.index("max_norm"), reason)
        reason = torch.where(self.failed >= failures, reason, -1)
        reason = torch.where(self.found == self.width, STOPS.index("max_directions"), reason)
        self.stopped[live] = reason[live]
        self.live = live[reason[live] < 0]

    def _search(self, basis: Tensor, *, steps: int, random: Tensor, seed: int) -> "_Nearest":
        """One search for each live example: along its gradient at first, or at random."""
        live = self.live
        bounds = None if self.bounds is None else self.bounds.rows(live)
        ahead = orthogonal_unit(self.uphill[live], basis)
        blind = random | ~ahead.any(1)
        if bool(blind.any()):
            drawn = _random(self.inputs.shape[1:], self.numbers[live.cpu()], self.attempts[live].cpu(), seed)
            ahead = torch.where(blind[:, None], orthogonal_unit(drawn.to(ahead), basis), ahead)
        best = _Nearest(self.clf, self.inputs[live], self.classes[live], inside=bounds is not None)
        in_ball = round(_IN_BALL * steps)
        delta = _search_in_ball(best, ahead, basis, bounds, self.radius[live], self.reach, in_ball)
        _search_linearised(best, delta, basis, bounds, self.reach, steps - in_ball)
        best.conclude(basis)
        self.attempts[live] += 1
        return best

    def _keep(self, best: "_Nearest", basis: Tensor, limit: float) -> None:
        """Take what was found for the live examples, where it is not too long."""
        live = self.live
        self.sloped[live] |= best.sloped | self.uphill[live].any(1)
        self.beyond[live] |= best.found & (best.distance > limit)
        good = best.found & (best.distance <= limit)
        won, lost, perturbations = live[good], live[~good], best.delta[good]
        rank = self.found[won]
        self.rows.append((won, rank, perturbations))
        if bool((rank == self.basis.shape[1]).any()):
            self.basis = torch.cat([self.basis, self.basis.new_zeros(len(self.basis), 1, self.basis.shape[2])], 1)
        self.basis[won, rank] = orthogonal_unit(perturbations.double(), basis[good])
        self.distance[won, rank], self.met[won, rank] = best.distance[good], best.met[good]
        self.radius[won] = (_WIDER * best.distance[good]).clamp_max(self.reach)
        self.found[won] += 1
        self.failed[lost] += 1
        self.failed[won], self.beyond[won], self.sloped[won] = 0, False, False

    def fields(self, first: int) -> dict[str, Tensor]:
        """The result's fields, on the CPU; the batch's examples are numbered from `first`."""
        owner, place, perturbations = (torch.cat(parts) for parts in zip(*self.rows, strict=True))
        cosines = self.basis.new_zeros(len(self.basis))
        if self.basis.shape[1]:  # of the perturbations themselves, which float32 rounded before they became the basis
            size = perturbations.double().norm(dim=1, keepdim=True)
            self.basis[owner, place] = perturbations.double() / size
            products = torch.bmm(self.basis, self.basis.transpose(1, 2)).abs()
            products.diagonal(dim1=1, dim2=2).zero_()
            cosines = products.amax((1, 2))
        distance, order = self.distance.sort(dim=1, stable=True)
        rank = order.argsort(1)[owner, place]
        sorting = (owner * self.width + rank).argsort()
        fields = {
            "distance": distance,
            "met": self.met.gather(1, order),
            "found": self.found,
            "stopped": self.stopped,
            "attempts": self.attempts,
            "orthogonality": cosines,
            "perturbations": perturbations[sorting].view(-1, *self.inputs.shape[1:]),
            "owner": owner[sorting] + first,
            "rank": rank[sorting],
        }
        return {name: values.cpu() for name, values in fields.items()}


class _Nearest:
    """The nearest adversarial points that one search has met.

    Attributes:
        delta: perturbations to them, float32 `[batch, d]`; zero where there are none.
        distance: their L2 norms, float64 `[batch]`; inf where there are none.
        met: classes predicted there, int64 `[batch]`, once the search is concluded.
        sloped: whether a gradient was met, bool `[batch]`.
    """

    def __init__(self, clf: Classifier, inputs: Tensor, classes: Tensor, *, inside: bool) -> None:
        self.clf, self.inputs, self.classes, self.inside = clf, inputs, classes, inside
        self.delta = torch.zeros_like(inputs).flatten(1)
        self.distance = torch.full((len(inputs),), torch.inf, dtype=torch.float64, device=inputs.device)
        self.met = torch.full_like(classes, -1)
        self.sloped = torch.zeros_like(classes, dtype=torch.bool)

    @property
    def found(self) -> Tensor:
        return self.distance.isfinite()

    def look(self, delta: Tensor, allowed: Tensor, loss: str) -> tuple[Tensor, Tensor]:
        """Keep what is nearer, where allowed; returns margins (negative: misclassified) and gradients of the loss."""
        points, moved = self._points(delta, self.inputs)
        logits, uphill = _differentiate(self.clf, points, self.classes, loss)
        size = moved.double().norm(dim=1)
        nearer = allowed & _fooled(logits, self.classes) & (size < self.distance)
        self.delta = torch.where(nearer[:, None], moved, self.delta)
        self.distance = torch.where(nearer, size, self.distance)
        self.sloped |= uphill.any(1)
        return true_margin(logits, self.classes).double(), uphill

    def take(self, other: "_Nearest") -> None:
        """Take what another search found for the same inputs, where it is nearer."""
        nearer = other.distance < self.distance
        self.delta = torch.where(nearer[:, None], other.delta, self.delta)
        self.distance = torch.where(nearer, other.distance, self.distance)
        self.met = torch.where(nearer, other.met, self.met)
        self.sloped |= other.sloped

    def conclude(self, basis: Tensor) -> None:
        """Shorten what was found along its own ray, and drop what does not stand a last check.

        Args:
            basis: of the directions before, orthonormal, float64 `[batch, k, d]`.
        """
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
            product = torch.bmm(basis, self.delta.double()[:, :, None])[:, :, 0].abs().amax(1)
            # Half: the basis is that of the directions but for rounding.
            self.distance = torch.where(product <= TOLERANCE / 2 * self.distance, self.distance, torch.inf)

    def _keep(self, rows: Tensor, delta: Tensor) -> Tensor:
        """Take perturbations of some rows where they are adversarial; returns where they are."""
        if not len(rows):
            return rows.bool()
        points, moved = self._points(delta, self.inputs[rows])
        logits = _evaluate(self.clf, points)
        hit = _fooled(logits, self.classes[rows])
        kept = rows[hit]
        self.delta[kept], self.distance[kept] = moved[hit], moved[hit].double().norm(dim=1)
        self.met[kept] = logits[hit].argmax(1)
        return hit

    def _points(self, delta: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Perturbed inputs, and the float32 perturbations `[batch, d]`: their sum does not round out of the bounds."""
        low, high = self.clf.bounds
        moved = delta.float().view_as(inputs)
        points = inputs + moved
        while self.inside:
            outside = (points < low) | (points > high)
            if not bool(outside.any()):
                break
            moved = torch.where(outside, torch.nextafter(moved, torch.zeros_like(moved)), moved)
            points = inputs + moved
        return points, moved.flatten(1)


def _differentiate(clf: Classifier, points: Tensor, classes: Tensor, loss: str) -> tuple[Tensor, Tensor]:
    """Logits and flat gradients in float64, in batches that suit the network."""
    logits: list[Tensor] = []
    gradients: list[Tensor] = []

    def work(start: int, stop: int) -> None:
        there, slope = clf.differentiate(points[start:stop], classes[start:stop], loss)
        slope = slope.flatten(1).double()
        logits.append(there)  # after what may run out of memory: then this is done again
        gradients.append(slope)

    clf.in_batches(work, len(points), points.shape[1:], kind="gradient")
    return torch.cat(logits), torch.cat(gradients)


def _evaluate(clf: Classifier, points: Tensor) -> Tensor:
    """Logits, in batches that suit the network."""
    logits: list[Tensor] = []
    clf.in_batches(
        lambda start, stop: logits.append(clf.evaluate(points[start:stop])),
        len(points),
        points.shape[1:],
        kind="float32",
    )
    return torch.cat(logits)


def _fooled(logits: Tensor, classes: Tensor) -> Tensor:
    """Where another class wins by more than rounding, so that it does in a batch of another size, too."""
    labels_of(logits)  # NaN is an error
    return true_margin(logits, classes) < -_ROUNDING * logits.abs().amax(1)


def _search_in_ball(
    best: _Nearest, ahead: Tensor, basis: Tensor, bounds: Bounds | None, radius: Tensor, reach: float, steps: int
) -> Tensor:
    """Go along the gradient on the surface of a ball that shrinks where the point is adversarial and grows where not.

    Args:
        best: takes what is found.
        ahead: unit vectors along which to go first, orthogonal to the basis, float64 `[batch, d]`.
        basis: of the directions before, orthonormal, float64 `[batch, k, d]`.
        bounds: the bounds, or None for none.
        radius: of the balls at first, float64 `[batch]`.
        reach: largest radius.
        steps: number of points to look at.

    Returns:
        The last perturbations, float64 `[batch, d]`.
    """
    delta, multipliers, stretch = torch.zeros_like(ahead), None, torch.ones_like(radius)
    for step in range(steps):
        anchor = delta + (_cosine(_STRIDES, step, steps) * radius)[:, None] * ahead
        anchor *= (stretch * radius / anchor.norm(dim=1).clamp_min(_TINY))[:, None]
        delta, multipliers, precise = nearest(anchor, basis, bounds, multipliers, newton_steps=_NEWTON_STEPS)
        size = delta.norm(dim=1).clamp_min(_TINY)
        # The bounds cut the perturbation short: the next one is stretched by what this one lacks.
        stretch = (stretch * (radius / size).clamp(0.5, 2)).clamp(1, _STRETCH)
        delta = delta * (radius / size).clamp_max(1)[:, None]
        margin, uphill = best.look(delta, precise, "log_odds" if step < _ALL_CLASSES * steps else "margin")
        change = _cosine(_CHANGES, step, steps)
        smaller, larger = torch.minimum(radius, best.distance) * (1 - change), radius * (1 + change)
        radius = torch.where(margin < 0, smaller, torch.minimum(larger, best.distance)).clamp_max(reach)
        ahead = orthogonal_unit(uphill, basis)
        # Where there is no gradient, straight on.
        ahead = torch.where(ahead.any(1)[:, None], ahead, delta / size[:, None])
    return delta


def _search_linearised(
    best: _Nearest, delta: Tensor, basis: Tensor, bounds: Bounds | None, reach: float, steps: int
) -> None:
    """Linearise the boundary and go to a point of it between the nearest and the one nearest to the input.

    Args:
        best: takes what is found, and says where to start.
        delta: where to start where nothing was found, float64 `[batch, d]`.
        basis: of the directions before, orthonormal, float64 `[batch, k, d]`.
        bounds: the bounds, or None for none.
        reach: longest perturbation.
        steps: number of points to look at.
    """
    delta = torch.where(best.found[:, None], best.delta.double(), delta)
    multipliers, precise = None, torch.zeros_like(best.found)
    for step in range(steps - 1):
        margin, uphill = best.look(delta, precise, "margin")
        # The last one all the way: inside bounds, a trace of earlier steps in a coordinate that lies on a bound would
        # take that coordinate from all further directions.
        last = step == steps - 2
        boldness = 1.0 if last else _cosine(_BOLDNESS, step, steps - 2)
        overshoot = _OVERSHOOT[0] * (_OVERSHOOT[1] / _OVERSHOOT[0]) ** (step / max(1, steps - 2))
        gain = (margin + (uphill * delta).sum(1)).clamp_min(0) * (1 + overshoot)
        # The nearest to a share of the way is nearest in the weighted mean of both squared distances.
        share = (1 - boldness) * delta
        newton_steps = _LAST_NEWTON_STEPS if last else _NEWTON_STEPS
        delta, multipliers, precise = nearest_beyond(
            share, uphill, gain, basis, bounds, multipliers, newton_steps=newton_steps
        )
        most = torch.where(best.found, _FARTHER * best.distance, reach)
        delta = delta * (most / delta.norm(dim=1).clamp_min(_TINY)).clamp_max(1)[:, None]
    best.look(delta, precise, "margin")


def _random(shape: torch.Size, numbers: Tensor, attempts: Tensor, seed: int) -> Tensor:
    """Random vectors decided by the seed, the example's number and its attempt: float64 `[batch, d]`, on the CPU."""
    drawn = torch.empty(len(numbers), shape.numel(), dtype=torch.float64)
    for attempt in attempts.unique().tolist():
        rows = attempts == attempt
        drawn[rows] = random_directions(shape, numbers[rows], seed=seed, axis=attempt).flatten(1).double()
    return drawn


def _cosine(ends: tuple[float, float], step: int, steps: int) -> float:
    first, last = ends
    return last + (first - last) * (1 + math.cos(math.pi * step / max(1, steps - 1))) / 2
