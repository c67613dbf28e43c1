"""Overlap of subspaces against theory, and bases against subspaces that are known."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from oracles import Linear, SmallNet, images
from relatives import PIXELS, relatives
from scipy import stats
from torch import Tensor, nn
from transfer_by_hand import MADE, bases_of

import boundarygeo as bg
from boundarygeo.results.statistics import mean
from boundarygeo.subspace.sequential.sequential import STOPS, SequentialDirections
from boundarygeo.transfer import bases as bases_room
from boundarygeo.transfer.bases import perturbation_bases, sequential_bases, set_basis
from boundarygeo.transfer.chance import (
    mean_energies,
    p_values,
    random_energies,
    random_overlap,
    random_subspace_angles,
)
from boundarygeo.transfer.overlap import basis_overlap, subspace_overlap


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


CASES = [(1, 1, 6), (2, 5, 12), (5, 2, 12), (7, 8, 12), (4, 4, 100), (3, 3, 3)]
CASES += [(6, 6, 12), (11, 3, 12), (4, 6, 6), (5, 8, 784)]


@pytest.mark.parametrize(("k1", "k2", "d"), CASES)
def test_energies_of_random_subspaces_have_the_mean_and_variance_of_theory(k1: int, k2: int, d: int) -> None:
    n = 20_000
    mean, std = random_overlap(k1, k2, d)
    angles = random_subspace_angles(k1, k2, d, n, np.random.default_rng(0)).cos().square().sum(1)
    drawn = [angles, torch.from_numpy(random_energies(k1, k2, d, n, np.random.default_rng(4)))]
    if d <= 100:  # without any shortcut, too: bases in all d dimensions
        a, b = (torch.linalg.qr(normal(n, d, k, seed=k + i)).Q for i, k in enumerate((k1, k2)))
        drawn.append((a.mT @ b).square().sum((1, 2)))
    for energy in drawn:
        assert float(energy.mean()) == pytest.approx(mean, abs=5 * std / math.sqrt(n) + 1e-12)
        assert float(energy.std()) == pytest.approx(std, rel=0.05, abs=1e-12)
    if std:
        rare = torch.quantile(angles, 0.995)
        assert float((drawn[1] > rare).double().mean()) == pytest.approx(0.005, abs=5 * math.sqrt(2 * 0.005 / n))
        for energy in drawn[1:]:
            assert stats.ks_2samp(angles, energy).pvalue > 0.001


def test_random_angles_themselves_are_those_of_random_subspaces() -> None:
    n, k1, k2, d = 4000, 3, 2, 9
    drawn = random_subspace_angles(k1, k2, d, n, np.random.default_rng(1))
    a, b = (torch.linalg.qr(normal(n, d, k, seed=k)).Q for k in (k1, k2))
    plain = torch.acos(torch.linalg.svdvals(a.mT @ b))
    assert all(stats.ks_2samp(drawn[:, i], plain[:, i]).pvalue > 0.001 for i in range(k2))


def test_p_values_are_uniform_when_the_null_is_true() -> None:
    # Many pairs of models with few examples: each pair draws a null of its own.
    models = [bases_of(normal(12, 2, 20, seed=seed)) for seed in range(16)]
    overlap = basis_overlap(models, draws=199)
    for p in (overlap.random_p, overlap.random_p_all, overlap.permuted_p_all):
        values = p.flatten().numpy()
        assert stats.kstest(values, "uniform").pvalue > 0.01
        assert values.min() >= 1 / 200
    ranks = overlap.permuted_p.flatten().numpy() * 12  # uniform on 1, ..., 12
    counts = np.bincount(ranks.round().astype(int), minlength=13)[1:]
    assert np.allclose(ranks, ranks.round())
    assert stats.chisquare(counts).pvalue > 0.01
    covered = [overlap.estimate(i, j) for i, j in overlap.pairs.tolist()]
    inside = np.mean([each.low <= overlap.expected[0] / 2 <= each.high for each in covered])
    assert inside > 0.85


@pytest.mark.parametrize("examples", [1, 5, 100])
@pytest.mark.parametrize("d", [50, 784])
def test_p_values_of_all_examples_are_exact_far_out(d: int, examples: int) -> None:
    # Squared cosines of one-dimensional subspaces are beta variables. A mean of 100 is far from normal: by the normal
    # distribution 0.97 % would have p <= 0.005.
    count = 40_000
    rng = np.random.default_rng(d + examples)
    observed = torch.from_numpy(stats.beta.rvs(0.5, (d - 1) / 2, size=(count, examples), random_state=rng).mean(1))
    p = p_values(observed, mean_energies(1, 1, d, examples, 39_999, rng))
    for level in (0.05, 0.01, 0.005):
        # The null is a sample, too.
        assert float((p <= level).double().mean()) == pytest.approx(level, abs=4 * math.sqrt(2 * level / count))


def test_means_over_many_examples_are_drawn_in_blocks(monkeypatch) -> None:
    monkeypatch.setattr("boundarygeo.transfer.chance._VALUES_AT_ONCE", 1 << 16)  # 27 draws at a time
    many = basis_overlap([bases_of(normal(100, 3, 30, seed=seed)) for seed in range(2)], draws=4000)
    assert float(many.random_mean.mean()) == pytest.approx(float(many.expected), rel=0.01)
    assert float(many.random_mean.std()) == pytest.approx(float(many.expected_std) / 10, rel=0.05)


def test_identical_subspaces_overlap_in_full_and_orthogonal_ones_not_at_all() -> None:
    a = bases_of(normal(8, 3, 40))
    overlap = basis_overlap({"a": a, "again": bases_of(normal(8, 3, 3, seed=5) @ a.vectors)}, draws=99)
    assert float(overlap.angles.max()) < 1e-12
    torch.testing.assert_close(overlap.share, torch.ones(1, 8, dtype=torch.float64))
    assert overlap.estimate("a", "again").value == pytest.approx(1)
    assert overlap.intersection.tolist() == [[3] * 8]
    assert overlap.random_p.tolist() == [[0.01] * 8]
    assert overlap.permuted_p.tolist() == [[1 / 8] * 8]
    assert overlap.permuted_p_all.item() == overlap.random_p_all.item() == 0.01
    assert overlap.excess("again", 0).low > 0.5

    eye = torch.eye(8, dtype=torch.float64)
    overlap = basis_overlap([bases_of(eye[:3].expand(5, 3, 8)), bases_of(eye[3:5].expand(5, 2, 8))], draws=99)
    torch.testing.assert_close(overlap.angles, torch.full((1, 5, 2), torch.pi / 2, dtype=torch.float64))
    assert float(overlap.energy.abs().max()) < 1e-30
    assert overlap.random_p.tolist() == [[1.0] * 5]
    assert overlap.permuted_p.tolist() == [[1.0] * 5]  # all ties
    assert overlap.expected.tolist() == [6 / 8]
    assert overlap.intersection.sum() == 0


def test_what_is_shared_by_all_examples_is_chance_to_the_permuted_null_only() -> None:
    common = normal(1, 2, 50).expand(20, 2, 50)
    models = [bases_of(common + 0.3 * normal(20, 2, 50, seed=seed)) for seed in (1, 2)]
    overlap = basis_overlap(models, draws=199)
    assert overlap.random_p_all.item() == 1 / 200
    assert bool((overlap.random_p < 0.05).all())
    assert 0.05 < overlap.permuted_p_all.item() < 0.95
    assert overlap.permuted_energy.mean().item() == pytest.approx(overlap.energy.mean().item(), rel=0.1)
    # And what is shared example by example is seen by both.
    own = normal(20, 2, 50, seed=7)
    overlap = basis_overlap([bases_of(own + 0.3 * normal(20, 2, 50, seed=seed)) for seed in (1, 2)], draws=199)
    assert overlap.permuted_p_all.item() == overlap.random_p_all.item() == 1 / 200
    assert bool((overlap.permuted_p == 1 / 20).all())


def test_models_of_several_dimensions_and_examples_without_a_basis() -> None:
    valid = torch.tensor([True, False, True, True])
    sizes = {"a": 1, "b": 3, "c": 2}
    models = {name: bases_of(normal(4, k, 30, seed=k), valid if name == "b" else None) for name, k in sizes.items()}
    overlap = basis_overlap(models, draws=19)
    assert overlap.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    assert overlap.valid.sum(1).tolist() == [3, 4, 3]
    assert (~overlap.angles.isnan()).sum((1, 2)).tolist() == [3, 4, 6]
    assert (~overlap.random_angles.isnan()).sum((1, 2)).tolist() == [19, 19, 38]
    torch.testing.assert_close(overlap.expected, torch.tensor([3, 2, 6], dtype=torch.float64) / 30)
    for name in ("energy", "permuted_energy", "random_p", "permuted_p"):
        assert torch.equal(getattr(overlap, name).isnan(), ~overlap.valid), name
    assert overlap.estimate("c", "b").n == 3
    plain = (models["a"].vectors @ models["b"].vectors.mT).square().sum((1, 2))
    torch.testing.assert_close(overlap.energy[0][valid], plain[valid])
    others = [(models["a"].vectors[0] @ models["b"].vectors[j].T).square().sum() for j in (2, 3)]
    torch.testing.assert_close(overlap.permuted_energy[0, 0], torch.stack(others).mean())
    pair = overlap.compare("c", "b")
    assert pair == overlap.compare(1, 2)
    assert pair.energy == mean(overlap.energy[2][valid].numpy(), within=(0, 2))
    assert pair.intersection == mean(overlap.intersection[2][valid].double().numpy(), within=(0, 2))
    assert (pair.random, pair.permuted) == (float(overlap.expected[2]), float(overlap.permuted_mean[2].mean()))
    assert (pair.random_p, pair.permuted_p) == (float(overlap.random_p_all[2]), float(overlap.permuted_p_all[2]))


def test_pairs_without_a_common_example_are_nan() -> None:
    first, second = torch.tensor([True, False]), torch.tensor([False, True])
    overlap = basis_overlap([bases_of(normal(2, 2, 9), first), bases_of(normal(2, 2, 9), second)], draws=9)
    assert overlap.valid.sum() == 0
    assert math.isnan(overlap.estimate(0, 1).value)
    assert bool(overlap.random_p_all.isnan().all())
    assert bool(overlap.permuted_p_all.isnan().all())
    assert overlap.intersection.sum() == 0


def test_p_values_by_hand() -> None:
    null = torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)
    observed = torch.tensor([0.0, 1.0, 2.5, 3.0, 4.0, torch.nan], dtype=torch.float64)
    torch.testing.assert_close(
        p_values(observed, null), torch.tensor([1, 1, 0.5, 0.5, 0.25, torch.nan], dtype=torch.float64), equal_nan=True
    )


def test_nulls_are_decided_by_the_seed() -> None:
    models = [bases_of(normal(4, 2, 9, seed=seed)) for seed in range(2)]
    first, again, other = (basis_overlap(models, draws=9, seed=seed).random_mean for seed in (3, 3, 4))
    assert torch.equal(again, first)
    assert not torch.equal(other, first)


def sequential(rows: dict[int, torch.Tensor], examples: int) -> SequentialDirections:
    """Sequential directions by hand: perturbations `[found, *input]` of some of the examples."""
    owner = torch.cat([torch.full((len(rows[i]),), i) for i in sorted(rows)])
    blank = torch.zeros(examples, dtype=torch.int64)
    found = torch.bincount(owner, minlength=examples)
    return SequentialDirections(
        distance=torch.full((examples, 5), torch.inf, dtype=torch.float64),
        adversarial_label=torch.full((examples, 5), -1),
        count=found,
        stopped=blank,
        attempts=found,
        orthogonality=blank.double(),
        perturbations=torch.cat([rows[i] for i in sorted(rows)]).float(),
        owner=owner,
        rank=torch.cat([torch.arange(len(rows[i])) for i in sorted(rows)]),
        true_labels=blank,
        index=torch.arange(examples) + 10,
        valid=torch.ones(examples, dtype=torch.bool),
        stops=STOPS,
        max_directions=5,
        eps=None,
        box="ignore",
        tolerance=1e-5,
        provenance=MADE,
    )


def test_sequential_bases_span_the_first_directions() -> None:
    frame = torch.linalg.qr(normal(12, 12)).Q.reshape(12, 3, 4)
    found = sequential({0: frame[:5] * 3.0, 2: frame[5:7]}, examples=3)
    bases = sequential_bases(found, dimension=3)
    assert bases.vectors.shape == (3, 3, 12)
    assert bases.valid.tolist() == [True, False, False]
    assert bases.rank.tolist() == bases.samples.tolist() == [3, 0, 2]
    assert bases.index.tolist() == [10, 11, 12]
    first = frame[:3].flatten(1)
    torch.testing.assert_close(bases.vectors[0].T @ bases.vectors[0], first.T @ first, atol=1e-6, rtol=0)
    torch.testing.assert_close(bases.vectors[0] @ bases.vectors[0].T, torch.eye(3, dtype=torch.float64))
    assert bases.energy[0].item() == pytest.approx(1)
    assert bases.kind == "sequential"


def test_the_leading_direction_of_a_linear_classifier_is_its_normal() -> None:
    weight = normal(48).float()
    x = images(6)[:, :, :4, :4]
    x[5] = 1 - x[5]
    module = Linear(weight, float(x[0].flatten() @ weight) - 0.2)
    clf = bg.Classifier(module)
    y = clf.predict(x)
    y[1] = 1 - y[1]  # wrong to begin with
    found = perturbation_bases(clf, x, y, dimension=2, eps=2.0, restarts=12, steps=30, seed=1)
    unit = (weight / weight.norm()).double()
    assert found.valid[0]
    assert not found.valid[1]
    assert found.samples[1] == 0
    kept = found.vectors[found.valid]
    assert len(kept) >= 2
    # The bounds bend the perturbations a little.
    assert float((kept[:, 0] @ unit).abs().min()) > 0.9
    torch.testing.assert_close(kept @ kept.mT, torch.eye(2, dtype=torch.float64).expand(len(kept), 2, 2))
    assert bool((found.singular_values.diff(dim=1) <= 0).all())
    assert bool(((found.energy > 0) & (found.energy <= 1 + 1e-12))[found.valid].all())


def test_an_external_attack_gives_the_directions_that_it_draws() -> None:
    weight = normal(48).float()
    x = images(6)[:, :, :4, :4]
    clf = bg.Classifier(Linear(weight, 0.0))
    y = clf.predict(x)

    def across(module: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """Just across the boundary, and in the first two coordinates at random."""
        towards = weight.view_as(x[0]) / weight.norm()
        needed = (x * weight.view_as(x[0])).flatten(1).sum(1) / weight.norm()
        moved = x - (needed + 0.02 * needed.sign()).view(-1, 1, 1, 1) * towards
        moved.flatten(1)[:, :2] += 1e-3 * torch.randn(len(x), 2)
        return moved

    clf = bg.Classifier(clf.module, bounds=(-20, 20))
    settings = {"dimension": 4, "attack": across, "eps": 10.0, "restarts": 6, "seed": 1}
    found = perturbation_bases(clf, x, y, **settings)
    assert found.samples.tolist() == [6] * 6
    assert found.rank.tolist() == [3] * 6  # the normal, and what was drawn
    assert not found.valid.any()
    span = torch.linalg.qr(torch.stack([weight.double(), *torch.eye(48).double()[:2]]).T).Q.T
    for basis in found.vectors[:, :3]:
        torch.testing.assert_close(basis.T @ basis, span.T @ span, atol=1e-3, rtol=0)
    assert (found.attack, found.kind) == ("across", "perturbations")
    command = "perturbation_bases(dimension=4, attack=across, eps=10.0, restarts=6, steps=None, step_size=None)"
    assert found.provenance.command == command
    assert torch.equal(perturbation_bases(clf, x, y, **settings).vectors, found.vectors)
    with pytest.raises(ValueError, match=r"attack must be one of \['pgd'\], got 'fgsm'"):
        perturbation_bases(clf, x, y, **settings | {"attack": "fgsm"})


def test_perturbations_that_fool_nothing_make_no_basis() -> None:
    clf = relatives(1)["a"]
    x = PIXELS[:4]
    found = perturbation_bases(clf, x, clf.predict(x), dimension=2, eps=1e-4, restarts=3, steps=2)
    assert found.samples.tolist() == found.rank.tolist() == [0] * 4
    assert not found.valid.any()
    assert bool(found.energy.isnan().all())
    assert bool((found.vectors == 0).all())


def test_bases_depend_on_an_examples_number_alone() -> None:
    clf, x = bg.Classifier(SmallNet()), images(6)
    y = clf.predict(x)
    settings = {"dimension": 2, "eps": 1.5, "restarts": 6, "steps": 5}
    whole = perturbation_bases(clf, x, y, **settings)
    part = perturbation_bases(clf, x[3:5], y[3:5], index=[3, 4], **settings)
    assert whole.valid.any()
    torch.testing.assert_close(part.singular_values, whole.singular_values[3:5], atol=1e-3, rtol=0)
    projection = [v.mT @ v for v in (part.vectors, whole.vectors[3:5])]
    torch.testing.assert_close(*projection, atol=0.02, rtol=0)


def test_the_basis_of_a_set_is_its_leading_directions(monkeypatch) -> None:
    frame = torch.linalg.qr(normal(60, 60)).Q
    # Ten strong directions, the others weak: what is asked for is well separated.
    sizes = torch.cat([torch.linspace(5, 3, 10), torch.full((50,), 0.2)]).double()
    perturbations = ((normal(400, 60, seed=1) * sizes) @ frame).view(400, 3, 4, 5)
    unit = perturbations.flatten(1) / perturbations.flatten(1).norm(dim=1, keepdim=True)
    _, values, vectors = torch.linalg.svd(unit, full_matrices=False)
    exact = set_basis(perturbations, dimension=10)
    monkeypatch.setattr(bases_room, "_EXACT_COST", 0)
    monkeypatch.setattr(bases_room, "_ROWS_AT_ONCE", 150)
    iterated = set_basis(perturbations, dimension=10)
    for basis in (exact, iterated):
        v = basis.vectors[0]
        assert basis.vectors.shape == (1, 10, 60)
        torch.testing.assert_close(v @ v.T, torch.eye(10, dtype=torch.float64))
        torch.testing.assert_close(v.T @ v, vectors[:10].T @ vectors[:10], atol=1e-8, rtol=0)
        torch.testing.assert_close(basis.singular_values[0], values[:10])
        assert basis.energy.item() == pytest.approx(float(values[:10].square().sum() / 400))
        assert basis.samples.tolist() == [400]
        assert basis.kind == "set"
    again = set_basis(perturbations * torch.rand(400, 1, 1, 1), dimension=10)  # lengths do not matter
    torch.testing.assert_close(again.singular_values, iterated.singular_values)
    # Fewer directions than wanted.
    flat = perturbations[:, :1, :1, :2].float()
    for cost in (0, 1e9):
        monkeypatch.setattr(bases_room, "_EXACT_COST", cost)
        thin = set_basis(torch.cat([flat, 2 * flat], 3), dimension=3)
        assert thin.rank.tolist() == [2]
        assert not thin.valid.item()
        assert bool((thin.vectors[0, 2] == 0).all())


def test_sets_of_two_models_are_compared_like_one_example() -> None:
    a, b = (set_basis(normal(30, 12, seed=seed), dimension=3) for seed in range(2))
    overlap = basis_overlap({"a": a, "b": b}, draws=99)
    assert overlap.angles.shape == (1, 1, 3)
    assert 0 < overlap.random_p.item() <= 1
    assert overlap.random_p_all.item() > 0
    assert bool(overlap.permuted_p.isnan().all())
    assert math.isnan(overlap.excess("a", "b").value)


def test_a_model_overlaps_with_itself_from_other_starts() -> None:
    a, b = relatives(2).values()
    y = a.predict(PIXELS)
    both = y == b.predict(PIXELS)
    assert 5 <= both.sum() < 24
    overlap = subspace_overlap(
        {"a": a, "a again": a, "b": b}, PIXELS, y, dimension=2, eps=1.0, restarts=8, steps=10, draws=99
    )
    assert overlap.valid[overlap.pair("a", "a again")].sum() > 5
    assert not overlap.valid[overlap.pair("a", "b")][~both].any()  # one of them is wrong there
    ceiling = overlap.estimate("a", "a again")
    assert 0.3 < ceiling.value < 0.999  # with the same starts it would be 1
    assert overlap.random_p_all[0].item() == 0.01
    assert overlap.provenance.backwards > 0
    assert overlap.kind == "perturbations"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimension": 0}, "dimension must be a whole number, at least 1"),
        ({"dimension": 193}, "dimension must be at most 192, the number of coordinates"),
        ({"restarts": 1}, "restarts must be a whole number, at least 2"),
        ({"restarts": 1 << 21}, "restarts must be at most"),
        ({"eps": -1.0}, "eps must be"),
        ({"draws": 0}, "draws must be a whole number"),
        ({"tolerance": 2.0}, "tolerance must be an angle from 0 to π/2"),
    ],
)
def test_bad_settings_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overlap_of(list(relatives(2).values()), **change)


def overlap_of(several: list[bg.Classifier], **changes: object) -> bg.SubspaceOverlap:
    y = several[0].predict(PIXELS).clamp_max(3)
    return subspace_overlap(several, PIXELS, y, **({"dimension": 2, "eps": 0.5} | changes))


IMPOSSIBLE = [(0, 1, 5), (6, 1, 5), (1, 6, 5), (1, 1, 0)]


FOUR = bg.Classifier(nn.Sequential(SmallNet(), nn.Linear(5, 4)))
BASES = bases_of(normal(3, 2, 5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: overlap_of([bg.Classifier(SmallNet())]), ValueError, "at least two classifiers, got 1"),
        (lambda: overlap_of([bg.Classifier(SmallNet()), FOUR]), ValueError, "same number of classes"),
        (lambda: basis_overlap([BASES]), ValueError, "at least two models, got 1"),
        (lambda: basis_overlap([BASES, bases_of(normal(4, 2, 5))]), ValueError, "same examples"),
        (lambda: basis_overlap([BASES, bases_of(normal(3, 2, 6))]), ValueError, r"got \[5, 6\] coordinates"),
        (lambda: basis_overlap([BASES, BASES.vectors]), TypeError, "bases must be SubspaceBases, got Tensor"),
        (lambda: basis_overlap([BASES, BASES], draws=9).estimate(0, 0), ValueError, "different models, got 0 twice"),
        (lambda: set_basis(torch.ones(3, 4), dimension=4), ValueError, "dimension must be at most 3"),
        (lambda: set_basis(torch.zeros(3, 4), dimension=1), ValueError, "not zero: leave out those that failed"),
        (lambda: set_basis(torch.full((3, 4), torch.inf), dimension=1), ValueError, "must be finite"),
        (lambda: set_basis(torch.ones(3), dimension=1), ValueError, "must have shape"),
        *((lambda sizes=sizes: random_overlap(*sizes), ValueError, "must be") for sizes in IMPOSSIBLE),
    ],
)  # fmt: skip
def test_what_does_not_match_is_refused(call: Callable[[], object], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call()
