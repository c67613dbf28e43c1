"""Adversarial directions found one after another, each the shortest orthogonal to all before it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.attacks.minimum_norm import minimal_norm
from boundarygeo.checks import check_choice, check_count, check_eps, plain
from boundarygeo.choices import Box
from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of, random_directions
from boundarygeo.evaluation import Session, analysis, progress_bar
from boundarygeo.results import Result, array
from boundarygeo.subspace.sequential.candidates import TOLERANCE, Candidates
from boundarygeo.subspace.sequential.orthogonal import Bounds, nearest_beyond, orthogonal_unit
from boundarygeo.subspace.sequential.shortest import search_shortest

BOXES = ("feasible", "ignore")
STOPS = ("max_directions", "failures", "eps", "misclassified", "no_gradient")

_CANDIDATES = 10  # classes whose boundaries are linearised at the input, as in `minimal_norm`
_REACHED = 1e-3  # share of the way to a linearised boundary that may remain
_WIDER = 1.3  # first radius of a search, in lengths of the previous direction
_BLIND = 0.05  # first radius where the input has no gradient, in diagonals of the bounds
_WORKING_BYTES = 1 << 28  # of the vectors of the examples searched together, in float64
_TINY = 1e-30  # keeps quotients finite


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SequentialDirections(Result):
    """Orthogonal adversarial perturbations of each example, in the order of finding.

    Attributes:
        distance: L2 norm of each perturbation, float64 `[example, direction]`; inf where none was found. Shortest
            perturbations would ascend: one shorter than its predecessor was missed by the earlier search.
        adversarial_label: class predicted there, int64 `[example, direction]`; -1 where none was found.
        count: number found, int64 `[example]`.
        stopped: why the search ended, int64 `[example]`: an index into `stops`.
        attempts: number of searches (of several starts each), int64 `[example]`.
        orthogonality: largest |cos| between two perturbations of the example, computed in float64 from the float32
            perturbations, `[example]`; 0 with fewer than two.
        perturbations: all of them, float32 `[row, *input]`: by example, then in the order of finding.
        owner: example of each row, int64 `[row]`.
        rank: position of each row among its example's directions, from 0, int64 `[row]`.
        true_labels: int64 `[example]`.
        index: number of each example, int64 `[example]`; determines its random starts.
        valid: whether the example is correctly classified, bool `[example]`; others are not searched.
        stops: names of the reasons: `"max_directions"` (or the number of input dimensions) was reached; `"failures"`:
            `failures` searches in a row found nothing; `"eps"`: likewise, but some found longer perturbations;
            `"misclassified"`; `"no_gradient"`: nothing was found, and no point had a gradient.
        max_directions: largest number of directions searched for.
        eps: longest perturbation accepted, in input units, or None.
        box: `"feasible"`, inside the bounds, or `"ignore"`.
        tolerance: |cos| between two directions is at most this.
    """

    distance: Tensor = array("example", "direction", unit="input units")
    adversarial_label: Tensor = array("example", "direction")
    count: Tensor = array("example")
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
    eps: float | None
    box: Box
    tolerance: float

    @property
    def verified(self) -> Tensor:
        """`count`, under its name in `AdversarialDimension`."""
        return self.count

    @property
    def correct(self) -> Tensor:
        """`valid`, under its name in `AdversarialDimension`."""
        return self.valid

    @property
    def max_dimension(self) -> int:
        """Largest count possible: `max_directions` or the number of input dimensions."""
        return self.distance.shape[1]

    def of(self, example: int) -> Tensor:
        """Perturbations of one example, float32 `[found, *input]`."""
        return self.perturbations[self.owner == example]


@analysis
def sequential_directions(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    eps: float | None = None,
    max_directions: int = 50,
    box: Box = "feasible",
    steps: int = 40,
    starts: int = 4,
    failures: int = 3,
    index: Sequence[int] | Tensor | None = None,
    seed: int = 0,
    progress: bool = True,
) -> SequentialDirections:
    r"""The shortest adversarial perturbation found, then the shortest found orthogonal to it, and so on.

    The method of Paiton et al. 2021, "The Geometry of Adversarial Subspaces": direction i solves

    .. math:: \min \|\delta_i\|_2 \text{ such that } f(x + \delta_i) \ne y,\ \delta_i^T\delta_j = 0 \text{ for } j < i,
        \text{ and } x + \delta_i \text{ inside the bounds}

    approximately: distances are upper bounds. The paper uses a general solver, one image at a time; here examples are
    searched together, each for its own next direction, and the constraints hold at every step.

    Each search has several starts. Half of them head for one class each: the boundaries to the ten most likely classes
    are linearised at the input, and taken in order of the distance to their nearest feasible point. The other starts
    are random, because what is orthogonal to the earlier directions often has little gradient at the input, and because
    the gradients of robust networks say little about where the boundary is; one of them instead heads for a point that
    another start of the previous search found. All phases store the nearest adversarial point that they encounter:

    1. A shortest adversarial perturbation is also the one that goes farthest along its gradient among those of its
    length. From each start, 30 % of the steps follow the gradient on a ball whose radius shrinks where the point is
    adversarial and grows where it is not, as in DDN (Rony et al. 2019, arXiv 1811.09600).
    2. From the nearest point of all starts (and, for the first direction, of `minimal_norm`), 40 % continue in the same
    way with shorter steps.
    3. The rest linearise the boundary at the current point and move to a point of that hyperplane between the nearest
    to the current point and the nearest to the input, as in FAB (Croce & Hein 2020, arXiv 1907.02044).

    The result is shortened along its own ray for as long as shortening by 1 % leaves it adversarial, and checked once
    more on the network in float32.

    Each direction depends only on those before it, so the first few do not change with `max_directions`.

    Inside the bounds, a coordinate that lies on a bound can move one way only: two perturbations that move it are
    orthogonal only if other coordinates compensate. Images with many such pixels (MNIST) have far fewer directions.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`. Misclassified examples are marked and not searched.
        eps: longest perturbation accepted, in input units (L2).
        max_directions: maximum number of directions per example.
        box: `"feasible"`: each perturbed input is inside the bounds; `"ignore"`: anywhere (no farther than the diagonal
            of the bounds).
        steps: points evaluated from a start to the end, each with one forward and one backward pass, at least 4; the
            final checks take two to about a dozen more forward passes.
        starts: starts of each search, each of which takes 30 % of the steps: a search costs (0.7 + 0.3 `starts`)
            `steps` forward and backward passes.
        failures: number of searches in a row without a new direction after which an example is done; all but the first
            of them use random starts only.
        index: number of each example, which determines its random starts; by default 0, 1, 2, ….
        seed: seed of the random starts.
        progress: whether to show a progress bar after two seconds.

    Returns:
        The directions. They depend on neither the batch size nor the order of the examples, except that float32
        rounding of the network can lead a search to another local minimum, and with it all later searches.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind.
        ValueError: if an argument or the module's output is invalid.
    """
    check_choice(box, "box", BOXES)
    eps, max_directions, steps, starts, failures, seed = plain(eps, max_directions, steps, starts, failures, seed)
    limit = math.inf if eps is None else check_eps(eps, "eps")
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

    # The directions, again for each start, and the boundaries of the classes.
    together = max(1, _WORKING_BYTES // (8 * (width * (1 + starts) + 2 * _CANDIDATES) * x[0].numel()))
    with (
        clf.session(x, y) as session,
        progress_bar(len(x), description="sequential", unit="examples", progress=progress) as bar,
    ):
        for start in range(0, len(x), together):
            some = slice(start, start + together)
            chains = _Chains(clf, session, inputs[some], classes[some], numbers[some], box, width)
            bar.update(len(chains.found) - len(chains.live))
            while before := len(chains.live):
                chains.extend(steps=steps, starts=starts, limit=limit, failures=failures, seed=seed)
                bar.update(before - len(chains.live))
            parts.append(chains.fields(first=start))
    fields = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return SequentialDirections(
        provenance=provenance(seed=seed),
        **fields,
        true_labels=classes.cpu(),
        index=numbers,
        valid=fields["stopped"] != STOPS.index("misclassified"),
        stops=STOPS,
        max_directions=max_directions,
        eps=eps,
        box=box,
        tolerance=TOLERANCE,
    )


class _Chains:
    """The directions found so far for a batch of examples, and which of them, `live`, are still searched."""

    def __init__(
        self, clf: Classifier, session: Session, inputs: Tensor, classes: Tensor, numbers: Tensor, box: Box, width: int
    ) -> None:
        self.clf, self.session, self.numbers, self.width = clf, session, numbers, width
        self.inputs, self.classes = inputs.to(clf.device), classes.to(clf.device)
        count, device = len(inputs), clf.device
        logits = self._linearise()
        # The bounds as float32 has them: an input on its bound cannot leave it by rounding.
        low, high = (float(torch.tensor(bound)) for bound in clf.bounds)
        flat = self.inputs.flatten(1).double()
        self.reach = (high - low) * math.sqrt(flat.shape[1])
        self.bounds = Bounds(low - flat, high - flat, high - low) if box == "feasible" else None
        self.basis = flat.new_zeros(count, 0, flat.shape[1])
        self.spare = torch.zeros_like(flat)  # found by another start of the last search
        self.failed, self.attempts, self.found = torch.zeros(3, count, dtype=torch.int64, device=device)
        # Since the last direction: whether one that is too long was found, and whether a gradient was seen.
        self.beyond, self.sloped = torch.zeros(2, count, dtype=torch.bool, device=device)
        self.distance = torch.full((count, width), torch.inf, dtype=torch.float64, device=device)
        self.adversarial_label = torch.full((count, width), -1, device=device)
        right = logits.argmax(1) == self.classes
        self.stopped = torch.where(right, -1, STOPS.index("misclassified"))
        self.live = right.nonzero()[:, 0]
        # Of each direction: its example, its rank and the perturbation.
        self.rows = [(self.live[:0], self.live[:0], self.inputs.flatten(1)[:0])]

    def _linearise(self) -> Tensor:
        """Normals and gaps of the boundaries to the most likely other classes; returns the logits."""
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        count = min(_CANDIDATES, self.session.num_classes)

        def work(start: int, stop: int) -> None:
            parts.append(self.session.differentiate_top(self.inputs[start:stop], count))

        self.session.in_batches(work, len(self.inputs), self.inputs.shape[1:], kind="gradient")
        logits, self.rivals, gradients = (torch.cat(values) for values in zip(*parts, strict=True))
        heights = logits.gather(1, self.rivals).double()
        self.rivals, self.gaps = self.rivals[:, 1:], heights[:, :1] - heights[:, 1:]
        self.normals = (gradients[:, 1:] - gradients[:, :1]).flatten(2)
        return logits

    def extend(self, *, steps: int, starts: int, limit: float, failures: int, seed: int) -> None:
        """Run one search per live example, and append the directions found."""
        live = self.live
        basis = self.basis[live, : int(self.found[live].max())]
        bounds = None if self.bounds is None else self.bounds.rows(live)
        ahead, targets, radius = self._starts(basis, bounds, starts, seed)
        best = Candidates(self.session, self.inputs[live], self.classes[live], inside=bounds is not None)
        if not bool(self.attempts[live].any()):
            self._offer_minimal(best, seed)
        best, self.spare[live] = search_shortest(best, ahead, targets, basis, bounds, radius, self.reach, steps=steps)
        self.attempts[live] += 1
        self._keep(best, basis, limit)
        reason = torch.where(self.sloped, STOPS.index("failures"), STOPS.index("no_gradient"))
        reason = torch.where(self.beyond, STOPS.index("eps"), reason)
        reason = torch.where(self.failed >= failures, reason, -1)
        reason = torch.where(self.found == self.width, STOPS.index("max_directions"), reason)
        self.stopped[live] = reason[live]
        self.live = live[reason[live] < 0]

    def _offer_minimal(self, best: Candidates, seed: int) -> None:
        """Offer the result of `minimal_norm` to the first search of each example."""
        inputs, classes = self.inputs[self.live], self.classes[self.live]
        numbers = self.numbers[self.live.cpu()]
        known = minimal_norm(self.clf, inputs, classes, index=numbers, seed=seed, progress=False)
        best.offer((known.x_adv.to(inputs) - inputs).flatten(1), known.found.to(inputs.device))

    def _starts(self, basis: Tensor, bounds: Bounds | None, starts: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """Starts of each live example's searches.

        Returns:
            Unit vectors, float64 `[live, start, d]`: every other one towards a class, the nearest first; the second
            towards the perturbation found by another start; the rest random. The classes, int64 `[live, start]`, -1 for
            any. The first radius, float64 `[live]`.
        """
        live = self.live
        guesses, rivals, shortest = self._nearest_boundaries(basis, bounds, (starts + 1) // 2)
        last = self.distance[live].gather(1, (self.found[live] - 1).clamp_min(0)[:, None])[:, 0]
        length = torch.where(self.found[live] > 0, last, shortest)
        radius = torch.where(length.isfinite(), _WIDER * length, _BLIND * self.reach).clamp_max(self.reach)
        ahead = guesses.new_zeros(len(live), starts, guesses.shape[2])
        targets = torch.full((len(live), starts), -1, device=live.device)
        towards = guesses[:, : (starts + 1) // 2]
        ahead[:, 0 : 2 * towards.shape[1] : 2] = towards
        targets[:, 0 : 2 * towards.shape[1] : 2] = rivals
        if starts > 1:
            ahead[:, 1] = orthogonal_unit(self.spare[live], basis)
        ahead[self.failed[live] > 0] = 0
        for start in range(starts):
            blind = (~ahead[:, start].any(1)).nonzero()[:, 0]
            if len(blind):
                who = live[blind].cpu()
                draws = self.attempts[live[blind]].cpu() * starts + start
                drawn = _random(self.inputs.shape[1:], self.numbers[who], draws, seed).to(ahead)
                ahead[blind, start] = orthogonal_unit(drawn, basis[blind])
                targets[blind, start] = -1
        return ahead, targets, radius

    def _nearest_boundaries(self, basis: Tensor, bounds: Bounds | None, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Directions to the nearest boundaries linearised at the input, orthogonal to the earlier directions.

        Returns:
            Unit vectors, float64 `[live, rank, d]`, the nearest first, zero for boundaries out of reach; their
            classes, int64 `[live, rank]`; and the distance to the nearest one, inf if none is in reach, `[live]`.
        """
        live = self.live
        guesses, lengths = [], []
        for rank in range(self.rivals.shape[1]):
            normal, gap = self.normals[live, rank].double(), self.gaps[live, rank]
            guess, _, _ = nearest_beyond(torch.zeros_like(normal), normal, gap, basis, bounds)
            reached = (normal * guess).sum(1) >= (1 - _REACHED) * gap
            length = guess.norm(dim=1)
            guesses.append(guess / length[:, None].clamp_min(_TINY))
            lengths.append(torch.where(reached & (length > 0), length, torch.inf))
        length, order = torch.stack(lengths, 1).sort(dim=1, stable=True)
        chosen = order[:, :count]
        ahead = torch.stack(guesses, 1).gather(1, chosen[:, :, None].expand(-1, -1, self.normals.shape[2]))
        ahead = torch.where(length[:, :count, None].isfinite(), ahead, 0.0)
        return ahead, self.rivals[live].gather(1, chosen), length[:, 0]

    def _keep(self, best: Candidates, basis: Tensor, limit: float) -> None:
        """Append what was found for the live examples, unless it is too long."""
        live = self.live
        self.sloped[live] |= best.sloped | self.normals[live].flatten(1).any(1)
        self.beyond[live] |= best.found & (best.distance > limit)
        good = best.found & (best.distance <= limit)
        won, lost, perturbations = live[good], live[~good], best.delta[good]
        rank = self.found[won]
        self.rows.append((won, rank, perturbations))
        if bool((rank == self.basis.shape[1]).any()):
            self.basis = torch.cat([self.basis, self.basis.new_zeros(len(self.basis), 1, self.basis.shape[2])], 1)
        self.basis[won, rank] = orthogonal_unit(perturbations.double(), basis[good])
        self.distance[won, rank], self.adversarial_label[won, rank] = best.distance[good], best.adversarial_label[good]
        self.found[won] += 1
        self.failed[lost] += 1
        self.failed[won], self.beyond[won], self.sloped[won] = 0, False, False

    def fields(self, first: int) -> dict[str, Tensor]:
        """The result's fields, on the CPU; the batch's examples are numbered from `first`."""
        owner, place, perturbations = (torch.cat(parts) for parts in zip(*self.rows, strict=True))
        cosines = self.basis.new_zeros(len(self.basis))
        if self.basis.shape[1]:  # measured on the perturbations, which differ from the basis by float32 rounding
            size = perturbations.double().norm(dim=1, keepdim=True)
            self.basis[owner, place] = perturbations.double() / size
            products = torch.bmm(self.basis, self.basis.mT).abs()
            products.diagonal(dim1=1, dim2=2).zero_()
            cosines = products.amax((1, 2))
        sorting = (owner * self.width + place).argsort()
        fields = {
            "distance": self.distance,
            "adversarial_label": self.adversarial_label,
            "count": self.found,
            "stopped": self.stopped,
            "attempts": self.attempts,
            "orthogonality": cosines,
            "perturbations": perturbations[sorting].view(-1, *self.inputs.shape[1:]),
            "owner": owner[sorting] + first,
            "rank": place[sorting],
        }
        return {name: values.cpu() for name, values in fields.items()}


def _random(shape: torch.Size, numbers: Tensor, attempts: Tensor, seed: int) -> Tensor:
    """Random vectors determined by the seed, the example's number and its attempt: float64 `[batch, d]`, on the CPU."""
    drawn = torch.empty(len(numbers), shape.numel(), dtype=torch.float64)
    for attempt in attempts.unique().tolist():
        rows = attempts == attempt
        drawn[rows] = random_directions(shape, numbers[rows], seed=seed, axis=attempt).flatten(1).double()
    return drawn
