from pathlib import Path

import pytest
from command_line import base, run

import boundarygeo as bg


def test_lines_writes_data_and_figure(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*base(folder, "lines"), "--examples", 3, "--extent", "0.3", "--points", 11]
    status, said, _ = run(capsys, *words, "--out", tmp_path / "lines.zarr", "--figure", tmp_path / "lines.svg")
    assert status == 0
    result = bg.load(tmp_path / "lines.zarr")
    assert isinstance(result, bg.LogitLines)
    assert result.logits.shape == (3, 11, 2)
    assert result.t[-1] == pytest.approx(0.3)
    assert result.name == "FGSM sign direction"
    assert "n = 3, 95 % intervals" in said
    assert (tmp_path / "lines.svg").stat().st_size > 1000


def test_settings_reach_the_lines(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*base(folder, "lines"), "--model", folder / "model.pt", "--examples", 2, "--points", 5]
    words += ["--direction", "random", "--seed", 4, "--no-clip", "--out", tmp_path / "{model}.zarr"]
    assert run(capsys, *words, "--figure", tmp_path / "{model}.png")[0] == 0
    result = bg.load(tmp_path / "2.zarr")
    assert isinstance(result, bg.LogitLines)
    assert (result.name, result.clip, result.provenance.seed) == ("random", False, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "1.zarr", "2.png", "2.zarr"]
