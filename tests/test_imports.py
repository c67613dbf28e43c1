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
    "linalg": set(),
    "evaluation": set(),
    # What may be replaced is known where anything is written, and knows nothing itself.
    "overwriting": {"_version"},
    "results": {"_version", "overwriting"},
    "losses": set(),
    "classifier": {"evaluation", "losses", "results"},
    "layout": {"classifier"},
    "hadamard": set(),
    "directions": {"classifier", "evaluation", "linalg"},
    "attacks": {"losses", "classifier", "evaluation", "linalg", "directions", "results", "statistics"},
    "subspace": {
        "attacks", "classifier", "directions", "evaluation", "hadamard", "layout", "linalg", "losses", "results",
        "statistics",
    },
    "sections": {
        "layout", "losses", "attacks", "classifier",
        "evaluation", "linalg", "directions", "results", "statistics",
    },
    "transfer": {
        "attacks", "classifier", "directions", "evaluation", "layout", "linalg", "losses", "results", "sections",
        "statistics", "subspace",
    },
    # Defences make classifiers of classifiers; what certifies one is a result like any other.
    "defences": {"attacks", "classifier", "directions", "evaluation", "results", "statistics"},
    # Everything that measures, on many classifiers: it stands above all instruments, and knows no checkpoints.
    "comparison": {
        "attacks", "classifier", "defences", "directions", "evaluation", "overwriting", "results", "runs", "sections",
        "statistics", "subspace", "transfer",
    },
    # Any analysis in chunks: it is told which, and knows none.
    "runs": {"classifier", "directions", "evaluation", "overwriting", "results"},
    "plots": {"comparison", "defences", "overwriting", "results", "sections", "statistics", "subspace", "transfer"},
    "explorer": {"overwriting", "plots", "sections"},
    "statistics": set(),
    "zoo": set(),
    "training": {"attacks", "classifier", "losses", "overwriting", "results", "zoo"},
    "cli": {
        "classifier", "comparison", "directions", "evaluation", "explorer", "overwriting", "plots", "results",
        "runs", "sections", "statistics", "subspace", "training", "transfer", "zoo",
    },
    "__main__": {"cli"},
    "__init__": {
        "_version", "attacks", "classifier", "defences", "results", "runs",
        "sections", "directions", "plots", "subspace", "transfer",
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
                rooms.add(parts[1])
    return rooms


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_import_only_what_stands_below_them(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in ALLOWED, f"a new room: say in ALLOWED what {room} may import"
    forbidden = imports_of(path) - ALLOWED[room] - {room}
    assert not forbidden, f"{room} must not import {sorted(forbidden)}"


def test_importing_the_package_loads_neither_drawing_nor_training_nor_the_command_line() -> None:
    code = (
        "import sys, boundarygeo; "
        "print([m for m in sys.modules if m.split('.')[0] in ('matplotlib', 'seaborn', 'typer') "
        "or m.startswith(('boundarygeo.plots', 'boundarygeo.training', 'boundarygeo.zoo', 'boundarygeo.cli'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
