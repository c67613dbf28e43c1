"""The reference lists every public name; that it can be built is what `make docs` sees to."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import boundarygeo as bg

DOCS = Path(__file__).parent.parent / "docs"

# Rooms that users do not import from: what is public in them is public in boundarygeo, or for other rooms only.
INSIDE = {"attacks", "cli", "evaluation", "lines", "maps", "results", "subspace", "transfer"}
ROOMS = sorted(room.name for room in pkgutil.iter_modules(bg.__path__) if room.ispkg and room.name not in INSIDE)
MODULES = ["boundarygeo", "boundarygeo.theory", *(f"boundarygeo.{room}" for room in ROOMS)]


def listed():
    """Names below each `.. api:: module` of the reference."""
    found = {}
    for page in sorted(DOCS.glob("*.rst")):
        text = page.read_text(encoding="utf-8")
        for module, names in re.findall(r"^\.\. api:: (\S+)\n\n((?:   \S+\n)+)", text, re.M):
            found.setdefault(module, []).extend(names.split())
    return found


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference_once(module):
    room = importlib.import_module(module)
    public = set(room.__all__) - {"__version__", "theory", *ROOMS}
    if room is not bg:  # what boundarygeo itself has is listed there
        public = {name for name in public if name not in bg.__all__ or getattr(bg, name) is not getattr(room, name)}
    assert sorted(public) == sorted(listed().get(module, [])), "put it into a group of docs/*.rst"


def test_names_in_the_reference_exist():
    for module, names in listed().items():
        assert not [name for name in names if not hasattr(importlib.import_module(module), name)]


def test_every_page_is_in_the_table_of_contents():
    pages = {page.stem for page in DOCS.iterdir() if page.suffix in (".rst", ".md")} - {"index"}
    assert pages <= set(re.findall(r"^   (\S+)$", (DOCS / "index.rst").read_text(encoding="utf-8"), re.M))
