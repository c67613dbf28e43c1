"""`boundarygeo transfer`: what it prints and keeps is what the library gives; what cannot be compared is refused."""

import re
import textwrap
from pathlib import Path

import pytest
import torch
from command_line import classifier, make_folder, refused, run, train

import boundarygeo as bg
from boundarygeo.cli.measures import Comparison, agreement, dimension, distances, matrix, overlap, shared
from boundarygeo.cli.options import StudyOptions
from boundarygeo.cli.sources import Examples, Rows
from boundarygeo.cli.transfer import BELONGS, Measure, TransferAttack
from boundarygeo.transfer.matrix import SETTINGS
from boundarygeo.zoo import load_data

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


@pytest.fixture(scope="module")
def these(folder: Path) -> Comparison:
    """What the command compares: the examples in the order of seed 0."""
    data = load_data(f"npz:{folder}/data.npz")
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:20]
    classifiers = {name: classifier(folder / f"{name}.pt") for name in ("model", "other")}
    examples = Examples(Rows(data.test.x, order), data.test.y[order], order, 1.0, 20)
    return Comparison(classifiers, examples, (data.test.x, data.test.y), StudyOptions(model=list(classifiers)))


def start(folder: Path, *models: str) -> list[object]:
    words: list[object] = ["transfer", "--data", f"npz:{folder}/data.npz", "--device", "cpu", "--examples", 20]
    for model in models or ("model.pt", "other.pt"):
        words += ["--model", model if ":" in model else folder / model]
    return words


def test_the_matrix_is_printed_with_both_denominators_and_kept(
    folder: Path, these: Comparison, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "matrix.png", tmp_path / "mistakes.svg"
    words = [*start(folder), "--eps", "89/255", "--figure", figures[0], "--mistakes-figure", figures[1]]
    status, said, _ = run(capsys, *words, "--out", tmp_path / "result.zarr")
    assert status == 0
    kept = bg.load(tmp_path / "result.zarr")
    assert isinstance(kept, bg.TransferMatrix)
    expected = bg.transfer_matrix(
        these.classifiers, these.examples.x, these.examples.y, eps=89 / 255, index=these.examples.index
    )
    assert torch.equal(kept.labels, expected.labels)
    assert (kept.names, kept.attack, kept.norm) == (("model", "other"), "pgd", "linf")
    assert kept.index.tolist() == these.examples.index.tolist()
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
    Measure.MATRIX: (["--attack", "fgsm", "--norm", "l2", "--eps", "2"], bg.TransferMatrix, "FGSM, ε = 2 in L2"),
    Measure.SHARED: (["--eps", "4"], bg.SharedDimension, "verified on all networks: mean"),
    Measure.OVERLAP: (["--eps", "4", "--dimension", 2, "--restarts", 5], bg.SubspaceOverlap, "of 2 dimensions"),
    Measure.DISTANCES: (["--max-distance", "9"], bg.InterBoundaryDistance, "looked up to 9"),
    Measure.AGREEMENT: (["--triplets", 4, "--resolution", 11], bg.Reproducibility, "n = 4 planes through three random"),
}


