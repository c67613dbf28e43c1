from pathlib import Path

import pytest
import torch
from command_line import base, classifier, run, train

import boundarygeo as bg
from boundarygeo.zoo import load_data


def load(path: Path) -> bg.AccuracyCurve:
    result = bg.load(path)
    assert isinstance(result, bg.AccuracyCurve)
    return result


def test_several_models_and_attacks(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*base(folder, "accuracy"), "--model", folder / "other.pt", "--examples", 20, "--seed", 2]
    words += ["--attack", "fgsm", "--attack", "pgd", "--norm", "l2", "--eps", "0,1/2,1.5,2.25", "--steps", 3]
    out, figure = tmp_path / "{attack}-{model}.zarr", tmp_path / "accuracy.png"
    status, said, _ = run(capsys, *words, "--out", out, "--figure", figure)
    assert status == 0
    test = load_data(f"npz:{folder}/data.npz").test
    lines = said.splitlines()
    for number, name in enumerate(("model", "other"), start=1):
        curves = []
        for attack, settings in (("fgsm", {}), ("pgd", {"steps": 3})):
            curve = load(tmp_path / f"{attack}-{number}.zarr")
            x, y = test.x[curve.index], test.y[curve.index]
            again = bg.accuracy_curve(
                classifier(folder / f"{name}.pt"),
                x,
                y,
                attack=attack,
                norm="l2",
                eps=[0, 0.5, 1.5, 2.25],
                seed=2,
                index=curve.index,
                **settings,
            )
            assert (curve.attack, curve.norm, curve.n) == (attack, "l2", 20)
            assert torch.equal(curve.correct, again.correct)
            curves.append(curve)
        start = lines.index(f"{folder / name}.pt:")
        assert lines[start + 1].split() == ["ε", "(L2)", "FGSM", "PGD"]
        for row, word in enumerate(("0", "1/2", "1.5", "2.25")):
            cells = [f"{100 * c.accuracy[row]:.1f} % [{100 * c.low[row]:.1f}, {100 * c.high[row]:.1f}]" for c in curves]
            assert lines[start + 2 + row].split() == [word, *" ".join(cells).split()]
        fgsm, pgd = (curve.provenance for curve in curves)
        assert pgd.seed == 2
        assert lines[start + 6] == (
            "n = 20 examples; 95 % Wilson intervals; "
            f"FGSM {fgsm.forwards:,} forwards, {fgsm.backwards:,} backwards; "
            f"PGD {pgd.forwards:,} forwards, {pgd.backwards:,} backwards"
        )
        assert number == 2 or all(curve.accuracy[-1] < curve.accuracy[0] for curve in curves)
    assert figure.stat().st_size > 1000


def test_misclassified_examples_count(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # An untrained network is wrong on some; the command must not pass over these.
    train(tmp_path / "bad.pt", folder / "data.npz", "softmax_regression", "--learning-rate", 1e-9, "--epochs", 1)
    data = load_data(f"npz:{folder}/data.npz").test
    right = float((classifier(tmp_path / "bad.pt").predict(data.x) == data.y).double().mean())
    assert right < 1
    words = ["accuracy", "--model", tmp_path / "bad.pt", *base(folder)[3:], "--examples", 60, "--eps", "0"]
    assert run(capsys, *words, "--out", tmp_path / "a.zarr")[0] == 0
    assert float(load(tmp_path / "a.zarr").accuracy[0]) == pytest.approx(right)


def test_defaults_are_fgsm_to_8_grey_levels(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said, _ = run(capsys, *base(folder, "accuracy"), "--examples", 5, "--out", tmp_path / "a.zarr")
    assert status == 0
    curve = load(tmp_path / "a.zarr")
    assert (curve.attack, curve.norm) == ("fgsm", "linf")
    torch.testing.assert_close(curve.eps, torch.arange(9).double() / 255)
    assert "\n8/255   " in said


def test_the_strongest_attack(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*base(folder, "accuracy"), "--examples", 4, "--attack", "strongest", "--eps", "0,0.3", "--steps", 5]
    status, said, _ = run(capsys, *words, "--out", tmp_path / "a.zarr")
    assert status == 0
    curve = load(tmp_path / "a.zarr")
    test = load_data(f"npz:{folder}/data.npz").test
    clf = classifier(folder / "model.pt")
    worst = bg.strongest(clf, test.x[curve.index], test.y[curve.index], eps=0.3, steps=5, index=curve.index)
    assert torch.equal(curve.correct[1], ~worst.found)
    assert curve.attack == "strongest"
    assert "STRONGEST" in said
