"""Analyses of which each example stands for itself: a part of the examples gives that part of the result."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.comparison import Settings, compare
from boundarygeo.lines.distances import boundary_distance
from boundarygeo.results import Result
from boundarygeo.results.result import example_axis
from boundarygeo.transfer.bases import perturbation_bases
from boundarygeo.transfer.boundaries import labelled_pool
from boundarygeo.transfer.dimension import dimension_and_transfer

COUNT = 7


def network(seed: int) -> nn.Sequential:
    """Networks that agree on most examples: one's weights, and a little noise for each."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    return net


def models() -> list[bg.Classifier]:
    # One example per batch: with more, the last digits could depend on which are in a batch together.
    return [bg.Classifier(network(seed), device="cpu", batch_size=1) for seed in (1, 2, 3)]


def examples() -> tuple[Tensor, Tensor, Tensor]:
    """Seven examples: the third is wrong for all models, the fifth for some of them."""
    x = torch.rand(40, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    labels = torch.stack([clf.predict(x) for clf in models()])
    alike = (labels == labels[0]).all(0)
    chosen = torch.cat([alike.nonzero()[:6, 0], (labels[0] != labels[1]).nonzero()[:1, 0]])[[0, 1, 2, 3, 6, 4, 5]]
    y = labels[0, chosen]
    y[2] = (y[2] + 1) % 3
    return x[chosen], y, chosen


def between_boundaries(several: Any, x: Tensor, y: Tensor, **settings: Any) -> Result:
    points = torch.rand(20, 3, 2, 2, generator=torch.Generator().manual_seed(5))
    pool = labelled_pool(several, points, several[0].predict(points))
    return bg.inter_boundary_distance(several, x, y, pool=pool, **settings)


def of_one(analysis: Callable[..., Result]) -> Callable[..., Result]:
    """An analysis of one classifier, on the first."""
    return lambda several, x, y, **settings: analysis(several[0], x, y, **settings)


ANALYSES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "gaas": (of_one(bg.adversarial_dimension), {"eps": 1.5}),
    "gaas, linf": (of_one(bg.adversarial_dimension), {"eps": 0.4, "norm": "linf"}),
    "count": (of_one(bg.adversarial_dimension), {"eps": 1.5, "rule": "count", "box": "clip", "restarts": 2}),
    "frame": (of_one(bg.adversarial_dimension), {"eps": 1.5, "method": "frame", "steps": 8}),
    "sequential": (of_one(bg.sequential_directions), {"eps": 2.0, "max_directions": 2}),
    "noise, linf": (of_one(bg.noise_success), {"eps": 0.3, "norm": "linf", "draws": 7, "clip": False}),
    "noise": (of_one(bg.noise_success), {"eps": 0.8, "draws": 7}),
    "distance": (of_one(boundary_distance), {"direction": "fgsm", "max_distance": 0.8}),
    "bases": (of_one(perturbation_bases), {"dimension": 2, "eps": 1.5, "restarts": 4, "steps": 5}),
    "transfer": (dimension_and_transfer, {"eps": 1.5, "box": "ignore"}),
    "matrix": (bg.transfer_matrix, {"eps": 0.3}),
    "matrix, fgsm": (bg.transfer_matrix, {"eps": 0.3, "attack": "fgsm", "eight_bit": True}),
    "matrix, l2": (bg.transfer_matrix, {"eps": 0.8, "norm": "l2", "restarts": 2, "steps": 5}),
    "matrix, minimal": (bg.transfer_matrix, {"attack": "minimal_norm", "norm": "l2", "steps": 20}),
    "shared": (bg.shared_dimension, {"eps": 2.5, "box": "ignore"}),
    "shared, count": (bg.shared_dimension, {"eps": 2.5, "rule": "count", "box": "clip"}),
    "shared frame": (bg.shared_dimension, {"eps": 2.5, "method": "frame", "steps": 8}),
    "between": (between_boundaries, {"max_distance": 2.0}),
    "between, fgsm": (between_boundaries, {"max_distance": 0.6, "adversarial": "fgsm", "scan": 8}),
}


JOINT: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "spectrum": (bg.hidden_spectrum, {"layers": ["1"]}, "hidden_spectrum .*: singular values are of all examples"),
    "agreement": (bg.reproducibility, {"planes": 3}, "reproducibility .*: planes go through three of all examples"),
    "overlap": (bg.subspace_overlap, {"dimension": 2, "eps": 1.5}, "each example is compared with all others; basis_"),
    "comparison": (
        compare,
        {"settings": Settings(eps=0.3)},
        "compare .*: its numbers are averages .* it resumes",
    ),
}


