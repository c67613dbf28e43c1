"""Transferred dimension: how many of one model's orthogonal adversarial directions fool another."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.evaluation import analysis
from boundarygeo.results import Result, array
from boundarygeo.subspace.dimension import AdversarialDimension, adversarial_dimension
from boundarygeo.subspace.goal import Goal
from boundarygeo.subspace.sequential.sequential import SequentialDirections


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TransferredDimension(Result):
    """How many of a source's orthogonal directions fool a target, per example (Tramèr et al. 2017, §4.1).

    The directions are those of one frame, the best for the source: where its count is not `closed`, a larger frame may
    do better, and another frame may transfer more directions.

    Attributes:
        count: number of directions that fool the target, int64 `[example]`.
        source: number that fool the source, int64 `[example]`.
        correct: whether both classify the example correctly, bool `[example]`; the counts of other examples are 0.
        valid: whether the source has a gradient, bool `[example]`; without one the count is 0.
        same: number to which the target gives the same label as the source, int64 `[example]`.
        index: number of each example, int64 `[example]`.
        source_model: hash of the source's weights.
        max_dimension: the cap of the source's counts.
    """

    count: Tensor = array("example")
    source: Tensor = array("example")
    correct: Tensor = array("example")
    valid: Tensor = array("example")
    same: Tensor = array("example")
    index: Tensor = array("example", coordinate=True)
    source_model: str
    max_dimension: int

    @property
    def verified(self) -> Tensor:
        """`count`, under its name in `AdversarialDimension`: all directions were evaluated on the target."""
        return self.count


@analysis
def transferred_dimension(
    target: Classifier, x: Tensor, dimension: AdversarialDimension | SequentialDirections, *, progress: bool = True
) -> TransferredDimension:
    """Evaluate a source's adversarial directions on another model.

    Args:
        target: the other model, with the same classes.
        x: the examples that `dimension` was computed for, in the same order, `[example, *input]`.
        dimension: the source's result of `adversarial_dimension(..., keep_directions=True)` or `sequential_directions`.
        progress: whether to show a progress bar after two seconds.

    Returns:
        The counts. Success is defined as for the source: any other label than the true one, or the target class.

    Raises:
        TypeError: if `x` is not a float tensor.
        ValueError: if `dimension` holds no directions, or `x` has another length or shape.
    """
    perturbations, owner = dimension.perturbations, dimension.owner
    if isinstance(dimension, SequentialDirections):
        targets, label = None, dimension.adversarial_label[dimension.owner, dimension.rank]
    else:
        targets, label = dimension.targets, dimension.adversarial_label
    if perturbations is None or owner is None or label is None:
        raise ValueError("dimension holds no directions: pass keep_directions=True to adversarial_dimension")
    if len(x) != len(dimension.verified):
        raise ValueError(
            f"x must be the {len(dimension.verified)} examples on which `dimension` was computed, got {len(x)}"
        )
    if x.shape[1:] != perturbations.shape[1:]:
        expected, got = list(perturbations.shape[1:]), list(x.shape[1:])
        raise ValueError(f"x must be the examples on which `dimension` was computed, of shape {expected}, got {got}")
    target.check_inputs(x)
    provenance = target.record()
    classes = dimension.true_labels if targets is None else targets
    goal = Goal(classes, targets is not None)
    labels: list[Tensor] = []

    def work(start: int, stop: int) -> None:
        points = x[owner[start:stop]].detach().float().cpu() + perturbations[start:stop]
        labels.append(session.evaluate(points).argmax(1).cpu())

    with target.session(x, classes) as session:
        clean = target.predict(x)
        session.in_batches(work, len(owner), x.shape[1:], kind="float32", progress=progress)
    seen = torch.cat(labels) if labels else owner
    correct = dimension.correct & ~goal.reached(clean, torch.arange(len(x)))

    def per_example(hit: Tensor) -> Tensor:
        counts = torch.zeros(len(x), dtype=torch.int64).index_add_(0, owner, hit.long())
        return torch.where(correct, counts, 0)

    return TransferredDimension(
        provenance=provenance(),
        count=per_example(goal.reached(seen, owner)),
        source=torch.where(correct, dimension.verified, 0),
        correct=correct,
        valid=dimension.valid,
        same=per_example(goal.reached(seen, owner) & (seen == label)),
        index=dimension.index,
        source_model=dimension.provenance.model,
        max_dimension=dimension.max_dimension,
    )


@analysis
def dimension_and_transfer(
    classifiers: Sequence[Classifier],
    x: Tensor,
    y: Tensor,
    *,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
    **settings: Any,
) -> tuple[Result, ...]:
    """The first classifier's adversarial dimension, without directions, and how many of these fool each other one."""
    source, *targets = classifiers
    own = adversarial_dimension(source, x, y, keep_directions=True, index=index, progress=progress, **settings)
    sent = [transferred_dimension(target, x, own, progress=progress) for target in targets]
    return replace(own, perturbations=None, owner=None, adversarial_label=None), *sent
