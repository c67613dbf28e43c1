"""The instruments of a comparison: functions of the bench and one classifier that return its numbers.

They call the public functions only, and report n, what is excluded, and why.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from boundarygeo.attacks.accuracy import AccuracyCurve
from boundarygeo.choices import Box, FrameMethod
from boundarygeo.comparison.bench import STRONGEST, Bench
from boundarygeo.comparison.masking import masking_checks
from boundarygeo.comparison.rows import Measurement
from boundarygeo.comparison.subjects import Subject
from boundarygeo.defences.certification import certify
from boundarygeo.lines.distances import boundary_distance
from boundarygeo.lines.pieces.pieces import linear_pieces
from boundarygeo.lines.segments import random_pairs, segment_curves
from boundarygeo.lines.straightness import gradient_cosines, straightness
from boundarygeo.representations import hidden_spectrum
from boundarygeo.results import Result
from boundarygeo.results.statistics import Estimate, mean, median, share
from boundarygeo.subspace.dimension import adversarial_dimension
from boundarygeo.subspace.summary import dimension_summary

_POSITIVE = (0, np.inf)
_BOXES: dict[Box, str] = {"feasible": "inside the bounds", "ignore": "bounds ignored"}


@dataclass(frozen=True)
class Found:
    """An instrument's numbers on one classifier, in the order of their columns, and the results behind them by name."""

    measurements: list[Measurement]
    results: dict[str, Result]


def accuracy(bench: Bench, subject: Subject) -> Found:
    """Accuracy, clean and under each attack; robust: the share correct under all of them."""
    curves = {name: bench.curve(subject, name) for name in bench.attacks}
    rights = {"clean": curves["FGSM"].correct[0]} | {name: curve.correct[-1] for name, curve in curves.items()}
    every = rights["clean"]
    for right in rights.values():
        every = every & right
    shares = {name: share(int(right.sum()), len(right)) for name, right in (rights | {"robust": every}).items()}
    aside = bench.masking_attacks[3], STRONGEST
    rows = [_share("accuracy", name, estimate, main=name not in aside) for name, estimate in shares.items()]
    return Found(rows, {_word(name): curve for name, curve in curves.items()})


def curves_of(bench: Bench, results: Mapping[str, Result]) -> dict[str, AccuracyCurve]:
    """The curves among the results of `accuracy`, by the names of their attacks."""
    curves = {attack: results[_word(attack)] for attack in bench.attacks}
    return {attack: curve for attack, curve in curves.items() if isinstance(curve, AccuracyCurve)}


def masking(bench: Bench, subject: Subject) -> Found:
    """Whether attacks that should be stronger really are: see `boundarygeo.comparison.masking`."""
    own = bench.subjects.index(subject)
    names = bench.masking_attacks
    fgsm, pgd, longer, square = (bench.curve(subject, name).correct[-1] for name in names)
    others = [number for number in range(len(bench.subjects)) if number != own]
    sent = {bench.subjects[i].name: ~bench.matrix.success[i, own] for i in others} if others else {}
    quantities = (
        f"{names[1]} − FGSM",
        f"{names[2]} − {names[1]}",
        f"{names[2]} − {names[3]}",
        f"{names[1]} − strongest transferred",
    )
    checks = masking_checks(fgsm, pgd, longer, sent, square=square, names=names)
    rows = [
        Measurement(
            "masking", quantity, "share", "difference", check.difference, flagged=check.flagged, note=check.reason
        )
        for quantity, check in zip(quantities, checks, strict=False)
    ]
    return Found(rows, {})


def distances(bench: Bench, subject: Subject) -> Found:
    """Distance to the boundary along FGSM and random directions, for correctly classified examples."""
    right = bench.right(subject)
    x, y, index = bench.x[right], bench.y[right], bench.index[right]
    rows, results = [], {}
    for direction, furthest in bench.reaches.items():
        found = boundary_distance(
            subject.classifier, x, y, direction=direction, max_distance=furthest, seed=bench.seed, index=index
        )
        estimate = median(found.distance[found.valid].numpy())
        name = "along the FGSM direction" if direction == "fgsm" else "along random directions"
        rows.append(Measurement("distances", name, found.unit, "median", estimate, len(bench.x) - estimate.n))
        results[direction] = found
    return Found(rows, results)


def dimension(bench: Bench, subject: Subject) -> Found:
    """Orthogonal adversarial directions: counts to first order and verified, inside the bounds and ignoring them.

    Gradient-aligned frames (gaas) on all examples; if asked for, optimised frames on the first few.
    """
    settings = bench.settings
    cases: list[tuple[FrameMethod, Box, int]] = [("gaas", box, len(bench.x)) for box in _BOXES]
    if settings.frame:
        cases.append(("frame", "feasible", settings.few))
    rows, results = [], {}
    for method, box, count in cases:
        found = adversarial_dimension(
            subject.classifier, bench.x[:count], bench.y[:count], eps=bench.radius, method=method, box=box,
            max_dimension=settings.max_dimension, seed=bench.seed, index=bench.index[:count], progress=bench.progress,
        )  # fmt: skip
        summary = dimension_summary(found)
        if not rows:  # the claim is the same for all cases
            claim = dimension_summary(found, counts=found.claimed).mean
            left, words = len(bench.x) - claim.n, "claimed to first order"
            rows.append(Measurement("dimension", words, "directions", "mean", claim, left, main=False))
        words = f"verified, {_BOXES[box]}" if method == "gaas" else f"optimised frames, {_BOXES[box]}"
        capped = f"at the cap of {found.max_dimension}: {summary.at_cap.percent()}"
        if summary.closed is not None:
            capped += f"; proven maximal: {summary.closed.percent()}"
        rows.append(Measurement("dimension", words, "directions", "mean", summary.mean, summary.excluded, note=capped))
        rows.append(_share("dimension", f"none, {words}", summary.at_zero, summary.excluded, main=False))
        results[f"{method}-{box}"] = found
    return Found(rows, results)


