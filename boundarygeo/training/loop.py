"""The training loop shared by all methods."""

import hashlib
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from tqdm.auto import tqdm

from boundarygeo.checks import check_choice
from boundarygeo.choices import TRAINING_PRECISIONS
from boundarygeo.training.layers import Network
from boundarygeo.training.method import Method, settings_of
from boundarygeo.training.randomness import Randomness
from boundarygeo.training.selection import Selection
from boundarygeo.training.standard import Standard
from boundarygeo.training.state import Progress, load_state, save_state
from boundarygeo.zoo.data import Augmentation, Split


@dataclass(frozen=True)
class TrainingResult:
    """Course and settings of a training.

    Attributes:
        loss: mean training loss of each epoch.
        accuracy: share of training examples classified correctly, in each epoch.
        test_accuracy: accuracy on the test split after each epoch; empty without a test split.
        seconds: wall-clock time in s, excluding work lost when a run was killed.
        seed: seed of the data order, the method and dropout.
        config: other settings that determine the result; `rule` says how the best epoch is chosen and when to stop.
        validation_accuracy: robust accuracy on the validation split after each epoch; empty without one.
        best_epoch: number of the best epoch, from 1, or None without a validation split.
        stopped: why the training ended before its last epoch, or empty.
    """

    loss: tuple[float, ...]
    accuracy: tuple[float, ...]
    test_accuracy: tuple[float, ...]
    seconds: float
    seed: int
    config: dict[str, Any]
    validation_accuracy: tuple[float, ...] = field(default=())
    best_epoch: int | None = None
    stopped: str = ""


def seed_spread(results: Sequence[TrainingResult]) -> tuple[float, float]:
    """Mean and standard deviation of the last test accuracy of trainings that differ in their seed."""
    accuracies = np.array([result.test_accuracy[-1] for result in results])
    return float(accuracies.mean()), float(accuracies.std(ddof=1))


class NonFiniteLossError(ValueError):
    """The loss became NaN or infinite.

    The module gets the weights of the last complete epoch, or its initial ones.

    Attributes:
        result: result up to that point.
    """

    def __init__(self, message: str, result: TrainingResult) -> None:
        super().__init__(message)
        self.result = result


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
        run = _Run(network, split, method, config, augment, seed, target, test, validation, selection)
        return run.to_the_end(on_best, None if state is None else Path(state), save_seconds, progress)
    finally:
        module.train(mode)


