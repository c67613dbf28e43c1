"""Weights from other people's files.

Situations of each kind:
names: `module.`, `_orig_mod.` and their combinations; `model.`, `backbone.net.` and a beginning of the user's own; a
    parallel submodule (`features.module.0`), a compiled one, a checkpointed one; averaged models, also inside a
    wrapper, and into an averaged model; names that begin so by right; a parallel or compiled module as the target.
wrapping: usual keys, nested ones, a list of one, `ema` beside an optimizer, tensors beside the state dict.
contents: `argparse.Namespace`, `SimpleNamespace`, NumPy's numbers; whole modules, TorchScript and objects are refused.
files: safetensors, whole, broken and without the package.
targets: lazy modules, the meta device, half precision in the file.
misfits: missing, unexpected, wrong shapes; other numbers of classes, with one head and with two.

The oracle is the source module: its weights, or its logits.
"""

import argparse
import copy
import json
import os
import pickle
import struct
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.optim.swa_utils import AveragedModel

from boundarygeo.zoo import build_model, load_weights
from boundarygeo.zoo.models import mlp


def images(count: int, shape: tuple[int, ...]) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features: nn.Module = nn.Sequential(nn.Linear(4, 5), nn.ReLU())
        self.classifier = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


def net(seed: int = 0) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net()


SOURCE = net(seed=1)
STATE = SOURCE.state_dict()


def renamed(beginning: str) -> dict[str, Tensor]:
    return {beginning + name: value for name, value in STATE.items()}


def with_features(wrap: Callable[[nn.Module], Any]) -> Mapping[str, Tensor]:
    changed = copy.deepcopy(SOURCE)
    changed.features = wrap(changed.features)
    return changed.state_dict()


def assert_loads(content: Any, tmp_path: Path, target: nn.Module | None = None) -> None:
    torch.save(content, tmp_path / "weights")
    target = net(seed=2) if target is None else target
    load_weights(target, tmp_path / "weights")
    x = images(3, (4,))
    assert torch.equal(target(x), SOURCE(x))


NAMES = {
    **{beginning: renamed(beginning) for beginning in ("", "module.module.", "_orig_mod.module.", "module._orig_mod.")},
    **{
        beginning: renamed(beginning) for beginning in ("model.", "backbone.net.", "module.model._orig_mod.", "my_own.")
    },
    "parallel submodule": with_features(nn.DataParallel),
    "compiled submodule": with_features(torch.compile),
    "checkpointed submodule": with_features(checkpoint_wrapper),
    "averaged": AveragedModel(SOURCE).state_dict(),
    "parallel and averaged": nn.DataParallel(AveragedModel(SOURCE)).state_dict(),
    "averaged in a wrapper": nn.ModuleDict({"ema": AveragedModel(SOURCE)}).state_dict(),
    "wrapper that is averaged": AveragedModel(nn.ModuleDict({"net": SOURCE})).state_dict(),
}


@pytest.mark.parametrize("content", NAMES.values(), ids=NAMES)
def test_wrappers_and_beginnings_of_names_are_taken_off(content: Mapping[str, Tensor], tmp_path: Path) -> None:
    assert_loads(content, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {"net": renamed("module."), "acc": 91.0, "epoch": 3},
        {"state_dict": {"model": {"ema": [STATE]}}},
        [STATE],
        {"state_dict": [STATE]},
        {"ema": STATE, "optimizer": torch.optim.SGD(SOURCE.parameters(), 0.1, momentum=0.9).state_dict()},
        {"weights of mine": STATE, "random state": torch.get_rng_state()},
        {"model": STATE, "model_ema": {name: -value for name, value in STATE.items()}},
    ],
)
def test_the_state_dict_is_found(content: Any, tmp_path: Path) -> None:
    assert_loads(content, tmp_path)


@pytest.mark.parametrize(
    "beside",
    [argparse.Namespace(lr=0.1, layers=[1, 2]), SimpleNamespace(a=1), np.float64(0.9), np.float32(1), np.int64(7)],
    ids=lambda value: type(value).__name__,
)
def test_plain_data_beside_the_weights_is_read(beside: Any, tmp_path: Path) -> None:
    assert_loads({"state_dict": STATE, "beside": beside}, tmp_path)


