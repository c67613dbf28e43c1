"""Results of the dimension of adversarial subspaces with counts given by hand."""

from collections.abc import Sequence

import torch

import boundarygeo as bg
from boundarygeo.results import Provenance


def dimensions(
    verified: Sequence[int],
    *,
    claimed: Sequence[int] | None = None,
    correct: Sequence[bool] | None = None,
    valid: Sequence[bool] | None = None,
    cap: int = 200,
    model: str = "a",
    eps: float = 2.0,
    **changes,
) -> bg.AdversarialDimension:
    """Counts that were verified; all examples are classified correctly, and claims are true unless said otherwise."""
    n = len(verified)
    zero = torch.zeros(n, dtype=torch.float64)
    counts = torch.tensor(verified, dtype=torch.int64)
    fields = {
        "provenance": Provenance(command="by hand", model=model),
        "claimed": counts if claimed is None else torch.tensor(claimed),
        "verified": counts,
        "found": counts > 0,
        "correct": torch.ones(n, dtype=torch.bool) if correct is None else torch.tensor(correct),
        "valid": torch.ones(n, dtype=torch.bool) if valid is None else torch.tensor(valid),
        "tried": counts[:, None],
        "successes": counts[:, None],
        "first_order": None,
        "gamma": zero,
        "gradient_norm": zero,
        "orthogonality": zero,
        "effective_rank": zero,
        "largest_norm": zero,
        "perturbations": None,
        "owner": None,
        "adversarial_label": None,
        "true_labels": torch.zeros(n, dtype=torch.int64),
        "index": torch.arange(n),
        "eps": eps,
        "norm": "l2",
        "method": "gaas",
        "rule": "all",
        "box": "feasible",
        "loss": "margin",
        "max_dimension": cap,
        "restarts": 1,
        "targets": None,
    }
    return bg.AdversarialDimension(**(fields | changes))


def transferred(
    source: bg.AdversarialDimension, count: Sequence[int], *, correct: Sequence[bool] | None = None, model: str = "b"
) -> bg.TransferredDimension:
    """How many of the source's directions fool another model."""
    counts = torch.tensor(count)
    return bg.TransferredDimension(
        provenance=Provenance(command="by hand", model=model),
        count=counts,
        source=source.verified,
        correct=torch.ones(len(counts), dtype=torch.bool) if correct is None else torch.tensor(correct),
        valid=source.valid,
        same=counts,
        index=source.index,
        source_model=source.provenance.model,
        max_dimension=source.max_dimension,
    )
