"""Checkpoints of one comparison: whether they match, how they are grouped, and the data they were trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from boundarygeo.cli.sources import numbered_as
from boundarygeo.training import METHODS, Checkpoint
from boundarygeo.training.method import settings_of
from boundarygeo.zoo import Dataset, load_data
from boundarygeo.zoo.classes import are_numbers, check_same_classes, match_classes

_NOT_THE_METHOD = ("method", "settings", "device")
"""Parts of a checkpoint's configuration that are shown elsewhere or do not matter."""


def group_names(checkpoints: Sequence[Checkpoint], names: Sequence[str]) -> list[str]:
    """Name of a group of checkpoints that differ only in their seed: architecture, method and its settings.

    It includes method settings other than the defaults, and whatever else distinguishes groups with the same name. A
    checkpoint without training information is its own group.
    """
    titles = [
        f"{checkpoint.architecture} {_method(checkpoint)}" if checkpoint.training is not None else name
        for checkpoint, name in zip(checkpoints, names, strict=True)
    ]
    settings = [_remaining(checkpoint) for checkpoint in checkpoints]
    groups = []
    for title, own in zip(titles, settings, strict=True):
        alike = [other for name, other in zip(titles, settings, strict=True) if name == title]
        keys = dict.fromkeys(key for other in alike for key in other)
        differing = [key for key in keys if len({repr(other.get(key)) for other in alike}) > 1]
        groups.append(", ".join([title, *(f"{key} {_plain(own.get(key))}" for key in differing)]))
    return groups


def _method(checkpoint: Checkpoint) -> str:
    """The method, with settings other than the defaults."""
    method = checkpoint.method or "unknown method"
    given: Mapping[str, Any] = checkpoint.training.config.get("settings", {}) if checkpoint.training else {}
    usual = settings_of(METHODS[method]()) if method in METHODS else {}
    changed = [f"{key} {_plain(value)}" for key, value in given.items() if _plain(usual.get(key)) != _plain(value)]
    return f"{method} ({', '.join(changed)})" if changed else method


def _plain(value: Any) -> str:
    """A setting as text, the same for tuples and for JSON's lists."""
    return ",".join(_plain(part) for part in value) if isinstance(value, list | tuple) else str(value)


def _remaining(checkpoint: Checkpoint) -> dict[str, Any]:
    config = {} if checkpoint.training is None else checkpoint.training.config
    return {key: value for key, value in config.items() if key not in _NOT_THE_METHOD} | {"data": checkpoint.data}


def with_class_names(checkpoints: Sequence[Checkpoint], class_names: tuple[str, ...]) -> list[Checkpoint]:
    """Give class names to checkpoints without any; if all have names, these replace them."""
    needy = [not one.class_names or are_numbers(one.class_names) for one in checkpoints]
    return [
        replace(one, class_names=class_names) if needs or not any(needy) else one
        for one, needs in zip(checkpoints, needy, strict=True)
    ]


def check_alike(names: Sequence[str], checkpoints: Sequence[Checkpoint]) -> None:
    """Check that checkpoints take the same inputs and have the same classes; errors name two that differ."""
    for what, values in (
        ("number of classes", [checkpoint.num_classes for checkpoint in checkpoints]),
        ("input shape", [list(checkpoint.input_shape) for checkpoint in checkpoints]),
        ("bounds", [checkpoint.bounds for checkpoint in checkpoints]),
    ):
        for name, value in zip(names, values, strict=True):
            if value != values[0]:
                raise ValueError(
                    f"checkpoints must have the same {what}, got {values[0]} ({names[0]}) and {value} ({name})"
                )
    pairs = zip(names, checkpoints, strict=True)
    check_same_classes({name: checkpoint.class_names for name, checkpoint in pairs if checkpoint.class_names})


def data_of(names: Sequence[str], checkpoints: Sequence[Checkpoint]) -> str:
    """The data that all checkpoints were trained on."""
    for name, checkpoint in zip(names, checkpoints, strict=True):
        if not checkpoint.data:
            raise ValueError(f"pass --data: checkpoint {name} does not record its data")
        if checkpoint.data != checkpoints[0].data:
            raise ValueError(
                f"pass --data: the checkpoints were trained on different data, {checkpoints[0].data} ({names[0]}) and "
                f"{checkpoint.data} ({name})"
            )
    return checkpoints[0].data


def load_matching(
    spec: str,
    names: Sequence[str],
    checkpoints: Sequence[Checkpoint],
    *,
    resize: int | None,
    size: int | None,
) -> Dataset:
    """The data with the checkpoints' class numbers and names."""
    dataset = load_data(
        spec, resize=resize, size=size, channels=checkpoints[0].input_shape[0] if spec.startswith("folder:") else None
    )
    if dataset.input_shape != checkpoints[0].input_shape:
        raise ValueError(
            f"--data must have the input shape of the checkpoints, {list(checkpoints[0].input_shape)}, "
            f"got {list(dataset.input_shape)}"
        )
    pairs = zip(names, checkpoints, strict=True)
    name, first = next((pair for pair in pairs if pair[1].class_names), (names[0], checkpoints[0]))
    try:
        return numbered_as(dataset, match_classes(dataset.class_names, first.class_names, first.num_classes))
    except ValueError as error:
        raise ValueError(f"classes of --data must be those of {name}: {error}") from error
