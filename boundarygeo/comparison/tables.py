"""A comparison as text: the overview, a table for each instrument, Markdown, and CSV for programs.

Groups of several seeds show the mean ± standard deviation over the seeds in each cell; single classifiers show the
number with its 95 % interval.
"""

import csv
import io
import math
from collections.abc import Sequence

from boundarygeo.comparison.rows import Comparison, Measurement, Spread

COLUMNS: tuple[str, ...] = (
    "level", "name", "group", "seed", "instrument", "quantity", "unit", "statistic", "value", "low", "high",
    "confidence", "sd", "seeds", "n", "excluded", "flagged", "note",
)  # fmt: skip
"""Columns of the CSV: `level` is `model` or `group`; a group has `sd` and `seeds`, a model the others. `confidence` is
the coverage of the interval."""

Cells = list[tuple[str, ...]]
"""Rows of text, the heading first."""


def overview(comparison: Comparison) -> Cells:
    """The main quantities of all instruments side by side, without intervals: a row for each group."""
    main = {
        (row.measured.instrument, row.measured.quantity)
        for row in comparison.rows
        if row.measured.main and row.measured.quantity and row.measured.instrument != "masking"
    }
    columns = [(i, q) for i in comparison.instruments for q in comparison.quantities(i) if (i, q) in main]
    spreads = _by_place(comparison)
    masked = ["gradient masking"] if "masking" in comparison.instruments else []
    heading = ("", "seeds", *(f"{i}: {q}" if i != "accuracy" else q for i, q in columns), *masked)
    rows: Cells = [heading]
    for group in dict.fromkeys(comparison.groups):
        cells = [_short(spreads.get((group, *column))) for column in columns]
        flags = [_flags(comparison, group)] if masked else []
        rows.append((group, str(comparison.groups.count(group)), *cells, *flags))
    return rows


def instrument_table(comparison: Comparison, instrument: str) -> Cells:
    """All quantities of one instrument: a row for each group, with its n, a range if numbers have different ones."""
    quantities = comparison.quantities(instrument)
    spreads = _by_place(comparison)
    rows: Cells = [("", "seeds", "n", *quantities)]
    for group in dict.fromkeys(comparison.groups):
        here = [spreads.get((group, instrument, quantity)) for quantity in quantities]
        counts = {row.measured.estimate.n for spread in here if spread for row in spread.rows}
        n = " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)})) if counts else "0"
        rows.append((group, str(comparison.groups.count(group)), n, *(_cell(spread) for spread in here)))
    return rows


def remarks(comparison: Comparison, instrument: str) -> list[str]:
    """Lines below the table of an instrument: its own note, flags with their reasons, failures."""
    lines = [comparison.notes[instrument]]
    rows = [row for row in comparison.rows if row.measured.instrument == instrument]
    lines += [f"flagged: {row.name}: {row.measured.note}" for row in rows if row.measured.flagged]
    return lines + [f"not measured: {row.name}: {row.measured.note}" for row in rows if not row.measured.quantity]


def markdown(comparison: Comparison) -> str:
    """The overview and all tables as Markdown, for a README."""
    blocks = [f"### Overview\n\n{_piped(overview(comparison))}\n\n{_LEGEND}"]
    for instrument in comparison.instruments:
        notes = "\n".join(f"- {line}" for line in remarks(comparison, instrument))
        blocks.append(f"### {instrument.capitalize()}\n\n{_piped(instrument_table(comparison, instrument))}\n\n{notes}")
    return "\n\n".join(blocks) + "\n"


def csv_text(comparison: Comparison) -> str:
    """Every number on its own line as CSV, with the columns `COLUMNS`; missing ones are empty, infinite ones `inf`."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in comparison.rows:
        measured = row.measured
        estimate = measured.estimate
        writer.writerow(
            {
                "level": "model", "name": row.name, "group": row.group, "seed": "" if row.seed is None else row.seed,
                **_words(measured), "value": _exact(estimate.value), "low": _exact(estimate.low),
                "high": _exact(estimate.high),
                "confidence": _exact(estimate.confidence if estimate.has_interval else math.nan),
                "n": estimate.n, "excluded": measured.excluded, "flagged": int(measured.flagged), "note": measured.note,
            }
        )  # fmt: skip
    for instrument in comparison.instruments:
        for spread in comparison.spreads(instrument):
            writer.writerow(
                {
                    "level": "group", "name": spread.group, "group": spread.group, **_words(spread.rows[0].measured),
                    "value": _exact(spread.mean), "sd": _exact(spread.sd), "seeds": spread.seeds,
                    "flagged": spread.flagged,
                }
            )  # fmt: skip
    return stream.getvalue()


_LEGEND = "Mean ± standard deviation over the seeds; the tables below have n and intervals."


def _by_place(comparison: Comparison) -> dict[tuple[str, str, str], Spread]:
    return {
        (spread.group, instrument, spread.quantity): spread
        for instrument in comparison.instruments
        for spread in comparison.spreads(instrument)
    }


def _cell(spread: Spread | None) -> str:
    """A number with its spread over the seeds or, for a single seed, with its interval."""
    if spread is None or not spread.seeds:
        return "-"
    first, *others = spread.rows
    flag = ""
    if spread.flagged:
        flag = f" ({spread.flagged} flagged)" if others else " (flagged)"
    if others:
        return _short(spread) + flag
    estimate = first.measured.estimate
    return (estimate.percent() if spread.unit == "share" else estimate.text(".4g")) + flag


def _short(spread: Spread | None) -> str:
    if spread is None or not spread.seeds:
        return "-"
    scale, unit, form = (100, " %", ".1f") if spread.unit == "share" else (1, "", ".4g")
    around = ""
    if not math.isnan(spread.sd):
        if spread.unit != "share" and spread.sd > 0:  # two significant digits of sd, the mean rounded alike
            form = f".{max(0, 1 - math.floor(math.log10(spread.sd)))}f"
        around = f" ± {scale * spread.sd:{form}}"
    lost = "" if spread.seeds == len(spread.rows) else f" ({spread.seeds} of {len(spread.rows)})"
    return f"{scale * spread.mean:z{form}}{around}{unit}{lost}"


def _flags(comparison: Comparison, group: str) -> str:
    """Whether a classifier of a group shows a sign of masked gradients; for several, how many do."""
    rows = [row for row in comparison.rows if row.group == group and row.measured.instrument == "masking"]
    flagged = len({row.name for row in rows if row.measured.flagged})
    seeds = len({row.name for row in rows if row.measured.quantity})
    if not flagged:
        return "no sign" if seeds else "-"
    return "flagged" if seeds == 1 else f"flagged: {flagged} of {seeds}"


def _words(measured: Measurement) -> dict[str, str]:
    return {column: getattr(measured, column) for column in ("instrument", "quantity", "unit", "statistic")}


def _exact(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def _piped(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table."""
    heading, *others = (f"| {' | '.join(cell.replace('|', '¦') for cell in row)} |" for row in rows)
    return "\n".join([heading, "|" + "---|" * len(rows[0]), *others])
