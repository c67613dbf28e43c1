"""The state of a training between two steps, in one file of tensors and JSON, from which it resumes bit for bit.

It holds everything that determines the rest of the training: weights and buffers, the optimizer's averages, the
position in the schedule and the epoch, and the state of every random generator.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from boundarygeo.zoo.weights import copy_state, read_tensors, write_tensors

FORMAT_VERSION = 1
"""Version of the file layout. Other versions are rejected."""


@dataclass
class Progress:
    """Progress and results of a training so far; lists have one entry per finished epoch.

    `step`, `seen`, `loss_sum` and `correct` count the current epoch's steps and examples, sum their losses and count
    those classified correctly. `best_epoch` counts from 1; `seconds` are wall-clock time.
    """

    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    validation_accuracy: list[float] = field(default_factory=list)
    best_epoch: int | None = None
    seconds: float = 0.0
    stopped: str = ""

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.loss)


def save_state(
    path: str | os.PathLike[str],
    *,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: OneCycleLR,
    random: Mapping[str, Tensor],
    memory: Mapping[str, Tensor],
    good: Mapping[str, Tensor],
    progress: Progress,
    config: Mapping[str, Any],
) -> None:
    """Write the state, atomically.

    `memory` holds the method's tensors that persist between steps, `good` the weights and buffers before this epoch
    (none between two epochs), `config` the settings that determine the result, which `load_state` compares.
    """
    state = optimizer.state_dict()
    averages = {
        f"{number} {name}": value for number, values in state["state"].items() for name, value in values.items()
    }
    described = {
        "format": FORMAT_VERSION,
        "progress": dataclasses.asdict(progress),
        "groups": state["param_groups"],
        "schedule_step": schedule.last_epoch,
        "config": dict(config),
    }
    content = {
        "module": _on_cpu(module.state_dict()),
        "optimizer": _on_cpu(averages),
        "random": _on_cpu(random),
        "memory": _on_cpu(memory),
        "good": _on_cpu(good),
        "training_state": json.dumps(described),
    }
    write_tensors(path, content)


def load_state(
    path: str | os.PathLike[str],
    *,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: OneCycleLR,
    memory: dict[str, Tensor],
    config: Mapping[str, Any],
) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor]]:
    """Restore module, optimizer, schedule and the method's memory; progress, generators' states and `good` weights.

    ValueError, which says how, if the file is not a training state or its settings differ; nothing is changed then.
    """
    content = read_tensors(path)
    try:
        described = json.loads(content["training_state"])
        version, there = int(described["format"]), dict(described["config"])
        progress = Progress(**described["progress"])
        averages = dict(content["optimizer"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is not a training state of boundarygeo") from error
    if version != FORMAT_VERSION:
        raise ValueError(f"{str(path)!r} has format {version}, but this version reads format {FORMAT_VERSION} only")
    _check_same(there, json.loads(json.dumps(dict(config))), path)
    copy_state(module, content["module"], source=str(path))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in averages.items():
        number, name = key.split(" ")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": described["groups"]})
    schedule.load_state_dict({"last_epoch": described["schedule_step"]})
    device = next(module.parameters()).device
    memory.update({name: value.to(device) for name, value in content["memory"].items()})
    return progress, dict(content["random"]), dict(content["good"])


def _on_cpu(values: Mapping[str, Any]) -> dict[str, Tensor]:
    # Cloned, because saving a view would write the whole tensor behind it.
    return {name: value.detach().cpu().clone() for name, value in values.items()}


def _check_same(there: dict[str, Any], here: dict[str, Any], path: str | os.PathLike[str]) -> None:
    missing = object()
    names = list(dict.fromkeys((*there, *here)))
    differ = [
        f"{name} {there.get(name, 'nothing')!r} there and {here.get(name, 'nothing')!r} here"
        for name in names
        if there.get(name, missing) != here.get(name, missing)
    ]
    if differ:
        raise ValueError(
            f"{str(path)!r} was saved with other settings ({'; '.join(differ)}): use those, or another state file"
        )