class _Run:
    """State and tools of one training."""

    def __init__(
        self,
        network: Network,
        split: Split,
        method: Method,
        config: dict[str, Any],
        augment: Augmentation | None,
        seed: int,
        device: torch.device,
        test: Split | None,
        validation: Split | None,
        selection: Selection,
    ) -> None:
        self.network, self.split, self.method, self.config = network, split, method, config
        self.augment, self.seed, self.device = augment, seed, device
        self.test, self.validation, self.selection = test, validation, selection
        self.steps = math.ceil(len(split) / config["batch_size"])
        self.total = config["epochs"] * self.steps
        rate = config["learning_rate"]
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=config["weight_decay"])
        self.schedule = OneCycleLR(self.optimizer, rate, total_steps=self.total, cycle_momentum=False)
        self.random = Randomness(seed, device)
        self.memory: dict[str, Tensor] = getattr(method, "memory", {})
        self.memory.clear()
        self.good: dict[str, Tensor] = {}
        self.progress = Progress()
        self.began = time.perf_counter()

    def to_the_end(
        self,
        on_best: Callable[[TrainingResult], object] | None,
        state: Path | None,
        save_seconds: float,
        show: bool,
    ) -> TrainingResult:
        self.state, self.save_seconds, self.saved = state, save_seconds, time.perf_counter()
        self.identity = self._identity() if state is not None else {}
        with self.random.running():
            if state is not None and state.exists():
                self._resume(state)
            bar = tqdm(
                total=self.total,
                initial=self.schedule.last_epoch,
                desc="training",
                unit="step",
                disable=None if show else True,
            )
            with bar:
                while self.progress.epoch < self.config["epochs"] and not self.progress.stopped:
                    self._run_epoch(bar)
                    self._end_epoch(on_best)
            if state is not None:
                self._save()
        return self._result()

    def _run_epoch(self, bar: tqdm) -> None:
        # Within an epoch the saved generator is from before the order was drawn, so that the order can be redrawn.
        self.order = self.random.order.get_state()
        batches = torch.randperm(len(self.split), generator=self.random.order).tensor_split(self.steps)
        now = self.progress
        if not now.step:
            self.good = {name: value.detach().clone() for name, value in self.network.module.state_dict().items()}
        self.network.train()
        for rows in batches[now.step :]:
            loss, hits = self._step(rows)
            now.step += 1
            now.seen += len(rows)
            now.loss_sum += loss * len(rows)
            now.correct += hits
            bar.set_postfix(
                loss=f"{now.loss_sum / now.seen:.3f}", accuracy=f"{now.correct / now.seen:.1%}", refresh=False
            )
            bar.update()
            if now.step < self.steps and self._is_due():
                self._save(within_epoch=True)

    def _step(self, rows: Tensor) -> tuple[float, int]:
        """One step; returns the loss and the number of correctly classified examples."""
        x, y = self.split.x[rows], self.split.y[rows].to(self.device)
        if self.augment is not None:
            x = self.augment(x, self.random.augmentation)
        low = self.config["precision"] == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            loss, logits = self.method(self.network, x.to(self.device), y, generator=self.random.method)
        hits = (logits.argmax(1) == y).sum()
        value, right = torch.stack(
            [loss.detach().double(), hits.double()]
        ).tolist()  # the only synchronisation with the device
        if not math.isfinite(value):
            self._give_up(value)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return value, int(right)

    def _give_up(self, value: float) -> None:
        self.network.module.load_state_dict(self.good)
        epoch, step = self.progress.epoch, self.schedule.last_epoch + 1
        self.progress.stopped = f"loss {value} at step {step} of {self.total}"
        kept = f"after epoch {epoch}" if epoch else "it began with"
        raise NonFiniteLossError(
            f"loss must stay finite, got {value} at step {step} of {self.total} (epoch {epoch + 1} of "
            f"{self.config['epochs']}): lower learning_rate or check the images; the module has the weights {kept}",
            self._result(),
        )

    def _end_epoch(self, on_best: Callable[[TrainingResult], object] | None) -> None:
        now = self.progress
        now.loss.append(now.loss_sum / now.seen)
        now.accuracy.append(now.correct / now.seen)
        now.step = now.seen = now.correct = 0
        now.loss_sum = 0.0
        if self.test is not None:
            now.test_accuracy.append(_accuracy(self.network, self.test, self.device))
        if self.validation is not None:
            now.validation_accuracy.append(self.selection.accuracy(self.network, self.validation, self.device))
            if now.validation_accuracy[-1] > max(now.validation_accuracy[:-1], default=-1.0):
                now.best_epoch = now.epoch
                if on_best is not None:
                    on_best(self._result())
            elif now.epoch - (now.best_epoch or 0) == self.selection.patience and now.epoch < self.config["epochs"]:
                now.stopped = f"no new best for {self.selection.patience} epochs"
        if self._is_due():
            self._save()

    def _is_due(self) -> bool:
        return self.state is not None and time.perf_counter() - self.saved >= self.save_seconds

    def _save(self, *, within_epoch: bool = False) -> None:
        assert self.state is not None
        self._count_time()
        random = self.random.states()
        save_state(
            self.state,
            module=self.network.module,
            optimizer=self.optimizer,
            schedule=self.schedule,
            random=random | {"order": self.order} if within_epoch else random,
            good=self.good if within_epoch else {},
            memory=self.memory,
            progress=self.progress,
            config=self.config | self.identity,
        )
        self.saved = time.perf_counter()

    def _resume(self, state: Path) -> None:
        self.progress, random, self.good = load_state(
            state,
            module=self.network.module,
            optimizer=self.optimizer,
            schedule=self.schedule,
            memory=self.memory,
            config=self.config | self.identity,
        )
        self.random.restore(random)

    def _identity(self) -> dict[str, Any]:
        """What determines the result besides the settings."""
        digest = hashlib.sha256()
        for split in (self.split, *([] if self.validation is None else [self.validation])):
            for values in (split.x, split.y):
                digest.update(values.contiguous().cpu().numpy().data)
        normalise = self.network.normalise
        normalisation = [list(getattr(normalise, name, ())) for name in ("mean", "std")]
        return {"seed": self.seed, "normalisation": normalisation, "data": digest.hexdigest()[:16]}

    def _count_time(self) -> None:
        now = time.perf_counter()
        self.progress.seconds += now - self.began
        self.began = now

    def _result(self) -> TrainingResult:
        self._count_time()
        now = self.progress
        return TrainingResult(
            loss=tuple(now.loss),
            accuracy=tuple(now.accuracy),
            test_accuracy=tuple(now.test_accuracy),
            seconds=now.seconds,
            seed=self.seed,
            config=dict(self.config),
            validation_accuracy=tuple(now.validation_accuracy),
            best_epoch=now.best_epoch,
            stopped=now.stopped,
        )


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
        logits = _logits(network, split.x[:1].to(device))
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
            got = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"module must return logits [1, classes] for one image, got {got}")
        low, high = int(split.y.min()), int(split.y.max())
        if low < 0 or high >= logits.shape[1]:
            raise ValueError(f"{name}labels must be from 0 to {logits.shape[1] - 1}, got {low} to {high}")


def _accuracy(network: nn.Module, split: Split, device: torch.device) -> float:
    correct = 0
    for x, y in zip(split.x.split(1024), split.y.split(1024), strict=True):
        correct += int((_logits(network, x.to(device)).argmax(1).cpu() == y).sum())
    return correct / len(split)


def _logits(network: nn.Module, x: Tensor) -> Tensor:
    network.eval()
    with torch.no_grad():
        return network(x)
