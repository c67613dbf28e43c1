"""Bends: breakpoints where the slope of a logit jumps.

A jump is not computed as the difference of two slopes, in which rounding could create or hide one. It arises where the
derivatives of an operation differ on the two sides of the breakpoint, and later operations carry it to the logits.
Inactive units, smaller elements of a maximum or zero weights stop it exactly; whatever arrives is a bend, however
small.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, fx
from torch.autograd import forward_ad
from torch.fx.node import map_aggregate

from boundarygeo.lines.pieces.program import Program, Step

SURE = 1e-11
"""A logit bends where it is off the line between the neighbouring breakpoints by more than this share of the example's
largest logit, a thousand times the measured rounding (benchmarks/README.md). Other breakpoints are decided by their
jumps, which only takes longer."""

Values = dict[fx.Node, Any]


def clear_bends(t: Tensor, example: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Which breakpoints `[row]`, in order, are clearly bends (never the ends of an example), and the undecided rows."""
    tops = logits.new_zeros(int(example[-1]) + 1).scatter_reduce(0, example, logits.abs().amax(1), "amax")
    inner = torch.zeros(len(t), dtype=torch.bool)
    inner[1:-1] = example[2:] == example[:-2]
    share = ((t[1:-1] - t[:-2]) / (t[2:] - t[:-2]))[:, None]
    clear = inner.clone()
    clear[1:-1] &= (torch.lerp(logits[:-2], logits[2:], share) - logits[1:-1]).abs().amax(1) > (
        SURE * tops[example[1:-1]]
    )
    return clear, (inner & ~clear).nonzero()[:, 0]


def slope_jumps(program: Program, before: Tensor, after: Tensor, direction: Tensor) -> Tensor:
    """Jump of each logit's slope at breakpoints, `[row, class]`, from points inside the pieces before and after them.

    With the derivatives J of an operation on the two pieces, and the slope s of its input before the breakpoint, a jump
    δ of its input becomes :math:`J_+ δ + (J_+ s - J_- s)`: the bracket is exactly zero unless the operation's own
    pattern changes.
    """
    rows = len(before)
    with warnings.catch_warnings(), forward_ad.dual_level():
        # Torch raises this itself on the first use of forward mode.
        warnings.filterwarnings("ignore", ".*torch.jit.script.* is deprecated")
        left: Values = {program.input: forward_ad.make_dual(before, direction)}
        right: Values = {program.input: forward_ad.make_dual(after, torch.zeros_like(direction))}
        for step in program.steps:
            slopes, jumps = _run(program, step, left, rows), _run(program, step, right, rows)
            if step.find:
                args = {node: right[node] for node in step.node.all_input_nodes if node in right}
                across = {node: _with_slope(value, left[node]) for node, value in args.items()}
                jumps = _with_own_jump(jumps, _run(program, step, across, rows), slopes)
            left[step.node], right[step.node] = slopes, jumps
            for node in step.last:
                del left[node], right[node]
        return _slope(right[program.output])


def _run(program: Program, step: Step, values: Values, rows: int) -> Any:
    args, kwargs = program.arguments(step, values, rows)
    return step.run(*args, **kwargs)


def _slope(value: Tensor) -> Tensor:
    tangent = forward_ad.unpack_dual(value).tangent
    return torch.zeros_like(value) if tangent is None else tangent


def _with_slope(value: Tensor, other: Tensor) -> Tensor:
    """The value of one tensor with the slope of another."""
    return forward_ad.make_dual(forward_ad.unpack_dual(value).primal, _slope(other))


def _with_own_jump(jumps: Any, across: Any, slopes: Any) -> Any:
    """Add the operation's own jump to that of its input, for a tensor or the tensor in a `MaxOverDimension`."""
    if isinstance(jumps, Tensor):
        jump = _slope(jumps) + (_slope(across) - _slope(slopes))
        return forward_ad.make_dual(forward_ad.unpack_dual(jumps).primal, jump)
    added = _with_own_jump(jumps[0], across[0], slopes[0])
    return map_aggregate(jumps, lambda part: added if isinstance(part, Tensor) else part)
