"""Boundary maps made by hand from arrays of labels."""

import numpy as np
import torch

from boundarygeo.maps.maps import BoundaryMaps
from boundarygeo.results import Provenance

EXTENT = 0.1


def make_maps(labels, *, extent=EXTENT, true_labels="center", valid=None, **changes):
    labels = torch.as_tensor(np.asarray(labels), dtype=torch.int16)
    examples, rows, cols = labels.shape
    center = labels[:, rows // 2, cols // 2].long()
    if isinstance(true_labels, str):
        true_labels = center
    fields = {
        "labels": labels,
        "u": torch.linspace(-extent, extent, cols, dtype=torch.float64),
        "v": torch.linspace(-extent, extent, rows, dtype=torch.float64),
        "index": torch.arange(examples),
        "true_labels": None if true_labels is None else torch.as_tensor(true_labels),
        "center_labels": center,
        "valid": torch.ones(examples, dtype=torch.bool) if valid is None else torch.tensor(valid),
        "axis_length": torch.full((examples,), 28.0, dtype=torch.float64),
        "anchors": None,
        "evaluated": torch.ones(examples, dtype=torch.float64),
        "margin": None,
        "probability": None,
        "origin": None,
        "axes": None,
        "kind": "fgsm_random",
        "axis_names": ("FGSM sign direction", "random orthogonal"),
        "unit": "ε (L∞)",
        "clip": True,
        "method": "dense",
        "provenance": Provenance(command="boundary_maps()", forwards=7),
    }
    return BoundaryMaps(**(fields | changes))
