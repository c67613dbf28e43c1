"""Final check of the reported directions: success on the network, norms and orthogonality."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.choices import Norm
from boundarygeo.subspace.goal import Opponent

_WORKING_BYTES = 1 << 27  # of perturbations checked together


@dataclass(frozen=True, eq=False)
class Verified:
    """Reported directions and their measured properties, as in `AdversarialDimension`; `perturbations` may be left out.

    Effective rank is that of the matrix of the directions at length 1 (Roy & Vetterli 2007): the exponential of the
    entropy of its normalised singular values.
    """

    count: Tensor
    orthogonality: Tensor
    effective_rank: Tensor
    largest_norm: Tensor
    perturbations: Tensor | None
    owner: Tensor | None
    adversarial_label: Tensor | None


def verify(
    opponents: Sequence[Opponent], x: Tensor, parts: Iterator[tuple[Tensor, Tensor]], *, norm: Norm, keep: bool
) -> Verified:
    """Evaluate perturbed inputs as they are, in float32. Call it inside a session of each network.

    `parts` yields perturbations, float32 `[direction, *input]`, and their examples `[direction]`, ascending, with all
    directions of an example in one part.
    """
    orthogonality, effective_rank, largest = torch.zeros(3, len(x), dtype=torch.float64)
    count, none = torch.zeros(len(x), dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    kept = [(torch.zeros(0, *x.shape[1:]), none, none)]
    for delta, owner in parts:
        labels = owner
        for opponent in reversed(opponents):  # so that the labels of the first network remain
            labels = _labels(opponent, x, delta, owner)
            hit = opponent.goal.reached(labels, owner)
            delta, owner, labels = delta[hit], owner[hit], labels[hit]
        if not len(owner):
            continue
        who, sizes = owner.unique_consecutive(return_counts=True)
        count[who] = sizes
        length = delta.flatten(1).double().norm(dim=1) if norm == "l2" else delta.flatten(1).abs().amax(1).double()
        largest.scatter_reduce_(0, owner, length, "amax")
        first = sizes.cumsum(0) - sizes
        for size in sizes.unique().tolist():  # one batch per frame size
            same = (sizes == size).nonzero()[:, 0]
            frame = delta[first[same][:, None] + torch.arange(size)].flatten(2).double()
            unit = frame / frame.norm(dim=2, keepdim=True)
            gram = unit @ unit.mT
            effective_rank[who[same]] = _effective_rank(gram)
            orthogonality[who[same]] = gram.tril(-1).abs().amax((1, 2))
        if keep:
            kept.append((delta, owner, labels))
    directions = (torch.cat(parts) for parts in zip(*kept, strict=True)) if keep else (None, None, None)
    return Verified(count, orthogonality, effective_rank, largest, *directions)


def chunks(size: Tensor, input_size: int) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) job of ranges whose rows fit into the working memory, at least one job each."""
    limit, start, rows = max(1, _WORKING_BYTES // (8 * input_size)), 0, 0
    for job, more in enumerate(size.tolist()):
        if rows and rows + more > limit:
            yield start, job
            start, rows = job, 0
        rows += more
    if start < len(size):
        yield start, len(size)


def _labels(opponent: Opponent, x: Tensor, delta: Tensor, owner: Tensor) -> Tensor:
    labels = []

    def work(start: int, stop: int) -> None:
        points = x[owner[start:stop]].float().cpu() + opponent.shown(delta[start:stop])
        labels.append(opponent.session.evaluate(points).argmax(1).cpu())

    opponent.session.in_batches(work, len(delta), x.shape[1:], kind="float32")
    return torch.cat(labels) if labels else owner


def _effective_rank(gram: Tensor) -> Tensor:
    # Singular values are roots of the Gram matrix's eigenvalues; rounding can make those of dependent rows negative.
    singular = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    share = singular / singular.sum(1, keepdim=True)
    return torch.special.entr(share).sum(1).exp()
