"""The note below an instrument's table: what its numbers are of, with n, units, and what is left out."""

from collections.abc import Callable

import numpy as np

from boundarygeo.comparison.bench import Bench
from boundarygeo.comparison.masking import LEVEL


def _accuracy(bench: Bench) -> str:
    return (
        f"L∞, ε = {bench.settings.eps:.4g}; n = {len(bench.x):,}, examples misclassified without an attack included; "
        "robust: right under all attacks, APGD, minimal norm and Square among them; 95 % Wilson intervals"
    )


def _masking(bench: Bench) -> str:
    return (
        f"differences of accuracy on n = {len(bench.x):,} examples, above zero where the attack that should be stronger"
        f" leaves more; flagged where McNemar's exact one-sided p < {LEVEL}; 95 % intervals"
    )


def _distances(bench: Bench) -> str:
    fgsm, random = bench.reaches.values()
    return (
        f"medians over the n of {len(bench.x):,} examples that the model gets right; looked up to ε = "
        f"{fgsm:.4g} (L∞) and {random:.4g} (L2), inf: half or more do not change; 95 % intervals"
    )


def _dimension(bench: Bench) -> str:
    frames = f"; optimised frames of the first {bench.settings.few}" if bench.settings.frame else ""
    return (
        f"gradient-aligned frames, L2, ε = {bench.radius:.4g}; means over the n of {len(bench.x):,} examples that the "
        f"model gets right; 95 % intervals{frames}"
    )


def _pieces(bench: Bench) -> str:
    return (
        f"along the FGSM direction up to ε = {bench.settings.eps:.4g} (L∞); medians over the first "
        f"{bench.settings.few} examples that the model gets right, of an example's logits the median; 95 % intervals"
    )


def _segments(bench: Bench) -> str:
    return (
        f"at λ = 1/2, {bench.settings.pairs:,} pairs of the {len(bench.x):,} test examples of each kind, misclassified "
        "ones included; 95 % intervals over the draw of the pairs"
    )


def _spectrum(bench: Bench) -> str:
    _, counts = np.unique(bench.y.cpu().numpy(), return_counts=True)
    low, high = int(counts.min()), int(counts.max())
    return (
        f"means over the classes, of {low} to {high} examples each, misclassified ones included; sums of singular "
        "values grow with that number; 95 % intervals over the classes"
    )


def _transfer(bench: Bench) -> str:
    return (
        f"share of PGD's examples (20 steps, L∞, ε = {bench.settings.eps:.4g}) that fool the other, over the n of "
        f"{len(bench.x):,} that both get right; standard models are paired with each other; 95 % Wilson intervals"
    )


def _certified(bench: Bench) -> str:
    settings = bench.settings
    return (
        f"randomised smoothing of the model as it is, σ = {settings.sigma:.4g}, {settings.votes:,} noise vectors, "
        f"α = 0.001; the first {min(settings.few, len(bench.x))} examples, radius 0 where wrong or abstaining; 95 % "
        "intervals"
    )


NOTES: dict[str, Callable[[Bench], str]] = {
    "accuracy": _accuracy,
    "masking": _masking,
    "distances": _distances,
    "dimension": _dimension,
    "pieces": _pieces,
    "segments": _segments,
    "spectrum": _spectrum,
    "transfer": _transfer,
    "certified": _certified,
}
"""The note of each instrument, by its name."""
