from pathlib import Path

import pytest
import torch
from command_line import base, classifier, run

import boundarygeo as bg
from boundarygeo.cli.distances import distance_table
from boundarygeo.results import Provenance
from boundarygeo.zoo import load_data


def load(path: Path) -> bg.BoundaryDistances:
    result = bg.load(path)
    assert isinstance(result, bg.BoundaryDistances)
    return result


def test_distances_prints_both_ways_and_saves(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*base(folder, "distances"), "--examples", 10, "--max-distance", "0.4"]
    status, said, _ = run(capsys, *words, "--out", tmp_path / "distances.zarr")
    assert status == 0
    assert "+ FGSM sign direction  10  0.4 ε (L∞)" in said
    assert "- FGSM sign direction  10  0.4 ε (L∞)" in said
    result = load(tmp_path / "distances.zarr")
    assert result.name == "+ FGSM sign direction"
    assert result.max_distance == pytest.approx(0.4)


def test_several_models_and_directions_each_with_its_reach(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*base(folder, "distances"), "--model", folder / "other.pt", "--examples", 8, "--seed", 3]
    words += ["--direction", "fgsm", "--direction", "random", "--max-distance", "1/2", "--max-distance", 60]
    words += ["--scan", 16, "--no-clip"]
    status, said, _ = run(
        capsys, *words, "--out", tmp_path / "{model}-{direction}-{way}.zarr", "--figure", tmp_path / "figure.png"
    )
    assert status == 0
    stores = sorted(tmp_path.glob("*.zarr"))
    assert len(stores) == 8
    for model in (1, 2):
        for direction, reach in (("fgsm", 0.5), ("random", 60.0)):
            along, against = (load(tmp_path / f"{model}-{direction}-{way}.zarr") for way in ("along", "against"))
            assert (along.name[0], against.name[0]) == ("+", "-")
            assert along.max_distance == against.max_distance == reach
            assert (along.scan, along.clip) == (16, False)
            assert not torch.equal(along.distance, against.distance)
            # The table says what the stores hold.
            assert f"{along.name:21}  8  {reach:.4g} {along.unit}" in said
    first, second = load(tmp_path / "1-random-along.zarr"), load(tmp_path / "2-random-along.zarr")
    test = load_data(f"npz:{folder}/data.npz").test
    again = bg.boundary_distance(
        classifier(folder / "other.pt"),
        test.x[second.index],
        test.y[second.index],
        direction="random",
        max_distance=60,
        scan=16,
        clip=False,
        seed=3,
        index=second.index,
    )
    assert torch.equal(again.distance, second.distance)
    assert torch.equal(first.index, second.index)
    assert first.provenance.model != second.provenance.model
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_one_reach_is_for_all_directions(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*base(folder, "distances"), "--examples", 2, "--direction", "gradient", "--direction", "random"]
    assert run(capsys, *words, "--max-distance", 2, "--out", tmp_path / "{direction}.zarr")[0] == 0
    gradient, random = (load(tmp_path / f"{name}.zarr") for name in ("gradient", "random"))
    assert (gradient.name, random.name) == ("+ loss gradient", "+ random")
    assert gradient.max_distance == random.max_distance == 2.0
    assert len(list(tmp_path.iterdir())) == 2  # without {way}: along the directions only


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_a_model_that_fails_leaves_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "constant_net.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    made = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))\n"
        "    nn.init.zeros_(made[1].weight)\n"
        "    return made\n"
    )
    monkeypatch.chdir(tmp_path)
    words = [*base(folder, "distances"), "--model", "constant_net:net", "--examples", 2, "--out", "{model}.zarr"]
    with pytest.warns(UserWarning, match="no --weights for constant_net:net"):
        status, _, complaint = run(capsys, *words, "--figure", "figure.png")
    assert status == 2
    assert complaint == (
        "boundarygeo: error: --direction fgsm does not exist: the gradient is zero at all 2 examples, "
        "whose logits do not depend on the input\n"
    )
    assert not list(tmp_path.glob("*.zarr"))
    assert not (tmp_path / "figure.png").exists()


def test_the_table_counts_examples_with_a_direction_and_censored_ones() -> None:
    distance = torch.tensor([0.1, 0.2, 0.3, torch.inf, torch.inf, torch.nan]).double()
    result = bg.BoundaryDistances(
        provenance=Provenance(command="by hand", forwards=1234),
        distance=distance,
        found=distance.isfinite(),
        predicted=torch.zeros(6).long(),
        adversarial_label=distance.isfinite().long() * 2 - 1,
        true_labels=torch.zeros(6).long(),
        index=torch.arange(6),
        valid=~distance.isnan(),
        max_distance=0.5,
        scan=4,
        tolerance=1e-3,
        name="+ random",
        unit="L2",
        clip=True,
    )
    heading, row, note = distance_table([result]).splitlines()
    assert heading.split("  ")[0] == "direction"
    # Of 3 hits and 2 misses the quantiles of chi² with 6 and 4 degrees of freedom: 1.635 / 10 and 1 - 0.711 / 10.
    assert row.startswith("+ random   5  0.5 L2  60.0 % [16.4, 92.9]")
    assert "0.3000 [0.1000, inf] (94 %)  1,234" in row
    assert note == "95 % intervals; inf: half or more do not change; left out where the gradient is zero: 1"
