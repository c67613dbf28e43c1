"""A comparison's numbers are those of the instruments called directly; seeds are grouped; what fails is said."""

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from quick_attacks import few_steps
from small_networks import Bent, nine_to_three
from torch import nn

import boundarygeo as bg
from boundarygeo import plots
from boundarygeo.comparison import INSTRUMENTS, Comparison, Settings, Subject, compare, default_eps, standard_partners
from boundarygeo.comparison.bench import Bench
from boundarygeo.comparison.tables import COLUMNS, csv_text, instrument_table, markdown, overview, remarks
from boundarygeo.directions import named_directions
from boundarygeo.lines.segments import random_pairs, segment_curves
from boundarygeo.representations import hidden_spectrum
from boundarygeo.results.statistics import Estimate, mean, median, paired_difference, share
from boundarygeo.subspace.summary import dimension_summary

N, EPS, FEW = 30, 0.1, 4
SETTINGS = Settings(
    eps=EPS, radius=0.5, restarts=2, queries=100, few=FEW, max_dimension=6, pairs=25, sigma=0.02, votes=50
)


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with few_steps():
        yield


X = torch.rand(N, 9, generator=torch.Generator().manual_seed(3))
Y = X[:, :3].argmax(1)
Y[::5] = (Y[::5] + 1) % 3  # wrong, so that there is what to leave out
INDEX = torch.arange(100, 100 + N)
DRAWN = {"seed": 5, "index": INDEX}


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    """Two seeds of a standard network and one of another method."""
    first, second, third = (bg.Classifier(nine_to_three(seed), device="cpu") for seed in (0, 1, 7))
    plain = {"group": "plain", "standard": True, "layers": ("1", "3")}
    return [
        Subject(name="plain0", classifier=first, seed=0, **plain),
        Subject(name="plain1", classifier=second, seed=1, **plain),
        Subject(name="other", group="other", classifier=third, seed=1, layers=("1",)),
    ]


@pytest.fixture(scope="module")
def found(subjects: list[Subject]) -> Comparison:
    return compare(subjects, X, Y, settings=SETTINGS, **DRAWN, progress=False)


def test_accuracies_are_those_of_the_curves(found: Comparison, subjects: list[Subject]) -> None:
    for subject in subjects:
        clf = subject.classifier
        clean = clf.predict(X) == Y
        fgsm = bg.accuracy_curve(clf, X, Y, attack="fgsm", eps=[EPS])
        pgd = bg.accuracy_curve(clf, X, Y, attack="pgd", eps=[EPS], steps=20, **DRAWN)
        longer = bg.accuracy_curve(clf, X, Y, attack="pgd", eps=[EPS], steps=100, restarts=2, **DRAWN)
        square = bg.accuracy_curve(clf, X, Y, attack="square", eps=[EPS], queries=100, **DRAWN)
        strongest = bg.accuracy_curve(clf, X, Y, attack="strongest", eps=[EPS], queries=100, **DRAWN)
        curves = {
            "FGSM": fgsm, "PGD-20": pgd, "PGD-100 × 2": longer, "Square-100": square, "strongest": strongest,
        }  # fmt: skip
        rights = {"clean": clean} | {name: curve.correct[0] for name, curve in curves.items()}
        for quantity, right in rights.items():
            assert found.value(subject.name, "accuracy", quantity) == share(int(right.sum()), N)
        every = torch.stack(list(rights.values())).all(0)
        assert found.value(subject.name, "accuracy", "robust") == share(int(every.sum()), N)
        both = (pgd.correct[0] & ~fgsm.correct[0], fgsm.correct[0] & ~pgd.correct[0])
        difference = paired_difference(*(int(which.sum()) for which in both), N)
        assert found.value(subject.name, "masking", "PGD-20 − FGSM") == difference


