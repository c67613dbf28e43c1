"""`python -m boundarygeo`: the command line."""

from boundarygeo.cli import main

main()
