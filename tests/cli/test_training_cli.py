"""`boundarygeo train` in process: several seeds, settings of methods, resuming, and what it refuses."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import refused, run

from boundarygeo.cli.settings import method_of
from boundarygeo.cli.train import best_file, state_file, train_checkpoint
from boundarygeo.training import BatchOut, Layerwise, ManifoldMixup, Mixup, Pgd, Selection, Standard, load_checkpoint
from boundarygeo.zoo import load_data

pytestmark = pytest.mark.usefixtures("one_thread")


def words(folder: Path, out: Path, *more: object, arch: str = "mlp") -> list[object]:
    start = ["train", "--arch", arch, "--data", f"npz:{folder}/data.npz", "--device", "cpu", "--batch-size", 16]
    return [*start, "--epochs", 2, "--out", out, *more]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)[0].state_dict()


def assert_same_weights(first: Path, second: Path) -> None:
    theirs = weights(second)
    assert all(torch.equal(value, theirs[name]) for name, value in weights(first).items())


def test_settings_reach_the_method_and_the_checkpoint(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net.pt"
    more = ["--method", "manifold_mixup", "--set", "alpha=1/2", "--set", "layers=input,2"]
    assert run(capsys, *words(folder, out, *more))[0] == 0
    checkpoint = load_checkpoint(out)[1]
    assert checkpoint.method == "manifold_mixup"
    assert checkpoint.training.config["method"] == "ManifoldMixup"
    assert checkpoint.training.config["settings"] == {"alpha": 0.5, "layers": ["input", "2"]}
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt"]  # no state is left


@pytest.mark.parametrize(
    ("name", "given", "method"),
    [
        ("standard", [], Standard()),
        ("mixup", ["alpha=2"], Mixup(alpha=2.0)),
        ("manifold_mixup", ["layers="], ManifoldMixup()),
        ("batchout", ["eta=0.3,-0.2", "draw=choice", "partners=same_class", "share=1"],
         BatchOut(eta=(0.3, -0.2), draw="choice", partners="same_class", share=1.0)),
        ("layerwise", ["replays=0", "eps=1e-3"], Layerwise(eps=1e-3, replays=0)),
        ("pgd", ["eps=8/255", "steps=10", "step_size=2/255", "norm=l2"],
         Pgd(eps=8 / 255, steps=10, step_size=2 / 255, norm="l2")),
    ],
)  # fmt: skip
def test_words_become_methods(name: str, given: list[str], method: Any) -> None:
    assert method_of(name, given) == method


def test_several_seeds_are_several_numbered_checkpoints(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said, _ = run(capsys, *words(folder, tmp_path / "net.pt", "--seeds", 3, "--seed", 4))
    assert status == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net-seed4.pt", "net-seed5.pt", "net-seed6.pt"]
    accuracies = []
    for seed in (4, 5, 6):
        training = load_checkpoint(tmp_path / f"net-seed{seed}.pt")[1].training
        assert training.seed == seed
        accuracies.append(100 * training.test_accuracy[-1])
    told = f"test accuracy {np.mean(accuracies):.2f} ± {np.std(accuracies, ddof=1):.2f} % (mean ± sd over 3 seeds)"
    assert told in said
    assert run(capsys, *words(folder, tmp_path / "one.pt", "--seed", 5))[0] == 0
    assert_same_weights(tmp_path / "one.pt", tmp_path / "net-seed5.pt")


def test_the_best_epoch_is_saved_beside_the_last(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = iter([0.2, 0.4, 0.3])
    monkeypatch.setattr(Selection, "accuracy", lambda *_: next(script))
    out = tmp_path / "net.pt"
    more = ["--validation", 20, "--validation-eps", 0.05, "--patience", 1, "--epochs", 12]
    status, said, _ = run(capsys, *words(folder, out, *more))
    assert status == 0
    best, last = (load_checkpoint(path)[1].training for path in (best_file(out), out))
    assert best.best_epoch == last.best_epoch == len(best.loss) == 2
    assert last.validation_accuracy[: len(best.loss)] == best.validation_accuracy
    assert max(last.validation_accuracy) == best.validation_accuracy[-1]
    assert len(last.loss) == 3
    assert last.config["rule"] == (
        "best: highest accuracy under PGD-10 (linf, eps 0.05, one random start) on 20 held-out training examples, "
        "first of equals; stop after 1 epochs without a new best"
    )
    assert last.config["examples"] == 40
    assert f"saved {out} and {best_file(out)}" in said
    assert re.search(rf"best epoch {best.best_epoch} \(\d+\.\d\d % in validation\)", said)


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int, value: float | None = None) -> None:
    """Let the step end in an interrupt, or with a loss of the given value."""
    calls, call = [0], Standard.__call__

    def mortal(self: Standard, module: Any, x: Any, y: Any, *, generator: Any) -> Any:
        calls[0] += 1
        loss, logits = call(self, module, x, y, generator=generator)
        if calls[0] == step and value is None:
            raise KeyboardInterrupt
        return loss * (value if calls[0] == step and value is not None else 1), logits

    monkeypatch.setattr(Standard, "__call__", mortal)


def test_an_interrupted_command_resumes_to_the_same_weights(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.pt", tmp_path / "net.pt"
    more = ["--seeds", 2, "--validation", 10, "--validation-eps", "0"]
    assert run(capsys, *words(folder, whole, *more))[0] == 0
    first, second = tmp_path / "net-seed0.pt", tmp_path / "net-seed1.pt"
    with monkeypatch.context() as patch:
        kill_at(patch, 14)  # 8 steps of each seed: in the second epoch of the second
        patch.setattr("boundarygeo.training.loop.Run._is_due", lambda run: True)
        assert run(capsys, *words(folder, out, *more))[0] == 130
    assert first.exists()
    assert state_file(second).exists()
    assert not second.exists()
    assert "already exists: pass --overwrite" in refused(capsys, *words(folder, out, *more))
    complaint = refused(capsys, *words(folder, second, "--seed", 1))
    assert "an unfinished training left" in complaint
    complaint = refused(capsys, *words(folder, second, "--seed", 1, "--resume", "--learning-rate", "1e-3"))
    assert "learning_rate 0.005 there and 0.001 here" in complaint
    status, said, _ = run(capsys, *words(folder, out, *more, "--resume"))
    assert status == 0
    assert f"{first} is there" in said
    for seed in (0, 1):
        theirs, ours = tmp_path / f"whole-seed{seed}.pt", tmp_path / f"net-seed{seed}.pt"
        assert_same_weights(ours, theirs)
        assert_same_weights(best_file(ours), best_file(theirs))
        assert not state_file(ours).exists()


def test_overwrite_starts_afresh(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "net.pt"
    with monkeypatch.context() as patch:
        kill_at(patch, 6)
        patch.setattr("boundarygeo.training.loop.Run._is_due", lambda run: True)
        assert run(capsys, *words(folder, out))[0] == 130
    assert run(capsys, *words(folder, out, "--overwrite", "--learning-rate", "1e-3"))[0] == 0
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt"]
    assert "--resume keeps what exists and --overwrite replaces it" in refused(
        capsys, *words(folder, out, "--overwrite", "--resume")
    )


def test_nan_keeps_the_last_good_checkpoint(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "net.pt"
    with monkeypatch.context() as patch:
        kill_at(patch, 6, float("nan"))
        complaint = refused(capsys, *words(folder, out))
    assert "loss must stay finite, got nan at step 6 of 8 (epoch 2 of 2)" in complaint
    assert complaint.endswith(f"has the weights after epoch 1, which are saved as {out}\n")
    training = load_checkpoint(out)[1].training
    assert training.stopped == "loss nan at step 6 of 8"
    assert len(training.loss) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt"]
    with monkeypatch.context() as patch:
        kill_at(patch, 2, float("inf"))
        complaint = refused(capsys, *words(folder, tmp_path / "other.pt"))
    assert complaint.endswith("the module has the weights it began with\n")
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt"]


def test_augmentation_on_request(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("auto", "none", "crop_flip"):
        assert run(capsys, *words(folder, tmp_path / f"{name}.pt", "--augment", name))[0] == 0
    assert_same_weights(tmp_path / "auto.pt", tmp_path / "none.pt")
    training = load_checkpoint(tmp_path / "crop_flip.pt")[1].training
    assert training.config["augmentation"] == "crop_and_flip"
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "auto.pt", tmp_path / "crop_flip.pt")


def test_wide_resnets_of_any_size(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, *words(folder, tmp_path / "net.pt", arch="wrn10_1"))[0] == 0
    assert load_checkpoint(tmp_path / "net.pt")[1].architecture == "wrn10_1"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "magic"], "'--method': 'magic' is not one of 'standard', 'mixup', 'manifold_mixup', 'batchout',"),
        (["--arch", "wrn11_1"], "depth must be 10, 16, 22, 28, … and width positive, got 11 and 1"),
        (["--arch", "magic"], "or wrn<depth>_<width>, not 'magic'"),
        (["--set", "alpha=1"], "with a setting of standard (none), got 'alpha=1'"),
        (["--method", "mixup", "--set", "beta=1"], "with a setting of mixup (alpha), got 'beta=1'"),
        (["--method", "mixup", "--set", "alpha"], "--set must be SETTING=VALUE with a setting of mixup (alpha)"),
        (["--method", "mixup", "--set", "alpha=x"], "--set alpha takes numbers such as 0.5 or 16/255"),
        (["--method", "mixup", "--set", "alpha=1,2"], "--set alpha must be one number, got '1,2'"),
        (["--method", "mixup", "--set", "alpha=0"], "--method mixup: alpha must be a finite number > 0, got 0.0"),
        (["--method", "mixup", "--set", "alpha=1", "--set", "alpha=2"], "once for each setting, got 'alpha' twice"),
        (["--method", "pgd", "--set", "steps=1.5"], "--set steps must be one whole number, got '1.5'"),
        (["--method", "fgsm", "--set", "random_start=perhaps"], "random_start must be true or false, got 'perhaps'"),
        (["--method", "layerwise", "--set", "memory=1"], "a setting of layerwise (eps, product, layers, replays)"),
        (["--method", "batchout", "--set", "layers=9"], "module has no layer '9': use any of input, 0, 1, 2, 3, 4, 5"),
        (["--epochs", 0], "--epochs must be at least 1, not 0"),
        (["--seeds", 0], "--seeds must be at least 1, not 0"),
        (["--validation", -1], "--validation must be at least 0, not -1"),
        (["--validation", 60], "count must be from 1 to 59"),
        (["--validation-eps", "-1"], "--validation-eps must be a positive number"),
        (["--patience", 2], "--patience needs --validation"),
        (["--precision", "half"], "'--precision': 'half' is not one of"),
        (["--augment", "rotate"], "rotate"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(
    more: list[object], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, *words(folder, tmp_path / "net.pt", *more))
    assert not list(tmp_path.iterdir())


def test_a_method_without_a_name_is_refused(tmp_path: Path) -> None:
    def nameless(*_: object, **__: object) -> Any:
        raise AssertionError("work was begun")

    with pytest.raises(ValueError, match="method must be of a class in METHODS, got function"):
        train_checkpoint(tmp_path / "net.pt", load_data("digits"), arch="mlp", method=nameless, epochs=1)


def test_labels_out_of_range_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 4, 4), np.uint8)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=np.arange(6) - 1, x_test=images, y_test=np.arange(6))
    assert "must be integers from 0" in refused(capsys, *words(tmp_path, tmp_path / "net.pt"))
