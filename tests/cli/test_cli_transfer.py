"""`boundarygeo transfer`: what it prints and keeps is what the library gives; what cannot be compared is refused."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest
import torch
from command_line import classifier, make_folder, refused, run, train

import boundarygeo as bg
from boundarygeo.choices import TransferAttack
from boundarygeo.cli.transfer.agreement import agreement_text
from boundarygeo.cli.transfer.distances import distances_text
from boundarygeo.cli.transfer.overlap import overlap_text
from boundarygeo.cli.transfer.shared import shared_text
from boundarygeo.transfer.matrix import SETTINGS
from boundarygeo.zoo import load_data

Capture = pytest.CaptureFixture[str]

NETS = """
import torch
from torch import nn

class Flat(nn.Module):
    def __init__(self, classes=2, size=192, always=None):
        super().__init__()
        torch.manual_seed(3)
        self.layer = nn.Linear(size, classes)
        self.always = always

    def forward(self, x):
        logits = self.layer(x.flatten(1))
        return logits if self.always is None else 0 * logits + torch.eye(logits.shape[1])[self.always]

def two(): return Flat()
def three(): return Flat(classes=3)
def small(): return Flat(size=5)
def zero(): return Flat(always=0)
def one(): return Flat(always=1)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_folder(tmp_path_factory.mktemp("cli"))
    train(folder / "other.pt", folder / "data.npz", "mlp", "--seed", 1)
    (folder / "odd_nets.py").write_text(textwrap.dedent(NETS))
    return folder


@dataclass(frozen=True, eq=False)
class Compared:
    """What the command compares: the examples in the order of seed 0."""

    classifiers: dict[str, bg.Classifier]
    x: torch.Tensor
    y: torch.Tensor
    index: torch.Tensor
    pool: tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def these(folder: Path) -> Compared:
    data = load_data(f"npz:{folder}/data.npz").test
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:20]
    classifiers = {name: classifier(folder / f"{name}.pt") for name in ("model", "other")}
    return Compared(classifiers, data.x[order], data.y[order], order, (data.x[:], data.y))


def start(folder: Path, *models: str, command: str = "matrix") -> list[object]:
    words: list[object] = ["transfer", command, "--data", f"npz:{folder}/data.npz", "--device", "cpu", "--examples", 20]
    for model in models or ("model.pt", "other.pt"):
        words += ["--model", model if ":" in model else folder / model]
    return words


def test_the_matrix_is_printed_with_both_denominators_and_kept(
    folder: Path, these: Compared, tmp_path: Path, capsys: Capture
) -> None:
    figures = tmp_path / "matrix.png", tmp_path / "mistakes.svg"
    words = [*start(folder), "--eps", "89/255", "--figure", figures[0], "--mistakes-figure", figures[1]]
    status, said, _ = run(capsys, *words, "--out", tmp_path / "result.zarr")
    assert status == 0
    kept = bg.load(tmp_path / "result.zarr")
    assert isinstance(kept, bg.TransferMatrix)
    expected = bg.transfer_matrix(these.classifiers, these.x, these.y, eps=89 / 255, index=these.index)
    assert torch.equal(kept.predicted, expected.predicted)
    assert (kept.names, kept.attack, kept.norm) == (("model", "other"), "pgd", "linf")
    assert kept.index.tolist() == these.index.tolist()
    rate = expected.rate()
    assert 0 < rate[0, 1] < rate[1, 0]  # or the case could not tell source from target
    for over in ("shared", "fooled"):
        for i, name in enumerate(kept.names):
            cells = "  +".join(re.escape(expected.estimate(i, j, over).percent()) for j in range(2))
            n = int(expected.counts(over)[1][i])
            assert re.search(rf"^{name} +{n} +{cells}$", said, re.MULTILINE), (over, name)
    made = bg.transfer_mistakes(expected)
    same, chance = made.same_share("model", "other"), made.chance_share("model", "other")
    assert re.search(rf"^model → other .*{re.escape(same.percent())} +{re.escape(chance.percent())}$", said, re.M)
    assert "success, in % of the examples that all models get right:" in said
    assert "success, in % of the examples that fool their source:" in said
    assert re.search(r"^all +\d+\.\d % \[", said, re.MULTILINE)
    assert "PGD, ε = 0.349 in L∞; 95 % Wilson intervals" in said
    assert all(figure.stat().st_size > 1000 for figure in figures)


