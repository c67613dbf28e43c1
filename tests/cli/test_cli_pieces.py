from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import base, classifier, run
from oracles import no_labels
from torch import nn

import boundarygeo as bg
from boundarygeo.cli.pieces import piece_table
from boundarygeo.lines.pieces.summary import first_changes
from boundarygeo.results.statistics import median, share
from boundarygeo.zoo import load_data


def load(path: Path) -> bg.LinearPieces:
    result = bg.load(path)
    assert isinstance(result, bg.LinearPieces)
    return result


class Zigzag(nn.Module):
    """Logits (0, g) of the first number of the input, g = -1 at 0, with zeros at -0.3, 0.2, 0.4 and slope 0 for x < -1.

    On [-0.5, 0.5] there are 4 pieces: g bends at -0.1, 0.1 and 0.3.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = x[:, :1]
        g = -1 + 10 * (t - 0.1).relu() - 20 * (t - 0.3).relu() + 5 * (-t - 0.1).relu()
        return torch.cat([0 * t, g], 1)


def zigzag_pieces(extent: float = 0.5) -> tuple[bg.LinearPieces, bg.GradientCosines]:
    """Two examples at 0, the first without a direction."""
    clf = bg.Classifier(Zigzag(), bounds=(-2, 2), device="cpu")
    x, y = torch.zeros(2, 2), torch.zeros(2).long()
    along = bg.Directions(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), "steps", "by hand")
    pieces = bg.linear_pieces(clf, x, y, direction=along, extent=extent)
    cosines = bg.gradient_cosines(clf, x, y, direction=along, at=[-extent, extent])
    return pieces, cosines


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_first_changes_on_paper() -> None:
    changes = first_changes(zigzag_pieces()[0])
    assert changes.shape == (2, 2)
    assert changes[:, 0].tolist() == [torch.inf, torch.inf]
    assert changes[:, 1].tolist() == pytest.approx([0.3, 0.2])  # the nearest of both sides, not 0.4
    assert first_changes(zigzag_pieces(0.25)[0])[:, 1].tolist() == [torch.inf, pytest.approx(0.2)]


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_table_on_paper() -> None:
    pieces, cosines = zigzag_pieces()
    rows = {line.split("  ")[0]: line for line in piece_table(pieces, cosines).splitlines()}
    words = {name: " ".join(line.split()) for name, line in rows.items()}
    assert words["affine pieces"] == "affine pieces 4 [4, 4] (0 %) 1"
    assert words["pieces per unit of steps"] == "pieces per unit of steps 4 [4, 4] (0 %) 1"
    # g leaves its tangent -1 by 2 at t = 0.3 and at -0.5, and has a range of 2; the other logit is constant.
    assert words["largest deviation from the tangent / range"].endswith("range 1.0000 [1.0000, 1.0000] (0 %) 1")
    # There is no gradient at 0, so no cosine either.
    assert words["cosine of the input gradients at 0 and 0.5"].endswith("0.5 nan (no interval) 0")
    assert words["label changes between 0 and -0.5"].endswith(f"{share(1, 1).percent()} 1")
    assert words["distance to it between 0 and -0.5"].endswith("0.3 [0.3, 0.3] (0 %) 1")
    assert words["distance to it between 0 and 0.5"].endswith("0.2 [0.2, 0.2] (0 %) 1")
    assert "left out where the gradient is zero: 1" in piece_table(pieces, cosines)


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_logits_that_are_constant_but_for_rounding_have_no_deviation() -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            rounded = x / 3 + 7.1 - x / 3  # off its mean by rounding, with a range of zero
            return torch.cat([rounded, -x.relu(), rounded], 1)

    clf = bg.Classifier(Constant(), bounds=(-2, 2), device="cpu")
    x, along = torch.zeros(1, 1), torch.ones(1, 1)
    pieces = bg.linear_pieces(clf, x, no_labels(x), direction=along, extent=1)
    cosines = bg.gradient_cosines(clf, x, torch.zeros(1).long(), direction=along, at=[-1, 1])
    rows = [" ".join(line.split()) for line in piece_table(pieces, cosines).splitlines()]
    # relu(t) on [-1, 1] is up to 1/4 off its best line, and the one-sided tangents at 0 are itself.
    assert "largest deviation from the best line / range 0.2500 [0.2500, 0.2500] (0 %) 1" in rows
    assert "largest deviation from the tangent / range 0.0000 [0.0000, 0.0000] (0 %) 1" in rows


def test_pieces_prints_and_saves_and_draws_each_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*base(folder, "pieces"), "--model", folder / "other.pt", "--examples", 3, "--seed", 5]
    words += ["--direction", "random", "--extent", "2", "--no-clip", "--out", tmp_path / "{model}.zarr"]
    status, said, _ = run(
        capsys, *words, "--figure", tmp_path / "{model}.png", "--cosine-figure", tmp_path / "cosines.svg"
    )
    assert status == 0
    names = ["1.png", "1.zarr", "2.png", "2.zarr", "cosines.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    first, second = load(tmp_path / "1.zarr"), load(tmp_path / "2.zarr")
    assert first.count.tolist() == [1, 1, 1]  # a linear model, not clipped
    assert second.count.min() > 5
    assert (second.extent, second.name, second.clip) == ((-2.0, 2.0), "random", False)
    # The table of the second model says what the library says.
    table = said[said.index(f"{folder}/other.pt:") :]
    assert f"affine pieces {median(second.count.numpy()).plain(0)} 3" in " ".join(table.split())
    straight = bg.straightness(second).r_squared.nanmedian(1).values
    assert median(straight.numpy()).plain(4) in table


def test_pieces_are_those_of_the_library(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["pieces", "--model", folder / "other.pt", *base(folder)[3:], "--examples", 2, "--extent", "0.1"]
    status, said, _ = run(capsys, *words, "--out", tmp_path / "p.zarr", "--figure", tmp_path / "p.pdf")
    assert status == 0
    result = load(tmp_path / "p.zarr")
    clf, test = classifier(folder / "other.pt"), load_data(f"npz:{folder}/data.npz").test
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    index = order[clf.predict(test.x[order]) == test.y[order]][:2]
    x, y = test.x[index], test.y[index]
    direction = clf.input_gradient(x, y).sign()
    again = bg.linear_pieces(clf, x, y, extent=0.1)
    np.testing.assert_allclose(result.breakpoints.numpy(), again.breakpoints.numpy(), atol=1e-12)
    assert (tmp_path / "p.pdf").stat().st_size > 1000
    at = [-0.1, 0.1]
    cosines = bg.gradient_cosines(clf, x, y, direction=direction, at=at).cosine
    for place, column in zip(("-0.1", "0.1"), cosines.T, strict=True):
        expected = median(column.numpy()).plain(4)
        assert any(f"gradients at 0 and {place} " in line and expected in line for line in said.splitlines())


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_examples_without_a_gradient_are_left_out_and_counted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets_of_pieces.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    words = ["pieces", "--model", "nets_of_pieces:Dark", *base(folder)[3:], "--include-misclassified"]
    with pytest.warns(UserWarning, match="no --weights"):
        status, said, _ = run(capsys, *words, "--examples", 9, "--out", "p.zarr", "--cosine-figure", "cosines.png")
    assert status == 0
    lengths = load(tmp_path / "p.zarr").length
    left = int((lengths > 0).sum())
    assert 0 < left < 9
    assert f"left out where the gradient is zero: {9 - left}\n" in said
    rows = [line for line in said.splitlines() if line.startswith(("affine", "R²", "cosine", "label", "distance to"))]
    assert len(rows) == 8
    assert all(row.endswith(f" {left}") for row in rows)


NETS = """
import torch
from torch import nn

