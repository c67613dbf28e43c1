"""Conversion of stores of earlier formats to the current names and fields."""

import json

import numpy as np
import xarray as xr

RENAMED = {
    "AdversarialDimension": {"met": "adversarial_label", "labels": "true_labels"},
    "AdversarialExamples": {"labels": "predicted", "classes": "true_labels"},
    "BoundaryDistances": {"met": "adversarial_label", "label": "predicted"},
    "CertifiedRadii": {"label": "predicted", "votes": "hits"},
    "LogitLines": {"eps": "t"},
    "SegmentCurves": {"labels": "predicted"},
    "SequentialDirections": {"met": "adversarial_label", "found": "count", "max_norm": "eps"},
    "SharedDimension": {"labels": "true_labels"},
    "SmoothedPredictions": {"label": "predicted"},
    "TransferMatrix": {"labels": "predicted"},
    "TransferPredictors": {"radius": "eps"},
}
"""New names of renamed fields since format 1 (version 0.1)."""


def upgraded(dataset: xr.Dataset) -> xr.Dataset:
    """A data set of any earlier format under today's names; ValueError if a field's meaning cannot be recovered."""
    kind = dataset.attrs["boundarygeo_type"]
    if kind == "AdversarialDimension" and json.loads(dataset.attrs["method"]) == "sequential":
        raise ValueError("counts by method='sequential' lack their directions: compute them with sequential_directions")
    if dataset.attrs["boundarygeo_format"] > 1:
        return dataset
    if json.loads(dataset.attrs.get("targeted", "false")):
        raise ValueError("targeted results of version 0.1 lack the true classes: compute them again")
    renamed = RENAMED.get(kind, {})
    dataset = dataset.rename({old: new for old, new in renamed.items() if old in dataset})  # some may be None
    dataset.attrs |= {new: dataset.attrs[old] for old, new in renamed.items() if old in dataset.attrs}
    if kind in ("LinearPieces", "GradientCosines"):
        dataset = dataset.assign_coords(index=("example", np.arange(dataset.sizes["example"])))
    return dataset
