"""Killed and resumed, chosen by robust accuracy, stopped by NaN: what the loop does around its steps."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from boundarygeo.training import (
    METHODS,
    Layerwise,
    Mixup,
    NonFiniteLossError,
    Selection,
    Standard,
    TrainingResult,
    train,
)
from boundarygeo.zoo import Split, build_model, crop_and_flip, hold_out

pytestmark = pytest.mark.usefixtures("one_thread")


class KilledError(Exception):
    """In place of a power cut."""


def blobs(count: int = 50) -> Split:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(count) % 3
    x = (y / 3).view(-1, 1, 1, 1) + 0.2 * torch.rand(count, 1, 4, 4, generator=generator)
    return Split(x, y)


def network() -> nn.Module:
    """With all that draws or keeps something in training: dropout and batch normalisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 3)
        )


def settings(**changes: Any) -> dict[str, Any]:
    rest, held_out = hold_out(blobs(), 10)
    return {
        "split": rest, "validation": held_out, "test": blobs(20), "selection": Selection(eps=0.05, steps=2),
        "epochs": 3, "batch_size": 16, "device": "cpu", "progress": False, "mean": (0.3,), "std": (0.2,),
        "augment": crop_and_flip,
    } | changes  # fmt: skip


def killed_at(step: int, method: Callable[..., tuple[Tensor, Tensor]]) -> Any:
    """The method, until the step."""
    calls = [0]

    class Mortal:
        memory = getattr(method, "memory", {})

        def __call__(self, module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Any:
            calls[0] += 1
            if calls[0] == step:
                raise KilledError
            return method(module, x, y, generator=generator)

    return Mortal()


def told(result: TrainingResult) -> dict[str, Any]:
    """What must be equal in two results."""
    return {name: value for name, value in vars(result).items() if name not in ("seconds", "config")}


def assert_equal_states(first: nn.Module, second: nn.Module) -> None:
    theirs = second.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(value, theirs[name]), name


def small(name: str) -> Any:
    return METHODS[name](layers=("input", "3")) if name == "manifold_mixup" else METHODS[name]()


# 40 examples are 3 steps in each of 3 epochs: within an epoch, right after one, and in the last step.
@pytest.mark.parametrize("step", [2, 4, 6, 9])
@pytest.mark.parametrize("name", [*METHODS, "carried"])
def test_killed_and_resumed_is_uninterrupted_bit_for_bit(name: str, step: int, tmp_path: Path) -> None:
    def method() -> Any:
        return Layerwise(eps=1e-3, replays=0) if name == "carried" else small(name)

    whole, state = network(), tmp_path / "state.pt"
    expected = train(whole, method=method(), **settings())

    module = network()
    with pytest.raises(KilledError):
        train(module, method=killed_at(step, method()), state=state, save_seconds=0, **settings())
    # A state knows the method by name and settings: those of the mortal one are put in order.
    content = torch.load(state, weights_only=True)
    described = json.loads(content["training_state"])
    described["config"] |= {key: expected.config[key] for key in ("method", "settings")}
    torch.save(content | {"training_state": json.dumps(described)}, state)

    torch.rand(3)
    module = network().requires_grad_()
    with torch.no_grad():
        module[1].weight.zero_()  # whatever it began with
    result = train(module, method=method(), state=state, **settings())
    assert_equal_states(module, whole)
    assert told(result) == told(expected)
    # And what is finished is not done again.
    again = network()
    assert told(train(again, method=killed_at(1, method()), state=_named(state, expected), **settings())) == told(
        expected
    )
    assert_equal_states(again, whole)


def _named(state: Path, expected: TrainingResult) -> Path:
    content = torch.load(state, weights_only=True)
    described = json.loads(content["training_state"])
    described["config"] |= {"method": "Mortal", "settings": {}}
    torch.save(content | {"training_state": json.dumps(described)}, state)
    return state


KILLED = """
import os, sys, torch
from boundarygeo.training import Mixup, train
from boundarygeo.zoo import Split, build_model

class Shortlived(Mixup):
    steps = 0

    def __call__(self, *arguments, **named):
        Shortlived.steps += 1
        if Shortlived.steps == 9:
            os._exit(9)  # no exception, no exit handlers
        return super().__call__(*arguments, **named)

torch.set_num_threads(1)
split = Split(torch.linspace(0, 1, 60 * 16).view(60, 1, 4, 4), torch.arange(60) // 20)
module = build_model("mlp", num_classes=3, input_shape=(1, 4, 4))
train(module, split, method=Shortlived(alpha=0.5), epochs=2, batch_size=10, device="cpu", state=sys.argv[1],
      save_seconds=0)
"""


def test_a_killed_process_is_gone_on_with(tmp_path: Path) -> None:
    class Shortlived(Mixup):
        """The class of the killed process, without its death."""

    def trained(state: Path | None) -> nn.Module:
        split = Split(torch.linspace(0, 1, 60 * 16).view(60, 1, 4, 4), torch.arange(60) // 20)
        module = build_model("mlp", num_classes=3, input_shape=(1, 4, 4))
        train(
            module, split, method=Shortlived(alpha=0.5), epochs=2, batch_size=10, device="cpu", progress=False,
            state=state,
        )  # fmt: skip
        return module

    state = tmp_path / "state.pt"
    done = subprocess.run([sys.executable, "-c", KILLED, str(state)], capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    assert json.loads(torch.load(state, weights_only=True)["training_state"])["progress"]["step"] == 2
    assert_equal_states(trained(state), trained(None))


def test_a_state_is_tensors_and_json(tmp_path: Path) -> None:
    state = tmp_path / "new" / "state.pt"
    train(network(), method=Layerwise(eps=1e-3, replays=0), state=state, **settings())
    content = torch.load(state, weights_only=True)
    text = content.pop("training_state")
    assert set(content) == {"module", "optimizer", "random", "memory", "good"}
    for values in content.values():
        assert all(isinstance(value, Tensor) for value in values.values())
    assert json.loads(text)["config"]["rule"].startswith("best: highest accuracy under PGD-2 (linf, eps 0.05")
    assert [file.name for file in state.parent.iterdir()] == ["state.pt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 1e-2}, "learning_rate 0.005 there and 0.01 here"),
        ({"epochs": 4}, "epochs 3 there and 4 here"),
        ({"seed": 1}, "seed 0 there and 1 here"),
        ({"method": Mixup(alpha=2.0)}, "method 'Standard' there and 'Mixup' here; settings .*'alpha': 2.0"),
        ({"mean": (0.4,)}, r"normalisation \[\[0.3\], \[0.2\]\] there and \[\[0.4\], \[0.2\]\] here"),
        ({"augment": None}, "augmentation 'crop_and_flip' there and None here"),
        ({"validation": None}, "rule 'best: .* there and None here"),
        ({"selection": Selection(eps=0.05, steps=2, patience=2)}, "rule .* stop after 2 epochs"),
        ({"split": Split(hold_out(blobs(), 10)[0].x.flip(0), hold_out(blobs(), 10)[0].y)}, "data '[0-9a-f]+' there"),
    ],
)
def test_another_configuration_is_refused_and_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    train(network(), state=state, **settings())
    before, module = state.read_bytes(), network()
    with pytest.raises(ValueError, match=f"was saved with other settings.*{message}") as caught:
        train(module, state=state, **settings(**changes))
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(" there and ") == (2 if changes.keys() & {"method", "validation"} else 1)
    assert_equal_states(module, network())
    assert state.read_bytes() == before


class Bomb:
    """Deletes a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = str(victim)

    def __reduce__(self) -> tuple:
        return os.remove, (self.victim,)


def test_files_that_are_no_states(tmp_path: Path) -> None:
    state, victim = tmp_path / "state.pt", tmp_path / "victim"
    victim.touch()
    train(network(), state=state, **settings())
    content = torch.load(state, weights_only=True)
    described = json.loads(content["training_state"])
    other = nn.Linear(16, 3).state_dict()
    cases: dict[str, tuple[object, str]] = {
        "code": (content | {"memory": Bomb(victim)}, "could run code|not an intact torch file"),
        "weights": (network().state_dict(), "is not a training state of boundarygeo"),
        "newer": (
            content | {"training_state": json.dumps(described | {"format": 2})},
            "has format 2, but this version reads format 1 only",
        ),
        "network": (content | {"module": other}, "does not fit the model"),
    }
    for name, (bad, message) in cases.items():
        torch.save(bad, tmp_path / name)
        with pytest.raises(ValueError, match=message):
            train(network(), state=tmp_path / name, **settings())
    (tmp_path / "half").write_bytes(state.read_bytes()[:1000])
    with pytest.raises(ValueError, match="could run code|not an intact torch file"):
        train(network(), state=tmp_path / "half", **settings())
    assert victim.exists()


def scripted(accuracies: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    script = iter(accuracies)
    monkeypatch.setattr(Selection, "accuracy", lambda *_: next(script))


def test_the_best_epoch_is_the_first_of_the_highest(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted([0.4, 0.6, 0.5, 0.6, 0.3], monkeypatch)
    module, calls = network(), []
    result = train(
        module,
        on_best=lambda result: calls.append((len(result.loss), result.best_epoch, module[1].weight.clone())),
        **settings(epochs=5),
    )
    assert result.best_epoch == 2
    assert result.validation_accuracy == (0.4, 0.6, 0.5, 0.6, 0.3)
    assert [call[:2] for call in calls] == [(1, 1), (2, 2)]
    until_two = network()
    scripted([0.4, 0.6], monkeypatch)
    with pytest.raises(KilledError):
        train(until_two, method=killed_at(7, Standard()), **settings(epochs=5))
    assert torch.equal(calls[1][2], until_two[1].weight)


@pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 6), (3, 6), (None, 6)])
def test_training_stops_after_epochs_without_a_new_best(
    patience: int | None, epochs: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scripted([0.4, 0.6, 0.6, 0.7, 0.5, 0.6], monkeypatch)
    chosen = settings(epochs=6, selection=Selection(patience=patience), state=tmp_path / "state.pt")
    result = train(network(), **chosen)
    assert len(result.loss) == epochs
    assert result.stopped == ("no new best for 1 epochs" if patience == 1 else "")
    assert told(train(network(), **chosen)) == told(result)  # a stopped training is not gone on with
    assert ("stop after" in result.config["rule"]) == (patience is not None)


def test_robust_accuracy_is_that_of_the_attack() -> None:
    # f(x) = ±(mean x − ½): an L∞ step of ε moves the mean by ε, as far as the bounds allow.
    linear = nn.Linear(16, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.stack([-torch.ones(16), torch.ones(16)]) / 16)
        linear.bias.copy_(torch.tensor([0.5, -0.5]))
    module = nn.Sequential(nn.Flatten(), linear)
    means = torch.tensor([0.1, 0.3, 0.42, 0.48, 0.53, 0.58, 0.7, 0.45])
    split = Split(means.view(-1, 1, 1, 1).expand(-1, 1, 4, 4), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))
    device = torch.device("cpu")
    assert Selection(eps=0.0).accuracy(module, split, device) == 7 / 8
    assert Selection(eps=0.05).accuracy(module, split, device) == 5 / 8
    assert Selection(eps=0.1).accuracy(module, split, device) == 3 / 8
    assert Selection(eps=0.41, norm="l2").accuracy(module, split, device) == 3 / 8  # 0.41 / √16 = 0.1025
    assert Selection(eps=0.1, steps=3).rule(8) == (
        "best: highest accuracy under PGD-3 (linf, eps 0.1, one random start) on 8 held-out training examples, "
        "first of equals"
    )


def exploding(step: int) -> Any:
    calls = [0]

    def explode(module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        calls[0] += 1
        loss, logits = Standard()(module, x, y, generator=generator)
        return loss * (float("nan") if calls[0] == step else 1), logits

    return explode


@pytest.mark.parametrize(("step", "epoch"), [(3, 0), (4, 1), (8, 2)])
def test_nan_leaves_the_weights_of_the_last_whole_epoch(step: int, epoch: int, tmp_path: Path) -> None:
    module = network()
    with pytest.raises(NonFiniteLossError, match=f"got nan at step {step} of 9 \\(epoch {epoch + 1} of 3\\)") as caught:
        train(module, method=exploding(step), **settings())
    result = caught.value.result
    assert result.stopped == f"loss nan at step {step} of 9"
    assert len(result.loss) == epoch
    expected = network()
    if epoch:
        with pytest.raises(KilledError):
            train(expected, method=killed_at(3 * epoch + 1, Standard()), **settings())
    assert_equal_states(module, expected)


def test_nan_after_a_resume_within_an_epoch_leaves_the_weights_before_it(tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    with pytest.raises(KilledError):
        train(network(), method=killed_at(6, Standard()), state=state, save_seconds=0, **settings())
    content = torch.load(state, weights_only=True)
    described = json.loads(content["training_state"])
    described["config"] |= {"method": "explode"}
    torch.save(content | {"training_state": json.dumps(described)}, state)
    module, expected = network(), network()
    with pytest.raises(NonFiniteLossError, match="at step 6 of 9"):
        train(module, method=exploding(1), state=state, **settings())
    with pytest.raises(KilledError):
        train(expected, method=killed_at(4, Standard()), **settings())
    assert_equal_states(module, expected)


def test_mixed_precision_keeps_float32_weights() -> None:
    module = network()
    seen = set()

    def spy(module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        loss, logits = Standard()(module, x, y, generator=generator)
        seen.add(logits.dtype)
        return loss, logits

    result = train(module, method=spy, **settings(precision="bfloat16"))
    assert seen == {torch.bfloat16}
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    assert result.config["precision"] == "bfloat16"
    assert train(network(), **settings()).config["precision"] == "float32"  # on the CPU


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "half"}, r"precision must be one of \['auto', 'float32', 'bfloat16'\], got 'half'"),
        ({"validation": Split(blobs().x[:0], blobs().y[:0])}, "validation split is empty: it must have examples"),
        ({"validation": Split(blobs().x, blobs().y + 1)}, "validation labels must be from 0 to 2, got 1 to 3"),
        ({"test": Split(blobs().x, blobs().y - 1)}, "test labels must be from 0 to 2, got -1 to 1"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(network(), **settings(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps": -0.1}, "eps must be a finite number >= 0, got -0.1"),
        ({"steps": 0}, "steps must be a whole number, at least 1, got 0"),
        ({"patience": 0}, "patience must be None or a whole number, at least 1, got 0"),
    ],
)
def test_bad_selections(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Selection(**changes)
