"""`boundarygeo dims`: what it prints, keeps and draws is what the library says."""

import math
import shlex
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import base, classifier, make_folder, refused, run, train

import boundarygeo as bg
from boundarygeo.results.statistics import mean, rank_correlation, share
from boundarygeo.subspace.summary import dimension_summary
from boundarygeo.zoo import load_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_folder(tmp_path_factory.mktemp("cli"))
    train(folder / "other.pt", folder / "data.npz", "mlp", "--seed", 1)
    return folder


def dims(folder: Path, *words: object, models: tuple[str, ...] = ("model.pt",)) -> list[object]:
    chosen = [word for model in models for word in ("--model", folder / model)]
    return ["dims", *chosen, *base(folder)[3:], "--examples", 12, *words]


@pytest.fixture
def printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the command prints, which must succeed."""

    def printed(*words: object, **models: Any) -> str:
        status, said, _ = run(capsys, *dims(folder, *words, **models))
        assert status == 0
        return said

    return printed


def rows(said: str, model: object) -> dict[str, list[str]]:
    """The columns of each row of a model's table."""
    table = said[said.index(f"{model}:\n") :].splitlines()[1:]
    end = next(number for number, line in enumerate(table) if line.startswith("n = "))
    starts = [place for place in range(len(table[0])) if table[0].startswith("ε = ", place)]
    edges = [*starts, None]
    return {line[: starts[0]].strip(): [line[a:b].strip() for a, b in pairwise(edges)] for line in table[1:end]}


