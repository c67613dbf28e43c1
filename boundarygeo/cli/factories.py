"""Modules from user code, with errors that point to the place in it."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from boundarygeo.cli.words import did_you_mean
from boundarygeo.evaluation import is_library_file


def make_module(model: str) -> nn.Module:
    """The module made by a factory."""
    name, _, attribute = model.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # the user's own files, as for `python -m`
    factory = _find(name, attribute, model)
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise ValueError(f"--model must name a factory, got {type(factory).__name__} for {model!r}")
    if needed := _needed_arguments(factory):
        raise ValueError(
            f"--model {model} needs arguments ({', '.join(needed)}; {_place_of(factory)}): "
            "write a function without arguments that returns the module"
        )
    try:
        module = factory()
    except (Exception, SystemExit) as error:  # user code may raise anything
        raise ValueError(f"--model {model} failed with {_said(error)}") from error
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"--model {model} must make a torch.nn.Module, got {type(module).__name__} ({_place_of(factory)})"
        )
    return module


def _find(name: str, attribute: str, model: str) -> Any:
    try:
        found = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # importing user code may raise anything
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            stem = name.removesuffix(".py")
            hint = f": write {stem}:{attribute}" if stem != name else ""
            raise ValueError(
                f"--model must name a factory that can be imported, got {model!r}: {error.msg}{hint}"
            ) from error
        raise ValueError(f"--model {model} cannot be imported: {_said(error)}") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            hint = did_you_mean(part, [key for key in vars(found) if not key.startswith("_")])
            raise ValueError(f"--model must name a factory, got {model!r}: {name} has no {part!r}{hint}")
        found = getattr(found, part)
    return found


def _needed_arguments(factory: Callable[..., Any]) -> list[str]:
    """Names of the arguments without a default."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in parameters if each.default is each.empty and each.kind not in optional]


def _place_of(factory: Any) -> str:
    """File and line of a definition."""
    try:
        origin = inspect.unwrap(getattr(factory, "func", factory))
        lines, first = inspect.getsourcelines(origin)
        decorators = next(
            (k for k, line in enumerate(lines) if line.lstrip().startswith(("def ", "class ", "async "))), 0
        )
        return _place(inspect.getfile(origin), first + decorators)
    except (OSError, TypeError):
        return "no source file"


def _said(error: BaseException) -> str:
    """An exception with its place in user files: the innermost one outside libraries."""
    message = (str(error).splitlines() or [""])[0]
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{type(error).__name__}: {error.msg} ({_place(error.filename, error.lineno)})"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<") and not is_library_file(frame.filename)]
    place = f" ({_place(own[-1].filename, own[-1].lineno)})" if own else ""
    return f"{type(error).__name__}: {message}{place}" if message else f"{type(error).__name__}{place}"


def _place(file: str, line: int | None) -> str:
    path = Path(file).resolve()
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{line}"
