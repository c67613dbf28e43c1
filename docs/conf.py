"""The API reference, built from the docstrings by `make docs`; the pages need neither a network nor a server."""

import ast
import importlib
import inspect
import re
from typing import Any, ClassVar

import typer
from docutils import nodes
from docutils.parsers.rst import directives
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

import boundarygeo
from boundarygeo import Result, __version__
from boundarygeo.cli import app as commands

logger = logging.getLogger(__name__)

project = "boundarygeo"
author = "The boundarygeo authors"
release = version = __version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_parser",
]
exclude_patterns = ["_build"]

myst_heading_anchors = 3
# Benchmarks and notebooks are not built: links to them lead from docs/_build/html into the repository.
myst_url_schemes = {"https": None, "repository": "../../../{{path}}#{{fragment}}"}

html_theme = "furo"
html_title = f"boundarygeo {release}"
html_copy_source = False
html_static_path: list[str] = []
html_math_renderer = "mathml"  # browsers draw it themselves: MathJax would have to be fetched or carried along

# Single backticks link what they name where it has a place in this reference, and are plain code otherwise.
default_role = "py:obj"
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar = True
napoleon_preprocess_types = False
python_maximum_signature_line_length = 88

PUBLIC = ("", ".theory", ".defences", ".comparison", ".plots", ".training", ".zoo", ".explorer", ".runs")
"""Rooms whose public names must all be in the reference."""

BARS = re.compile(r"(?<![`\\])\|")
SIZES = re.compile(r"\\[Bb]igg?[lr]?(?![a-zA-Z])")


class Api(SphinxDirective):
    """Public names of a module: a table of their first lines, then each of them.

    The argument is the module, the content one name per line.
    """

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Expand to autosummary and autodoc."""
        module = self.arguments[0]
        names = [line.strip() for line in self.content if line.strip()]
        found = {name: getattr(importlib.import_module(module), name) for name in names}
        called = [name for name, public in found.items() if callable(public)]
        lines = [f".. currentmodule:: {module}", "", ".. autosummary::", "", *(f"   {name}" for name in called), ""]
        for name, public in found.items():
            lines += [*(_documented(name, public) if name in called else _constant(module, name)), ""]
        return self.parse_text_to_nodes("\n".join(lines))


def _documented(name: str, public: Any) -> list[str]:
    if inspect.isclass(public):
        directive = "autoexception" if issubclass(public, BaseException) else "autoclass"
        return [f".. {directive}:: {name}", "   :members:"]
    return [f".. autofunction:: {name}"]


def _constant(module: str, name: str) -> list[str]:
    """A constant with the string below it, from the file that defines it; autodoc would show that of its type."""
    source = inspect.getsource(importlib.import_module(module))
    imported = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module]
    origin = next((node.module for node in imported if name in [one.name for one in node.names]), module)
    about = ModuleAnalyzer.for_module(str(origin)).find_attr_docs()["", name]
    return [f".. py:data:: {name}", "", *(f"   {line}" for line in about)]


class Commands(SphinxDirective):
    """Every command of the command line with its options, from the parser itself."""

    option_spec: ClassVar[dict[str, Any]] = {"except": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        """Make one section per command."""
        group = typer.main.get_command(commands)
        context = typer.Context(group, info_name="boundarygeo")
        return self._sections(group, context)

    def _sections(self, group: Any, context: typer.Context) -> list[nodes.Node]:
        """One section per command, and per command of a group of commands."""
        found: list[nodes.Node] = []
        for name, command in group.commands.items():
            found.append(self._section(name, command, context))
            if hasattr(command, "commands"):
                found += self._sections(command, typer.Context(command, info_name=name, parent=context))
        return found

    def _section(self, name: str, command: Any, parent: Any) -> nodes.section:
        path = f"{parent.command_path} {name}"
        section = nodes.section(ids=["command-" + "-".join(path.split()[1:])], names=[path])
        section += nodes.title(text=path)
        for paragraph in (command.help or "").replace("\b", "").split("\n\n"):
            section += nodes.paragraph(text=" ".join(paragraph.split()))
        context = typer.Context(command, info_name=name, parent=parent)
        options = nodes.definition_list()
        for words, about in filter(None, (option.get_help_record(context) for option in command.params)):
            if words != "-h, --help":
                term = nodes.term("", "", nodes.literal(text=words))
                options += nodes.definition_list_item("", term, nodes.definition("", nodes.paragraph(text=about)))
        section += options
        return section


def links_into_the_repository(app: Sphinx, page: str, source: list[str]) -> None:
    """Mark links of Markdown pages that leave docs/, which are written as on any page of the repository."""
    source[0] = source[0].replace("](../", "](repository:")


def plain_signature(app: Sphinx, what: str, name: str, public: Any, options: Any, signature: Any, result: Any) -> Any:
    """Results come from functions: their long lists of fields are no call that anybody writes."""
    if what == "class" and issubclass(public, Result):
        return "", None
    return None


def plain_bars(app: Sphinx, what: str, name: str, public: Any, options: Any, lines: list[str]) -> None:
    """Leave absolute values as they are written: between bars reStructuredText expects the name of a substitution."""
    formula = False
    for number, line in enumerate(lines):
        formula = line.lstrip().startswith(".. math::") or (formula and line.startswith(" "))
        if not formula:
            lines[number] = BARS.sub(r"\|", line)


def all_names_are_there(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn, and so fail, where a public name is missing."""
    documented = env.domaindata["py"]["objects"]
    for room in PUBLIC:
        module = importlib.import_module(f"boundarygeo{room}")
        for name in module.__all__:
            shared = name in boundarygeo.__all__ and getattr(boundarygeo, name) is getattr(module, name)
            place = boundarygeo if shared else module
            if f"{place.__name__}.{name}" not in documented and f".{name}" not in (*PUBLIC, ".__version__"):
                logger.warning("%s.%s is public but in no group of docs/", module.__name__, name)


def visit_math(translator: Any, node: nodes.Element) -> None:
    """Write a formula as MathML."""
    block = isinstance(node, nodes.math_block)
    try:
        markup = tex2mathml(SIZES.sub("", node.astext()), as_block=block)  # in MathML brackets grow by themselves
    except MathError as error:
        logger.warning("formula %r: %s", node.astext(), error, location=node)
        markup = ""
    translator.body.append(markup)
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Register the directives, the formulas, and the check that nothing public is missing."""
    app.add_directive("api", Api)
    app.add_directive("commands", Commands)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    app.connect("source-read", links_into_the_repository)
    app.connect("autodoc-process-signature", plain_signature)
    app.connect("autodoc-process-docstring", plain_bars, priority=400)  # before Google's sections are rearranged
    app.connect("env-check-consistency", all_names_are_there)