def drawn(folder: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The examples that the command draws with seed 0: those that the first model gets right."""
    test = load_data(f"npz:{folder}/data.npz").test
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    index = order[classifier(folder / "model.pt").predict(test.x[order]) == test.y[order]][:12]
    return test.x[index], test.y[index], index


def load(path: Path, kind: type):
    result = bg.load(path)
    assert isinstance(result, kind)
    return result


def counts_of(result: bg.AdversarialDimension) -> list[list[int]]:
    return [result.claimed.tolist(), result.verified.tolist(), result.index.tolist()]


def test_counts_are_those_of_the_library(folder: Path, tmp_path: Path, printed: Callable[..., str]) -> None:
    said = printed("--eps", "2,12/2", "--out", tmp_path / "{kind}-{size}.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "noise-12_2.zarr", "noise-2.zarr", "own-12_2.zarr", "own-2.zarr",
    ]  # fmt: skip
    table = rows(said, folder / "model.pt")
    x, y, index = drawn(folder)
    clf = classifier(folder / "model.pt")
    for column, (word, eps) in enumerate((("2", 2.0), ("12_2", 6.0))):
        kept = load(tmp_path / f"own-{word}.zarr", bg.AdversarialDimension)
        expected = bg.adversarial_dimension(clf, x, y, eps=eps, index=index)
        assert counts_of(kept) == counts_of(expected)
        assert (kept.eps, kept.norm, kept.method, kept.rule, kept.box) == (eps, "l2", "gaas", "all", "feasible")
        assert kept.perturbations is None
        summary, claimed = dimension_summary(expected), dimension_summary(expected, counts=expected.claimed)
        assert table["claimed to first order: mean"][column] == claimed.mean.plain(2)
        assert table["verified: mean"][column] == summary.mean.plain(2)
        low, _, middle, _, high = (f"{value:.0f}" for value in summary.quantiles)
        assert table["verified: 10, 50, 90 %"][column] == f"{low}, {middle}, {high}"
        assert table["verified: none"][column] == summary.at_zero.percent()
        assert table[f"verified: at the cap of {expected.max_dimension}"][column] == summary.at_cap.percent()
        frames = (expected.tried > 0).sum(1).double().numpy()
        assert table["frames tried: mean"][column] == mean(frames, within=(0, math.inf)).plain(1)
        certain = share(int(expected.closed.sum()), 12).percent()
        assert table["verified: proven maximal"][column] == certain
        assert table["forward passes"][column] == f"{expected.provenance.forwards:,}"
        noise = load(tmp_path / f"noise-{word}.zarr", bg.NoiseSuccess)
        again = bg.noise_success(clf, x, y, eps=eps, index=index)
        assert noise.fooled.tolist() == again.fooled.tolist()
        assert table["random noise of norm ε changes the label"][column] == mean(again.share.numpy()).percent()
    assert int(expected.verified.sum()) > 12
    assert "n = 12 correctly classified examples (left out: 0 misclassified); 0 without a gradient" in said
    assert "gradient-aligned frames, all of a frame succeed, inside the bounds" in said
    # First-order and verified counts are in rows of their own.
    assert not [name for name in table if "claimed" in name and "verified" in name]


NETS = """
import torch

class Half(torch.nn.Module):
    'Decides by the first half of an image, with a threshold at which some of the brighter class are wrong.'
    def forward(self, x):
        score = (x.flatten(1)[:, :96] - 178 / 255).sum(1, keepdim=True)
        return torch.cat([-score, score], 1)

class Opposite(torch.nn.Module):
    'Always says the other class.'
    def forward(self, x):
        score = (0.5 - x.flatten(1)).sum(1, keepdim=True)
        return torch.cat([-score, score], 1)
"""


def half(x: torch.Tensor) -> torch.Tensor:
    """What `Half` predicts."""
    return (x.flatten(1)[:, :96].sum(1) > 96 * 178 / 255).long()


def test_the_first_models_directions_are_sent_through_the_others(
    folder: Path, tmp_path: Path, printed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets_of_dims.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    words = ["--model", "nets_of_dims:Half", "--model", folder / "model.pt", "--eps", "6"]
    words += ["--out", "{model}-{kind}.zarr", "--figure", "d.svg"]
    with pytest.warns(UserWarning, match="no --weights"):
        said = printed(*words)
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".zarr", ".svg")) == [
        "1-noise.zarr", "1-own.zarr", "2-noise.zarr", "2-own.zarr", "2-transferred.zarr",
        "3-noise.zarr", "3-own.zarr", "3-transferred.zarr", "d.svg",
    ]  # fmt: skip
    x, y, index = drawn(folder)
    source = bg.adversarial_dimension(classifier(folder / "model.pt"), x, y, eps=6, index=index, keep_directions=True)
    right = half(x) == y
    assert 0 < int((~right).sum()) < 6  # the second model is not always right where the first is
    fooled = half(x[source.owner] + source.perturbations) != y[source.owner]
    counts = torch.zeros(12).long().index_add(0, source.owner, fooled.long())[right]
    kept = load(tmp_path / "2-transferred.zarr", bg.TransferredDimension)
    assert kept.correct.tolist() == right.tolist()
    assert kept.count[right].tolist() == counts.tolist()
    assert 0 < int(counts.sum()) < int(kept.source.sum())
    table = rows(said, "nets_of_dims:Half")
    assert table["directions of model that fool it: mean"] == [mean(counts.double().numpy()).plain(2)]
    assert table["directions of model that fool it: none"] == [share(int((counts == 0).sum()), len(counts)).percent()]
    assert not [name for name in rows(said, folder / "model.pt") if "directions of" in name]
    own = load(tmp_path / "2-own.zarr", bg.AdversarialDimension)
    assert own.correct.tolist() == right.tolist()
    assert table["verified: mean"] == [dimension_summary(own).mean.plain(2)]
    assert own.verified.tolist() != source.verified.tolist()
    noise = load(tmp_path / "2-noise.zarr", bg.NoiseSuccess).share[right]
    assert 0 < float(noise.mean()) < 1
    assert table["random noise of norm ε changes the label"] == [mean(noise.numpy()).percent()]
    predicted = bg.theory.cone_probability(own.gradient_norm, 6, own.gamma, 192)[right]
    assert 0.05 < float(predicted.mean()) < 0.5
    assert table["predicted to first order, bounds ignored"] == [mean(predicted.numpy()).percent()]
    for name, of in (("claimed", own.claimed), ("verified", own.verified)):
        expected = rank_correlation(of[right].double().numpy(), noise.numpy())
        assert table[f"rank correlation of noise and {name}"] == [expected.plain(2)]
    first = load(tmp_path / "1-own.zarr", bg.AdversarialDimension)
    assert first.perturbations is first.owner is first.adversarial_label is None
    # The third is the first once more.
    again = load(tmp_path / "3-transferred.zarr", bg.TransferredDimension)
    assert again.count.tolist() == again.source.tolist() == first.verified.tolist()
    n = len(counts)
    assert f"n = {n} correctly classified examples (left out: {12 - n} misclassified)" in said
    assert f"n = {n}" in (tmp_path / "d.svg").read_text()


def test_settings_are_passed_on(folder: Path, tmp_path: Path, printed: Callable[..., str]) -> None:
    words = ["--eps", "6", "--rule", "count", "--box", "clip", "--max-dimension", 6, "--restarts", 2]
    said = printed(*words, "--out", tmp_path / "d.zarr")
    kept = load(tmp_path / "d.zarr", bg.AdversarialDimension)
    assert (kept.rule, kept.box, kept.max_dimension, kept.restarts) == ("count", "clip", 6, 2)
    table = rows(said, folder / "model.pt")
    assert table["their effective rank: mean"] == [mean(kept.effective_rank.numpy()).plain(2)]
    assert table["largest |cosine| between two of them"] == [f"{float(kept.orthogonality.max()):.1g}"]
    assert table["verified: at the cap of 6"] != ["0.0 % [0.0, 24.2]"]


@pytest.mark.parametrize(("words", "grid"), [("full", "full"), ("1, 4,6", [1, 4, 6])])
def test_sizes_of_frames_can_be_chosen(
    words: str, grid: object, folder: Path, tmp_path: Path, printed: Callable[..., str]
) -> None:
    said = printed("--eps", "4", "--max-dimension", 30, "--grid", words, "--out", tmp_path / "d.zarr")
    x, y, index = drawn(folder)
    settings = {"eps": 4, "max_dimension": 30, "grid": grid, "index": index}
    expected = bg.adversarial_dimension(classifier(folder / "model.pt"), x, y, **settings)
    kept = load(tmp_path / "d.zarr", bg.AdversarialDimension)
    assert kept.tried.tolist() == expected.tried.tolist()
    assert kept.verified.tolist() == expected.verified.tolist()
    assert kept.max_dimension == (30 if grid == "full" else 6)
    if grid == "full":
        certain = rows(said, folder / "model.pt")["verified: proven maximal"]
        assert certain == [share(12, 12).percent()]


def test_noise_is_clipped_unless_the_bounds_are_ignored(tmp_path: Path, printed: Callable[..., str]) -> None:
    for box, clip in (("ignore", False), ("clip", True)):
        printed("--eps", "1", "--box", box, "--out", tmp_path / f"{box}-{{kind}}.zarr")
        assert load(tmp_path / f"{box}-noise.zarr", bg.NoiseSuccess).clip is clip


def test_optimised_frames_stand_beside_those_of_the_theory(
    folder: Path, tmp_path: Path, printed: Callable[..., str]
) -> None:
    words = ["--eps", "1", "--method", "frame", "--max-dimension", 5, "--examples", 3, "--out", tmp_path / "d.zarr"]
    said = printed(*words)
    kept = load(tmp_path / "d.zarr", bg.AdversarialDimension)
    assert kept.method == "frame"
    table = rows(said, folder / "model.pt")
    theory = dimension_summary(kept, counts=kept.first_order).mean
    assert table["verified, gradient-aligned frames alone: mean"] == [theory.plain(2)]
    assert table["verified: mean"] == [dimension_summary(kept).mean.plain(2)]


@pytest.mark.usefixtures("short_start")
def test_sequential_directions_are_counted_and_drawn(folder: Path, tmp_path: Path, printed: Callable[..., str]) -> None:
    words = ["--eps", "2,6", "--method", "sequential", "--max-dimension", 4, "--examples", 5]
    words += ["--out", tmp_path / "{model}-{size}.zarr", "--figure", tmp_path / "s.svg"]
    said = printed(*words, models=("model.pt", "other.pt"))
    table = rows(said, folder / "model.pt")
    (x, y, index), clf = drawn(folder), classifier(folder / "model.pt")
    for column, size in enumerate((2, 6)):
        kept = load(tmp_path / f"1-{size}.zarr", bg.SequentialDirections)
        assert (kept.box, kept.eps, kept.max_directions) == ("feasible", size, 4)
        expected = bg.sequential_directions(clf, x[:5], y[:5], eps=size, max_directions=4, index=index[:5])
        assert kept.count.tolist() == expected.count.tolist()
        assert kept.index.tolist() == expected.index.tolist()
        torch.testing.assert_close(kept.distance, expected.distance, rtol=1e-6, atol=0)
        assert table["verified: mean"][column] == dimension_summary(kept).mean.plain(2)
        shortest = kept.distance[:, 0].sort().values
        low, middle, high = (f"{v:.3g}" if v.isfinite() else "-" for v in (shortest[0], shortest[2], shortest[4]))
        assert table["length of the shortest: 10, 50, 90 %"][column] == f"{low}, {middle}, {high}"
        searches = mean(kept.attempts.double().numpy(), within=(0, math.inf))
        assert table["searches made: mean"][column] == searches.plain(1)
        reasons = [kept.stops[code] for code in kept.stopped]
        shares = [f"{20 * reasons.count(name)}" for name in ("eps", "failures", "no_gradient")]
        name = "no more: only longer ones, none at all, no gradient"
        assert table[name][column] == f"{', '.join(shares)} %"
    assert kept.count.tolist() == [1] * 5  # two classes, nearly a half-space
    other = load(tmp_path / "2-6.zarr", bg.SequentialDirections)
    assert rows(said, folder / "other.pt")["verified: mean"][1] == dimension_summary(other).mean.plain(2)
    assert "shortest directions, one after another, inside the bounds; means are" in said
    figure = (tmp_path / "s.svg").read_text()
    for text in ("number of the direction, in the order of finding", "none longer than 6, inside the bounds", "other"):
        assert text in figure


def test_in_the_other_norm_nothing_is_predicted(folder: Path, printed: Callable[..., str]) -> None:
    said = printed("--eps", "8/255,32/255", "--norm", "linf")
    assert "ε = 8/255 (L∞)" in said
    table = rows(said, folder / "model.pt")
    assert "predicted to first order, bounds ignored" not in table
    assert len(table["verified: mean"]) == 2
    assert "predicted to first order, bounds ignored" in rows(printed("--eps", "1"), folder / "model.pt")


def test_the_figure_shows_shares_for_several_sizes_of_all_models(tmp_path: Path, printed: Callable[..., str]) -> None:
    one, two = tmp_path / "one.svg", tmp_path / "two.svg"
    for sizes, figure in (("1", one), ("1,2", two)):
        printed("--eps", sizes, "--figure", figure, "--max-dimension", 20, models=("model.pt", "other.pt"))
    # In an SVG, each text stands in a comment.
    first, second = one.read_text(), two.read_text()
    for text in ("fool model: mean", "of these, fool other: mean", "stems"):
        assert text in first
        assert text not in second
    for text in ("examples with at least k directions", "ε = 1 (L2, input units)", "ε = 2 (L2, input units)", "other"):
        assert text in second


def test_the_seed_is_passed_on(tmp_path: Path, printed: Callable[..., str]) -> None:
    printed("--eps", "2", "--seed", 5, "--out", tmp_path / "{kind}.zarr")
    for kind in ("own", "noise"):
        assert bg.load(tmp_path / f"{kind}.zarr").provenance.seed == 5


BAD = [
    ("--eps 0,1", "--eps must be greater than 0, not '0,1'"),
    ("--eps 2,1", "--eps must be strictly ascending"),
    ("--eps inf", "--eps takes finite numbers"),
    ("--eps much", "--eps takes numbers such as 0.5 or 16/255"),
    ("", "Missing option '--eps'"),
    ("--eps 1 --norm linf --method frame", "--method frame works in --norm l2 only"),
    ("--eps 1 --method fast", "--method"),
    ("--eps 1 --norm linf --method sequential", "--method sequential works in --norm l2 only"),
    ("--eps 1 --rule count --method sequential", "--method sequential counts with --rule all only"),
    (
        "--eps 1 --box clip --method sequential",
        "--method sequential works with --box feasible or ignore, not with clip",
    ),
    ("--eps 1 --restarts 2 --method sequential", "--method sequential counts with --restarts 1 only"),
    ("--eps 1 --grid full --method sequential", "--grid applies to frames: --method sequential has none"),
    ("--eps 1 --grid all", "--grid takes full, or ascending sizes such as 1,5,25, not 'all'"),
    ("--eps 1 --grid 1,5.5", "--grid takes full, or ascending sizes such as 1,5,25, not '1,5.5'"),
    ("--eps 1 --grid 5,1", "--grid takes full, or ascending sizes such as 1,5,25, not '5,1'"),
    ("--eps 1 --grid 0,1", "--grid takes full, or ascending sizes such as 1,5,25, not '0,1'"),
    ("--eps 1 --grid ''", "--grid takes full, or ascending sizes such as 1,5,25, not ''"),
    (
        "--eps 1 --grid 1,9 --max-dimension 8",
        "--grid takes full, or ascending sizes up to --max-dimension 8 such as 1,5,25, not '1,9'",
    ),
    ("--eps 1 --grid 1,193", "grid must be 'full' or ascending whole numbers from 1 to max_dimension (192)"),
    ("--eps 1 --box open", "--box"),
    ("--eps 1 --rule none", "--rule"),
    ("--eps 1 --max-dimension 0", "--max-dimension must be at least 1, not 0"),
    ("--eps 1 --max-dimension 193", "max_dimension must be at most the number of input dimensions, 192"),
    ("--eps 1 --restarts 0", "--restarts must be at least 1, not 0"),
    ("--eps 1,2 --out d.zarr", "put {size} into --out, e.g. result-{size}.zarr"),
    ("--eps 1 --out {kind}.zarr --model again", "put {model} into --out"),
    ("--eps 1 --figure d.txt", "--figure must end in .png, .pdf, .svg"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_input_is_one_line_and_writes_nothing(
    words: str, message: str, folder: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *dims(folder, *shlex.split(words)))
    assert not list(tmp_path.iterdir())


def test_a_model_that_gets_no_example_right_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets_of_dims.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    words = dims(folder, "--model", "nets_of_dims:Opposite", "--eps", "1", "--out", "{model}.zarr")
    with pytest.warns(UserWarning, match="no --weights"):
        complaint = refused(capsys, *words)
    assert "nets_of_dims:Opposite classifies none of the 12 examples correctly" in complaint
    assert not list(tmp_path.glob("*.zarr"))


def test_help_lists_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, said, _ = run(capsys, "--help")
    assert status == 0
    assert "Count orthogonal adversarial directions" in said
