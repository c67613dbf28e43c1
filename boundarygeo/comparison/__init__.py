"""Many classifiers under every instrument: one table, grouped by training method, and checks for gradient masking."""

from boundarygeo.comparison.compare import compare
from boundarygeo.comparison.instruments import INSTRUMENTS
from boundarygeo.comparison.masking import PairedCheck, masking_checks
from boundarygeo.comparison.rows import Comparison, Measurement, Row, Spread
from boundarygeo.comparison.settings import Settings, default_eps
from boundarygeo.comparison.subjects import Subject, standard_partners

__all__ = [
    "INSTRUMENTS",
    "Comparison",
    "Measurement",
    "PairedCheck",
    "Row",
    "Settings",
    "Spread",
    "Subject",
    "compare",
    "default_eps",
    "masking_checks",
    "standard_partners",
]
