"""The training loop that all methods share."""

import functools
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torchvision.transforms import Normalize
from tqdm.auto import tqdm

from boundarygeo.training.standard import standard_loss
from boundarygeo.zoo.data import Split


class Method(Protocol):
    """A training method: what is minimised on a batch of images in [0, 1]."""

    def __call__(self, module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The loss, a scalar, and the logits `[batch, class]` that count for the reported accuracy."""
        ...


@dataclass(frozen=True)
class TrainingResult:
    """How a training went.

    Attributes:
        loss: mean loss of each epoch, of the batches as they were trained on.
        accuracy: share of these that were classified correctly, in each epoch.
        test_accuracy: accuracy on the test split after each epoch; empty where no test split was given.
        seconds: wall-clock time in s.
        seed: seed of the data order, the method and dropout.
        config: remaining settings that decide the result.
    """

    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    seconds: float
    seed: int
    config: dict[str, Any]


def train(
    module: nn.Module,
    split: Split,
    *,
    method: Method = standard_loss,
    epochs: int = 10,
    batch_size: int = 64,
    learning_rate: float = 5e-3,
    weight_decay: float = 0.1,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    device: str = "auto",
    test: Split | None = None,
    progress: bool = True,
) -> TrainingResult:
    """Train a module in place with AdamW and a one-cycle schedule of the learning rate.

    The weights afterwards depend on the arguments alone, and the caller's random state is left as it was.

    Args:
        module: maps normalised images to logits. It is moved to the device, and keeps the mode it had.
        split: training images in [0, 1] and labels.
        method: what is minimised, e.g. a value of `boundarygeo.training.METHODS`.
        epochs: number of passes over the split.
        batch_size: most examples per step; the batches of an epoch differ in size by at most one.
        learning_rate: highest learning rate of the cycle.
        weight_decay: decoupled weight decay per step, relative to the learning rate.
        mean: mean per channel that is subtracted in front of the module, or None for no normalisation.
        std: standard deviation per channel that is then divided by, or None with `mean`.
        seed: seed of the data order, the method's random numbers and dropout.
        device: `"auto"` (the GPU where there is one), `"cpu"`, `"cuda"` or `"cuda:1"`.
        test: split to report the accuracy on after each epoch.
        progress: whether to show a progress bar (in a terminal or notebook).

    Returns:
        Loss and accuracy per epoch.

    Raises:
        ValueError: if an argument is out of range, the module does not give one logit per class, or the loss
            stops being finite.
    """
    if not len(split):
        raise ValueError("split must have examples, got none")
    for name, value in {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
    target = _resolve_device(device)
    # Streams of their own, so that no method changes the data order and none is correlated with it.
    streams = torch.randint(2**62, (3,), generator=torch.Generator().manual_seed(seed)).tolist()
    order_generator, method_generator = (torch.Generator().manual_seed(stream) for stream in streams[:2])
    loss_of = functools.partial(method, generator=method_generator)
    steps = math.ceil(len(split) / batch_size)
    losses, accuracies, test_accuracies = [], [], []
    start, mode = time.perf_counter(), module.training
    try:
        network = _with_normalisation(module, split, mean, std).to(target)
        _check_labels(network, split, target)
        optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
        schedule = OneCycleLR(optimizer, learning_rate, total_steps=epochs * steps, cycle_momentum=False)
        bar = tqdm(total=epochs * steps, desc="training", unit="step", disable=None if progress else True)
        with bar, _reproducible(streams[2], target):
            for _ in range(epochs):
                batches = torch.randperm(len(split), generator=order_generator).tensor_split(steps)
                loss, accuracy = _run_epoch(network, split, batches, target, loss_of, optimizer, schedule, bar)
                losses.append(loss)
                accuracies.append(accuracy)
                if test is not None:
                    test_accuracies.append(_accuracy(network, test, target))
    finally:
        module.train(mode)
    return TrainingResult(
        loss=tuple(losses),
        accuracy=tuple(accuracies),
        test_accuracy=tuple(test_accuracies),
        seconds=time.perf_counter() - start,
        seed=seed,
        config={
            "optimizer": "AdamW",
            "schedule": "one cycle",
            "examples": len(split),
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "device": str(target),
        },
    )


def _run_epoch(
    network: nn.Module,
    split: Split,
    batches: Sequence[Tensor],
    device: torch.device,
    loss_of: Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]],
    optimizer: torch.optim.Optimizer,
    schedule: OneCycleLR,
    bar: tqdm,
) -> tuple[float, float]:
    network.train()
    seen, loss_sum, correct = 0, 0.0, 0
    for rows in batches:
        x, y = split.x[rows].to(device), split.y[rows].to(device)
        loss, logits = loss_of(network, x, y)
        if not math.isfinite(value := loss.item()):
            raise ValueError(
                f"loss must stay finite, got {value} at step {schedule.last_epoch + 1} of "
                f"{schedule.total_steps}: lower learning_rate or check the images"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        seen += len(rows)
        loss_sum += value * len(rows)
        correct += int((logits.argmax(1) == y).sum())
        bar.set_postfix(loss=f"{loss_sum / seen:.3f}", accuracy=f"{correct / seen:.1%}", refresh=False)
        bar.update()
    return loss_sum / seen, correct / seen


def _resolve_device(device: str) -> torch.device:
    available = torch.cuda.is_available()
    name = ("cuda" if available else "cpu") if device == "auto" else device
    # The random state of other kinds of device can neither be seeded nor restored in one way.
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name) or (name != "cpu" and not available):
        missing = "" if available else " (there is no CUDA device here)"
        raise ValueError(f"device must be auto, cpu or cuda{missing}, got {device!r}")
    return torch.device(name)


def _with_normalisation(
    module: nn.Module, split: Split, mean: Sequence[float] | None, std: Sequence[float] | None
) -> nn.Module:
    if mean is None and std is None:
        return nn.Sequential(module)
    channels = split.x.shape[1]
    if mean is None or std is None or not len(mean) == len(std) == channels or min(std) <= 0:
        raise ValueError(
            f"mean and std must be given together, {channels} of each and std positive, got {mean} and {std}"
        )
    return nn.Sequential(Normalize(mean, std), module)


def _check_labels(network: nn.Module, split: Split, device: torch.device) -> None:
    logits = _logits(network, split.x[:1].to(device))
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"module must give logits [1, classes] for one image, got {got}")
    low, high = int(split.y.min()), int(split.y.max())
    if low < 0 or high >= logits.shape[1]:
        raise ValueError(f"labels must be from 0 to {logits.shape[1] - 1}, got {low} to {high}")


def _accuracy(network: nn.Module, split: Split, device: torch.device) -> float:
    correct = 0
    for x, y in zip(split.x.split(1024), split.y.split(1024), strict=True):
        correct += int((_logits(network, x.to(device)).argmax(1).cpu() == y).sum())
    return correct / len(split)


def _logits(network: nn.Module, x: Tensor) -> Tensor:
    network.eval()
    with torch.no_grad():
        return network(x)


@contextmanager
def _reproducible(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators (for dropout), have deterministic convolutions; restore both afterwards."""
    deterministic = torch.backends.cudnn.deterministic
    on_gpu = device.type == "cuda"
    index = torch.cuda.current_device() if on_gpu and device.index is None else device.index
    with torch.random.fork_rng(devices=[index] if on_gpu else []):
        # Not torch.manual_seed, which would also reseed the devices whose state is not restored here.
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.default_generators[index].manual_seed(seed)
        torch.backends.cudnn.deterministic = True
        try:
            yield
        finally:
            torch.backends.cudnn.deterministic = deterministic
