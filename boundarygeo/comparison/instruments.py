"""The instruments of a comparison: functions of the bench and one classifier that return its numbers.

They call the public functions only, and report n, what is excluded, and why.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from boundarygeo.attacks.accuracy import AccuracyCurve
from boundarygeo.choices import Box, FrameMethod
from boundarygeo.comparison.bench import STRONGEST, Bench
from boundarygeo.comparison.masking import LEVEL, masking_checks
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

FGSM_REACH = 5
"""Largest distance searched along the FGSM direction, in ε."""

_BOXES: dict[Box, str] = {"feasible": "inside the bounds", "ignore": "bounds ignored"}


@dataclass(frozen=True)
class Found:
    """Result of an instrument on one classifier.

    Attributes:
        measurements: the numbers, in the order of their columns.
        results: the underlying results, by name.
    """

    measurements: list[Measurement]
    results: dict[str, Result]


@dataclass(frozen=True)
class Instrument:
    """An instrument.

    Attributes:
        measure: function that returns the numbers of one classifier.
        note: note on all the numbers.
    """

    measure: Callable[[Bench, Subject], Found]
    note: Callable[[Bench], str]


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


def hold_curves(bench: Bench, subject: Subject, found: Found) -> None:
    """Give a bench the curves found by `accuracy`, for `masking`.

    Args:
        bench: bench that receives the curves.
        subject: the classifier.
        found: result of `accuracy`.
    """
    for attack in bench.attacks:
        curve = found.results[_word(attack)]
        assert isinstance(curve, AccuracyCurve)
        bench.hold(subject, attack, curve)


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
            instrument="masking",
            quantity=quantity,
            unit="share",
            statistic="difference",
            estimate=check.difference,
            flagged=check.flagged,
            note=check.reason,
        )
        for quantity, check in zip(quantities, checks, strict=False)
    ]
    return Found(rows, {})


def distances(bench: Bench, subject: Subject) -> Found:
    """Distance to the boundary along FGSM and random directions, for correctly classified examples."""
    right = bench.right(subject)
    x, y, index = bench.x[right], bench.y[right], bench.index[right]
    rows, results = [], {}
    for direction, furthest in _reaches(bench).items():
        found = boundary_distance(
            subject.classifier, x, y, direction=direction, max_distance=furthest, seed=bench.seed, index=index
        )
        estimate = median(found.distance[found.valid].numpy())
        name = "along the FGSM direction" if direction == "fgsm" else "along random directions"
        rows.append(_number("distances", name, found.unit, "median", estimate, len(bench.x) - estimate.n))
        results[direction] = found
    return Found(rows, results)


def dimension(bench: Bench, subject: Subject) -> Found:
    """Orthogonal adversarial directions: first-order and verified counts, with and without the bounds."""
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
        if not rows:
            claim = dimension_summary(found, counts=found.claimed).mean
            excluded = len(bench.x) - claim.n
            rows.append(
                _number("dimension", "claimed to first order", "directions", "mean", claim, excluded, main=False)
            )
        words = f"verified, {_BOXES[box]}" if method == "gaas" else f"optimised frames, {_BOXES[box]}"
        capped = f"at the cap of {found.max_dimension}: {summary.at_cap.percent()}"
        if summary.closed is not None:
            capped += f"; proven the most of all sizes: {summary.closed.percent()}"
        rows.append(_number("dimension", words, "directions", "mean", summary.mean, summary.excluded, note=capped))
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
        rows.append(_number("pieces", quantity, unit, "median", estimate, len(x) - estimate.n, main=main))
    return Found(rows, {"pieces": cut, "cosines": turned})


def segments(bench: Bench, subject: Subject) -> Found:
    """Misses and gradients half way between two examples, of the same class and of different classes."""
    rows, results = [], {}
    for kind, words in (("same", "one class"), ("different", "two classes")):
        pairs = random_pairs(bench.x, bench.y, pairs=bench.settings.pairs, kind=kind, seed=bench.seed)
        curves = segment_curves(subject.classifier, *pairs, points=3, progress=bench.progress)
        missed = curves.missed[:, 1]
        steep = mean(curves.gradient_norm[:, 1].numpy(), within=(0, np.inf))
        rows.append(_share("segments", f"misses, {words}", share(int(missed.sum()), len(missed))))
        unit = "loss per input unit (L2)"
        rows.append(_number("segments", f"gradient, {words}", unit, "mean", steep, main=kind == "different"))
        results[kind] = curves
    return Found(rows, results)


def spectrum(bench: Bench, subject: Subject) -> Found:
    """How flat hidden representations of a class are: singular values but the largest, and effective rank."""
    layers = tuple(dict.fromkeys((*subject.layers[:1], *subject.layers[-1:])))
    if not layers:
        raise ValueError("the model has no hidden layer")
    found = hidden_spectrum(subject.classifier, bench.x, bench.y, layers=layers, progress=bench.progress)
    rows = []
    for where, number in (("first", 0), ("last", len(layers) - 1)):
        note = f"layer {layers[number]!r}"
        for quantity, unit, values, main in (
            ("all singular values but the largest", "units of the layer", found.rest[number], where == "first"),
            ("effective rank", "directions", found.effective_rank[number], False),
        ):
            known = values[~values.isnan()].numpy()
            name = f"{quantity}, {where} hidden layer"
            rows.append(_number("spectrum", name, unit, "mean", mean(known, within=(0, np.inf)), main=main, note=note))
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
    radius = (found.radius * found.correct).numpy()
    rows = [
        _number("certified", "average certified radius", "L2 in input units", "mean", mean(radius, within=(0, np.inf))),
        _share("certified", "certified accuracy at radius σ", found.accuracy_at([settings.sigma])[0], main=False),
        _share("certified", "abstains", share(int(found.abstained.sum()), len(found.abstained)), main=False),
    ]
    return Found(rows, {"radii": found})


def _accuracy_note(bench: Bench) -> str:
    return (
        f"L∞, ε = {bench.settings.eps:.4g}; n = {len(bench.x):,}, examples misclassified without an attack included; "
        "robust: right under all attacks, APGD, minimal norm and Square among them; 95 % Wilson intervals"
    )


def _masking_note(bench: Bench) -> str:
    return (
        f"differences of accuracy on n = {len(bench.x):,} examples, above zero where the attack that should be stronger"
        f" leaves more; flagged where McNemar's exact one-sided p < {LEVEL}; 95 % intervals"
    )


def _distances_note(bench: Bench) -> str:
    fgsm, random = _reaches(bench).values()
    return (
        f"medians over the n of {len(bench.x):,} examples that the model gets right; looked up to ε = "
        f"{fgsm:.4g} (L∞) and {random:.4g} (L2), inf: half or more do not change; 95 % intervals"
    )


def _dimension_note(bench: Bench) -> str:
    frames = f"; optimised frames of the first {bench.settings.few}" if bench.settings.frame else ""
    return (
        f"gradient-aligned frames, L2, ε = {bench.radius:.4g}; means over the n of {len(bench.x):,} examples that the "
        f"model gets right; 95 % intervals{frames}"
    )


def _pieces_note(bench: Bench) -> str:
    return (
        f"along the FGSM direction up to ε = {bench.settings.eps:.4g} (L∞); medians over the first "
        f"{bench.settings.few} examples that the model gets right, of an example's logits the median; 95 % intervals"
    )


def _segments_note(bench: Bench) -> str:
    return (
        f"at λ = 1/2, {bench.settings.pairs:,} pairs of the {len(bench.x):,} test examples of each kind, misclassified "
        "ones included; 95 % intervals over the draw of the pairs"
    )


def _spectrum_note(bench: Bench) -> str:
    _, counts = np.unique(bench.y.cpu().numpy(), return_counts=True)
    low, high = int(counts.min()), int(counts.max())
    return (
        f"means over the classes, of {low} to {high} examples each, misclassified ones included; sums of singular "
        "values grow with that number; 95 % intervals over the classes"
    )


def _transfer_note(bench: Bench) -> str:
    return (
        f"share of PGD's examples (20 steps, L∞, ε = {bench.settings.eps:.4g}) that fool the other, over the n of "
        f"{len(bench.x):,} that both get right; standard models are paired with each other; 95 % Wilson intervals"
    )


def _certified_note(bench: Bench) -> str:
    settings = bench.settings
    return (
        f"randomised smoothing of the model as it is, σ = {settings.sigma:.4g}, {settings.votes:,} noise vectors, "
        f"α = 0.001; the first {min(settings.few, len(bench.x))} examples, radius 0 where wrong or abstaining; 95 % "
        "intervals"
    )


def _reaches(bench: Bench) -> dict[str, float]:
    """Largest distance searched in each direction: several ε, and the diagonal of the box."""
    low, high = bench.subjects[0].classifier.bounds
    return {"fgsm": FGSM_REACH * bench.settings.eps, "random": (high - low) * bench.x[0].numel() ** 0.5}


def _number(
    instrument: str,
    quantity: str,
    unit: str,
    statistic: str,
    estimate: Estimate,
    excluded: int = 0,
    *,
    main: bool = True,
    note: str = "",
) -> Measurement:
    return Measurement(
        instrument=instrument,
        quantity=quantity,
        unit=unit,
        statistic=statistic,
        estimate=estimate,
        excluded=excluded,
        main=main,
        note=note,
    )


def _share(
    instrument: str, quantity: str, estimate: Estimate, excluded: int = 0, *, main: bool = True, note: str = ""
) -> Measurement:
    return _number(instrument, quantity, "share", "share", estimate, excluded, main=main, note=note)


def _word(name: str) -> str:
    """A name as part of a file name."""
    return name.lower().replace(" × ", "x")


INSTRUMENTS: dict[str, Instrument] = {
    "accuracy": Instrument(accuracy, _accuracy_note),
    "masking": Instrument(masking, _masking_note),
    "distances": Instrument(distances, _distances_note),
    "dimension": Instrument(dimension, _dimension_note),
    "pieces": Instrument(pieces, _pieces_note),
    "segments": Instrument(segments, _segments_note),
    "spectrum": Instrument(spectrum, _spectrum_note),
    "transfer": Instrument(transfer, _transfer_note),
    "certified": Instrument(certified, _certified_note),
}
"""Instruments by name, in the order of the table."""
