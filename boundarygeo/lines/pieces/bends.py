"""Which breakpoints the logits feel: those where the slope of a logit jumps.

A jump is never a difference of two slopes, in which rounding could make or hide one. It arises where an operation has
other derivatives on one side of the breakpoint than on the other, and is carried to the logits by the derivatives of
the operations after it: it stays exactly zero where inactive units, smaller elements of a maximum or zero weights stop
it, and what arrives is a bend, however small.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, fx
from torch.autograd import forward_ad
from torch.fx.node import map_aggregate

from boundarygeo.lines.pieces.program import Program, Step

SURE = 1e-11
"""A logit that is off the line between the neighbours of a breakpoint by more than this share of the example's largest
logit bends there: a thousand times the rounding that was measured (benchmarks/README.md). All others are decided by
their jumps, which costs time and nothing else."""

Values = dict[fx.Node, Any]


def clear_bends(t: Tensor, example: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Breakpoints where a logit visibly leaves the line between both neighbours, and those where that is not decided.

    Args:
        t: breakpoints of all examples, in order, float64 `[row]`.
        example: number of the example, int64 `[row]`, from 0 without gaps.
        logits: float64 `[row, class]`.

    Returns:
        Whether a row is one of the first, bool `[row]`, False at the ends of each example; and the numbers of the rows
        that are not decided, int64.
    """
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
    r"""By how much the slope of each logit jumps from one affine piece to the next.

    With the derivatives J of an operation on the pieces before and after the breakpoint, and the slope s of its input
    before, the jump δ of its input becomes :math:`J_+ δ + (J_+ s - J_- s)`: the bracket is exactly zero unless the
    operation's own pattern changes.

    Args:
        program: the module.
        before: a point inside the piece before each breakpoint, float64 `[row, *input]`.
        after: one inside the piece after it.
        direction: of the segments, `[row, *input]`.

    Returns:
        Jumps, float64 `[row, class]`.
    """
    rows = len(before)
    with warnings.catch_warnings(), forward_ad.dual_level():
        # torch's own, where its forward mode is used for the first time.
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
    """Add the operation's own jump to that of its input, in a tensor or in the only one of `MaxOverDimension`."""
    if isinstance(jumps, Tensor):
        jump = _slope(jumps) + (_slope(across) - _slope(slopes))
        return forward_ad.make_dual(forward_ad.unpack_dual(jumps).primal, jump)
    added = _with_own_jump(jumps[0], across[0], slopes[0])
    return map_aggregate(jumps, lambda part: added if isinstance(part, Tensor) else part)
