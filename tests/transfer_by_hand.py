"""Transfer matrices and bases of subspaces whose content is known."""

from typing import Any

import torch
from torch import Tensor

import boundarygeo as bg
from boundarygeo.results import Provenance

MADE = Provenance(command="by hand")


def matrix_of(predicted: Tensor, y: Tensor, **changes: Any) -> bg.TransferMatrix:
    """PGD's matrix with these predictions `[source, target, example]`, all models right without an attack."""
    count = len(predicted)
    fields: dict[str, Any] = {
        "clean": y.expand(count, -1), "true_labels": y, "targets": None, "names": tuple("abcdef"[:count]),
        "distance": torch.ones(count, len(y), dtype=torch.float64), "index": torch.arange(len(y)), "attack": "pgd",
        "norm": "linf", "eps": 0.1, "eight_bit": False,
    }  # fmt: skip
    return bg.TransferMatrix(provenance=MADE, predicted=predicted, **fields | changes)


def bases_of(rows: Tensor, valid: Tensor | None = None) -> bg.SubspaceBases:
    """Bases of the spans of rows `[example, k, d]`."""
    count, k, _ = rows.shape
    return bg.SubspaceBases(
        provenance=MADE,
        vectors=torch.linalg.qr(rows.mT).Q.mT,
        singular_values=torch.ones(count, k, dtype=torch.float64),
        energy=torch.ones(count, dtype=torch.float64),
        rank=torch.full((count,), k),
        samples=torch.full((count,), k),
        valid=torch.ones(count, dtype=torch.bool) if valid is None else valid,
        index=torch.arange(count),
        kind="by hand",
    )
