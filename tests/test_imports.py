"""The layout shows the architecture: which room may import from which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "boundarygeo"

# Each room may import from the rooms named here (and from itself). The geometry never imports zoo, training,
# defences or plots; drawing never computes; nothing imports the command line.
ALLOWED: dict[str, set[str]] = {
    "_version": set(),
    "choices": set(),
    "lazy": set(),
    "linalg": set(),
    "checks": set(),
    "evaluation": {"checks", "losses"},
    "results": {"_version", "lazy"},
    "losses": set(),
    "adapters": set(),
    "classifier": {"adapters", "checks", "evaluation", "losses", "results"},
    "layout": {"classifier"},
    "points": {"classifier", "layout"},
    "directions": {"checks", "classifier", "evaluation", "linalg"},
    "attacks": {"checks", "losses", "classifier", "evaluation", "linalg", "directions", "results"},
    "subspace": {
        "checks", "attacks", "classifier", "directions", "evaluation", "layout", "linalg", "losses", "results",
    },
    "maps": {"checks", "classifier", "directions", "evaluation", "linalg", "losses", "points", "results"},
    "lines": {"checks", "attacks", "classifier", "directions", "evaluation", "linalg", "losses", "points", "results"},
    "representations": {"checks", "classifier", "directions", "evaluation", "results"},
    "transfer": {
        "attacks", "checks", "classifier", "directions", "evaluation", "layout", "linalg", "lines", "losses", "maps",
        "results", "subspace",
    },
    "theory": {"subspace", "transfer"},
    # Defences make classifiers of classifiers; what certifies one is a result like any other.
    "defences": {"checks", "attacks", "classifier", "directions", "evaluation", "results"},
    # Everything that measures, on many classifiers: it stands above all instruments, and knows no checkpoints.
    "comparison": {
        "attacks", "checks", "classifier", "defences", "directions", "evaluation", "lines", "representations",
        "results", "runs", "subspace", "transfer",
    },
    # Any analysis in chunks: it is told which, and knows none.
    "runs": {"classifier", "directions", "evaluation", "lazy", "results"},
    "plots": {
        "attacks", "comparison", "defences", "lines", "maps", "representations", "results", "subspace", "transfer",
    },
    "explorer": {"maps", "plots", "results"},
    "zoo": set(),
    "training": {"checks", "attacks", "classifier", "losses", "results", "zoo"},
    # It calls the package as its users do, whose public names load what they need when they are used.
    "cli": {
        "__init__", "adapters", "classifier", "comparison", "directions", "evaluation", "explorer", "lines", "maps",
        "plots", "results", "runs", "subspace", "training", "transfer", "zoo",
    },
    "__main__": {"cli"},
    "__init__": {
        "_version", "attacks", "classifier", "comparison", "defences", "directions", "lines", "maps", "plots",
        "representations", "results", "runs", "subspace", "theory", "training", "transfer", "zoo",
    },
}  # fmt: skip


def imports_of(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "boundarygeo":
                rooms.add(".".join(parts[1:2]) or "__init__")
    return rooms


FILES = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")])


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_only_what_stands_below_them(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].split(".")[0]
    assert room in ALLOWED, f"a new room: say in ALLOWED what {room} may import"
    forbidden = imports_of(path) - ALLOWED[room] - {room, "choices"}  # choices know nothing
    assert not forbidden, f"{room} must not import {sorted(forbidden)}"


def loaded_after(code: str) -> set[str]:
    """Top-level packages, and rooms of this one, in a process that has run some code."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    names = [name.split(".") for name in done.stdout.split()]
    return {".".join(parts[:2]) if parts[0] == "boundarygeo" else parts[0] for parts in names}


SLOW = {"torch", "numpy", "scipy", "xarray", "zarr", "matplotlib", "seaborn", "typer"}


def test_importing_the_package_loads_nothing_and_computing_loads_neither_drawing_nor_training() -> None:
    assert loaded_after("import boundarygeo; dir(boundarygeo)") & SLOW == set()
    loaded = loaded_after("from boundarygeo import *")  # all public names, rooms among them
    assert {"torch", "boundarygeo.plots", "boundarygeo.transfer"} <= loaded
    assert not loaded & {"boundarygeo.cli", "typer"}
    loaded = loaded_after("from boundarygeo import Classifier, boundary_maps, transfer_matrix, run, load")
    assert not loaded & {"matplotlib", "seaborn", "boundarygeo.plots", "boundarygeo.training", "boundarygeo.zoo"}


def test_what_is_not_public_is_no_attribute() -> None:
    import boundarygeo

    assert not hasattr(boundarygeo, "no_such_name")
    assert {"Classifier", "plots", "__version__"} <= set(dir(boundarygeo))


def test_names_that_have_moved_warn_and_still_work() -> None:
    import boundarygeo

    with pytest.warns(DeprecationWarning, match=r"boundarygeo.certify is now boundarygeo.defences.certify"):
        assert boundarygeo.certify is boundarygeo.defences.certify
    with pytest.warns(DeprecationWarning, match=r"is now boundarygeo.theory.gaas_frame"):
        assert boundarygeo.gaas_frame is boundarygeo.theory.gaas_frame
