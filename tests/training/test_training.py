import dataclasses
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from boundarygeo.training import Checkpoint, Standard, load_checkpoint, save_checkpoint, train
from boundarygeo.zoo import Split, build_model, load_data

pytestmark = pytest.mark.usefixtures("one_thread")


def blobs(count: int = 50, classes: int = 3) -> Split:
    """Images of one grey level per class, with noise."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(count) % classes
    x = (y / classes).view(-1, 1, 1, 1) + 0.2 * torch.rand(count, 1, 4, 4, generator=generator)
    return Split(x, y)


def network(seed: int = 0) -> nn.Module:
    """With all that draws or keeps something in training: dropout and batch normalisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 3)
        )


def settings(**changes: Any) -> dict[str, Any]:
    return {"epochs": 3, "batch_size": 16, "device": "cpu", "progress": False} | changes


def trained(**changes: Any) -> dict[str, Tensor]:
    module = network()
    train(module, blobs(), **settings(**changes))
    return module.state_dict()


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
def test_the_demo_is_accurate() -> None:
    data = load_data("mnist5k")
    module = build_model("small_cnn", num_classes=10, input_shape=data.input_shape)
    result = train(
        module, data.train, epochs=8, mean=data.mean, std=data.std, test=data.test, device="cpu", progress=False
    )
    assert result.test_accuracy[-1] >= 0.96
    assert len(result.loss) == len(result.accuracy) == len(result.test_accuracy) == 8


def test_the_weights_depend_on_the_seed_alone() -> None:
    first = trained(seed=4)
    torch.rand(7)
    assert same(first, trained(seed=4))
    assert not same(first, trained(seed=5))


def test_the_random_state_of_the_caller_is_left_alone() -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    trained()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
    assert not torch.backends.cudnn.deterministic


