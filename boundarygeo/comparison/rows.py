"""The rows of a comparison: measurements of one instrument on one classifier, and the spread over seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from boundarygeo.comparison.settings import Settings
from boundarygeo.results import Result
from boundarygeo.results.statistics import Estimate


@dataclass(frozen=True)
class Measurement:
    """One number from one instrument.

    Attributes:
        instrument: name of the instrument.
        quantity: what was measured; empty if the instrument does not apply, for the reason in `note`.
        unit: its unit; `"share"` for shares, empty for numbers without one.
        statistic: kind of `estimate` and its interval: `"share"`, `"mean"`, `"median"` or `"difference"` (of shares
            of the same examples) as in `boundarygeo.results.statistics`.
        estimate: the number with its interval and n.
        excluded: number of examples excluded because they are misclassified or have no gradient.
        main: whether it appears in the overview.
        flagged: whether it is a sign of masked gradients.
        note: further remarks.
    """

    instrument: str
    quantity: str
    unit: str
    statistic: str
    estimate: Estimate
    excluded: int = 0
    main: bool = True
    flagged: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A number, and name, group and training seed of the classifier it belongs to."""

    name: str
    group: str
    seed: int | None
    measured: Measurement


@dataclass(frozen=True)
class Spread:
    """One quantity over the seeds of a group.

    Attributes:
        group: name of the group.
        quantity: what was measured.
        unit: its unit.
        mean: mean of the values of the seeds; infinite if one of them is.
        sd: their standard deviation with n - 1; NaN for one seed, or where the mean is infinite.
        seeds: number of seeds with a value.
        flagged: number of seeds that are flagged.
        rows: the numbers themselves.
    """

    group: str
    quantity: str
    unit: str
    mean: float
    sd: float
    seeds: int
    flagged: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """All measurements of a comparison.

    Attributes:
        rows: numbers by instrument, classifier and quantity, in this order.
        names: names of the classifiers.
        groups: group of each classifier.
        settings: settings of the instruments.
        notes: each instrument's note on its numbers, by its name.
        results: results of the instruments, by instrument, classifier and name, for saving.
        n: number of examples given.
        forwards: examples sent forward by all classifiers together.
        backwards: examples sent backward.
        seconds: wall-clock time in s.
    """

    joint: ClassVar[str] = "its numbers are averages over all examples; with out=, it resumes by itself"

    rows: tuple[Row, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    settings: Settings
    notes: dict[str, str]
    results: dict[tuple[str, str, str], Result] = field(repr=False)
    n: int
    forwards: int
    backwards: int
    seconds: float

    @property
    def instruments(self) -> tuple[str, ...]:
        """Names of the instruments used."""
        return tuple(self.notes)

    def quantities(self, instrument: str) -> list[str]:
        """Names of the quantities that an instrument measured, in order; a `ValueError` if it was not used."""
        if instrument not in self.notes:
            raise ValueError(f"instrument must be one of {list(self.notes)}, got {instrument!r}")
        named = (row.measured for row in self.rows if row.measured.instrument == instrument)
        return list(dict.fromkeys(measured.quantity for measured in named if measured.quantity))

    def value(self, name: str, instrument: str, quantity: str) -> Estimate:
        """One number, by the names of classifier, instrument and quantity; a `ValueError` if there is none."""
        for row in self.rows:
            if (row.name, row.measured.instrument, row.measured.quantity) == (name, instrument, quantity):
                return row.measured.estimate
        raise ValueError(f"{instrument!r} has no {quantity!r} for {name!r}")

    def spreads(self, instrument: str) -> Iterator[Spread]:
        """Means and standard deviations over the seeds: groups in order, and for each an instrument's quantities."""
        quantities = self.quantities(instrument)
        for group in dict.fromkeys(self.groups):
            for quantity in quantities:
                place = (group, instrument, quantity)
                rows = [r for r in self.rows if (r.group, r.measured.instrument, r.measured.quantity) == place]
                if rows:
                    yield _spread(group, quantity, rows)


def _spread(group: str, quantity: str, rows: Sequence[Row]) -> Spread:
    values = np.array([row.measured.estimate.value for row in rows])
    known = values[~np.isnan(values)]
    certain = len(known) > 1 and bool(np.isfinite(known).all())
    return Spread(
        group=group,
        quantity=quantity,
        unit=rows[0].measured.unit,
        mean=float(known.mean()) if len(known) else np.nan,
        sd=float(known.std(ddof=1)) if certain else np.nan,
        seeds=len(known),
        flagged=sum(row.measured.flagged for row in rows),
        rows=tuple(rows),
    )
