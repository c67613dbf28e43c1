"""Conversion of stores of earlier formats to the current names and fields."""

import json

import numpy as np
import xarray as xr

RENAMED = {
    "AdversarialDimension": {"met": "adversarial_label", "labels": "true_labels"},
    "AdversarialExamples": {"labels": "predicted"},
    "BoundaryDistances": {"met": "adversarial_label", "label": "predicted"},
    "CertifiedRadii": {"label": "predicted", "votes": "hits"},
    "SegmentCurves": {"labels": "predicted"},
    "SequentialDirections": {"met": "adversarial_label", "found": "count"},
    "SharedDimension": {"labels": "true_labels"},
    "SmoothedPredictions": {"label": "predicted"},
    "TransferMatrix": {"labels": "predicted"},
}
"""New names of renamed variables since format 1 (version 0.1)."""


def upgraded(dataset: xr.Dataset) -> xr.Dataset:
    """A data set of format 1 under the names of format 2; ValueError if a field's meaning cannot be recovered."""
    kind = dataset.attrs["boundarygeo_type"]
    if kind == "AdversarialDimension" and json.loads(dataset.attrs["method"]) == "sequential":
        raise ValueError("counts by method='sequential' lack their directions: compute them with sequential_directions")
    if dataset.attrs["boundarygeo_format"] > 1:
        return dataset
    if kind == "AdversarialDimension" and json.loads(dataset.attrs["targeted"]):
        raise ValueError("targeted counts of version 0.1 lack the true classes: compute them again")
    names = {old: new for old, new in RENAMED.get(kind, {}).items() if old in dataset}  # some may be None
    dataset = dataset.rename(names)
    if kind in ("LinearPieces", "GradientCosines"):
        dataset = dataset.assign_coords(index=("example", np.arange(dataset.sizes["example"])))
    if kind == "SequentialDirections":
        dataset.attrs["eps"] = dataset.attrs["max_norm"]
    return dataset
