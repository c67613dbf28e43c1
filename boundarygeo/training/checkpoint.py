"""Checkpoints: one file with the weights of a zoo model and everything needed to use it.

The file is a dict of tensors and one JSON string, written by `torch.save` and read with `weights_only=True`.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from boundarygeo.results.overwriting import check_free
from boundarygeo.results.provenance import software_versions
from boundarygeo.training.result import TrainingResult
from boundarygeo.zoo.models import build_model, find_model
from boundarygeo.zoo.weights import copy_state, read_tensors, write_tensors

FORMAT_VERSION = 2  # 2: validation, best epoch and reason of a stop in the training
"""Version of the file layout. Files with a higher number are rejected."""


class NoCheckpointError(ValueError):
    """The file is not a checkpoint of boundarygeo, but may be another usable file."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says about its model.

    Attributes:
        architecture: name of the model, as in `boundarygeo.zoo.find_model`.
        num_classes: number of logits.
        input_shape: channels, rows, columns.
        mean: mean per channel to subtract from the inputs, in input units, or None.
        std: standard deviation per channel to divide by after that, in input units, or None.
        bounds: lowest and highest value of an input before the normalisation.
        class_names: name of each class, or empty.
        data: specification of the data it was trained on, or empty.
        method: name of the training method, or empty; its settings are in `training.config`.
        training: the training up to these weights, with its seed and settings, or None.
        versions: versions of boundarygeo, Python, torch and numpy used in training.
    """

    architecture: str
    num_classes: int
    input_shape: tuple[int, ...]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    bounds: tuple[float, float] = (0.0, 1.0)
    class_names: tuple[str, ...] = ()
    data: str = ""
    method: str = ""
    training: TrainingResult | None = None
    versions: dict[str, str] = dataclasses.field(default_factory=software_versions)


def save_checkpoint(
    path: str | os.PathLike[str], module: nn.Module, checkpoint: Checkpoint, *, overwrite: bool = False
) -> Path:
    """Write a zoo model to a file.

    Args:
        path: the file; the suffix `.pt` is usual.
        module: the model, without normalisation.
        checkpoint: description to store with the model.
        overwrite: whether an existing checkpoint may be replaced; anything else never is.

    Returns:
        The path of the file.

    Raises:
        ValueError: if the path exists and `overwrite` is false or it is not a checkpoint of boundarygeo, or the
            architecture is not in the zoo.
    """
    try:
        find_model(checkpoint.architecture)
    except ValueError as error:
        raise ValueError(f"architecture must be in the zoo: {error}") from error
    path = check_free(path, overwrite=overwrite, kind="checkpoint")
    # Cloned, because saving a view would write the whole tensor behind it.
    state = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
    text = json.dumps({"format": FORMAT_VERSION, **dataclasses.asdict(checkpoint)})
    write_tensors(path, {"state": state, "json": text})
    return path


def load_checkpoint(path: str | os.PathLike[str]) -> tuple[nn.Module, Checkpoint]:
    """Read a model written by `save_checkpoint`.

    Args:
        path: the file; no code in it is executed.

    Returns:
        The model in eval mode, on the CPU and without normalisation, and its description.

    Raises:
        NoCheckpointError: if the file is missing, broken, or not a checkpoint of boundarygeo.
        ValueError: if its format is newer, or it describes no zoo model.
    """
    try:
        content = read_tensors(path)
    except ValueError as error:
        raise NoCheckpointError(f"not a checkpoint of boundarygeo: {error}") from error
    try:
        state, fields = dict(content["state"]), dict(json.loads(content["json"]))
        version = int(fields.pop("format"))
    except (KeyError, TypeError, ValueError) as error:
        raise NoCheckpointError(
            f"{str(path)!r} is not a checkpoint of boundarygeo: it holds {_kind_of(content)}"
        ) from error
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{str(path)!r} has format {version}, and this version of boundarygeo reads formats up to "
            f"{FORMAT_VERSION}: upgrade boundarygeo"
        )
    try:
        if fields["training"] is not None:
            fields["training"] = TrainingResult(**_with_tuples(fields["training"]))
        checkpoint = Checkpoint(**_with_tuples(fields))
        module = build_model(
            checkpoint.architecture, num_classes=checkpoint.num_classes, input_shape=checkpoint.input_shape
        )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(f"checkpoint {str(path)!r} does not describe a zoo model: {error}") from error
    copy_state(module, state, source=str(path))
    return module.eval(), checkpoint


def _kind_of(content: Mapping[str, Any]) -> str:
    """Description of a file of tensors that is not a checkpoint."""
    parts = [content, *(part for part in content.values() if isinstance(part, Mapping))]
    if any(isinstance(value, Tensor) for part in parts for value in part.values()):
        return "weights alone"
    return f"a dict with the keys {', '.join(map(str, list(content)[:3])) or 'none'}"


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    # JSON has no tuples; every list in these dataclasses was a tuple.
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
