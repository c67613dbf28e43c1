"""Compiles a module into the steps that carry breakpoints through it, and checks all of them before any work."""

import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate, map_arg

from boundarygeo.lines.pieces.operations import BY_NAME, Finder, Operation, operation_of_module
from boundarygeo.lines.pieces.tracing import Normalisation, Pipeline, described, trace

# An operation that preserves two different numbers of rows treats rows independently.
_PROBE_ROWS = (3, 5)
_SAME_LOGITS = 1e-9  # relative to the largest logit, in float64


class _BatchSize:
    """Placeholder for the size of the batch dimension, which changes from step to step."""

    def __repr__(self) -> str:
        return "batch size"


BATCH_SIZE = _BatchSize()
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """One operation on tensors that depend on the input."""

    node: fx.Node  # its node in the graph, the key of its result
    run: Callable[..., Any]  # computes the result from the node's arguments
    find: Finder | None  # finds where its pattern changes; None for affine operations
    settings: dict[str, Any]  # further keyword arguments of the finder
    layer: int  # its number among the nonlinearities, or -1
    last: tuple[fx.Node, ...]  # nodes whose results are not needed after this step


@dataclass(frozen=True)
class Program:
    """A module as steps."""

    steps: tuple[Step, ...]  # the operations that depend on the input, in order
    input: fx.Node  # node of the points
    output: fx.Node  # node of the logits
    constants: dict[fx.Node, Any]  # results that do not depend on the input
    layers: tuple[str, ...]  # names of the nonlinearities; "bounds" is the clamp to the bounds
    bytes_per_row: int  # peak memory of a walk per row of its parts

    def arguments(self, step: Step, values: dict[fx.Node, Any], rows: int) -> Arguments:
        """Arguments of a step, given the results so far that depend on the input and their number of rows."""
        return _arguments(step.node, values, self.constants, rows)


def build_program(
    module: nn.Module,
    normalise: Callable[[Tensor], Tensor],
    bounds: tuple[float, float] | None,
    points: Callable[[int], Tensor],
) -> Program:
    """The steps of a module behind the clamp to the bounds, if given, and the normalisation; all of them are checked.

    The module is a float64 copy, which may be changed; `points` makes a number of inputs to try the steps on.
    """
    pipeline = Pipeline(module, normalise, bounds).eval()
    try:
        reference = [pipeline(points(rows)) for rows in _PROBE_ROWS]  # before tracing, which changes `inplace`
    except RuntimeError as error:
        raise ValueError(f"module must run in float64, got {str(error).splitlines()[0]!r}") from error
    graph = trace(pipeline)
    builder = _Builder(pipeline, graph, [points(rows) for rows in _PROBE_ROWS])
    program = builder.build()
    for expected, got in zip(reference, builder.outputs, strict=True):
        if not bool((got - expected).abs().amax() <= _SAME_LOGITS * expected.abs().amax()):
            hint = "an in-place operation on a tensor that is used under another name?"
            for name, layer in module.named_modules():
                if type(layer).__module__.startswith("torchvision.transforms"):
                    kind = type(layer).__name__
                    hint = (
                        f"tracing skips {kind} in {name or 'the module'!r}: pass mean= and std= to Classifier instead"
                    )
            raise ValueError(f"the operations that torch.fx traced do not reproduce the module's logits ({hint})")
    return program


