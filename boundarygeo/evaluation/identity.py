"""Digests of modules and functions, which change with anything that decides what these compute."""

import builtins
import enum
import functools
import hashlib
import os
import sys
import sysconfig
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from boundarygeo.evaluation.copies import HOOKS, unwrapped

DIGITS = 16
_ATOMS = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.layout, torch.memory_format)
# Attributes that no forward pass reads, or that are always set for evaluation.
_BOOKKEEPING = frozenset(vars(nn.Module())) | {"training", "_compiled_call_impl", "_backward_pre_hooks"}
_LIBRARIES = tuple(
    {
        f"{Path(path).resolve()}{os.sep}"
        for path in (
            *(sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")),
            Path(__file__).parents[1],
        )
    }
)


def state_digest(module: nn.Module) -> str:
    """First 16 hex digits of the SHA-256 over names, dtypes, shapes and values of parameters and buffers."""
    return _digest_of(lambda writer: writer.tensors(unwrapped(module)))


def structure_digest(module: nn.Module) -> str:
    """First 16 hex digits of the SHA-256 over what decides a module's output besides parameters and buffers.

    That is the tree of layers, their attributes (plain values, arrays, and objects made of them), their hooks, and the
    code of classes and functions; those of installed packages go by name. It is the same in every process.
    """
    return _digest_of(lambda writer: writer.write(unwrapped(module)))


def code_digest(function: Any) -> str:
    """First 16 hex digits of the SHA-256 over a function's code, defaults, closure and the globals that it names.

    Functions of installed packages are identified by name.
    """
    return _digest_of(lambda writer: writer.write(function))


def _digest_of(write: Any) -> str:
    writer = _Writer()
    write(writer)
    return writer.digest.hexdigest()[:DIGITS]


class _Writer:
    """Feeds values to a digest, each object once, so that cycles terminate."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # keeps objects alive, so that no id is reused

    def write(self, value: Any) -> None:
        if value is None or isinstance(value, _ATOMS):
            self._text(f"{type(value).__name__} {value!r}")
            return
        if isinstance(value, np.generic):
            self._bytes(str(value.dtype), np.asarray(value))
            return
        if id(value) in self._seen:
            self._text(f"again {self._seen[id(value)]}")
            return
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)
        self._write_once(value)
        if isinstance(value, tuple | frozenset):  # Python may or may not share equal ones
            del self._seen[id(value)]

    def _write_once(self, value: Any) -> None:
        if isinstance(value, enum.Enum):
            self._text(f"{type(value).__qualname__}.{value.name}")
        elif isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray):
            self._bytes(f"{value.dtype} {value.shape}", value)
        elif isinstance(value, nn.Module):
            self._module(value)
        elif isinstance(value, Mapping):
            self._sequence("mapping", [part for item in value.items() for part in item])
        elif isinstance(value, list | tuple):
            self._sequence(type(value).__name__, value)
        elif isinstance(value, set | frozenset):
            self._sequence("set", sorted(value, key=repr))
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, functools.partial):
            self._sequence("partial", [value.func, value.args, value.keywords])
        elif isinstance(value, types.MethodType):
            self._sequence("method", [value.__func__, value.__self__])
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, staticmethod | classmethod):
            self.write(value.__func__)
        elif isinstance(value, property):
            self._sequence("property", [value.fget, value.fset])
        elif isinstance(value, types.CodeType):
            self._sequence(
                "code", [value.co_code, value.co_names, value.co_varnames, value.co_freevars, value.co_consts]
            )
        elif isinstance(value, torch.Generator):
            self._tensor(value.get_state())
        elif callable(value) and hasattr(value, "__qualname__"):  # a built-in
            self._text(f"{getattr(value, '__module__', '')}.{value.__qualname__}")
        else:
            self._class(type(value))
            self.write(getattr(value, "__dict__", None))

    def tensors(self, module: nn.Module) -> None:
        """Parameters and all buffers, persistent or not."""
        named = {
            **dict(module.named_parameters(remove_duplicate=False)),
            **dict(module.named_buffers(remove_duplicate=False)),
        }
        for name, value in sorted(named.items()):
            self._text(name)
            self._tensor(value)

    def _module(self, module: nn.Module) -> None:
        self._class(type(module))
        if isinstance(module, torch.jit.ScriptModule):
            self._text(getattr(module, "code", ""))
            own: dict[str, Any] = {}
        elif isinstance(module, torch.fx.GraphModule):
            self._text(module.code)
            own = {}
        else:
            own = {name: value for name, value in vars(module).items() if name not in _BOOKKEEPING}
        self._sequence("attributes", [part for item in sorted(own.items()) for part in item])
        for kind in HOOKS:  # keyed by a counter of the process, which is left out
            hooks = getattr(module, kind, None) or {}
            self._sequence(kind, list(hooks.values()))
        names = (name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)))
        self._sequence("tensors", list(names))
        for name, child in module.named_children():
            self._text(name)
            self.write(unwrapped(child))

    def _class(self, kind: type) -> None:
        self._text(f"{kind.__module__}.{kind.__qualname__}")
        if is_installed(kind.__module__) or id(kind) in self._seen:
            return
        self._seen[id(kind)] = len(self._seen)
        for base in kind.__bases__:
            self._class(base)
        skipped = {"__module__", "__dict__", "__weakref__", "__doc__", "__firstlineno__", "__static_attributes__"}
        for name, member in sorted(vars(kind).items()):
            if name not in skipped:
                self._text(name)
                self.write(member)

    def _function(self, function: types.FunctionType) -> None:
        if is_installed(function.__module__):
            self._text(f"{function.__module__}.{function.__qualname__}")
            return
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        self._sequence("function", [function.__code__, function.__defaults__, function.__kwdefaults__, cells])
        for name in function.__code__.co_names:  # globals and attributes
            if name in function.__globals__ and not hasattr(builtins, name):
                self._text(name)
                self._global(function.__globals__[name])

    def _global(self, value: Any) -> None:
        """A value that code refers to: code and data in full, other objects by type."""
        written = (*_ATOMS, Tensor, np.ndarray, np.generic, list, tuple, dict, type, types.FunctionType, nn.Module)
        if value is None or isinstance(value, written):
            self.write(value)
        else:
            self._text(getattr(value, "__name__", type(value).__qualname__))

    def _sequence(self, kind: str, values: Any) -> None:
        self._text(f"{kind} {len(values)}")
        for value in values:
            self.write(value)

    def _tensor(self, value: Tensor) -> None:
        value = value.detach()
        head = f"{value.dtype} {tuple(value.shape)}"
        if value.is_meta or value.is_quantized or value.layout is not torch.strided:
            self._text(head if value.is_meta else f"{head} {value.cpu()!r}")
            return
        flat = value.cpu().contiguous().reshape(-1)
        self._bytes(head, flat.view(torch.uint8).numpy())

    def _bytes(self, head: str, values: np.ndarray) -> None:
        self._text(head)
        if values.dtype.hasobject:  # the bytes would be addresses
            self._sequence("objects", values.ravel().tolist())
        elif values.size:
            self.digest.update(np.ascontiguousarray(values).data)

    def _text(self, text: str) -> None:
        encoded = text.encode()
        self.digest.update(len(encoded).to_bytes(8, "little"))
        self.digest.update(encoded)


@functools.cache
def is_installed(module: str) -> bool:
    """Whether a module, by its name, belongs to an installed package or to Python."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return module in sys.builtin_module_names or module == "builtins"
    return is_library_file(file)


def is_library_file(file: str) -> bool:
    """Whether a file belongs to an installed package, to Python or to this package."""
    return str(Path(file).resolve()).startswith(_LIBRARIES)


def _is_filled(cell: types.CellType) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True