def test_the_other_numbers_are_those_of_the_instruments(found: Comparison, subjects: list[Subject]) -> None:
    subject = subjects[2]
    clf = subject.classifier
    right = clf.predict(X) == Y
    assert FEW < int(right.sum()) < N  # or nothing would be left out

    for direction, reach, words in (("fgsm", 5 * EPS, "the FGSM direction"), ("random", 3.0, "random directions")):
        whole = bg.boundary_distance(clf, X, Y, direction=direction, max_distance=reach, **DRAWN)
        estimate = median(whole.distance[right].numpy())
        assert found.value("other", "distances", f"along {words}") == estimate
    for box, words in (("feasible", "inside the bounds"), ("ignore", "bounds ignored")):
        counts = bg.adversarial_dimension(clf, X, Y, eps=0.5, box=box, max_dimension=6, **DRAWN)
        summary = dimension_summary(counts)
        assert found.value("other", "dimension", f"verified, {words}") == summary.mean
        assert found.value("other", "dimension", f"none, verified, {words}") == summary.at_zero
        claimed = dimension_summary(counts, counts=counts.claimed).mean
        assert found.value("other", "dimension", "claimed to first order") == claimed
    chosen = right.nonzero()[:FEW, 0]
    along = named_directions(clf, X[chosen], Y[chosen], "fgsm")
    cut = bg.linear_pieces(clf, X[chosen], Y[chosen], direction=along, extent=(0, EPS))
    assert found.value("other", "pieces", "affine pieces") == median(cut.count.numpy())
    cosines = bg.gradient_cosines(clf, X[chosen], Y[chosen], direction=along, at=[EPS]).cosine
    assert found.value("other", "pieces", "cosine of the gradients at 0 and ε") == median(cosines[:, 0].numpy())
    for kind, words in (("same", "one class"), ("different", "two classes")):
        curves = segment_curves(clf, *random_pairs(X, Y, pairs=25, kind=kind, seed=5), points=3)
        missed = found.value("other", "segments", f"misses, {words}")
        steep = found.value("other", "segments", f"gradient, {words}")
        assert (missed.value, missed.low, missed.high) == (curves.miss[1], curves.miss_low[1], curves.miss_high[1])
        assert (steep.value, steep.low, steep.n) == (curves.gradient[1], curves.gradient_low[1], 25)
        assert steep == mean(curves.gradient_norm[:, 1].numpy(), within=(0, np.inf))
    spectra = hidden_spectrum(clf, X, Y, layers=["1"])
    assert torch.equal(found.results["spectrum", "other", "spectrum"].index, INDEX)
    name = "all singular values but the largest, last hidden layer"
    assert found.value("other", "spectrum", name) == mean(spectra.rest[0].numpy(), within=(0, np.inf))
    radii = bg.defences.certify(clf, X[:FEW], Y[:FEW], sigma=0.02, n=50, seed=5, index=INDEX[:FEW])
    assert float(radii.radius[~radii.correct].max()) > 0  # certified, but wrong: counts as zero
    average = mean((radii.radius * radii.correct).numpy(), within=(0, np.inf))
    assert found.value("other", "certified", "average certified radius") == average


def test_transfer_is_counted_where_both_are_right_and_is_that_of_the_matrix(
    found: Comparison, subjects: list[Subject]
) -> None:
    pair = {"other": subjects[2].classifier, "plain1": subjects[1].classifier}  # of its own seed
    matrix = bg.transfer_matrix(pair, X, Y, eps=EPS, **DRAWN)
    there, back = matrix.estimate("other", "plain1"), matrix.estimate("plain1", "other")
    assert found.value("other", "transfer", "to standard") == there
    assert found.value("other", "transfer", "from standard") == back
    assert 0 < there.n < N
    kept = found.results["transfer", "all", "matrix"]
    assert isinstance(kept, bg.TransferMatrix)
    assert torch.equal(kept.predicted[2, 1], matrix.predicted[0, 1])
    rows = [row.measured for row in found.rows if (row.name, row.measured.quantity) == ("other", "to standard")]
    assert (rows[0].note, rows[0].excluded) == ("with plain1", N - there.n)
    # The strongest of the attacks that were sent to it.
    whole = bg.transfer_matrix([subject.classifier for subject in subjects], X, Y, eps=EPS, **DRAWN)
    fewest = min(int((~whole.success[i, 2]).sum()) for i in (0, 1))
    pgd = bg.accuracy_curve(subjects[2].classifier, X, Y, attack="pgd", eps=[EPS], steps=20, **DRAWN)
    difference = found.value("other", "masking", "PGD-20 − strongest transferred")
    assert difference.value == pytest.approx((int(pgd.correct.sum()) - fewest) / N)


def test_the_strongest_attack_takes_its_usual_steps(subjects: list[Subject]) -> None:
    nothing = torch.zeros(1, 9)
    bench = Bench(
        subjects=tuple(subjects), x=nothing, y=nothing, index=nothing, settings=SETTINGS, seed=0, progress=False
    )
    assert bench.attacks["strongest"] == {"attack": "strongest", "eps": [EPS], "queries": 100}