class _Builder:
    """Runs the graph on a few rows to find what depends on the input, and checks each of these operations."""

    def __init__(self, pipeline: Pipeline, graph: fx.Graph, probes: list[Tensor]) -> None:
        self.pipeline, self.graph = pipeline, graph
        self.constants: dict[fx.Node, Any] = {}
        self.trials: list[dict[fx.Node, Any]] = [{} for _ in probes]
        self.input, *_ = graph.nodes
        for trial, probe in zip(self.trials, probes, strict=True):
            trial[self.input] = probe
        self.layers: list[str] = []
        self.names: Counter[str] = Counter()

    @property
    def outputs(self) -> list[Tensor]:
        """Logits of the probes."""
        return [trial[self._output] for trial in self.trials]

    @property
    def _output(self) -> fx.Node:
        return next(iter(self.graph.find_nodes(op="output"))).args[0]

    def build(self) -> Program:
        operations = {}
        for node in self.graph.nodes:
            if node.op in ("placeholder", "output"):
                continue
            if not any(source in self.trials[0] for source in node.all_input_nodes):
                self._constant(node)
            elif not self._inspection(node):
                operations[node] = self._check(node)
        if self._output not in self.trials[0]:
            raise ValueError("the module's logits do not depend on its input")
        return self._assemble(operations)

    def _constant(self, node: fx.Node) -> None:
        """Compute what does not depend on the input."""

        def double(value: Any) -> Any:
            return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value

        args = map_arg(node.args, self.constants.__getitem__)
        kwargs = map_arg(node.kwargs, self.constants.__getitem__)
        if _holds_batch_size((args, kwargs)) and node.target is not operator.getitem:
            self._refuse(node, "of the batch size")
        value = self._attribute(str(node.target)) if node.op == "get_attr" else self._function(node)(*args, **kwargs)
        self.constants[node] = map_aggregate(value, double)

    def _attribute(self, path: str) -> Any:
        return operator.attrgetter(path)(self.pipeline)

    def _inspection(self, node: fx.Node) -> bool:
        """Evaluate nodes that ask for a tensor's shape, dtype or device; returns whether the node does."""
        name = _name(node)
        if name == "getattr":
            name = str(node.args[1])
        if name in ("to", "type_as") and not self._depends(node.args[0]):
            self.constants[node] = self.constants[node.args[0]]  # type: ignore[index]  # the tensor itself
            return True
        if name not in ("size", "shape", "dim", "ndim", "ndimension", "device", "dtype", "is_cuda"):
            return False
        value: Tensor = self.trials[0][node.args[0]]  # type: ignore[index]  # the first argument is a tensor
        if name in ("size", "shape"):
            sizes = (BATCH_SIZE, *value.shape[1:])
            asked = node.args[1:] if name == "size" else ()
            dim = asked[0] if asked else node.kwargs.get("dim")
            self.constants[node] = sizes if dim is None else sizes[dim]  # type: ignore[index]
        elif name in ("dim", "ndim", "ndimension"):
            self.constants[node] = value.ndim
        else:
            self.constants[node] = getattr(value, name)
        return True

    def _check(self, node: fx.Node) -> tuple[Operation, dict[str, Any]]:
        """Look up an operation, check how it is used, and try it on both numbers of rows."""
        operation, settings = self._look_up(node)
        carried = [number for number, part in enumerate((*node.args, *node.kwargs.values())) if self._depends(part)]
        if (operation.operands == "first" and carried not in ([], [0])) or (
            operation.operands == "one" and len(carried) > 1
        ):
            self._refuse(node, "by a tensor that depends on the input")
        run = operation.run or self._function(node)
        for trial, rows in zip(self.trials, _PROBE_ROWS, strict=True):
            args, kwargs = _arguments(node, trial, self.constants, rows)
            word = operation.refuse(*args, **kwargs | settings) if operation.refuse else ""
            if word:
                self._refuse(node, word)
            try:
                trial[node] = run(*args, **kwargs)
                if operation.find:
                    joined = torch.ones(rows - 1, dtype=torch.bool, device=trial[self.input].device)
                    operation.find(joined, *args, **kwargs | settings)
            except Exception as error:
                self._refuse(node, f"that failed with {str(error).splitlines()[0]!r}")
            if not _has_rows(trial[node], rows):
                self._refuse(node, "over the batch dimension")
        return operation, settings

    def _look_up(self, node: fx.Node) -> tuple[Operation, dict[str, Any]]:
        if node.op == "call_module":
            module = self.pipeline.get_submodule(str(node.target))
            if isinstance(module, Normalisation):
                return Operation(), {}
            found = operation_of_module(module)
        else:
            # Functions of other packages may share a name with one of torch's.
            home = getattr(node.target, "__module__", None) or "torch"
            known = node.op == "call_method" or home.split(".")[0] in ("torch", "_operator", "builtins")
            found = (BY_NAME[_name(node)], {}) if known and _name(node) in BY_NAME else None
        return found or self._refuse(node)

    def _assemble(self, operations: dict[fx.Node, tuple[Operation, dict[str, Any]]]) -> Program:
        last_step = {
            source: node for node in operations for source in (node, *node.all_input_nodes) if source in self.trials[0]
        }
        del last_step[self._output]
        steps, live, peak, parked = [], {self.input}, 0, 0
        for node, (operation, settings) in operations.items():
            bends = operation.find is not None
            if bends:
                self.layers.append(self._layer_name(node))
                parked += self._bytes(live)
            live.add(node)
            peak = max(peak, self._bytes(live))
            last = tuple(source for source, step in last_step.items() if step is node)
            live -= set(last)
            run = operation.run or self._function(node)
            layer = len(self.layers) - 1 if bends else -1
            steps.append(Step(node, run, operation.find, settings, layer, last))
        return Program(
            steps=tuple(steps),
            input=self.input,
            output=self._output,
            constants=self.constants,
            layers=tuple(self.layers),
            # One part may wait at each nonlinearity; at the peak a walk also holds the current part and a refined copy.
            bytes_per_row=parked + 2 * peak,
        )

    def _bytes(self, nodes: set[fx.Node]) -> int:
        """Size of the results of nodes, in bytes per row."""
        total = 0

        def add(value: Any) -> Any:
            nonlocal total
            total += value.element_size() * value.numel() // len(value) if isinstance(value, Tensor) else 0
            return value

        map_aggregate([self.trials[0][node] for node in nodes], add)
        return total

    def _depends(self, argument: Any) -> bool:
        found = []
        map_arg(argument, lambda source: found.append(source in self.trials[0]))
        return any(found)

    def _function(self, node: fx.Node) -> Callable[..., Any]:
        if node.op == "call_module":
            return self.pipeline.get_submodule(str(node.target))
        if node.op == "call_method":
            return partial(_call_method, str(node.target))
        return node.target  # type: ignore[return-value]  # fx types targets of all kinds of nodes as one

    def _layer_name(self, node: fx.Node) -> str:
        """Path of the module, or of the caller plus the function's name; numbered if used twice."""
        owner = node.meta["owner"].removeprefix("module").removeprefix(".")
        if node.meta["owner"] == "":
            name = "bounds"
        elif node.op == "call_module":
            name = owner or type(self.pipeline.module).__name__
        else:
            name = f"{owner}.{_name(node)}" if owner else _name(node)
        self.names[name] += 1
        return name if self.names[name] == 1 else f"{name} ({self.names[name]})"

    def _refuse(self, node: fx.Node, why: str = "") -> NoReturn:
        called = node.op == "call_module"
        what = type(self.pipeline.get_submodule(str(node.target))).__name__ if called else _name(node)
        raise ValueError(
            "linear_pieces supports known piecewise affine operations only, got "
            f"{what}{' ' if why else ''}{why} in {described(node.meta['owner'])} (node {node.name!r})"
        )


def _arguments(node: fx.Node, values: dict[fx.Node, Any], constants: dict[fx.Node, Any], rows: int) -> Arguments:
    def value_of(source: fx.Node) -> Any:
        if source in values:
            return values[source]
        return map_aggregate(constants[source], lambda part: rows if part is BATCH_SIZE else part)

    return map_arg(node.args, value_of), map_arg(node.kwargs, value_of)  # type: ignore[return-value]


def _call_method(name: str, value: Any, *args: Any, **kwargs: Any) -> Any:
    return getattr(value, name)(*args, **kwargs)


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _holds_batch_size(value: Any) -> bool:
    found = []
    map_aggregate(value, lambda part: found.append(part is BATCH_SIZE))
    return any(found)


def _has_rows(value: Any, rows: int) -> bool:
    if isinstance(value, Tensor):
        return value.ndim > 0 and len(value) == rows
    return isinstance(value, tuple | list) and all(part is None or _has_rows(part, rows) for part in value)
