"""The benchmark that puts the networks of the training tables under every instrument: what it keeps and draws."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from boundarygeo.comparison import Settings
from boundarygeo.training import Checkpoint, save_checkpoint
from boundarygeo.zoo import Split, build_model

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))
import itertools

import training_compared as benchmark  # pyright: ignore[reportMissingImports]
from training_table import checkpoint_file  # pyright: ignore[reportMissingImports]

METHODS = ("standard", "mixup", "BatchOut, η 0.1")
SETTINGS = Settings(eps=0.1, restarts=1, queries=50, few=2, pairs=10)


@pytest.fixture
def problem(tmp_path: Path) -> benchmark.Problem:
    for number, row in enumerate(METHODS):
        for seed in (0, 1):
            module = build_model("mlp", num_classes=10, input_shape=(1, 28, 28), seed=10 * seed + number)
            checkpoint = Checkpoint(
                architecture="mlp", num_classes=10, input_shape=(1, 28, 28), mean=(0.5,), std=(0.5,)
            )
            save_checkpoint(checkpoint_file(str(tmp_path), row, "mlp", seed), module, checkpoint)
    return replace(
        benchmark.PROBLEMS["mnist"], folder=str(tmp_path), networks=("mlp",), methods=METHODS, frame=False, pieces=False
    )


@pytest.mark.slow
def test_what_is_kept_is_read_again_and_drawn(problem: benchmark.Problem, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.rand(20, 1, 28, 28)
    parts = []
    for seed in (0, 1):
        kept = tmp_path / "compared" / f"{seed}.json"
        split = Split(x, torch.arange(20) % 10)
        benchmark.measure(problem, "mlp", seed, SETTINGS, split, split, kept)
        parts.append(benchmark.read(kept))
    found = benchmark.together(parts, SETTINGS, len(x))
    assert found.groups == ("mlp standard", "mlp mixup", "mlp BatchOut, η 0.1") * 2
    assert {row.seed for row in found.rows} == {0, 1}
    clean = benchmark.spreads(found, "accuracy", "clean")["mlp mixup"]
    assert clean.seeds == 2
    assert clean.mean == pytest.approx(sum(row.measured.estimate.value for row in clean.rows) / 2)
    assert "training examples" in found.notes["segments"]
    lines = benchmark.short_table(found, [("mlp", row) for row in METHODS]).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == list(METHODS)
    assert len({line.count(" | ") for line in (lines[0], *lines[2:])}) == 1
    assert benchmark.trained(found, problem, "mlp") == []  # networks that have not learnt the task are left out


def test_names_at_the_edge_do_not_overlap() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    axes.set(xlim=(0, 1), ylim=(-4, 104))
    places = {str(number): (0.5, height) for number, height in enumerate([0, 0, 50, 51, 52, 53, 99, 99, 100])}
    benchmark._label(axes, places)
    heights = {text.get_text(): text.get_position()[1] for text in axes.texts}
    ordered = [heights[name] for name in places]
    assert all(b - a >= 6.5 - 1e-9 for a, b in itertools.pairwise(ordered))
    assert ordered[0] >= -2
    assert ordered[-1] <= 102 + 1e-9
