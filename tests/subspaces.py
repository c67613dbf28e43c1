"""Abbreviations of the tests of adversarial subspaces."""

from typing import Any

import torch
from torch import Tensor

import boundarygeo as bg
from boundarygeo.subspace.frames.jobs import Frames, rows_of


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normally distributed numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count_of(clf: bg.Classifier, x: Tensor, y: Tensor, **settings: Any) -> bg.AdversarialDimension:
    return bg.adversarial_dimension(clf, x, y, progress=False, **settings)


def all_of(frames: Frames, size: Tensor) -> list[Tensor]:
    """The perturbations of one frame per example, `[direction, dimension]` each."""
    job, row = rows_of(size)
    delta = frames.perturbations(torch.arange(len(size)), size, job, row)
    return list(delta.flatten(1).split(size.tolist()))
