"""The options of all studies: how commands get them, and what is refused before any work."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from command_line import base, refused, run, train

from boundarygeo.choices import INSTRUMENT_NAMES, MAP_EXTRAS, Precision, TrainingMethod, TransferAttack
from boundarygeo.cli.options import StudyOptions, study_command
from boundarygeo.cli.outputs import check_figures, named_stores
from boundarygeo.comparison import INSTRUMENTS
from boundarygeo.evaluation import PRECISIONS
from boundarygeo.maps.maps import PER_PIXEL
from boundarygeo.training import METHODS
from boundarygeo.transfer.matrix import SETTINGS

STUDIES = ("maps", "lines", "distances", "accuracy", "pieces")


@pytest.fixture
def _no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boundarygeo.cli.sources.load_data", lambda spec: pytest.fail("work was begun"))


def test_a_command_gets_what_it_was_called_with_and_its_own_defaults() -> None:
    got = []

    @study_command(examples=7)
    def command(options: StudyOptions, extent: str = "1", points: int = 3) -> None:
        """What it does."""
        got.append((options, extent, points))

    call: Callable[..., None] = command
    call(model=["a"], seed=5, points=4)
    call(model=["a", "b"], examples=2, out=Path("x"))
    assert got == [
        (StudyOptions(["a"], examples=7, seed=5), "1", 4),
        (StudyOptions(["a", "b"], examples=2, out=Path("x")), "1", 3),
    ]
    assert command.__doc__ == "What it does."
    parameters = inspect.signature(command).parameters
    assert list(parameters)[:5] == ["model", "data", "examples", "extent", "points"]
    assert parameters["model"].default is inspect.Parameter.empty
    assert parameters["examples"].default == 7
    assert set(parameters) == {"extent", "points"} | set(StudyOptions.__dataclass_fields__)
    with pytest.raises(TypeError):
        call(model=["a"], colour="red")


def _command(options: StudyOptions) -> None:
    """A command without options of its own."""


def test_commands_that_cannot_be_expanded_are_refused() -> None:
    with pytest.raises(TypeError, match=r"defaults must be of fields of StudyOptions, got \['colour'\]"):
        study_command(colour="red")(_command)
    with pytest.raises(TypeError, match="command must have exactly one parameter of type StudyOptions, got 0"):
        study_command()(lambda extent: None)


@pytest.mark.parametrize("command", STUDIES)
def test_help_shows_the_shared_options_and_the_defaults(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, said, _ = run(capsys, command, "--help")
    assert status == 0
    for option in ("model", "data", "examples", "weights", "mean", "std", "bounds", "seed", "device", "out", "figure"):
        assert f"  --{option} " in said
    assert "[required]" in said
    examples = {"maps": 100, "lines": 6, "distances": 1000, "accuracy": 1000, "pieces": 20}[command]
    assert f"[default: {examples}" in " ".join(said.split())
    assert said.index("--model") < said.index("--examples") < said.index("--weights") < said.index("--overwrite")
    assert "--options" not in said


@pytest.mark.parametrize(
    ("command", "words"),
    [("maps", ["--resolution", 5]), ("lines", ["--points", 2]), ("distances", ["--scan", 2]), ("pieces", [])],
)
def test_examples_are_classified_correctly_unless_others_are_asked_for(
    command: str, words: list[object], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # An untrained network is wrong on some of the 60 examples; warnings are errors but where they are expected.
    bad = tmp_path / "bad.pt"
    train(bad, folder / "data.npz", "softmax_regression", "--learning-rate", 1e-9, "--epochs", 1)
    start = [command, "--model", bad, *base(folder)[3:], "--examples", 60, *words]
    with pytest.warns(UserWarning, match=r"only \d+ of the 60 correctly classified examples"):
        assert run(capsys, *start)[0] == 0
    assert run(capsys, *start, "--include-misclassified")[0] == 0


def test_words_are_those_of_the_library() -> None:
    assert tuple(INSTRUMENTS) == INSTRUMENT_NAMES
    assert get_args(TrainingMethod) == tuple(METHODS)
    assert set(get_args(Precision)) == {"auto", *PRECISIONS}
    assert set(MAP_EXTRAS) == {*PER_PIXEL, "planes"}
    assert get_args(TransferAttack) == tuple(SETTINGS)


def test_stores_count_models_and_name_parts() -> None:
    options = StudyOptions(["a", "b"], out=Path("{attack}/{model}.zarr"))
    assert [str(path) for path in named_stores(options, attack=["x", "y"])] == [
        "x/1.zarr",
        "y/1.zarr",
        "x/2.zarr",
        "y/2.zarr",
    ]
    assert named_stores(StudyOptions(["a"]), attack=["x", "y"]) == []
    one = StudyOptions(["a"], out=Path("plain.zarr"))
    assert named_stores(one, attack=["x"]) == [Path("plain.zarr")]
    with pytest.raises(ValueError, match=r"2 attacks need a store each: put \{attack\} into --out, e.g. result-"):
        named_stores(one, attack=["x", "y"])


def test_figures_are_one_or_one_for_each_model() -> None:
    assert check_figures(StudyOptions(["a", "b"])) == []
    assert check_figures(StudyOptions(["a", "b"], figure=Path("f.png"))) == [Path("f.png")]
    each = StudyOptions(["a", "b"], figure=Path("f{model}.svg"))
    assert check_figures(each) == [Path("f1.svg"), Path("f2.svg")]


BAD_WORDS = {
    "no examples": (STUDIES, ["--examples", "0"], "--examples must be at least 1, not 0"),
    "negative seed": (STUDIES, ["--seed", "-1"], "--seed must be at least 0, not -1"),
    "figure format": (STUDIES, ["--figure", "figure.docx"], "--figure must end in .png, .pdf, .svg: 'figure"),
    "figure exists": (STUDIES, ["--figure", "there.png"], "path must not exist yet, got 'there.png'"),
    "store exists": (STUDIES, ["--out", "there.png"], "path must not exist yet, got 'there.png'"),
    "one file for both": (STUDIES, ["--out", "a.png", "--figure", "a.png"], "--figure and --out are the same file"),
    "one store for two": (STUDIES, ["--model", "x", "--out", "a.zarr"], "put {model} into --out"),
    "extent zero": (("maps", "lines", "pieces"), ["--extent", "0"], "--extent must be a positive number, not '0'"),
    "extent negative": (("maps", "lines", "pieces"), ["--extent", "-1/255"], "--extent must be a positive number"),
    "extent NaN": (("maps", "lines", "pieces"), ["--extent", "nan"], "--extent must be a positive number, not 'nan'"),
    "extent two": (("maps", "lines", "pieces"), ["--extent", "0,1"], "--extent takes one number"),
    "direction": (("lines", "distances", "pieces"), ["--direction", "up"], "--direction"),
    "points": (("lines",), ["--points", "1"], "--points must be at least 2, not 1"),
    "scan": (("distances",), ["--scan", "0"], "--scan must be at least 1, not 0"),
    "reach zero": (("distances",), ["--max-distance", "0"], "--max-distance must be a positive number, not '0'"),
    "reach infinite": (("distances",), ["--max-distance", "inf"], "--max-distance must be a positive number"),
    "direction twice": (
        ("distances",),
        ["--direction", "random", "--direction", "random"],
        "--direction random is given twice",
    ),
    "too many reaches": (
        ("distances",),
        ["--max-distance", "1", "--max-distance", "2"],
        "give --max-distance once, or once for each --direction: 2 for 1 do not match",
    ),
    "one store for two directions": (
        ("distances",),
        ["--direction", "random", "--direction", "fgsm", "--out", "a.zarr"],
        "put {direction} into --out",
    ),
    "attack": (("accuracy",), ["--attack", "cw"], "--attack is one of fgsm, pgd, apgd, square, strongest, not 'cw'"),
    "norm": (("accuracy",), ["--norm", "l1"], "'--norm': "),
    "eps unsorted": (("accuracy",), ["--eps", "0.2,0.1"], "--eps must be strictly ascending"),
    "eps twice": (("accuracy",), ["--eps", "0,0.1,0.1"], "--eps must be strictly ascending"),
    "eps negative": (("accuracy",), ["--eps", "-0.1,0"], "--eps takes finite numbers >= 0"),
    "eps NaN": (("accuracy",), ["--eps", "0,nan"], "--eps takes finite numbers >= 0, not '0,nan'"),
    "eps empty": (("accuracy",), ["--eps", ""], "--eps takes numbers such as 0.5 or 16/255"),
    "steps zero": (("accuracy",), ["--attack", "pgd", "--steps", "0"], "--steps must be at least 1, not 0"),
    "steps of FGSM": (("accuracy",), ["--steps", "5"], "--steps applies to --attack pgd, apgd and strongest only"),
    "attack twice": (("accuracy",), ["--attack", "pgd", "--attack", "pgd"], "--attack pgd is given twice"),
    "one store for two attacks": (
        ("accuracy",),
        ["--attack", "pgd", "--attack", "fgsm", "--out", "a.zarr"],
        "put {attack} into --out",
    ),
    "second figure's format": (("pieces",), ["--cosine-figure", "f.docx"], "--cosine-figure must end in .png"),
    "second figure exists": (("pieces",), ["--cosine-figure", "there.png"], "path must not exist yet"),
    "second figure is the first": (
        ("pieces",),
        ["--cosine-figure", "f.png", "--figure", "f.png"],
        "--figure and --cosine-figure are the same file, f.png",
    ),
}


@pytest.mark.usefixtures("_no_work")
@pytest.mark.parametrize(
    ("command", "case"), [(command, case) for case, (commands, *_) in BAD_WORDS.items() for command in commands]
)
def test_bad_words_are_one_line_and_refused_before_any_work(
    command: str,
    case: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, words, message = BAD_WORDS[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").write_text("precious")
    assert message in refused(capsys, *base(folder, command), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]
    assert (tmp_path / "there.png").read_text() == "precious"
