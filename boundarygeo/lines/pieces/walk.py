"""The walk along segments: all live tensors are carried at the breakpoints found so far, part by part.

If a nonlinearity splits a part into more rows than the limit, the part is cut into smaller ones: the first is carried
on to the logits while the others wait. A waiting part holds its tensors at the rows before the nonlinearity, so that
memory is bounded by the limit times the depth of the network, whatever the number of pieces. Nothing is computed twice.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from boundarygeo.lines.pieces.program import Program
from boundarygeo.lines.pieces.rows import Refinement, Rows, refine


def walk(
    program: Program, rows: Rows, points: Tensor, *, limit: int, tolerance: float
) -> Iterator[tuple[Rows, Tensor]]:
    """Carry segments, given by both ends of each, through a program; yields breakpoints and logits `[row, class]`.

    They come in order, in parts of at most `limit` rows, each of which may repeat the last row of the one before.
    Breakpoints within `tolerance` in t count as one.
    """
    unchanged = Refinement(rows, torch.arange(len(rows), device=points.device), torch.zeros_like(rows.t))
    waiting = [(0, False, chunk, {program.input: points}) for chunk in unchanged.chunks(limit)][::-1]
    while waiting:
        position, refined, chunk, before = waiting.pop()
        rows, values = chunk.rows, {node: chunk.apply(value) for node, value in before.items()}
        del before  # frees the unrefined tensors once no part waits for them
        for number in range(position, len(program.steps)):
            step = program.steps[number]
            args, kwargs = program.arguments(step, values, len(rows))
            if step.find and not refined:
                switches = step.find(rows.joined, *args, **kwargs | step.settings)
                refinement = refine(rows, switches, tolerance, step.layer)
                if refinement:
                    chunks = list(refinement.chunks(limit))
                    waiting += [(number, True, chunk, values) for chunk in reversed(chunks)]
                    break
            values[step.node] = step.run(*args, **kwargs)
            refined = False
            for node in step.last:
                del values[node]
        else:
            yield rows, values[program.output]
