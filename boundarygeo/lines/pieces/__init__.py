"""Breakpoints carried exactly through a piecewise affine module: tracing, operations, and the walk along segments."""

from boundarygeo.lines.pieces.bends import clear_bends, slope_jumps
from boundarygeo.lines.pieces.envelope import envelope_vertices
from boundarygeo.lines.pieces.program import Program, build_program
from boundarygeo.lines.pieces.rows import Rows
from boundarygeo.lines.pieces.walk import walk

__all__ = ["Program", "Rows", "build_program", "clear_bends", "envelope_vertices", "slope_jumps", "walk"]
