"""What a long run computes: one analysis of one or several classifiers on many examples, and its plan."""

import dataclasses
import enum
import functools
import hashlib
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.evaluation import code_digest, is_installed
from boundarygeo.results import Result
from boundarygeo.results.provenance import software_versions
from boundarygeo.runs.plan import Plan

CHUNK_SIZE = {"cpu": 32, "cuda": 256}
"""Examples per part: enough to fill batches, few enough that losing a part costs little."""

FIRST_INPUTS = 32
"""Number of inputs shown to a classifier before any part is computed."""


class Inputs(Protocol):
    """Inputs `[example, *input]` read in ranges: a tensor, or an object that reads them from disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Tensor: ...


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """One analysis of one classifier (or of several together) on many examples.

    Attributes:
        analysis: called as `analysis(classifiers, x, y, index=..., progress=False, **settings)`, without `progress` if
            it has no such argument; returns a result, or a tuple of them.
        classifiers: a classifier, or whatever the analysis takes in its place.
        x: inputs within the bounds.
        y: true classes, int64 `[example]`.
        index: number of each example, int64 `[example]`.
        settings: further arguments of the analysis: plain values, tensors, classifiers or functions.
        stores: path of the store for each result.
    """

    analysis: Callable[..., Result | tuple[Result, ...]]
    classifiers: Any
    x: Inputs
    y: Tensor
    index: Tensor
    settings: Mapping[str, Any]
    stores: tuple[Path, ...]

    def compute(self, x: Tensor, y: Tensor, index: Tensor) -> tuple[Result, ...]:
        """The results for some examples, one per store."""
        quiet = {"progress": False} if "progress" in inspect.signature(self.analysis).parameters else {}
        found = self.analysis(self.classifiers, x, y, index=index, **quiet, **self.settings)
        several = found if isinstance(found, tuple) else (found,)
        if len(several) != len(self.stores):
            raise ValueError(f"analysis must return {len(self.stores)} results, one per store, got {len(several)}")
        return several

    def look(self) -> None:
        """Show the first inputs to the classifiers.

        They decide how a module is rearranged to run fast: they must be the same after a resume and on every worker.
        """
        for clf in classifiers_in([self.classifiers, dict(self.settings)]):
            clf.predict(self.x[:FIRST_INPUTS])

    def changed(self, change: Callable[[Classifier], Classifier]) -> "Job":
        """The job with `change` applied to every classifier in it."""
        return dataclasses.replace(
            self,
            classifiers=changed_classifiers(self.classifiers, change),
            settings=changed_classifiers(dict(self.settings), change),
        )


def changed_classifiers(value: Any, change: Callable[[Classifier], Classifier]) -> Any:
    """A classifier, or a list, tuple or mapping containing some, with `change` applied to each."""
    if isinstance(value, Classifier):
        return change(value)
    if isinstance(value, Mapping):
        return {key: changed_classifiers(one, change) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(changed_classifiers(one, change) for one in value)
    return value


def classifiers_in(value: Any) -> Iterator[Classifier]:
    """The classifiers in a list, tuple or mapping, or the value itself if it is one."""
    if isinstance(value, Classifier):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from classifiers_in(one)


def steady(clf: Classifier, first: Tensor, *, batch_size: int | None = None, device: str | None = None) -> Classifier:
    """The classifier with batch sizes that do not depend on timing, so that runs are bit-identical.

    They are `batch_size`, else the classifier's own, else chosen by its number of operations on the first inputs.
    """
    return clf.with_batch_size(batch_size or clf.batch_size or clf.steady_batch_size(first, device=device))


def plans_of(job: Job, *, inputs: dict[str, str], chunk_size: int, device: str) -> list[Plan]:
    """The plans of the stores of a job, which survive JSON unchanged; `inputs` is from `identify_inputs`."""
    first = Plan(
        analysis=_named(job.analysis),
        result=0,
        settings={name: _plain(value, name) for name, value in sorted(job.settings.items())},
        classifiers=_plain(job.classifiers, "classifiers"),
        examples=len(job.y),
        data={**inputs, "numbers": digest_of_tensors(job.index.long()), "classes": digest_of_tensors(job.y.long())},
        chunk_size=chunk_size,
        device=device,
        versions=software_versions(),
    )
    return [dataclasses.replace(first, result=number) for number in range(len(job.stores))]


def identify_inputs(x: Inputs, at_once: int) -> dict[str, str]:
    """Identification of inputs: shape and dtype of one, and a digest of all, read in ranges."""
    digest = hashlib.sha256()
    first = x[:1]
    for start in range(0, len(x), at_once):
        digest.update(_bytes(x[start : start + at_once]))
    return {"shape": str(list(first.shape[1:])), "dtype": str(first.dtype), "inputs": digest.hexdigest()[:16]}


def digest_of_tensors(*tensors: Tensor) -> str:
    """First 16 hex digits of the SHA-256 of the tensors' values, in order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def _plain(value: Any, name: str) -> Any:
    """A value in the types of JSON."""
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Classifier):
        return {**value.identity(), **value.settings()}
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)} {digest_of_tensors(value)}"
    if isinstance(value, types.FunctionType | functools.partial):
        return _named(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one, f"{name}.{key}") for key, one in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [_plain(one, name) for one in (value if isinstance(value, Sequence) else sorted(value))]
    raise TypeError(f"{name} must be plain values, tensors, classifiers or functions, got {type(value).__name__}")


def _named(function: Callable[..., Any]) -> str:
    """A function's name, with a digest of its code if it is outside installed packages."""
    inner = function.func if isinstance(function, functools.partial) else function
    name = f"{inner.__module__}.{getattr(inner, '__qualname__', type(inner).__qualname__)}"
    return name if inner is function and is_installed(inner.__module__) else f"{name} {code_digest(function)}"


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