def test_wrapped_modules_take_the_weights_of_plain_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # On no device: that of tests/fake_device.py stays registered in a process that has used it.
    monkeypatch.setattr(import_module("torch.nn.parallel.data_parallel"), "_get_available_device_type", lambda: None)
    for wrap in (nn.DataParallel, AveragedModel, lambda module: torch.compile(module, backend="eager")):
        target: nn.Module = wrap(net(seed=2))  # pyright: ignore[reportAssignmentType]
        torch.save(STATE | ({"n_averaged": torch.tensor(4)} if wrap is AveragedModel else {}), tmp_path / "weights")
        load_weights(target, tmp_path / "weights")
        loaded = {name: value for name, value in target.state_dict().items() if name != "n_averaged"}
        assert all(torch.equal(a, b) for a, b in zip(loaded.values(), STATE.values(), strict=True))


def test_modules_without_weights_of_their_own_are_filled(tmp_path: Path) -> None:
    lazy = net(seed=2)
    lazy.classifier = nn.LazyLinear(3)
    with torch.device("meta"):
        meta = Net()
    for target in (lazy, meta):
        assert_loads(STATE, tmp_path, target)


def test_half_precision_in_the_file_leaves_the_module_its_own(tmp_path: Path) -> None:
    torch.save({name: value.half() for name, value in STATE.items()}, tmp_path / "weights")
    target = net(seed=2)
    load_weights(target, tmp_path / "weights")
    assert target.classifier.weight.dtype == torch.float32
    assert torch.equal(target.classifier.weight, STATE["classifier.weight"].half().float())


def safetensors(state: Mapping[str, Tensor]) -> bytes:
    """The format by hand: length of the header, header, values."""
    header, values = {}, b""
    for name, value in state.items():
        raw = value.contiguous().numpy().tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(value.shape),
            "data_offsets": [len(values), len(values) + len(raw)],
        }
        values += raw
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return struct.pack("<Q", len(text)) + text + values


def test_safetensors_files(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    path = tmp_path / "model.safetensors"
    for state in (STATE, renamed("model."), renamed("_orig_mod.module.")):
        path.write_bytes(safetensors(state))
        target = net(seed=2)
        load_weights(target, path)
        assert all(torch.equal(value, STATE[name]) for name, value in target.state_dict().items())
    path.write_bytes(safetensors(STATE)[:-8])
    with pytest.raises(ValueError, match=r"model.safetensors' is not an intact safetensors file: ") as caught:
        load_weights(net(), path)
    assert "\n" not in str(caught.value)


def test_safetensors_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ValueError, match=r"model.safetensors' needs safetensors: pip install safetensors"):
        load_weights(net(), tmp_path / "model.safetensors")


