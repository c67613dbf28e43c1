"""How often the intervals that the package prints hold the true value, and its p-values fall below a level, simulated.

    python benchmarks/coverage.py [--runs 1000]

Coverage in %: samples of independent values from populations whose value is known, and, in the last tables, what is not
independent: pairs of the same examples, pairs of the same models, examples compared with each other. `m`: the estimate
itself is marked with a lower confidence than 95 %. `(n %)`: share of the samples whose interval is NaN, because
all values are equal or a rank correlation is ±1; coverage is over the others. Bold: less than 93 %, or above the level,
by more than two standard errors, and not marked.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats

from boundarygeo.comparison.masking import LEVEL, masking_checks
from boundarygeo.results import Provenance
from boundarygeo.results.statistics import (
    CONFIDENCE,
    Estimate,
    mean,
    median,
    paired_difference,
    rank_correlation,
    rank_correlation_of_pairs,
    share,
)
from boundarygeo.transfer.bases import SubspaceBases
from boundarygeo.transfer.chance import p_values, random_energies, random_subspace_angles
from boundarygeo.transfer.matrix import TransferMatrix
from boundarygeo.transfer.mistakes import transfer_mistakes
from boundarygeo.transfer.overlap import basis_overlap

Rng = np.random.Generator
SIZES = (2, 3, 5, 8, 20, 50, 200)
LEVELS = (0.05, 0.01, 0.005, 0.001)
LOWEST = 0.93
NULL = 9_999

VALUES: dict[str, tuple[Callable[[Rng, int], np.ndarray], float, float]] = {
    "normal": (lambda rng, n: rng.standard_normal(n), 0.0, 0.0),
    "uniform": (lambda rng, n: rng.random(n), 0.5, 0.5),
    "exponential": (lambda rng, n: rng.exponential(size=n), 1.0, math.log(2)),
    "lognormal, σ = 1": (lambda rng, n: rng.lognormal(size=n), math.exp(0.5), 1.0),
    "t with 3 degrees": (lambda rng, n: rng.standard_t(3, n), 0.0, 0.0),
    "Pareto, exponent 3": (lambda rng, n: rng.pareto(3, n), 0.5, 2 ** (1 / 3) - 1),
    "arcsine": (lambda rng, n: rng.beta(0.5, 0.5, n), 0.5, 0.5),
    "shares near 1: beta(8, 1)": (lambda rng, n: rng.beta(8, 1, n), 8 / 9, 0.5**0.125),
    "counts: Poisson(2)": (lambda rng, n: rng.poisson(2, n).astype(float), 2.0, 2.0),
    "half zero, half gamma(2)": (lambda rng, n: np.where(rng.random(n) < 0.5, 0, rng.gamma(2, size=n)), 1.0, 0.0),
    "0 or 1, half each": (lambda rng, n: (rng.random(n) < 0.5).astype(float), 0.5, math.nan),
    "0 or 1, one in ten": (lambda rng, n: (rng.random(n) < 0.1).astype(float), 0.1, 0.0),
    "-1, 0 or 1: 2, 93, 5 %": (lambda rng, n: rng.choice([-1.0, 0, 1], n, p=[0.02, 0.93, 0.05]), 0.03, 0.0),
    "uniform, one in 20 larger by 10": (lambda rng, n: rng.random(n) + 10 * (rng.random(n) < 0.05), 1.0, 10 / 19),
}
"""Draw, mean and median of each population; a median of NaN is none."""

SHARES = ((0.001, 0.001), (0.01, 0.001), (0.05, 0.02), (0.1, 0.1), (0.3, 0.0), (0.5, 0.3))
"""Of examples that have one of two properties alone: either one."""


def normal_pairs(r: float) -> Callable[[Rng, int], tuple[np.ndarray, np.ndarray]]:
    """Pairs of normal values with a correlation."""

    def draw(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray]:
        a, noise = rng.standard_normal((2, n))
        return a, r * a + math.sqrt(1 - r * r) * noise

    return draw


def of_normal(change: Callable[[np.ndarray], np.ndarray], r: float) -> Callable[[Rng, int], Any]:
    """Normal pairs, changed."""
    return lambda rng, n: tuple(change(values) for values in normal_pairs(r)(rng, n))


def scattered(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """One value says how far the other scatters."""
    a, noise = rng.standard_normal((2, n))
    return a, a * (0.5 + noise)


def extremes_together(rng: Rng, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The t copula with 2 degrees of freedom."""
    a, b = normal_pairs(0.5)(rng, n)
    scale = np.sqrt(rng.chisquare(2, n))
    return a / scale, b / scale