KINDS = {
    "matrix": (["--attack", "fgsm", "--norm", "l2", "--eps", "2"], bg.TransferMatrix, "FGSM, ε = 2 in L2"),
    "shared": (["--eps", "4"], bg.SharedDimension, "verified on all networks: mean"),
    "overlap": (["--eps", "4", "--dimension", 2, "--restarts", 5], bg.SubspaceOverlap, "of 2 dimensions"),
    "distances": (["--max-distance", "9"], bg.InterBoundaryDistance, "looked up to 9"),
    "agreement": (["--triplets", 4, "--resolution", 11], bg.Reproducibility, "n = 4 planes through three random"),
}


@pytest.mark.parametrize("command", KINDS)
def test_each_command_prints_its_table_and_writes_what_it_found(
    command: str, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    words, kind, note = KINDS[command]
    out, figure = tmp_path / "result.zarr", tmp_path / "figure.png"
    status, said, complaint = run(capsys, *start(folder, command=command), *words, "--out", out, "--figure", figure)
    assert (status, complaint) == (0, "")
    assert isinstance(bg.load(out), kind)
    assert note in said
    assert re.search(r"[\d,]+ forwards, [\d,]+ backwards, \d+\.\d s", said)
    assert figure.stat().st_size > 1000


def test_directions_are_kept_for_each_pair_and_drawn_for_each_source(
    folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = [*start(folder, command="dimension"), "--eps", "4", "--max-dimension", 8, "--name", "a", "--name", "b"]
    status, said, _ = run(
        capsys, *words, "--out", tmp_path / "{source}-{target}.zarr", "--figure", tmp_path / "from{model}.png"
    )
    assert status == 0
    own, sent, back = (bg.load(tmp_path / f"{pair}.zarr") for pair in ("1-1", "1-2", "2-1"))
    assert isinstance(own, bg.AdversarialDimension)
    assert isinstance(sent, bg.TransferredDimension)
    assert isinstance(back, bg.TransferredDimension)
    assert sent.source_model == own.provenance.model == back.provenance.model
    assert sent.source.tolist() == torch.where(sent.correct, own.verified, 0).tolist()
    first, second = (bg.dimension_summary(back, counts=counts).mean for counts in (back.source, back.count))
    assert first.n == int(back.correct.sum())
    assert first.value > second.value > 0
    cells = "  +".join(re.escape(estimate.plain(2)) for estimate in (first, second))
    assert re.search(rf"^b → a +{first.n} +{cells}  ", said, re.MULTILINE)
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["from1.png", "from2.png"]


@pytest.mark.parametrize("command", ["dimension", "shared"])
def test_the_sizes_of_frames_are_those_that_were_asked_for(
    command: str, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    name = "{source}-{target}.zarr" if command == "dimension" else "1-1.zarr"
    words = [*start(folder, command=command), "--eps", "4", "--name", "a", "--name", "b", "--box", "ignore"]
    status, _, complaint = run(capsys, *words, "--grid", "2,5", "--out", tmp_path / name)
    assert (status, complaint) == (0, "")
    result = bg.load(tmp_path / "1-1.zarr")
    assert isinstance(result, bg.AdversarialDimension | bg.SharedDimension)
    assert result.max_dimension == 5


def test_numbers_in_the_tables_are_those_of_the_results(these: Compared) -> None:
    given, told = (these.classifiers, these.x[:8], these.y[:8]), {"index": these.index[:8]}
    shared = bg.shared_dimension(*given, eps=4.0, box="ignore", **told)
    assert shared.null_verified is not None
    for counts in (shared.verified, shared.null_verified):
        assert bg.dimension_summary(shared, counts=counts).mean.plain(2) in shared_text(shared)
    assert shared.smallest_cosine.plain(2) in shared_text(shared)
    shared = bg.shared_dimension(*given, eps=4.0, box="feasible", **told)
    assert "chance is verified with --box ignore only" in shared_text(shared)
    overlap = bg.subspace_overlap(*given, eps=4.0, dimension=2, restarts=4, **told)
    text = overlap_text(overlap)
    assert f"{float(overlap.expected[0]):.2f}" in text
    assert f"{float(overlap.energy[0, overlap.valid[0]].mean()):.2f} [" in text
    assert f"{float(overlap.permuted_mean[0].mean()):.2f}" in text
    distances = bg.inter_boundary_distance(*given, max_distance=9.0, pool=these.pool, **told)
    assert distances.compare("adversarial", "other", "model").nearer.percent() in distances_text(distances)
    agreement = bg.reproducibility(*given, planes=5, resolution=11)
    assert agreement.estimate(0, 1).percent() in agreement_text(agreement)
    assert f"{100 * float(agreement.iou[0].nanmean()):.1f} %" in agreement_text(agreement)


def test_bases_that_are_kept_in_chunks_overlap_as_at_once(
    folder: Path, these: Compared, tmp_path: Path, capsys: Capture
) -> None:
    words = ["--eps", "4", "--dimension", 2, "--restarts", 4, "--chunk-size", 7, "--out", tmp_path / "o.zarr"]
    assert run(capsys, *start(folder, command="overlap"), *words)[0] == 0
    kept = bg.load(tmp_path / "o.zarr")
    assert isinstance(kept, bg.SubspaceOverlap)
    direct = bg.subspace_overlap(
        these.classifiers, these.x, these.y, eps=4.0, dimension=2, restarts=4, index=these.index
    )
    torch.testing.assert_close(kept.angles, direct.angles, equal_nan=True)
    assert torch.equal(kept.random_p_all, direct.random_p_all)


def test_the_same_file_twice_needs_names(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    words = [*start(folder, "model.pt", "model.pt"), "--eps", "64/255"]
    complaint = refused(capsys, *words)
    assert "2 models have the name 'model': give each its own --name" in complaint
    status, _, _ = run(capsys, *words, "--name", "one", "--name", "two", "--out", tmp_path / "r.zarr")
    assert status == 0
    kept = bg.load(tmp_path / "r.zarr")
    assert isinstance(kept, bg.TransferMatrix)
    assert torch.equal(kept.predicted[0, 0], kept.predicted[0, 1])  # a model fools itself


BAD_WORDS = (
    ("agreement", "--chunk-size 3 --out never.zarr", "No such option"),
    ("matrix", "--eps 1 --name a", "give --name once for each of the 2 models, not 1 times"),
    ("matrix", "--eps 1 --name a --name a", "2 models have the name 'a'"),
    ("matrix", "", "--attack pgd needs --eps"),
    ("overlap", "", "Missing option '--eps'"),
    ("matrix", "--eps 0", "--eps must be a positive number, not '0'"),
    ("matrix", "--eps 1,2", "--eps takes one number"),
    ("shared", "--eps 1 --norm linf", "No such option"),
    ("dimension", "--eps 1 --norm linf --method frame", "--method frame works in --norm l2 only"),
    ("shared", "--eps 1 --method sequential", "'--method': 'sequential' is not one of"),
    ("matrix", "--eps 1 --attack fgsm --steps 3", "--steps applies to --attack pgd and minimal_norm only"),
    ("matrix", "--eps 1 --steps 0", "--steps must be at least 1, not 0"),
    ("overlap", "--eps 1 --dimension 4 --restarts 3", "--restarts 3 cannot span --dimension 4: it must be at least 4"),
    ("distances", "", "Missing option '--max-distance'"),
    ("distances", "--max-distance 1 --eps 1", "No such option"),
    ("matrix", "--eps 1 --triplets 9", "No such option"),
    ("dimension", "--eps 1 --out a.zarr", "put {source} into --out"),
    ("matrix", "--eps 1 --out there.png", "path must not exist yet"),
    ("matrix", "--eps 1 --figure there.png", "path must not exist yet"),
    ("matrix", "--eps 1 --mistakes-figure there.png", "path must not exist yet"),
    ("matrix", "--eps 1 --figure f.png --mistakes-figure f.png", "--figure and --mistakes-figure are the same file"),
    ("dimension", "--eps 1 --grid 5,2", "--grid takes full, or ascending sizes such as 1,5,25, not '5,2'"),
    ("shared", "--eps 1 --grid 5,2", "--grid takes full, or ascending sizes such as 1,5,25, not '5,2'"),
)  # fmt: skip


@pytest.mark.parametrize(("command", "words", "message"), BAD_WORDS)
def test_bad_words_are_refused_before_any_work(
    command: str,
    words: str,
    message: str,
    folder: Path,
    tmp_path: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("boundarygeo.cli.sources.load_data", lambda spec: pytest.fail("work was begun"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").write_text("precious")
    assert message in refused(capsys, *start(folder, command=command), *words.split())
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]


MISFITS = (
    ("two three", r"models must have the same classes, got 2 classes of odd_nets:two and 3 of "),
    ("two small", r"--model must take inputs of the shape \[3, 8, 8\] of --data, got 'odd_nets:small'"),
    ("zero one", r"an example that every classifier gets right, got none: of 20 are right (\d+) \(.*\), (\d+) \("),
)


@pytest.mark.filterwarnings("ignore:no --weights")
@pytest.mark.parametrize(("names", "message"), MISFITS)
def test_models_that_cannot_be_compared_are_refused(
    names: str, message: str, folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    complaint = refused(capsys, *start(folder, *(f"odd_nets:{name}" for name in names.split())), "--eps", "1")
    found = re.search(message, complaint)
    assert found, complaint
    if found.groups():
        assert sum(map(int, found.groups())) == 20  # one is right where the other is wrong


def test_one_plane_of_maps_is_drawn_for_all_models(folder: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["maps", *start(folder)[2:], "--examples", 2, "--resolution", 11, "--extent", "0.4"]
    status, said, _ = run(capsys, *words, "--plane-figure", tmp_path / "plane.png")
    assert status == 0
    assert "agreement with model 1" in said
    assert (tmp_path / "plane.png").stat().st_size > 1000
    complaint = refused(capsys, *words, "--figure", "f.png", "--plane-figure", "f.png")
    assert "--figure and --plane-figure are the same file, f.png" in complaint


@pytest.mark.slow
def test_the_demo_writes_every_figure(tmp_path: Path, capsys: Capture) -> None:
    status, said, _ = run(capsys, "demo", "--out", tmp_path, "--device", "cpu")
    assert status == 0
    maps = {f"maps-{kind}" for kind in ("fgsm_random", "fgsm_adversarial", "random")}
    compared = {"transfer", "overlap", "boundary_distances"}
    one = {"lines-fgsm", "dimension"}
    assert {path.stem for path in tmp_path.glob("*.png")} == maps | compared | one | {"accuracy", "mistakes"}
    assert {path.stem for path in tmp_path.glob("*.zarr")} == maps | compared | one
    for path in tmp_path.glob("*.png"):
        assert path.name in said


def test_one_model_is_nothing_to_compare(folder: Path, capsys: Capture) -> None:
    assert "nothing to compare: give --model at least twice" in refused(capsys, *start(folder, "model.pt"), "--eps", 1)


def test_options_without_a_command_are_told_the_commands(capsys: Capture) -> None:
    complaint = refused(capsys, "transfer", "--model", "a")
    assert "Choose one of matrix, dimension, shared, overlap, distances, agreement first." in complaint
    assert "Choose one of demo, maps, " in refused(capsys, "fly")
    assert "Choose one of" not in refused(capsys, "transfer", "matrix", "--colour", "red")


def test_attacks_are_those_of_the_library() -> None:
    assert set(get_args(TransferAttack)) == set(SETTINGS)


def test_each_command_has_its_own_options(capsys: Capture) -> None:
    own = {
        "matrix": {"eps", "norm", "attack", "steps", "mistakes-figure", "chunk-size"},
        "dimension": {"eps", "norm", "method", "box", "max-dimension", "grid", "chunk-size"},
        "shared": {"eps", "method", "box", "max-dimension", "grid", "chunk-size"},
        "overlap": {"eps", "dimension", "restarts", "chunk-size"},
        "distances": {"max-distance", "chunk-size"},
        "agreement": {"triplets", "resolution"},
    }
    for command, options in own.items():
        status, said, _ = run(capsys, "transfer", command, "--help")
        assert status == 0
        assert {name for names in own.values() for name in names if f"  --{name} " in said} == options
        assert {name for name in ("name", "model", "data", "seed", "out", "figure") if f"  --{name} " in said}
    for words in (["transfer"], ["transfer", "--help"]):
        status, said, _ = run(capsys, *words)
        assert status == 0
        assert all(f"\n  {command} " in said for command in own)
