"""Weights from external files: read without executing code, and checked before being copied."""

import argparse
import os
import re
import types
import uuid
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

WRAPPING_KEYS = ("state_dict", "model_state_dict", "model", "net", "state")
"""Usual keys of the state dict in larger checkpoints, tried first."""

WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Name parts added by `DataParallel`, `torch.compile` and others, at the front or before a submodule's name."""

# Plain data often stored with weights; constructing these runs no code from the file.
_PLAIN_DATA: list[Any] = [
    argparse.Namespace,
    types.SimpleNamespace,
    np.dtype,
    *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"},
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


class OtherClassesError(ValueError):
    """The weights fit a model except for their number of classes."""

    def __init__(self, message: str, classes: int) -> None:
        super().__init__(message)
        self.classes = classes


def load_weights(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Copy the weights of a file into a module.

    The file is a `.safetensors` file, a state dict written by `torch.save`, or a dict or list that contains one, at any
    depth, under a usual key such as `state_dict` or as the only one. Names may contain parts added by `DataParallel` or
    `torch.compile`, and a common prefix (`model.`), in any order and number; the counter of `AveragedModel` is dropped.

    Args:
        module: the module, changed in place.
        path: the file; no code in it is run.

    Raises:
        OtherClassesError: if it fits except for the number of classes.
        ValueError: if the file cannot be read safely, holds no state dict, or does not fit the module, which is then
            not changed.
    """
    content = _read_safetensors(path) if str(path).endswith(".safetensors") else _read_torch(path)
    state = _find_state(content)
    if state is None:
        got = f"keys {_some(content)}" if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"{str(path)!r} is not a state dict: it holds {got}; save module.state_dict()")
    copy_state(module, _rename(state, module.state_dict()), source=str(path))


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a dict written by `torch.save` onto the CPU, without executing code.

    ValueError if the file is missing, broken, not a dict, or holds anything but tensors and plain values.
    """
    content = _read_torch(path)
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} must hold a dict, got {type(content).__name__}")
    return content


def _read_torch(path: str | os.PathLike[str]) -> Any:
    try:
        with torch.serialization.safe_globals(_PLAIN_DATA), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*looks like a TorchScript archive")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's readers raise many types for other files
        text = str(error)
        unknown = re.search(r"GLOBAL ([\w.]+) (?:was not an allowed global|whose module)", text)
        if unknown or "TorchScript" in text:
            held = unknown[1] if unknown else "a TorchScript module"
            raise ValueError(
                f"{str(path)!r} holds {held}, which could run code: save only the weights, "
                "torch.save(model.state_dict(), FILE)"
            ) from error
        # First sentence only: the rest suggests weights_only=False, which would run the file's code.
        reason = re.split(r"\. |\n", text.rpartition("WeightsUnpickler error: ")[2])[0] or type(error).__name__
        raise ValueError(f"{str(path)!r} is not an intact torch file of tensors and plain values: {reason}") from error


def _read_safetensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ValueError(f"reading {str(path)!r} needs safetensors: pip install safetensors") from error
    try:
        return load_file(path)
    except Exception as error:  # broken files raise SafetensorError, OSError and more
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{str(path)!r} is not an intact safetensors file: {reason}") from error


def write_tensors(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a dict of tensors and plain values for `read_tensors`: the file is moved into place once complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        torch.save(dict(content), partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def copy_state(module: nn.Module, state: Mapping[str, Any], *, source: str) -> None:
    """Copy a state dict into a module after checking that every name and shape fits; raises without a change if not.

    Step counters of batch normalisation may be missing. `source` is where the state came from, for the message.
    """
    own = module.state_dict()
    # Checkpoints from before PyTorch 0.4.1 have no such counters, which do not affect eval mode.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} {_shape(state[key])} for {_shape(value)}"
        for key, value in own.items()
        if key in state and not is_lazy(value) and _shape(state[key]) != _shape(value)
    ]
    if not missing and not unexpected and (classes := _other_classes(own, state)):
        raise OtherClassesError(
            f"{source!r} does not fit the model: its last layer has {classes[0]} classes, the model has {classes[1]}: "
            f"build the model with {classes[0]} classes",
            classes[0],
        )
    faults = {"missing": missing, "unexpected": unexpected, "wrong shape": shapes}
    if any(faults.values()):
        found = "; ".join(f"{kind} {_some(names)}" for kind, names in faults.items() if names)
        raise ValueError(f"{source!r} does not fit the model: {found}")
    # Nothing can be copied into parameters on the meta device.
    module.load_state_dict(state, strict=False, assign=any(value.is_meta for value in module.parameters()))


def _find_state(content: Any) -> dict[str, Any] | None:
    """The state dict in a checkpoint: under the first usual key that has one, else the only one."""
    if isinstance(content, list | tuple):
        return _find_state(content[0]) if len(content) == 1 else None
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        return None
    inner = {key: value for key, value in content.items() if not key.endswith("_extra_state")}
    found = {key: state for key, value in inner.items() if (state := _find_state(value)) is not None}
    usual = next((found[key] for key in WRAPPING_KEYS if key in found), None)
    if usual is not None or len(found) == 1:
        return usual or next(iter(found.values()))
    return dict(content) if any(isinstance(value, Tensor) for value in content.values()) else None


def _rename(state: Mapping[str, Any], own: Iterable[str]) -> dict[str, Any]:
    """The state with the module's own names, where wrappers and a common prefix explain the difference."""
    aliases = {_unwrapped(name): name for name in own}
    names = {name: _unwrapped(name) for name in state}
    if len(aliases) < len(set(own)) or len(set(names.values())) < len(names):
        return dict(state)  # without the wrappers, two weights would share a name
    counters = {name for name in state if name.rpartition(".")[2] == "n_averaged"}
    best = names
    while len(shared := {_first_part(short) for name, short in names.items() if name not in counters}) == 1:
        beginning = shared.pop()
        if not beginning:
            break
        names = {name: short.removeprefix(beginning) for name, short in names.items()}
        if _hits(names, aliases) > _hits(best, aliases):
            best = names
    return {
        aliases.get(short, short): state[name]
        for name, short in best.items()
        if name not in counters or short in aliases
    }


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _first_part(name: str) -> str:
    """The part of a name up to and including its first dot."""
    return "".join(name.partition(".")[:2]) if "." in name else ""


def _hits(names: Mapping[str, str], aliases: Mapping[str, str]) -> int:
    return sum(short in aliases for short in names.values())


def _other_classes(own: Mapping[str, Any], state: Mapping[str, Any]) -> tuple[int, int] | None:
    """Numbers of classes in a file and a model if they differ only in these, including the last layer."""
    shapes = {
        key: (_shape(state[key]), _shape(value)) for key, value in own.items() if key in state and not is_lazy(value)
    }
    differing = {key: pair for key, pair in shapes.items() if pair[0] != pair[1]}
    if not differing or list(own)[-1] not in differing:
        return None
    heads = set()
    for theirs, ours in differing.values():
        if isinstance(theirs, str) or isinstance(ours, str) or len(theirs) != len(ours) or theirs[1:] != ours[1:]:
            return None
        heads.add((theirs[0], ours[0]))
    return heads.pop() if len(heads) == 1 else None


def _shape(value: Any) -> list[int] | str:
    return list(value.shape) if isinstance(value, Tensor) else type(value).__name__


def _some(names: Any, most: int = 3) -> str:
    listed = [str(name) for name in names]
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest
