"""What readers see first: links lead somewhere, code names what exists, and every figure says where it came from."""

import ast
import importlib.resources
import re
import sys
import tomllib
from pathlib import Path

import pytest

import boundarygeo as bg

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / "benchmarks" / name for name in ("README.md", "scale.md")),
]
MOST_WORDS = 1000
FIGURES = sorted(path for path in (ROOT / "figures").glob("*.png") if not path.stem.startswith("training"))

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
each_figure = pytest.mark.parametrize("figure", FIGURES, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def declared():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import figures
    finally:
        sys.path.pop(0)
    return figures.DECLARED


def anchors(page):
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            found = (page.parent / path).resolve() if path else page
            assert found.exists(), target
            assert not anchor or anchor in anchors(found), target


@each_page
def test_code_is_python_and_names_what_is_public(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "bg":
                assert node.attr in bg.__all__
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "bg.plots":
                assert node.attr in bg.plots.__all__


def test_the_readme_is_short():
    text = re.sub(r"^```.*?^```", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.S | re.M)
    without_images = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)
    shown = re.sub(r"\]\([^)]*\)", "]", without_images)  # no addresses of links
    words = [word for word in re.split(r"[\s|]+", shown) if re.search(r"\w", word)]
    assert len(words) <= MOST_WORDS


def test_the_readme_leads_to_every_page_for_readers():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in (ROOT / "docs").glob("*.md") if f"(docs/{path.name})" not in text] == []


def test_the_citation_has_the_version_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.M)[1] == project["version"]


def test_type_checkers_find_the_annotations():
    assert importlib.resources.files(bg).joinpath("py.typed").is_file()


def test_figures_are_those_of_the_list(declared):
    assert sorted(figure.name for figure in declared) == sorted(path.stem for path in FIGURES)


@each_figure
def test_captions_say_where_a_figure_came_from(figure, declared):
    caption = figure.with_suffix(".md").read_text(encoding="utf-8")
    (entry,) = [one for one in declared if one.name == figure.stem]
    assert f"![{entry.name}]({entry.name}.png)\n\n{entry.shows}\n" in caption
    for row in ("command", "measured", "seed", "model", "data", "device", "versions", "cost"):
        assert re.search(rf"^\| {row} \| \S.* \|$", caption, re.M)
    assert f"| data | {entry.data} |" in caption
    assert re.search(r"SHA-256 `[0-9a-f]{16}`", caption)


@each_figure
def test_the_readme_shows_every_figure(figure):
    assert f"figures/{figure.name}" in (ROOT / "README.md").read_text(encoding="utf-8")
