"""The training loop shared by all methods."""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from tqdm.auto import tqdm

from boundarygeo.training.layers import Network
from boundarygeo.training.method import Method
from boundarygeo.training.randomness import Randomness
from boundarygeo.training.result import NonFiniteLossError, TrainingResult
from boundarygeo.training.selection import Selection
from boundarygeo.training.state import Progress, load_state, save_state
from boundarygeo.zoo.data import Augmentation, Split


@dataclass(eq=False, repr=False)
class Run:
    """State and tools of one training."""

    network: Network
    split: Split
    method: Method
    config: dict[str, Any]
    augment: Augmentation | None
    seed: int
    device: torch.device
    test: Split | None
    validation: Split | None
    selection: Selection
    on_best: Callable[[TrainingResult], object] | None
    state: Path | None
    save_seconds: float

    def __post_init__(self) -> None:
        self.steps = math.ceil(len(self.split) / self.config["batch_size"])
        self.total = self.config["epochs"] * self.steps
        rate, decay = self.config["learning_rate"], self.config["weight_decay"]
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=rate, weight_decay=decay)
        self.schedule = OneCycleLR(self.optimizer, rate, total_steps=self.total, cycle_momentum=False)
        self.random = Randomness(self.seed, self.device)
        self.memory: dict[str, Tensor] = getattr(self.method, "memory", {})
        self.memory.clear()
        self.good: dict[str, Tensor] = {}
        self.progress = Progress()
        self.began = self.saved = time.perf_counter()

    def to_the_end(self, *, show: bool) -> TrainingResult:
        """Train from the first step, or from the saved state, to the last epoch."""
        self.identity = self._identity() if self.state is not None else {}
        with self.random.running():
            if self.state is not None and self.state.exists():
                self._resume(self.state)
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
                    self._end_epoch()
            if self.state is not None:
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

    def _end_epoch(self) -> None:
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
                if self.on_best is not None:
                    self.on_best(self._result())
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


def _accuracy(network: nn.Module, split: Split, device: torch.device) -> float:
    correct = 0
    for x, y in zip(split.x.split(1024), split.y.split(1024), strict=True):
        correct += int((logits_of(network, x.to(device)).argmax(1).cpu() == y).sum())
    return correct / len(split)


def logits_of(network: nn.Module, x: Tensor) -> Tensor:
    """Logits in eval mode, without gradients; the module stays in it."""
    network.eval()
    with torch.no_grad():
        return network(x)
