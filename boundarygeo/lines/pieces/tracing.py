"""Traces a module into a graph of operations."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

_TORCH = str(Path(torch.__file__).parent)


class Normalisation(nn.Module):
    """The classifier's normalisation as an affine layer, which is not traced."""

    def __init__(self, normalise: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.normalise = normalise

    def forward(self, x: Tensor) -> Tensor:
        """Inputs to normalised inputs."""
        return self.normalise(x)


class Pipeline(nn.Module):
    """A module behind the clamp to the bounds (if any) and the normalisation."""

    def __init__(
        self, module: nn.Module, normalise: Callable[[Tensor], Tensor], bounds: tuple[float, float] | None
    ) -> None:
        super().__init__()
        self.module = module
        self.normalisation = Normalisation(normalise)
        self.bounds = bounds

    def forward(self, x: Tensor) -> Tensor:
        """Points to logits."""
        if self.bounds is not None:
            x = torch.clamp(x, *self.bounds)
        return self.module(self.normalisation(x))


class _Tracer(fx.Tracer):
    """Records each node's layer, and the layer in which tracing failed."""

    def __init__(self) -> None:
        super().__init__()
        self.path = ""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Normalisation) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        outer, self.path = self.path, self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        self.path = outer  # not in a `finally`: after an error, the path shows where it happened
        return result

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        node.meta["owner"] = self.path
        return node


def trace(pipeline: Pipeline) -> fx.Graph:
    """The graph of operations of a pipeline in evaluation mode, with in-place ones replaced by plain ones.

    Each node's `meta["owner"]` is the path of the module that calls it. Modules' `inplace` settings are switched off.
    """
    tracer = _Tracer()
    try:
        graph = tracer.trace(pipeline)
    except Exception as error:  # user code may fail under tracing in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"torch.fx cannot trace the module, error in {described(tracer.path)}{_calling(error)}: {reason}"
        ) from error
    _out_of_place(graph, pipeline)
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)  # unused results cause no breakpoints
    return graph


def described(path: str) -> str:
    """A path of the pipeline in terms of the user's module."""
    inner = path.removeprefix("module").removeprefix(".")
    return f"layer {inner!r}" if inner else "the module itself"


def _calling(error: BaseException) -> str:
    """The last line of user code in an error's traceback."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_TORCH)]
    frame = ours[-1]
    if frame.filename == __file__:  # no user code: torch raised on the module itself
        return ""
    return f" at {Path(frame.filename).name}:{frame.lineno}, `{frame.line}`"


def _out_of_place(graph: fx.Graph, root: nn.Module) -> None:
    """Replace in-place operations by plain ones, and let later readers of the changed tensor use the result.

    Changes through views are not followed; `build_program` checks that the graph still computes the module's logits.
    """
    order = {node: number for number, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if not node.args or not isinstance(node.args[0], fx.Node):
            continue
        if node.op == "call_module":
            module = root.get_submodule(str(node.target))
            changes = getattr(module, "inplace", False) is True
        else:
            changes = node.kwargs.get("inplace") is True
            if changes:
                node.kwargs = {**node.kwargs, "inplace": False}
            if node.op == "call_method" and node.target.endswith("_") and not node.target.endswith("__"):
                node.target, changes = node.target.removesuffix("_"), True
            elif node.op == "call_function" and getattr(node.target, "__name__", "").endswith("_"):
                node.target, changes = _plain(node.target), True
        if changes:
            changed, position = node.args[0], order[node]

            def comes_later(user: fx.Node, position: int = position) -> bool:
                return order[user] > position

            changed.replace_all_uses_with(node, delete_user_cb=comes_later)
    for module in root.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]  # modules declare all attributes as tensors


def _plain(function: Any) -> Any:
    """The out-of-place variant of a function such as `relu_`, or the function itself if there is none."""
    name = function.__name__.removesuffix("_")
    return getattr(torch, name, None) or getattr(torch.nn.functional, name, function)
