"""The command line in process, and a small data set with a checkpoint for it."""

from pathlib import Path

import numpy as np
import pytest

import boundarygeo as bg
from boundarygeo.cli import main
from boundarygeo.training import load_checkpoint


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line that a command that must fail says."""
    status, said, complaint = run(capsys, *words)
    assert (status, said) == (2, "")
    assert complaint.count("\n") == 1
    assert complaint.startswith("boundarygeo: error: ")
    return complaint


def train(out: Path, data: Path, arch: str = "softmax_regression", *words: object) -> Path:
    """A checkpoint trained on a data set."""
    start = ["train", "--arch", arch, "--data", f"npz:{data}", "--epochs", 3, "--batch-size", 16, "--device", "cpu"]
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in (*start, "--out", out, *words)])
    assert stopped.value.code == 0
    return out


def make_folder(folder: Path) -> Path:
    """A data set of 60 + 60 tiny images in two classes, told apart by brightness, and a checkpoint trained on it."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    split = {}
    for name in ("train", "test"):
        bright = labels[:, None, None, None] * 120
        split[f"x_{name}"] = (rng.integers(0, 120, (60, 8, 8, 3)) + bright).astype(np.uint8)
        split[f"y_{name}"] = labels
    np.savez(folder / "data.npz", **split)
    train(folder / "model.pt", folder / "data.npz")
    return folder


def base(folder: Path, command: str = "maps") -> list[object]:
    """A command on the checkpoint and data of `make_folder`."""
    return [command, "--model", folder / "model.pt", "--data", f"npz:{folder}/data.npz", "--device", "cpu"]


def classifier(path: Path) -> bg.Classifier:
    """The classifier that the command line makes of a checkpoint."""
    module, checkpoint = load_checkpoint(path)
    return bg.Classifier(module, mean=checkpoint.mean, std=checkpoint.std, device="cpu")