class Dark(nn.Module):
    def forward(self, x):
        bright = (x.flatten(1).mean(1, keepdim=True) - 0.4).relu()
        return torch.cat([0.05 - bright, bright], 1)

class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    def forward(self, x):
        if x.mean() > 100:
            return 2 * self.head(x)
        return self.head(x)

def smooth():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 9), nn.GELU(), nn.Linear(9, 2))
"""


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ("Branches", "torch.fx cannot trace the module, error in the module itself at nets_of_pieces.py:15"),
        ("smooth", "linear_pieces supports known piecewise affine operations only, got GELU in layer '2'"),
    ],
)
def test_a_module_that_has_no_pieces_is_one_line_that_names_the_call(
    net: str,
    message: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "nets_of_pieces.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    # The second of two models fails: nothing of the first may be left.
    words = [*base(folder, "pieces"), "--model", f"nets_of_pieces:{net}", "--include-misclassified", "--examples", 2]
    with pytest.warns(UserWarning, match="no --weights"):
        status, _, complaint = run(capsys, *words, "--out", "{model}.zarr", "--figure", "{model}.png")
    assert status == 2
    assert complaint.count("\n") == 1
    assert message in complaint
    assert not [path.name for path in tmp_path.iterdir() if path.suffix in (".zarr", ".png")]