PAIRS: dict[str, Callable[[Rng, int], tuple[np.ndarray, np.ndarray]]] = {
    "normal, r = 0": normal_pairs(0.0),
    "normal, r = 0.5": normal_pairs(0.5),
    "normal, r = 0.9": normal_pairs(0.9),
    "t copula, 2 degrees, r = 0.5": extremes_together,
    "one is the scatter of the other": scattered,
    "counts of both, r = 0.5": of_normal(lambda v: np.floor(1.5 * v), 0.5),
    "both 0 in 70 %, r = 0.5": of_normal(lambda v: np.maximum(v, 0.5244), 0.5),
}


Squares = tuple[np.ndarray, np.ndarray]


def independent(rng: Rng, m: int) -> Squares:
    """A property of pairs and their rates, of which nothing is the models'."""
    return rng.standard_normal((m, m)), rng.standard_normal((m, m))


def of_source(own: float, r: float = 0.0) -> Callable[[Rng, int], Squares]:
    """A property of the source, and rates to which both models and the pair add: the models a share `own`.

    Of the source's own part r² is due to the property.
    """

    def draw(rng: Rng, m: int) -> Squares:
        value, source = rng.standard_normal((2, m, 1))
        sides = r * value + math.sqrt(1 - r * r) * source + rng.standard_normal((1, m))
        rate = math.sqrt(own / 2) * sides + math.sqrt(1 - own) * rng.standard_normal((m, m))
        return np.broadcast_to(value, (m, m)), rate

    return draw


def symmetric(rng: Rng, m: int) -> Squares:
    """A property that is that of the pair the other way round, as cosines, of which half is the models'."""
    pair, own = rng.standard_normal((m, m)), rng.standard_normal(m)
    return pair + pair.T + own[:, None] + own, of_source(0.5)(rng, m)[1]


