"""Breakpoints carried exactly through a piecewise affine module: tracing, operations, and the walk along segments."""

from boundarygeo.sections.affine.bends import clear_bends, slope_jumps
from boundarygeo.sections.affine.envelope import envelope_vertices
from boundarygeo.sections.affine.program import Program, build_program
from boundarygeo.sections.affine.rows import Rows
from boundarygeo.sections.affine.walk import walk

__all__ = ["Program", "Rows", "build_program", "clear_bends", "envelope_vertices", "slope_jumps", "walk"]