def test_seeds_of_a_group_have_a_mean_and_a_standard_deviation(found: Comparison) -> None:
    values = [found.value(f"plain{seed}", "accuracy", "FGSM").value for seed in range(2)]
    spread = next(s for s in found.spreads("accuracy") if (s.group, s.quantity) == ("plain", "FGSM"))
    assert (spread.mean, spread.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert (spread.seeds, len(spread.rows)) == (2, 2)
    table = instrument_table(found, "accuracy")
    assert table[0] == ("", "seeds", "n", "clean", "FGSM", "PGD-20", "PGD-100 × 2", "Square-100", "strongest", "robust")
    assert table[1][:3] == ("plain", "2", "30")
    assert table[1][4] == f"{100 * spread.mean:.1f} ± {100 * spread.sd:.1f} %"
    assert table[2][4] == found.value("other", "accuracy", "FGSM").percent()
    assert [row[0] for row in overview(found)] == ["", "plain", "other"]
    assert markdown(found).count("### ") == 1 + len(INSTRUMENTS)
    assert "misclassified without an attack included" in remarks(found, "accuracy")[0]
    assert f"the n of {N} examples that the model gets right" in remarks(found, "distances")[0]


def test_the_csv_has_every_number_as_it_is(found: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(found))))
    assert tuple(rows[0]) == COLUMNS
    models = [row for row in rows if row["level"] == "model"]
    assert len(models) == len(found.rows)
    for row in models:
        estimate = found.value(row["name"], row["instrument"], row["quantity"])
        assert (float(row["value"]) if row["value"] else math.nan) == pytest.approx(estimate.value, rel=0, nan_ok=True)
        read = Estimate(*(float(row[column] or "nan") for column in ("value", "low", "high")), int(row["n"]))
        assert replace(read, confidence=float(row["confidence"])) == estimate
    stated = {row["confidence"] for row in models if row["instrument"] in ("spectrum", "pieces", "accuracy")}
    assert stated >= {"0.95", "0.88", "0.875"}  # three classes; four examples
    groups = [row for row in rows if row["level"] == "group" and row["quantity"] == "PGD-20"]
    assert [(row["name"], row["seeds"], bool(row["sd"])) for row in groups] == [
        ("plain", "2", True),
        ("other", "1", False),
    ]


def test_the_standard_model_of_the_same_architecture_and_seed_is_the_partner() -> None:
    clf = bg.Classifier(nn.Linear(2, 2), device="cpu")

    def subject(family: str, seed: int, *, standard: bool = False) -> Subject:
        name = f"{family}{seed}{standard}"
        return Subject(name=name, group=name, classifier=clf, seed=seed, family=family, standard=standard)

    cases = [
        subject("mlp", 0, standard=True),
        subject("mlp", 1, standard=True),
        subject("cnn", 0, standard=True),
        subject("mlp", 1),
        subject("mlp", 5),
        subject("vgg", 1),
    ]
    # Standard ones: the next of their kind, or another kind; others: architecture before seed.
    assert standard_partners(cases) == [1, 0, 0, 1, 0, 1]
    assert standard_partners(cases[3:]) == [None, None, None]
    assert standard_partners(cases[2:4]) == [None, 0]


def test_where_an_instrument_cannot_be_used_the_table_says_why_and_the_others_go_on(subjects: list[Subject]) -> None:
    bent = Subject(name="bent", group="bent", classifier=bg.Classifier(Bent(), device="cpu"))
    found = compare([bent, subjects[2]], X, Y, settings=SETTINGS, instruments=["spectrum", "pieces"], progress=False)
    assert found.instruments == ("pieces", "spectrum")
    assert instrument_table(found, "pieces")[1][3:] == ("-", "-", "-")
    assert any(line.startswith("not measured: bent: ") and "affine" in line for line in remarks(found, "pieces"))
    assert "not measured: bent: the model has no hidden layer" in remarks(found, "spectrum")
    assert found.value("other", "pieces", "affine pieces").n == FEW