def pieces(bench: Bench, subject: Subject) -> Found:
    """Exact affine pieces along the FGSM direction up to ε, and how straight the logits are there."""
    chosen = bench.right(subject).nonzero()[: bench.settings.few, 0]
    x, y = bench.x[chosen], bench.y[chosen]
    eps = bench.settings.eps
    cut = linear_pieces(subject.classifier, x, y, extent=(0.0, eps), progress=bench.progress)
    turned = gradient_cosines(subject.classifier, x, y, at=[eps], progress=bench.progress)
    exists = cut.length > 0
    straight = straightness(cut).r_squared[exists].nanmedian(1).values
    columns: list[tuple[str, str, Tensor, bool]] = [
        ("affine pieces", "pieces", cut.count[exists].double(), True),
        ("R² of the best line", "", straight, False),
        ("cosine of the gradients at 0 and ε", "", turned.cosine[exists, 0], True),
    ]
    rows = []
    for quantity, unit, values, main in columns:
        known = values[~values.isnan()]  # constant logits have no R², points without a gradient no cosine
        estimate = median(known.numpy())
        rows.append(Measurement("pieces", quantity, unit, "median", estimate, len(x) - estimate.n, main=main))
    return Found(rows, {"pieces": cut, "cosines": turned})


def segments(bench: Bench, subject: Subject) -> Found:
    """Misses and gradients half way between two examples, of the same class and of different classes."""
    rows, results = [], {}
    for kind, words in (("same", "one class"), ("different", "two classes")):
        pairs = random_pairs(bench.x, bench.y, pairs=bench.settings.pairs, kind=kind, seed=bench.seed)
        curves = segment_curves(subject.classifier, *pairs, points=3, progress=bench.progress)
        missed = curves.missed[:, 1]
        steep = mean(curves.gradient_norm[:, 1].numpy(), within=_POSITIVE)
        rows.append(_share("segments", f"misses, {words}", share(int(missed.sum()), len(missed))))
        unit = "loss per input unit (L2)"
        rows.append(Measurement("segments", f"gradient, {words}", unit, "mean", steep, main=kind == "different"))
        results[kind] = curves
    return Found(rows, results)


def spectrum(bench: Bench, subject: Subject) -> Found:
    """How flat hidden representations of a class are: singular values but the largest, and effective rank."""
    layers = tuple(dict.fromkeys((*subject.layers[:1], *subject.layers[-1:])))
    if not layers:
        raise ValueError("the model has no hidden layer")
    given = {"layers": layers, "index": bench.index, "progress": bench.progress}
    found = hidden_spectrum(subject.classifier, bench.x, bench.y, **given)
    rows = []
    for where, number in (("first", 0), ("last", len(layers) - 1)):
        note = f"layer {layers[number]!r}"
        for quantity, unit, values, main in (
            ("all singular values but the largest", "units of the layer", found.rest[number], where == "first"),
            ("effective rank", "directions", found.effective_rank[number], False),
        ):
            estimate = mean(values[~values.isnan()].numpy(), within=_POSITIVE)
            name = f"{quantity}, {where} hidden layer"
            rows.append(Measurement("spectrum", name, unit, "mean", estimate, main=main, note=note))
    return Found(rows, {"spectrum": found})


def transfer(bench: Bench, subject: Subject) -> Found:
    """How often PGD examples of this model fool the standard model, and vice versa."""
    own = bench.subjects.index(subject)
    partner = bench.partners[own]
    if partner is None:
        raise ValueError("there is no other standard model to compare with")
    note = f"with {bench.subjects[partner].name}"
    rows = []
    for quantity, source, target in (("to standard", own, partner), ("from standard", partner, own)):
        estimate = bench.sent(source, target)
        rows.append(_share("transfer", quantity, estimate, len(bench.x) - estimate.n, note=note))
    return Found(rows, {})


def certified(bench: Bench, subject: Subject) -> Found:
    """Certified radii of smoothing around the first examples."""
    settings = bench.settings
    if settings.sigma is None:
        raise ValueError("certified radii need settings with sigma")
    few = slice(settings.few)
    found = certify(
        subject.classifier, bench.x[few], bench.y[few], sigma=settings.sigma, n=settings.votes, seed=bench.seed,
        index=bench.index[few], progress=bench.progress,
    )  # fmt: skip
    average = mean((found.radius * found.correct).numpy(), within=_POSITIVE)
    rows = [
        Measurement("certified", "average certified radius", "L2 in input units", "mean", average),
        _share("certified", "certified accuracy at radius σ", found.accuracy_at([settings.sigma])[0], main=False),
        _share("certified", "abstains", share(int(found.abstained.sum()), len(found.abstained)), main=False),
    ]
    return Found(rows, {"radii": found})


def _share(instrument: str, quantity: str, estimate: Estimate, excluded: int = 0, **more: Any) -> Measurement:
    return Measurement(instrument, quantity, "share", "share", estimate, excluded, **more)


def _word(name: str) -> str:
    """A name as part of a file name."""
    return name.lower().replace(" × ", "x")


INSTRUMENTS: dict[str, Callable[[Bench, Subject], Found]] = {
    "accuracy": accuracy,
    "masking": masking,
    "distances": distances,
    "dimension": dimension,
    "pieces": pieces,
    "segments": segments,
    "spectrum": spectrum,
    "transfer": transfer,
    "certified": certified,
}
"""Instruments by name, in the order of the table: functions of the bench and a subject."""