@pytest.mark.parametrize("name", JOINT)
def test_numbers_of_all_examples_together_are_not_run_in_parts(name: str, tmp_path: Path) -> None:
    analysis, settings, reason = JOINT[name]
    clf = models()[0] if name == "spectrum" else dict(zip("abc", models(), strict=True))
    x, y, index = examples()
    with pytest.raises(TypeError, match=reason) as refusal:
        bg.run(analysis, clf, x, y, index=index, out=tmp_path / "out.zarr", progress=False, **settings)
    assert "cannot be run in parts" in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_results_of_all_examples_together_are_not_joined() -> None:
    x, y, index = examples()
    spectra = [bg.hidden_spectrum(models()[0], x[k:], y[k:], layers=["1"], index=index[k:]) for k in (0, 1)]
    assert spectra[1].index.tolist() == index[1:].tolist()
    with pytest.raises(ValueError, match="parts of a HiddenSpectrum cannot be joined: singular values are of all"):
        bg.HiddenSpectrum.concatenate(spectra)


def results(name: str, x: Tensor, y: Tensor, index: Tensor) -> tuple[Result, ...]:
    analysis, settings = ANALYSES[name]
    quiet = {} if name.startswith(("between", "distance")) else {"progress": False}
    found = analysis(models(), x, y, index=index, **settings, **quiet)
    return found if isinstance(found, tuple) else (found,)


@functools.cache
def whole(name: str) -> tuple[Result, ...]:
    return results(name, *examples())


@pytest.mark.usefixtures("short_start")
@pytest.mark.parametrize("name", ANALYSES)
def test_each_example_stands_for_itself(name: str) -> None:
    cuts = itertools.pairwise((0, 1, 3, 4, COUNT))
    parts = [results(name, *(values[start:stop] for values in examples())) for start, stop in cuts]
    for number, expected in enumerate(whole(name)):
        joined = type(expected).concatenate([part[number] for part in parts])
        compared = 0
        for field in dataclasses.fields(joined):
            one, other = getattr(joined, field.name), getattr(expected, field.name)
            if example_axis(field) is None:
                continue
            if one is None:
                assert other is None
                continue
            wide = max(one.shape[-1], other.shape[-1])
            if field.metadata["padding"] is not None:  # how far is padded is a matter of the part
                one, other = (nn.functional.pad(each, (0, wide - each.shape[-1])) for each in (one, other))
            assert one.dtype == other.dtype
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True, msg=f"{name}: {field.name}")
            compared += 1
        assert compared >= 4
        if "frame" not in name:  # frames of one size are searched together, as long as one of them goes on
            assert joined.provenance.forwards == expected.provenance.forwards
            assert joined.provenance.backwards == expected.provenance.backwards


@pytest.mark.parametrize("name", ANALYSES)
def test_no_example_need_be_right(name: str) -> None:
    x, y, index = examples()
    for result, like in zip(results(name, x, (y + 1) % 3, index), whole(name), strict=True):
        assert type(result) is type(like)
        for field in dataclasses.fields(result):
            axis = example_axis(field)
            if axis is None:
                continue
            one, other = getattr(result, field.name), getattr(like, field.name)
            assert (one is None) == (other is None), field.name
            if one is not None:
                assert one.shape[axis] == COUNT
                assert one.dtype == other.dtype, field.name
                assert one.ndim == other.ndim
        if hasattr(result, "verified"):
            assert result.verified.tolist() == [0] * COUNT


def test_numbers_of_no_example_are_unknown() -> None:
    x, _, index = examples()
    # Another class than any model gives, where they do not give all three.
    labels = torch.stack([clf.predict(x) for clf in models()])
    wrong = torch.tensor([min({0, 1, 2} - set(column)) for column in labels.T.tolist()])
    matrix = bg.transfer_matrix(models(), x, wrong, eps=0.3, index=index, progress=False)
    assert not matrix.correct.any()
    assert matrix.counts()[1].tolist() == matrix.counts("fooled")[1].tolist() == [0] * 3
    assert matrix.rate().isnan().all()
    assert matrix.intervals().isnan().all()
    mistakes = bg.transfer_mistakes(matrix)
    unknown = [matrix.estimate(0, 1), mistakes.same_share(0, 1), mistakes.chance_share(0, 1)]
    unknown += mistakes.shares(0, 1).values()
    shared = bg.shared_dimension(models(), x, wrong, eps=2.5, box="ignore", index=index, progress=False)
    own = dimension_and_transfer(models(), x, wrong, eps=1.5, index=index, progress=False)
    counted: list[Any] = [shared, *own]
    for result in counted:
        summary = bg.dimension_summary(result)
        assert (summary.excluded, summary.quantiles) == (COUNT, ())
        unknown += [summary.mean, summary.at_zero, summary.at_cap]
    between: Any = between_boundaries(models(), x, wrong, max_distance=2.0, index=index)
    assert not between.valid.any()
    assert between.censored.isnan().all()
    for direction in between.directions:
        seen = between.compare(direction, 0, 1)
        assert (seen.n, seen.source_censored, seen.target_censored, seen.both_censored) == (0, 0, 0, 0)
        unknown += [seen.distance, seen.inter, seen.difference, seen.nearer, seen.conservative]
    for estimate in unknown:
        assert estimate.n == 0
        assert math.isnan(estimate.value)
    agreement = bg.reproducibility(models(), x, wrong, planes=3, resolution=8, progress=False)
    assert agreement.valid.any()  # planes need examples, right or wrong
