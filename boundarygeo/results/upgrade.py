"""Stores of earlier formats, with the names and fields of today."""

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
"""Format 1, version 0.1: the new name of each variable that has one."""


def upgraded(dataset: xr.Dataset) -> xr.Dataset:
    """A data set of format 1 as format 2 has it.

    Args:
        dataset: as it was saved.

    Returns:
        The same values under the names of today.

    Raises:
        ValueError: if it holds something that cannot be told apart any more.
    """
    kind = dataset.attrs["boundarygeo_type"]
    if kind == "AdversarialDimension" and json.loads(dataset.attrs["targeted"]):
        raise ValueError("counts towards targets of version 0.1 lack the true classes: compute them again")
    names = {old: new for old, new in RENAMED.get(kind, {}).items() if old in dataset}  # some may be None
    dataset = dataset.rename(names)
    if kind in ("LinearPieces", "GradientCosines"):
        dataset = dataset.assign_coords(index=("example", np.arange(dataset.sizes["example"])))
    if kind == "SequentialDirections":
        dataset.attrs["eps"] = dataset.attrs["max_norm"]
    return dataset