MODELS: dict[str, tuple[Callable[[Rng, int], Squares], float]] = {
    "pairs are independent": (independent, 0.0),
    "property of the source; half of the rate's variance is the models'": (of_source(0.5), 0.0),
    "the same, all but 5 %": (of_source(0.95), 0.0),
    "property of both, such as cosines; half is the models'": (symmetric, 0.0),
    "property of the source, ρ = 0.48": (of_source(0.5, 1.0), 6 / math.pi * math.asin(0.25)),
    "property of the source, ρ = 0.67": (of_source(0.95, 1.0), 6 / math.pi * math.asin(math.sqrt(0.475) / 2)),
}
"""Draw and true rank correlation of each population of models."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="samples of each cell")
    runs = parser.parse_args().runs
    rng = np.random.default_rng(0)

    head("mean", SIZES)
    for name, (draw, true, _) in VALUES.items():
        row(name, ([mean(draw(rng, n)) for _ in range(runs)] for n in SIZES), true)
    head("median", SIZES)
    for name, (draw, _, true) in VALUES.items():
        if not math.isnan(true):
            row(name, ([median(draw(rng, n)) for _ in range(runs)] for n in SIZES), true)
    head("share, true value", (1, *SIZES))
    for true in (0.001, 0.01, 0.05, 0.2, 0.5, 0.9, 0.99):
        row(f"{true}", ([share(int(k), n) for k in rng.binomial(n, true, runs)] for n in (1, *SIZES)), true)
    row("the worst of all, exactly", None, [worst_share(n) for n in (1, *SIZES)])
    head("difference of two shares of the same examples: one alone, the other alone", (1, *SIZES))
    for both in SHARES:
        cells = ([paired_difference(*drawn, n) for drawn in differing(rng, n, both, runs)] for n in (1, *SIZES))
        row(", ".join(map(str, both)), cells, both[0] - both[1])
    row("the worst of all, exactly", None, [worst_difference(n) for n in (1, *SIZES)])
    head("rank correlation", sizes := (4, 5, 6, 8, 20, 50, 200))
    for name, draw in PAIRS.items():
        true = rank_correlation(*draw(rng, 1_000_000)).value
        row(name, ([rank_correlation(*draw(rng, n)) for _ in range(runs)] for n in sizes), true)
    print(f"\n{runs:,} samples per cell: standard error {100 * math.sqrt(0.05 * 0.95 / runs):.1f} at 95 %")

    levels(runs)
    others(min(runs, 1000))


def head(title: str, columns: Iterable[object]) -> None:
    """First lines of a table."""
    names = [f"n = {column}" if isinstance(column, int) else str(column) for column in columns]
    print(f"\n| {title} | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))


def row(name: str, cells: Iterable[Sequence[Estimate]] | None, true: Any) -> None:
    """One line of coverages."""
    words = true if cells is None else [covered(estimates, true) for estimates in cells]
    print(f"| {name} | " + " | ".join(words) + " |", flush=True)


def covered(estimates: Sequence[Estimate], true: float) -> str:
    """Coverage of some estimates of one number."""
    known = [each for each in estimates if not math.isnan(each.low)]
    lost = f" ({100 * (1 - len(known) / len(estimates)):.0f} %)" if len(known) < len(estimates) else ""
    if not known:
        return "-" + lost
    return percent(np.array([each.low <= true <= each.high for each in known]), known[0].confidence) + lost


def percent(holds: np.ndarray, confidence: float = CONFIDENCE) -> str:
    """A coverage, with its mark."""
    value = float(holds.mean())
    if confidence < CONFIDENCE:
        return f"{100 * value:.1f} m{100 * confidence:.0f}"
    low = value + 2 * math.sqrt(LOWEST * (1 - LOWEST) / len(holds)) < LOWEST
    return f"**{100 * value:.1f}**" if low else f"{100 * value:.1f}"


def worst_share(n: int) -> str:
    """The lowest coverage of the interval of a share, over a grid of true shares."""
    true = np.concatenate([np.geomspace(1e-5, 0.05, 500), np.linspace(0.05, 0.5, 2000)])
    ends = np.array([(e.low, e.high) for e in (share(k, n) for k in range(n + 1))]).T[:, :, None]
    chance = stats.binom.pmf(np.arange(n + 1)[:, None], n, true)
    return f"{100 * (chance * ((ends[0] <= true) & (true <= ends[1]))).sum(0).min():.1f}"


def differing(rng: Rng, n: int, both: tuple[float, float], runs: int) -> list[tuple[int, int]]:
    """How many of n examples have one of two properties alone, in every run."""
    return [(int(one), int(other)) for one, other, _ in rng.multinomial(n, (*both, 1 - sum(both)), runs)]


def worst_difference(n: int) -> str:
    """The lowest coverage of the interval of a difference, over a grid of true shares."""
    counts = [(one, other) for one in range(n + 1) for other in range(n + 1 - one)]
    ends = np.array([(e.low, e.high) for e in (paired_difference(*each, n) for each in counts)]).T
    everything = np.array([(*each, n - sum(each)) for each in counts])
    lowest = 1.0
    for total in np.concatenate([np.geomspace(0.01 / n, 0.3, 20), np.linspace(0.32, 1, 35)]):
        for part in np.concatenate([[0.0], np.geomspace(0.01, 0.5, 20)]):  # the other way round it is the same
            one, other = total * (1 - part), total * part
            chance = stats.multinomial.pmf(everything, n, [one, other, 1 - one - other])
            inside = (ends[0] <= one - other + 1e-12) & (one - other - 1e-12 <= ends[1])
            lowest = min(lowest, float(chance[inside].sum()))
    return f"{100 * lowest:.1f}"


def levels(runs: int) -> None:
    """How often p-values of the random null are below a level, of pairs of random subspaces made as such."""
    rng = np.random.default_rng(1)
    head("random_p_all: k₁, k₂, d, examples", [f"p ≤ {level}" for level in LEVELS])
    for k1, k2 in ((1, 1), (1, 5), (5, 5), (10, 20)):
        for d in (50, 784):
            for n, times in ((1, 10 * runs), (5, 5 * runs), (100, runs)):
                energy = random_subspace_angles(k1, k2, d, n * times, rng).cos().square().sum(1)
                null = random_energies(k1, k2, d, n * NULL, rng).reshape(-1, n).mean(1)
                p = p_values(energy.view(times, n).mean(1), torch.from_numpy(null))
                print(f"| {k1}, {k2}, {d}, {n} | {below(p.numpy())} |", flush=True)
    print(f"\n{10 * runs:,}, {5 * runs:,} and {runs:,} samples for 1, 5 and 100 examples; nulls of {NULL:,} draws")


def below(p: np.ndarray) -> str:
    """Shares of p-values at or below each level, with standard errors: the null is a sample, too."""
    cells = []
    for level in LEVELS:
        value, error = float((p <= level).mean()), math.sqrt(level * (1 - level) * (1 / len(p) + 1 / NULL))
        words = f"{value:.4f} ± {error:.4f}"
        cells.append(f"**{words}**" if value > level + 3 * error else words)
    return " | ".join(cells)


def others(runs: int) -> None:
    """Intervals and tests of the other rooms, and what is not independent."""
    rng = np.random.default_rng(2)
    head("excess of the overlap over that with other examples", sizes := (5, 20, 100))
    row("what all share, and each example's own", ([excess(rng, n) for _ in range(runs)] for n in sizes), 0.0)

    head("95 % range of `chance_share`, wrong labels at random", sizes := (5, 20, 100))
    print("| same mistakes of two models | " + " | ".join(chance(rng, n, runs) for n in sizes) + " |")

    head("certified: lower bound of the vote, α = 0.05", votes := (100, 1000))
    for true in (0.6, 0.9, 0.99):
        bounds = (stats.beta.ppf(0.05, h := rng.binomial(n, true, 20_000), n - h + 1) <= true for n in votes)
        print(f"| vote {true} | " + " | ".join(percent(holds) for holds in bounds) + " |")

    head(f"flags of masked gradients where there are none, at {LEVEL}", sizes := (50, 500))
    print("| both attacks leave 70 % | " + " | ".join(flagged(rng, n, runs) for n in sizes) + " |")

    head("mean over 500 pairs of the same examples (`segment_curves`)", sizes := (50, 200, 1000, 10_000))
    row("true for these examples", ([pairs(rng, n, known=True) for _ in range(runs)] for n in sizes), 0.0)
    row("true for all examples", ([pairs(rng, n, known=False) for _ in range(runs)] for n in sizes), 0.0)

    counts = (4, 5, 6, 10, 20)
    head("rank correlation over pairs of the same models (`correlation`)", [f"{count} models" for count in counts])
    for name, (draw, true) in MODELS.items():
        row(name, ([rank_correlation_of_pairs(*draw(rng, m)) for _ in range(runs)] for m in counts), true)


def excess(rng: Rng, n: int) -> Estimate:
    """Of subspaces that share a direction on all examples, and nothing beyond that on each: the true excess is 0."""
    bases = []
    common = rng.standard_normal((1, 2, 30))
    for _ in range(2):
        rows = torch.from_numpy(common + rng.gamma(1, size=(n, 1, 1)) * rng.standard_normal((n, 2, 30)))
        whole = torch.ones(n, dtype=torch.float64)
        bases.append(
            SubspaceBases(
                vectors=torch.linalg.qr(rows.mT).Q.mT, singular_values=whole[:, None].expand(n, 2), energy=whole,
                rank=torch.full((n,), 2), samples=torch.full((n,), 2), valid=whole > 0, index=torch.arange(n),
                kind="by hand", provenance=Provenance(command="by hand"),
            )
        )  # fmt: skip
    return basis_overlap(bases, draws=1).excess(0, 1)


def chance(rng: Rng, n: int, runs: int) -> str:
    """How often the range holds the share of equal wrong labels of two models that err independently."""
    holds = []
    for _ in range(runs):
        y = rng.integers(3, size=n)
        wrong = 3 + rng.choice(5, size=(2, n), p=[0.5, 0.2, 0.15, 0.1, 0.05])  # not equally frequent
        labels = torch.from_numpy(np.stack([wrong, wrong]))  # each fools both
        matrix = TransferMatrix(
            labels=labels, clean=torch.from_numpy(np.stack([y, y])), true_labels=torch.from_numpy(y), targets=None,
            distance=torch.ones(2, n),
            index=torch.arange(n), names=("a", "b"), attack="by hand", norm="l2", eps=None, eight_bit=False,
            provenance=Provenance(command="by hand"),
        )  # fmt: skip
        found = transfer_mistakes(matrix)
        expected, seen = found.chance_share(0, 1), found.same_share(0, 1).value
        holds.append(expected.low - 1e-12 <= seen <= expected.high + 1e-12)
    return percent(np.array(holds))


def flagged(rng: Rng, n: int, runs: int) -> str:
    """How often the weaker attack is found to be stronger."""
    flags = 0
    for _ in range(runs):
        fgsm, pgd = (torch.from_numpy(rng.random(n) < 0.7) for _ in range(2))
        flags += masking_checks(fgsm, pgd, pgd, {})[0].flagged
    return f"{flags / runs:.3f} ± {math.sqrt(LEVEL * (1 - LEVEL) / runs):.3f}"


def pairs(rng: Rng, n: int, *, known: bool) -> Estimate:
    """500 pairs of n examples: half of the variance of a pair's value belongs to its two examples."""
    own = rng.exponential(size=n) - 1
    if known:  # what the mean over all pairs of these examples is
        own = own - own.mean()
    first, second = rng.integers(n, size=(2, 500))
    return mean((own[first] + own[second]) / math.sqrt(2) + rng.exponential(size=500) - 1)


if __name__ == "__main__":
    main()