@pytest.mark.parametrize("measure", KINDS)
def test_each_measure_prints_its_table_and_writes_what_it_found(
    measure: Measure, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, kind, note = KINDS[measure]
    out, figure = tmp_path / "result.zarr", tmp_path / "figure.png"
    status, said, complaint = run(
        capsys, *start(folder), "--measure", measure.value, *words, "--out", out, "--figure", figure
    )
    assert (status, complaint) == (0, "")
    assert isinstance(bg.load(out), kind)
    assert note in said
    assert re.search(r"[\d,]+ forwards, [\d,]+ backwards, \d+\.\d s", said)
    assert figure.stat().st_size > 1000


def test_directions_are_kept_for_each_pair_and_drawn_for_each_source(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*start(folder), "--measure", "dimension", "--eps", "4", "--max-dimension", 8, "--name", "a", "--name", "b"]
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


@pytest.mark.parametrize("measure", ["dimension", "shared"])
def test_the_sizes_of_frames_are_those_that_were_asked_for(
    measure: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "{source}-{target}.zarr" if measure == "dimension" else "1-1.zarr"
    words = [*start(folder), "--measure", measure, "--eps", "4", "--name", "a", "--name", "b", "--box", "ignore"]
    status, _, complaint = run(capsys, *words, "--grid", "2,5", "--out", tmp_path / name)
    assert (status, complaint) == (0, "")
    result = bg.load(tmp_path / "1-1.zarr")
    assert isinstance(result, bg.AdversarialDimension | bg.SharedDimension)
    assert result.max_dimension == 5
    status, _, complaint = run(capsys, *words, "--grid", "5,2")
    assert status == 2
    assert "--grid must be full or ascending sizes such as 1,5,25, got '5,2'" in complaint


def test_numbers_in_the_tables_are_those_of_the_results(these: Comparison) -> None:
    kept = shared(these, eps=4.0, box="ignore")
    (result,) = kept.results
    assert isinstance(result, bg.SharedDimension)
    assert result.null_verified is not None
    for counts in (result.verified, result.null_verified):
        assert bg.dimension_summary(result, counts=counts).mean.plain(2) in kept.text
    kept = shared(these, eps=4.0, box="feasible")
    assert "chance is verified with --box ignore only" in kept.text
    kept = overlap(these, eps=4.0, dimension=2, restarts=4)
    (found,) = kept.results
    assert isinstance(found, bg.SubspaceOverlap)
    drawn = these.examples
    direct = bg.subspace_overlap(
        these.classifiers, drawn.x, drawn.y, eps=4.0, dimension=2, restarts=4, index=drawn.index
    )
    torch.testing.assert_close(found.angles, direct.angles, equal_nan=True)
    assert torch.equal(found.random_p_all, direct.random_p_all)
    (result,) = kept.results
    assert isinstance(result, bg.SubspaceOverlap)
    assert f"{float(result.expected[0]):.2f}" in kept.text
    assert f"{float(result.energy[0, result.valid[0]].mean()):.2f} [" in kept.text
    kept = distances(these, max_distance=9.0)
    (result,) = kept.results
    assert isinstance(result, bg.InterBoundaryDistance)
    seen = result.compare("adversarial", "other", "model")
    assert seen.nearer.percent() in kept.text
    assert len(kept.drawings) == 2
    kept = agreement(these, planes=5, resolution=11)
    (result,) = kept.results
    assert isinstance(result, bg.Reproducibility)
    assert result.estimate(0, 1).percent() in kept.text
    assert len(matrix(these, attack="fgsm", eps=0.1).drawings) == 2
    assert len(dimension(these, eps=4.0, max_dimension=4).results) == 4


def test_the_same_file_twice_needs_names(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*start(folder, "model.pt", "model.pt"), "--eps", "64/255"]
    complaint = refused(capsys, *words)
    assert "names of models must differ, got 'model' 2 times: give each one with --name" in complaint
    status, _, _ = run(capsys, *words, "--name", "one", "--name", "two", "--out", tmp_path / "r.zarr")
    assert status == 0
    kept = bg.load(tmp_path / "r.zarr")
    assert isinstance(kept, bg.TransferMatrix)
    assert torch.equal(kept.labels[0, 0], kept.labels[0, 1])  # a model fools itself


BAD_WORDS = {
    "chunks of planes": (
        [],
        ["--measure", "agreement", "--chunk-size", "3", "--out", "never.zarr"],
        "--engine and --chunk-size must be given with another --measure: planes are no examples",
    ),
    "one model": (["model.pt"], ["--eps", "1"], "--model must be given at least twice, got 1"),
    "names": ([], ["--eps", "1", "--name", "a"], "--name must be given once for each of 2 models, got 1"),
    "names alike": ([], ["--eps", "1", "--name", "a", "--name", "a"], "names of models must differ, got 'a' 2 times"),
    "no eps": ([], [], "--eps must be given for --measure matrix, got none"),
    "no eps for overlap": ([], ["--measure", "overlap"], "--eps must be given for --measure overlap, got none"),
    "eps zero": ([], ["--eps", "0"], "--eps must be a positive number, got '0'"),
    "two eps": ([], ["--eps", "1,2"], "--eps must be one number"),
    "norm": ([], ["--measure", "shared", "--eps", "1", "--norm", "linf"], "--norm must be l2 for --measure shared"),
    "norm of frames": (
        [],
        ["--measure", "dimension", "--eps", "1", "--norm", "linf", "--method", "frame"],
        "--norm must be l2 for --method frame, got linf",
    ),
    "sequential": (
        [],
        ["--measure", "shared", "--eps", "1", "--method", "sequential"],
        "--method must be gaas or frame for --measure shared, got sequential",
    ),
    "steps of FGSM": (
        [],
        ["--eps", "1", "--attack", "fgsm", "--steps", "3"],
        "--steps must be given with --attack pgd",
    ),
    "steps": ([], ["--eps", "1", "--steps", "0"], "--steps must be at least 1, got 0"),
    "few restarts": (
        [],
        ["--measure", "overlap", "--eps", "1", "--dimension", "4", "--restarts", "3"],
        "--restarts must be at least 4, got 3",
    ),
    "no distance": ([], ["--measure", "distances"], "--max-distance must be given for --measure distances, got none"),
    "eps of distances": (
        [],
        ["--measure", "distances", "--max-distance", "1", "--eps", "1"],
        "--eps must be given with --measure matrix or dimension or shared or overlap, got distances",
    ),
    "triplets of the matrix": (
        [],
        ["--eps", "1", "--triplets", "9"],
        "--triplets must be given with --measure agreement, got matrix",
    ),
    "stores": (
        [],
        ["--measure", "dimension", "--eps", "1", "--out", "a.zarr"],
        "--out must hold {source} for 2 sources",
    ),
    "store exists": ([], ["--eps", "1", "--out", "there.png"], "path must not exist yet"),
    "figure exists": ([], ["--eps", "1", "--figure", "there.png"], "path must not exist yet"),
    "second figure exists": ([], ["--eps", "1", "--mistakes-figure", "there.png"], "path must not exist yet"),
    "one figure": (
        [],
        ["--eps", "1", "--figure", "f.png", "--mistakes-figure", "f.png"],
        "--figure and --mistakes-figure must be different files, got 'f.png' twice",
    ),
}


@pytest.mark.parametrize("case", BAD_WORDS)
def test_bad_words_are_refused_before_any_work(
    case: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, words, message = BAD_WORDS[case]
    monkeypatch.setattr("boundarygeo.cli.sources.load_data", lambda spec: pytest.fail("work was begun"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").write_text("precious")
    assert message in refused(capsys, *start(folder, *models), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]


MISFITS = {
    "classes": (["two", "three"], r"models must have the same number of classes, got 2 \(odd_nets:two\) and 3 \("),
    "inputs": (["two", "small"], r"--model must take inputs of the shape \[3, 8, 8\] of --data, got 'odd_nets:small'"),
    "no shared example": (
        ["zero", "one"],
        r"an example that every classifier gets right, got none: of 20 are right (\d+) \(.*\), (\d+) \(",
    ),
}


@pytest.mark.filterwarnings("ignore:no --weights")
@pytest.mark.parametrize("case", MISFITS)
def test_models_that_cannot_be_compared_are_refused(
    case: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names, message = MISFITS[case]
    monkeypatch.chdir(folder)
    complaint = refused(capsys, *start(folder, *(f"odd_nets:{name}" for name in names)), "--eps", "1")
    found = re.search(message, complaint)
    assert found, complaint
    if found.groups():
        assert sum(map(int, found.groups())) == 20  # one is right where the other is wrong


def test_one_plane_of_maps_is_drawn_for_all_models(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["maps", *start(folder)[1:], "--examples", 2, "--resolution", 11, "--extent", "0.4"]
    status, said, _ = run(capsys, *words, "--plane-figure", tmp_path / "plane.png")
    assert status == 0
    assert "agreement with model 1" in said
    assert (tmp_path / "plane.png").stat().st_size > 1000
    complaint = refused(capsys, *words, "--figure", "f.png", "--plane-figure", "f.png")
    assert "--figure and --plane-figure must be different files, got 'f.png' twice" in complaint


@pytest.mark.slow
def test_the_demo_writes_every_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said, _ = run(capsys, "demo", "--out", tmp_path, "--device", "cpu")
    assert status == 0
    maps = {f"maps-{kind}" for kind in ("fgsm_random", "fgsm_adversarial", "random")}
    compared = {"transfer", "overlap", "boundary_distances"}
    one = {"lines-fgsm", "dimension"}
    assert {path.stem for path in tmp_path.glob("*.png")} == maps | compared | one | {"accuracy", "mistakes"}
    assert {path.stem for path in tmp_path.glob("*.zarr")} == maps | compared | one
    for path in tmp_path.glob("*.png"):
        assert path.name in said


def test_words_are_those_of_the_library_and_each_option_belongs_somewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(TransferAttack) == set(SETTINGS)
    status, said, _ = run(capsys, "transfer", "--help")
    assert status == 0
    for option in BELONGS:
        assert f"  {option} " in said
    for measure in Measure:
        assert measure.value in said