def test_a_classifier_that_is_always_wrong_does_not_stop_the_others(subjects: list[Subject]) -> None:
    y = (subjects[0].classifier.predict(X) + 1) % 3
    found = compare(
        subjects[:2], X, y, settings=SETTINGS, instruments=["accuracy", "distances", "dimension", "transfer"],
        progress=False,
    )  # fmt: skip
    assert found.value("plain0", "accuracy", "clean").value == 0
    assert math.isnan(found.value("plain0", "transfer", "to standard").value)
    assert "not measured: plain0: the model classifies no example correctly" in remarks(found, "distances")
    assert found.value("plain0", "dimension", "verified, inside the bounds").n == 0


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_boundaries_beyond_reach_are_infinite_and_missing_directions_are_left_out() -> None:
    constant = nn.Linear(9, 3)
    nn.init.zeros_(constant.weight)
    nn.init.constant_(constant.bias[:1], 1.0)
    clf = bg.Classifier(constant, device="cpu")
    seeds = [Subject(name=f"flat{seed}", group="flat", classifier=clf, seed=seed) for seed in range(2)]
    found = compare(seeds, X, Y, settings=SETTINGS, instruments=["distances"], progress=False)
    fgsm, random = found.spreads("distances")
    assert (fgsm.seeds, fgsm.rows[0].measured.excluded) == (0, N)
    assert (random.mean, random.seeds, random.rows[0].measured.estimate.n) == (math.inf, 2, int((Y == 0).sum()))
    assert math.isnan(random.sd)
    assert instrument_table(found, "distances")[1][3:] == ("-", "inf")
    figure = plots.measurements(found, "distances")
    FigureCanvasAgg(figure).draw()
    markers = [line.get_marker() for line in figure.axes[1].lines]
    assert (markers.count(">"), markers.count("o")) == (2, 0)


@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_each_instrument_has_a_figure_with_a_panel_for_each_quantity(found: Comparison, instrument: str) -> None:
    figure = plots.measurements(found, instrument)
    FigureCanvasAgg(figure).draw()
    titles = [axes.get_title().replace("\n", " ") for axes in figure.axes if axes.axison]
    assert titles == found.quantities(instrument)
    points = [np.asarray(line.get_xdata())[0] for line in figure.axes[0].lines if line.get_marker() == "o"]
    values = [found.value(name, instrument, titles[0]).value for name in found.names]
    assert points == pytest.approx(values)


def test_a_figure_of_what_was_not_measured_is_refused(found: Comparison) -> None:
    with pytest.raises(ValueError, match=r"instrument must be one of \['accuracy'.*got 'maps'"):
        plots.measurements(found, "maps")


def test_settings_and_instruments_are_refused_before_any_work(subjects: list[Subject]) -> None:
    bare = Settings(eps=EPS)
    for what, given, message in (
        (subjects, ["maps"], "instruments must be any of accuracy, masking, .*, got maps"),
        (subjects, [], "instruments must be any of .*, got none"),
        (subjects, ["certified"], "instrument 'certified' needs the standard deviation of the noise, sigma"),
        (subjects[2:], ["transfer"], "instrument 'transfer' needs a standard model among the others"),
        ([subjects[0]] * 2, None, "subjects must be one or more, with different names"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(what, X, Y, settings=bare, instruments=given, progress=False)
    other = Subject(name="two", group="two", classifier=bg.Classifier(nn.Linear(9, 5), device="cpu"))
    with pytest.raises(ValueError, match=r"models must have the same number of classes, got 3 \('plain0'\), 5 \('two'"):
        compare([subjects[0], other], X, Y, settings=bare, progress=False)
    for values, message in (
        ({"eps": 0.0}, "eps must be a positive number, got 0.0"),
        ({"eps": 1.0, "few": 0}, "few must be a whole number, at least 1, got 0"),
        ({"eps": 1.0, "sigma": -1.0}, "sigma must be a positive number"),
    ):
        with pytest.raises(ValueError, match=message):
            Settings(**values)  # type: ignore[arg-type]
    assert (default_eps(1), default_eps(3)) == (0.1, 8 / 255)
    with pytest.raises(ValueError, match="no usual value for images with 4 channels"):
        default_eps(4)


def test_without_being_asked_only_what_can_be_used_is(subjects: list[Subject], tmp_path: Path) -> None:
    named = {"alone": subjects[2].classifier}
    settings = Settings(eps=EPS, few=2, pairs=3, restarts=1, queries=20, max_dimension=3)
    found = compare(named, X[:8], Y[:8], settings=settings, progress=False)
    assert (found.names, found.groups) == (("alone",), ("alone",))
    assert found.instruments == tuple(name for name in INSTRUMENTS if name not in ("transfer", "certified"))
    assert found.forwards > 0 < found.backwards
    for place, result in found.results.items():
        assert type(bg.load(result.save(tmp_path / "-".join(place)))) is type(result)