class TwoHeads(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body, self.aux, self.fc = nn.Linear(4, 5), nn.Conv2d(5, classes, 1), nn.Linear(5, classes, bias=False)


@pytest.mark.parametrize("make", [TwoHeads, lambda classes: nn.Sequential(nn.Linear(4, 5), nn.Linear(5, classes))])
def test_another_number_of_classes_is_said(make: Callable[[int], nn.Module], tmp_path: Path) -> None:
    torch.save({"state_dict": make(7).state_dict()}, tmp_path / "weights")
    with pytest.raises(
        ValueError, match="its last layer has 7 classes, the model has 1000: build the model with 7 classes"
    ):
        load_weights(make(1000), tmp_path / "weights")


def test_another_width_is_no_other_number_of_classes(tmp_path: Path) -> None:
    def make(width: int, classes: int) -> nn.Module:
        return nn.Sequential(nn.Linear(4, width), nn.Linear(width, classes))

    for other, named in ((make(6, 3), r"0.weight \[6, 4\] for \[5, 4\], 0.bias"), (make(6, 4), "0.weight")):
        torch.save(other.state_dict(), tmp_path / "weights")
        with pytest.raises(ValueError, match=f"wrong shape {named}"):
            load_weights(make(5, 3), tmp_path / "weights")


def test_two_state_dicts_are_not_guessed_between(tmp_path: Path) -> None:
    torch.save({"student": STATE, "teacher": STATE}, tmp_path / "weights")
    with pytest.raises(ValueError, match="is not a state dict: it holds keys student, teacher"):
        load_weights(net(), tmp_path / "weights")


def test_weights_of_other_people(tmp_path: Path) -> None:
    source = build_model("resnet20", num_classes=10, input_shape=(3, 32, 32), seed=1)
    source(images(8, (3, 32, 32)))  # running statistics that are not the initial ones
    state = source.state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    files = {
        "plain": state,
        "wrapped": {"epoch": 3, "state_dict": state},
        "parallel": {"model": {f"module.{key}": value for key, value in state.items()}},
        "compiled": {f"_orig_mod.{key}": value for key, value in state.items()},
        "old": {"best_prec1": 91.7, "state_dict": {f"module.{key}": value for key, value in old.items()}},
    }
    x = images(4, (3, 32, 32))
    for name, content in files.items():
        torch.save(content, tmp_path / name)
        model = build_model("resnet20", num_classes=10, input_shape=(3, 32, 32), seed=2)
        load_weights(model, tmp_path / name)
        assert torch.equal(model.eval()(x), source.eval()(x)), name


def test_names_that_begin_with_module_by_right_are_kept(tmp_path: Path) -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 3)

    source, target = Wrapper(), Wrapper()
    torch.save(source.state_dict(), tmp_path / "weights")
    load_weights(target, tmp_path / "weights")
    assert torch.equal(target.module.weight, source.module.weight)


def test_weights_that_do_not_fit_are_named_and_nothing_is_copied(tmp_path: Path) -> None:
    model = mlp()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = dict(mlp().state_dict())
    del state["1.bias"]
    state["5.weight"] = torch.zeros(3, 200)
    for number in range(5):
        state[f"extra{number}"] = torch.zeros(1)
    torch.save(state, tmp_path / "weights")
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        load_weights(model, tmp_path / "weights")
    message = str(caught.value)
    assert "missing 1.bias;" in message
    assert "unexpected extra0, extra1, extra2 and 2 more" in message
    assert "wrong shape 5.weight [3, 200] for [10, 200]" in message
    assert "\n" not in message
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class Bomb:
    """Deletes a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = str(victim)

    def __reduce__(self) -> tuple:
        return os.remove, (self.victim,)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_files_that_are_no_weights(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    torch.save(mlp().state_dict(), tmp_path / "whole")
    torch.save({"state_dict": Bomb(victim)}, tmp_path / "code")
    torch.save(mlp(), tmp_path / "module")
    torch.save([1, 2], tmp_path / "list")
    torch.save({"epoch": 3, "accuracy": 0.9}, tmp_path / "numbers")
    torch.save({}, tmp_path / "nothing")
    torch.jit.script(mlp()).save(str(tmp_path / "scripted"))
    (tmp_path / "pickle").write_bytes(pickle.dumps(Bomb(victim)))
    (tmp_path / "truncated").write_bytes((tmp_path / "whole").read_bytes()[:-5000])
    (tmp_path / "text").write_text("text")
    (tmp_path / "empty").touch()
    messages = dict.fromkeys(
        ("code", "module", "pickle", "truncated", "text", "empty"), "could run code|not an intact torch file"
    )
    way_out = "which could run code: save only the weights, torch.save.model.state_dict"
    messages |= {
        "module": f"holds .*Sequential, {way_out}",
        "code": f"holds .*remove, {way_out}",
        "scripted": f"holds a TorchScript module, {way_out}",
        "list": "is not a state dict: it holds list",
        "numbers": "is not a state dict: it holds keys epoch, accuracy",
    }
    messages |= {"nothing": "is not a state dict", "absent": "No such file"}
    for name, message in messages.items():
        with pytest.raises(ValueError, match=message) as caught:
            load_weights(mlp(), tmp_path / name)
        assert "\n" not in str(caught.value)
    assert victim.exists()