def test_the_reported_numbers_are_those_of_the_batches() -> None:
    split, module = blobs(), network()
    values: list[tuple[float, float, int]] = []

    def spy(module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        assert all(part.training for part in module.modules())
        loss, logits = Standard()(module, x, y, generator=generator)
        values.append((loss.item(), (logits.argmax(1) == y).float().mean().item(), len(y)))
        return loss, logits

    result = train(module, split, method=spy, test=split, **settings())
    batches = np.array(values).reshape(3, 4, 3)  # three epochs of ⌈50 / 16⌉ steps
    assert (batches[:, :, 2].sum(1) == 50).all()
    assert set(batches[:, :, 2].ravel()) == {12, 13}
    np.testing.assert_allclose(result.loss, (batches[:, :, 0] * batches[:, :, 2]).sum(1) / 50, rtol=1e-6)
    np.testing.assert_allclose(result.accuracy, (batches[:, :, 1] * batches[:, :, 2]).sum(1) / 50, rtol=1e-6)
    expected = (module.eval()(split.x).argmax(1) == split.y).float().mean().item()
    assert result.test_accuracy[-1] == pytest.approx(expected)
    assert result.loss[-1] < result.loss[0]


def test_each_epoch_sees_every_image_once_in_a_new_order_that_no_method_can_change() -> None:
    split = blobs()
    keys = {float(x.sum()): number for number, x in enumerate(split.x)}

    def order(draws: int) -> list[int]:
        seen: list[int] = []

        def spy(module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            seen.extend(keys[float(image.sum())] for image in x)
            torch.rand(draws, generator=generator)
            torch.rand(draws)
            return Standard()(module, x, y, generator=generator)

        train(network(), split, method=spy, mean=(0.3,), std=(2.0,), **settings())
        return seen

    first = order(0)
    epochs = [first[start : start + 50] for start in (0, 50, 100)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert order(9) == first


def test_normalisation_stands_in_front_of_the_module() -> None:
    split, mean, std = blobs(), 0.25, 0.5  # powers of two: the same numbers whoever normalises
    inside, outside = network(), network()
    train(inside, split, mean=(mean,), std=(std,), **settings())
    train(outside, Split((split.x - mean) / std, split.y), **settings())
    assert same(inside.state_dict(), outside.state_dict())


def test_standard_loss_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
    loss, same_logits = Standard()(nn.Identity(), logits, torch.tensor([0, 2]), generator=torch.Generator())
    softmax = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = -(softmax[0, 0].log() + softmax[1, 2].log()) / 2
    torch.testing.assert_close(loss, expected)
    assert torch.equal(same_logits, logits)


def test_an_infinite_loss_stops_at_its_step() -> None:
    steps: list[int] = []

    def explode(module: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        steps.append(len(steps) + 1)
        loss, logits = Standard()(module, x, y, generator=generator)
        return loss * (float("nan") if steps[-1] == 6 else 1), logits

    module = network().eval()
    with pytest.raises(ValueError, match="loss must stay finite, got nan at step 6 of 12"):
        train(module, blobs(), method=explode, **settings())
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert not module.training


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_of_the_module_is_kept(mode: bool) -> None:
    module = network().train(mode)
    train(module, blobs(), test=blobs(), **settings())
    assert all(part.training == mode for part in module.modules())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be positive, got 0"),
        ({"batch_size": 0}, "batch_size must be positive, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive, got nan"),
        ({"mean": (0.5,)}, "mean and std need"),
        ({"mean": (0.5, 0.5, 0.5), "std": (1, 1, 1)}, "one value per channel \\(1\\)"),
        ({"mean": (0.5,), "std": (0.0,)}, "std positive"),
        ({"device": "mps"}, "device must be auto, cpu or cuda.*, got 'mps'"),
        ({"device": "gpu"}, "device must be auto, cpu or cuda.*, got 'gpu'"),
    ],
)
def test_bad_settings_are_refused_before_a_step(changes: dict[str, Any], message: str) -> None:
    module = network()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        train(module, blobs(), **settings(**changes))
    assert same(module.state_dict(), before)


def test_bad_data_and_modules_are_refused() -> None:
    good = blobs()
    with pytest.raises(ValueError, match="split is empty: it must have examples"):
        train(network(), Split(good.x[:0], good.y[:0]), **settings())
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got 1 to 3"):
        train(network(), Split(good.x, good.y + 1), **settings())
    with pytest.raises(ValueError, match="labels must be from 0 to 2, got -1 to 1"):
        train(network(), Split(good.x, good.y - 1), **settings())
    with pytest.raises(ValueError, match=r"logits \[1, classes\] for one image, got \[1, 1, 4, 3\]"):
        train(nn.Linear(4, 3), good, **settings())


def test_one_step_is_enough() -> None:
    result = train(network(), blobs(2), **settings(epochs=1, batch_size=100))
    assert len(result.loss) == 1


def test_training_is_silent_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    train(network(), blobs(), **settings(progress=True))
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[nn.Module, Checkpoint, Path]:
    module = build_model("resnet20", num_classes=3, input_shape=(1, 4, 4))
    result = train(module, blobs(), **settings(epochs=1, test=blobs()))
    checkpoint = Checkpoint(
        architecture="resnet20",
        num_classes=3,
        input_shape=(1, 4, 4),
        mean=(0.1,),
        std=(0.3,),
        bounds=(0.0, 1.0),
        class_names=("one", "two", "drei ß"),
        data="digits",
        method="standard",
        training=result,
    )
    return module, checkpoint, save_checkpoint(tmp_path / "new" / "model.pt", module, checkpoint)


def test_a_checkpoint_gives_back_what_was_saved(saved: tuple[nn.Module, Checkpoint, Path]) -> None:
    module, checkpoint, path = saved
    loaded, read = load_checkpoint(path)
    assert read == checkpoint
    assert same(loaded.state_dict(), module.state_dict())
    assert not loaded.training
    assert [file.name for file in path.parent.iterdir()] == ["model.pt"]


def test_a_checkpoint_is_tensors_and_one_json_string(saved: tuple[nn.Module, Checkpoint, Path]) -> None:
    content = torch.load(saved[2], weights_only=True)
    assert set(content) == {"state", "json"}
    assert all(isinstance(value, Tensor) for value in content["state"].values())
    fields = json.loads(content["json"])
    assert fields["format"] == 2
    assert fields["training"]["seed"] == 0
    assert fields["versions"]["torch"] == torch.__version__


def test_a_checkpoint_without_training(tmp_path: Path) -> None:
    module = build_model("mlp", num_classes=3, input_shape=(1, 4, 4))
    checkpoint = Checkpoint(architecture="mlp", num_classes=3, input_shape=(1, 4, 4))
    assert load_checkpoint(save_checkpoint(tmp_path / "a.pt", module, checkpoint))[1] == checkpoint


def test_an_existing_checkpoint_is_only_replaced_on_request_and_by_a_whole_one(
    saved: tuple[nn.Module, Checkpoint, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, checkpoint, path = saved
    with pytest.raises(ValueError, match="path must not exist yet"):
        save_checkpoint(path, module, checkpoint)
    changed = dataclasses.replace(checkpoint, data="mnist5k")

    def run_out_of_disk(_content: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", run_out_of_disk)
        with pytest.raises(OSError, match="no space left"):
            save_checkpoint(path, module, changed, overwrite=True)
    assert load_checkpoint(path)[1] == checkpoint
    assert [file.name for file in path.parent.iterdir()] == ["model.pt"]
    save_checkpoint(path, module, changed, overwrite=True)
    assert load_checkpoint(path)[1] == changed


def test_only_models_of_the_zoo_have_checkpoints(tmp_path: Path) -> None:
    checkpoint = Checkpoint(architecture="os:system", num_classes=3, input_shape=(1, 4, 4))
    with pytest.raises(ValueError, match=r"architecture must be in the zoo: .* got 'os:system'"):
        save_checkpoint(tmp_path / "a.pt", network(), checkpoint)
    assert not list(tmp_path.iterdir())


class Bomb:
    """Deletes a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = str(victim)

    def __reduce__(self) -> tuple:
        return os.remove, (self.victim,)


def test_files_that_are_no_checkpoints(saved: tuple[nn.Module, Checkpoint, Path]) -> None:
    path = saved[2]
    content, whole = torch.load(path, weights_only=True), path.read_bytes()
    state, fields = content["state"], json.loads(content["json"])

    def described(**changes: Any) -> dict[str, Any]:
        return {"state": state, "json": json.dumps(fields | changes)}

    few = {key: value for key, value in state.items() if not key.startswith("linear")}
    cases: dict[str, tuple[object, str]] = {
        "code": ({"state": Bomb(path), "json": "{}"}, "could run code|not an intact torch file"),
        "state dict": (state, "not a checkpoint of boundarygeo"),
        "no json": ({"state": state, "json": "{"}, "not a checkpoint of boundarygeo"),
        "list": ({"state": state, "json": "[]"}, "not a checkpoint of boundarygeo"),
        "newer": (described(format=3), r"format 3, .* reads formats up to 2: upgrade boundarygeo"),
        "text format": (described(format="x"), "not a checkpoint of boundarygeo"),
        "architecture": (described(architecture="os:system"), "does not describe a zoo model: model must be"),
        "field": (described(color="red"), "does not describe a zoo model: .*color"),
        "shape": (described(input_shape=3), "does not describe a zoo model"),
        "training": (described(training=[1]), "does not describe a zoo model"),
        "few": ({"state": few, "json": content["json"]}, "missing linear.weight, linear.bias"),
        "no state": ({"state": 3, "json": content["json"]}, "not a checkpoint of boundarygeo"),
    }
    for name, (bad, message) in cases.items():
        file = path.with_name(name)
        torch.save(bad, file)
        with pytest.raises(ValueError, match=message) as caught:
            load_checkpoint(file)
        assert "\n" not in str(caught.value)
    for length in (0, 10, len(whole) // 2, len(whole) - 10):
        path.with_name("truncated").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="could run code|not an intact torch file"):
            load_checkpoint(path.with_name("truncated"))
    assert path.exists()
