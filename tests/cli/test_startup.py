"""Help, refused options and the status of runs wait for nothing that is slow to load."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from long_runs import interrupted, whole_run

from boundarygeo import __version__
from boundarygeo.cli import app

GROUP = typer.main.get_command(app)
COMMANDS = [[name] for name in GROUP.commands]  # type: ignore[attr-defined]
COMMANDS += [["transfer", name] for name in GROUP.commands["transfer"].commands]  # type: ignore[attr-defined]

MODEL = ["--model", "nets:a"]
TWO = [*MODEL, "--model", "nets:b"]
REFUSED = {
    "unknown command": ["fly"],
    "unknown option": ["maps", "--colour", "red"],
    "missing option": ["dims", *MODEL],
    "missing argument": ["status"],
    "missing store": ["status", "nowhere.zarr"],
    "not a number": ["lines", *MODEL, "--points", "many"],
    "not a choice": ["lines", *MODEL, "--direction", "up"],
    "none of several choices": ["accuracy", *MODEL, "--attack", "cw"],
    "out of range": ["maps", *MODEL, "--examples", "0"],
    "not positive": ["pieces", *MODEL, "--extent", "0"],
    "even resolution": ["maps", *MODEL, "--resolution", "128"],
    "nothing to keep": ["maps", *MODEL, "--keep", "logits"],
    "figure format": ["distances", *MODEL, "--figure", "f.docx"],
    "figure exists": ["distances", *MODEL, "--figure", "there.png"],
    "store exists": ["distances", *MODEL, "--out", "there.png"],
    "one store for two": ["accuracy", *TWO, "--out", "a.zarr"],
    "settings that do not fit": ["dims", *MODEL, "--eps", "1", "--method", "frame", "--norm", "linf"],
    "option of another engine": ["dims", *MODEL, "--eps", "1", "--workers", "2"],
    "one model": ["transfer", "matrix", *MODEL, "--eps", "1"],
    "models alike": ["transfer", "matrix", *MODEL, *MODEL, "--eps", "1"],
    "no eps": ["transfer", "matrix", *TWO],
    "steps of FGSM": ["transfer", "matrix", *TWO, "--eps", "1", "--attack", "fgsm", "--steps", "3"],
    "few restarts": ["transfer", "overlap", *TWO, "--eps", "1", "--dimension", "4", "--restarts", "3"],
    "option of another command": ["transfer", "agreement", *TWO, "--chunk-size", "3"],
    "training method": ["train", "--out", "m.pt", "--method", "magic"],
    "training epochs": ["train", "--out", "m.pt", "--epochs", "0"],
    "training options that clash": ["train", "--out", "m.pt", "--resume", "--overwrite"],
    "checkpoint exists": ["train", "--out", "there.png"],
    "study": ["maps", "--study", "none.toml"],
    "instrument": ["compare", "a.pt", "--instruments", "barometer"],
    "page": ["explore", "maps.zarr", "--out", "page.txt"],
}

PROGRAM = """
import json, sys
from boundarygeo.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as stopped:
        slow = {"torch", "numpy", "scipy", "xarray", "zarr", "matplotlib", "seaborn", "torchvision"} & set(sys.modules)
        print(json.dumps([stopped.code, sorted(slow)]), file=sys.stderr)
"""


def outcomes(cases: list[list[str]], folder: Path) -> list[tuple[int, list[str]]]:
    """Exit status of each command line, and what is loaded after it, in a process of its own."""
    words = [sys.executable, "-c", PROGRAM, json.dumps(cases)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=folder)
    lines = [line for line in done.stderr.splitlines() if line.startswith("[")]
    return [tuple(json.loads(line)) for line in lines]


def test_help_loads_nothing_slow(tmp_path: Path) -> None:
    cases = [[], ["--help"], ["--version"], ["transfer"], *([*command, "--help"] for command in COMMANDS)]
    assert len(cases) > 20
    found = outcomes(cases, tmp_path)
    assert dict(zip(map(" ".join, cases), found, strict=True)) == dict.fromkeys(map(" ".join, cases), (0, []))


def test_refused_options_load_nothing_slow_and_write_nothing(tmp_path: Path) -> None:
    (tmp_path / "there.png").write_text("precious")
    found = outcomes(list(REFUSED.values()), tmp_path)
    assert dict(zip(REFUSED, found, strict=True)) == dict.fromkeys(REFUSED, (2, []))
    assert [path.name for path in tmp_path.iterdir()] == ["there.png"]


def test_the_status_of_runs_loads_nothing_slow(tmp_path: Path) -> None:
    finished = whole_run(tmp_path / "finished.zarr")
    interrupted(tmp_path / "unfinished.zarr", 2)
    chunk = next(file for file in (finished / "labels" / "c").rglob("*") if file.is_file())
    chunk.write_bytes(b"damaged" + chunk.read_bytes())
    cases = [["status", str(finished), str(tmp_path / "unfinished.zarr"), *more] for more in ([], ["--verify"])]
    assert outcomes(cases, tmp_path) == [(0, []), (1, [])]


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert app(args=["--version"], prog_name="boundarygeo", standalone_mode=False) == 0
    assert capsys.readouterr().out == f"boundarygeo {__version__}\n"
