"""Weights from other people's files: read without executing what is in them, checked before being copied."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

WRAPPING_KEYS = ("state_dict", "model_state_dict", "model", "net", "state")
"""Keys under which training scripts keep the state dict in a larger checkpoint."""

PREFIXES = ("module.", "_orig_mod.")
"""What `DataParallel` and `torch.compile` put before each name."""


def load_weights(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Copy the weights of a file into a module.

    The file is a state dict written by `torch.save`, or a dict that holds one under a usual key such as
    `state_dict`. Prefixes that `DataParallel` or `torch.compile` put before all names are taken off.

    Args:
        module: the module, changed in place.
        path: the file, read with `weights_only=True`.

    Raises:
        ValueError: if the file cannot be read safely, holds no state dict, or does not fit the module, which
            is then as it was.
    """
    content = read_tensors(path)
    inner = next((content[key] for key in WRAPPING_KEYS if isinstance(content.get(key), Mapping)), content)
    state = dict(inner)
    own = module.state_dict()
    for prefix in PREFIXES:
        if _all_have(prefix, state) and not _all_have(prefix, own):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    if not any(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"weights must be a state dict, got {str(path)!r} with keys {_some(content)}")
    copy_state(module, state, source=str(path))


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a dict that `torch.save` wrote, without executing code.

    Args:
        path: the file.

    Returns:
        The dict, its tensors on the CPU.

    Raises:
        ValueError: if the file is missing, broken, no dict, or holds anything but tensors and plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers of torch raise a dozen types for files that are not theirs
        # Its first sentence: the next ones advise to load the file with weights_only=False, which would run its code.
        reason = str(error).splitlines()[0].split(". ")[0] if str(error) else type(error).__name__
        raise ValueError(
            f"file must be a whole torch file of tensors and plain values only, got {str(path)!r}: {reason}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"file must hold a dict, got {type(content).__name__} in {str(path)!r}")
    return content


def write_tensors(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a dict of tensors and plain values that `read_tensors` reads.

    The file is written beside its final place and moved there when it is whole.

    Args:
        path: the file; what is there is replaced.
        content: the dict.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        torch.save(dict(content), partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def copy_state(module: nn.Module, state: Mapping[str, Any], *, source: str) -> None:
    """Copy a state dict into a module after checking that every name and shape fits.

    Args:
        module: the module, changed in place.
        state: the state dict; the step counters of batch normalisation may be missing.
        source: where it came from, for the error.

    Raises:
        ValueError: if names are missing or unexpected, or shapes differ; nothing is then copied.
    """
    own = module.state_dict()
    # Checkpoints from before PyTorch 0.4.1 have no such counters, and nothing in evaluation depends on them.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} {_shape(state[key])} for {_shape(value)}"
        for key, value in own.items()
        if key in state and _shape(state[key]) != _shape(value)
    ]
    faults = {"missing": missing, "unexpected": unexpected, "wrong shape": shapes}
    if any(faults.values()):
        found = "; ".join(f"{kind} {_some(names)}" for kind, names in faults.items() if names)
        raise ValueError(f"weights must fit the model, got {source!r}: {found}")
    module.load_state_dict(state, strict=False)


def _all_have(prefix: str, state: Mapping[str, Any]) -> bool:
    return all(str(key).startswith(prefix) for key in state)


def _shape(value: Any) -> list[int] | str:
    return list(value.shape) if isinstance(value, Tensor) else type(value).__name__


def _some(names: Any, most: int = 3) -> str:
    listed = [str(name) for name in names]
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest
