"""The entry to training: checks of its arguments, and what is written down of them."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from boundarygeo.checks import check_choice
from boundarygeo.choices import TRAINING_PRECISIONS
from boundarygeo.training.layers import Network
from boundarygeo.training.loop import Run, logits_of
from boundarygeo.training.method import Method, settings_of
from boundarygeo.training.result import TrainingResult
from boundarygeo.training.selection import Selection
from boundarygeo.training.standard import Standard
from boundarygeo.zoo.data import Augmentation, Split


def train(
    module: nn.Module,
    split: Split,
    *,
    method: Method = Standard(),
    epochs: int = 10,
    batch_size: int = 64,
    learning_rate: float = 5e-3,
    weight_decay: float = 0.1,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: Augmentation | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    test: Split | None = None,
    validation: Split | None = None,
    selection: Selection = Selection(),
    on_best: Callable[[TrainingResult], object] | None = None,
    state: str | os.PathLike[str] | None = None,
    save_seconds: float = 60.0,
    progress: bool = True,
) -> TrainingResult:
    """Train a module in place with AdamW and a one-cycle schedule of the learning rate.

    The final weights depend on the arguments alone, and the caller's random state is not changed. With a state file, a
    killed training resumes from the last saved state and, on the same device, ends with bit-identical weights.

    Args:
        module: maps normalised images to logits. It is moved to the device, and keeps its mode.
        split: training images in [0, 1] and labels.
        method: training method, e.g. `Mixup(alpha=0.2)`; see `boundarygeo.training.METHODS`.
        epochs: number of passes over the split.
        batch_size: largest number of examples per step; the batches of an epoch differ in size by at most one.
        learning_rate: peak learning rate of the cycle.
        weight_decay: decoupled weight decay per step, relative to the learning rate.
        mean: mean per channel subtracted from the images, or None for no normalisation.
        std: standard deviation per channel to divide by after that, or None with `mean`.
        augment: random change of each batch of images, e.g. `boundarygeo.zoo.crop_and_flip`, or None.
        seed: seed of the data order, the augmentation, the method's random numbers and dropout.
        device: `"auto"` (the GPU, if there is one), `"cpu"`, `"cuda"` or `"cuda:1"`.
        precision: `"float32"`; `"bfloat16"`: losses are computed under autocast, weights stay float32; or `"auto"`:
            bfloat16 on GPUs that support it, else float32.
        test: split for the reported accuracy after each epoch.
        validation: held-out split (`boundarygeo.zoo.hold_out`) used by `selection` to choose the best epoch.
        selection: how to choose the best epoch, and when to stop.
        on_best: called after each epoch that is the best so far, with the result so far, while the module has that
            epoch's weights; for instance to save them.
        state: file for the state of the training; if it exists, the training resumes from it.
        save_seconds: time between two saves of the state, in s; it is also saved after the last step.
        progress: whether to show a progress bar (in a terminal or notebook).

    Returns:
        Loss and accuracies per epoch, with the settings.

    Raises:
        ValueError: if an argument is out of range, the module does not return one logit per class, or the state belongs
            to a training with other settings.
        NonFiniteLossError: if the loss stops being finite (a `ValueError`).
    """
    for name, part in {"split": split, "test": test, "validation": validation}.items():
        if part is not None and not len(part):
            raise ValueError(f"{name} split is empty: it must have examples")
    for name, value in {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    target = _resolve_device(device)
    arithmetic = _resolve_precision(precision, target)
    mode = module.training
    network = Network(module, *_check_normalisation(split, mean, std)).to(target)
    try:
        _check_labels(network, {"": split, "test ": test, "validation ": validation}, target)
        config = {
            "optimizer": "AdamW",
            "schedule": "one cycle",
            "examples": len(split),
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "device": str(target),
            "precision": arithmetic,
            "method": getattr(method, "__name__", type(method).__name__),
            "settings": settings_of(method),
            "augmentation": None if augment is None else getattr(augment, "__name__", type(augment).__name__),
            "rule": None if validation is None else selection.rule(len(validation)),
        }
        file = None if state is None else Path(state)
        run = Run(
            network,
            split,
            method,
            config,
            augment,
            seed,
            target,
            test,
            validation,
            selection,
            on_best,
            file,
            save_seconds,
        )
        return run.to_the_end(show=progress)
    finally:
        module.train(mode)


def _resolve_device(device: str) -> torch.device:
    available = torch.cuda.is_available()
    name = ("cuda" if available else "cpu") if device == "auto" else device
    # Other kinds of device have no common way to seed and restore their random state.
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name) or (name != "cpu" and not available):
        missing = "" if available else " (no CUDA device is available)"
        raise ValueError(f"device must be auto, cpu or cuda{missing}, got {device!r}")
    return torch.device(name)


def _resolve_precision(precision: str, device: torch.device) -> str:
    check_choice(precision, "precision", TRAINING_PRECISIONS)
    if precision != "auto":
        return precision
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported(False) else "float32"


def _check_normalisation(
    split: Split, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    if mean is None and std is None:
        return None, None
    channels = split.x.shape[1]
    if mean is None or std is None or not len(mean) == len(std) == channels or min(std) <= 0:
        raise ValueError(f"mean and std need one value per channel ({channels}), std positive, got {mean} and {std}")
    return tuple(mean), tuple(std)


def _check_labels(network: nn.Module, splits: dict[str, Split | None], device: torch.device) -> None:
    for name, split in splits.items():
        if split is None:
            continue
        logits = logits_of(network, split.x[:1].to(device))
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
            got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"module must return logits [1, classes] for one image, got {got}")
        low, high = int(split.y.min()), int(split.y.max())
        if low < 0 or high >= logits.shape[1]:
            raise ValueError(f"{name}labels must be from 0 to {logits.shape[1] - 1}, got {low} to {high}")
