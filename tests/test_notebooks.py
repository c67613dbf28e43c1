import ast
import json
from pathlib import Path

import matplotlib as mpl
import pytest

import boundarygeo as bg
from boundarygeo.plots.style import STYLE, styled

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ROOMS = {
    "boundarygeo",
    "boundarygeo.comparison",
    "boundarygeo.comparison.tables",
    "boundarygeo.explorer",
    "boundarygeo.results.statistics",
    "boundarygeo.training",
    "boundarygeo.zoo",
}

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def parameters(path):
    (cell,) = [cell for cell in cells(path, "code") if "parameters" in cell["metadata"].get("tags", ())]
    return cell


def trees(path):
    return [ast.parse("".join(cell["source"])) for cell in cells(path, "code")]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 6


@each_notebook
def test_outputs_are_stripped(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert set(content["metadata"]) == {"kernelspec", "language_info"}
    for cell in cells(path, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None


@each_notebook
def test_the_first_code_cell_holds_the_parameters_and_nothing_else(path):
    cell = parameters(path)
    assert cell == cells(path, "code")[0]
    body = ast.parse("".join(cell["source"])).body
    assert all(isinstance(line, ast.Assign) for line in body)
    names = {name.id for line in body for name in ast.walk(line) if isinstance(name, ast.Name)}
    assert {"DATA", "EXAMPLES", "SEED"} <= names
    used = {name.id for tree in trees(path)[1:] for name in ast.walk(tree) if isinstance(name, ast.Name)}
    assert names <= used


@each_notebook
def test_imports_are_public(path):
    for tree in trees(path):
        for line in ast.walk(tree):
            if isinstance(line, ast.ImportFrom) and (line.module or "").startswith("boundarygeo"):
                assert line.module in ROOMS
                assert not any(name.name.startswith("_") for name in line.names)
            if isinstance(line, ast.Attribute) and isinstance(line.value, ast.Name) and line.value.id == "bg":
                assert line.attr in bg.__all__


@each_notebook
def test_notebooks_say_what_they_do_not_show_and_the_readme_lists_them(path):
    text = "".join("".join(cell["source"]) for cell in cells(path, "markdown"))
    assert "## What this does not show" in text
    assert f"notebooks/{path.name}" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_drawing_keeps_the_interactive_mode_that_a_backend_switches_on(monkeypatch):
    # As matplotlib-inline does when the first figure of a notebook loads it.
    monkeypatch.setitem(mpl.rcParams, "interactive", False)
    with styled():
        mpl.interactive(True)
    assert mpl.is_interactive()


def test_drawing_restores_its_settings():
    before = {name: mpl.rcParams[name] for name in STYLE}
    with styled():
        assert mpl.rcParams["font.size"] == STYLE["font.size"]
    assert {name: mpl.rcParams[name] for name in STYLE} == before
