"""The search over sizes, against success functions made by hand."""

import itertools
import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from oracles import SmallNet, images
from torch import Tensor

import boundarygeo as bg
from boundarygeo.subspace.frames.gaas import GaasFrames
from boundarygeo.subspace.frames.jobs import Failures, successes_until_failure
from boundarygeo.subspace.frames.search import (
    NEAR,
    REACH,
    SPARE,
    best_attempt,
    close_gaps,
    default_grid,
    dimension_of,
    is_closed,
    try_sizes,
)
from boundarygeo.subspace.study import Settings, Study, check_settings

Attempt = Callable[[Tensor, Tensor], Tensor]


class Recorded:
    """An attempt that remembers which jobs it was asked for."""

    def __init__(self, hits: Attempt) -> None:
        self.hits, self.jobs = hits, []

    def __call__(self, example: Tensor, size: Tensor) -> Tensor:
        assert example.shape == size.shape
        self.jobs += list(zip(example.tolist(), size.tolist(), strict=True))
        return self.hits(example, size)


def thresholds(limits: list[int]) -> Attempt:
    """All directions of a frame succeed up to a limit of each example, half of them beyond."""
    limit = torch.tensor(limits)
    return lambda example, size: torch.where(size <= limit[example], size, size // 2)


def peaks(places: list[int]) -> Attempt:
    """All succeed up to a place of each example, then ever fewer."""
    place = torch.tensor(places)
    return lambda example, size: (place[example] - (size - place[example]).abs()).clamp_min(0)


def bumps(held: list[list[int]]) -> Attempt:
    """All directions of a frame succeed for the sizes listed for each example, and one too few for all others."""
    return lambda example, size: torch.tensor(
        [int(k) - (int(k) not in held[int(i)]) for i, k in zip(example, size, strict=True)], dtype=torch.int64
    )


def alone(held: list[list[int]]) -> Attempt:
    """All directions of a frame succeed for the sizes listed for each example, and none for all others."""
    return lambda example, size: torch.tensor(
        [int(k) * (int(k) in held[int(i)]) for i, k in zip(example, size, strict=True)], dtype=torch.int64
    )


def searched(
    hits: Attempt, examples: int, grid: tuple[int, ...], rule: str, spare: float | None = None
) -> tuple[Tensor, Tensor]:
    """The tables, checked: sorted, padded at the end, just what was attempted.

    And nothing near the best, or in reach above it, is left out; nor anything that costs little.
    """
    attempt = Recorded(hits)
    tried, found = close_gaps(attempt, *try_sizes(attempt, examples, grid), rule=rule, spare=spare)
    assert tried.dtype == found.dtype == torch.int64
    assert tried.shape == found.shape
    for i in range(examples):
        sizes = [size for size in tried[i].tolist() if size]
        assert sizes == sorted(set(sizes))
        assert tried[i].tolist() == sizes + [0] * (tried.shape[1] - len(sizes))
        assert sizes == sorted(size for example, size in attempt.jobs if example == i)
        assert sizes[-1] == grid[-1]
        expected = hits(torch.full((len(sizes),), i), torch.tensor(sizes))
        assert found[i].tolist() == expected.tolist() + [0] * (tried.shape[1] - len(sizes))
        best, best_hits = best_by_hand(sizes, expected.tolist(), rule)
        last = NEAR + (REACH * best if rule == "all" else best)
        near = range(max(1, best - NEAR), min(grid[-1], last) + 1)
        assert {size for size in near if size > best_hits} <= set(sizes)
        left = [size for size in range(best_hits + 1, grid[-1] + 1) if size not in sizes]
        cost, spent = sum(left), sum(sizes)
        if rule == "all":
            cost, spent = len(left), sum(hit + (hit < size) for size, hit in zip(sizes, expected.tolist(), strict=True))
        assert not left or cost > (SPARE[rule] if spare is None else spare) * spent
    assert (tried > 0).any(0).all()
    assert len(attempt.jobs) == len(set(attempt.jobs))
    return tried, found


def best_by_hand(sizes: list[int], hits: list[int], rule: str) -> tuple[int, int]:
    """The smallest size with the largest score, and that score; 0 and 0 where all is in vain."""
    scores = [hit if rule == "count" or hit == size else 0 for size, hit in zip(sizes, hits, strict=True)]
    return (sizes[scores.index(max(scores))], max(scores)) if max(scores) else (0, 0)


@pytest.mark.parametrize("grid", [(1, 2, 5, 10, 20, 40), (1, 40), (40,), (7, 9, 40)])
def test_thresholds_between_grid_points_are_found_exactly(grid: tuple[int, ...]) -> None:
    limits = list(range(41))
    tried, hits = searched(thresholds(limits), 41, grid, "all")
    assert dimension_of(tried, hits, "all").tolist() == limits


@pytest.mark.parametrize("width", [1, 2, 50, 64, 65, 1000])
def test_gaps_of_any_width_are_closed_by_halving(width: int) -> None:
    limits = sorted({100, 101, 100 + width // 2, 99 + width, 100 + width})
    tried, hits = searched(thresholds(limits), len(limits), (100, 100 + width), "all")
    assert dimension_of(tried, hits, "all").tolist() == [min(limit, 100 + width) for limit in limits]
    below = (tried > 0) & (tried < torch.tensor(limits)[:, None])
    assert below.sum(1).max() <= 2 + math.ceil(math.log2(width))


def test_the_default_grid_finds_every_threshold() -> None:
    limits = [*range(0, 320, 7), 199, 200, 201, 320]
    tried, hits = searched(thresholds(limits), len(limits), default_grid(320), "all")
    assert dimension_of(tried, hits, "all").tolist() == limits
    # Six halvings beyond the grid at most; what is larger is tried by itself.
    assert ((tried > 0) & (tried < torch.tensor(limits)[:, None])).sum(1).max() <= len(default_grid(320)) + 6


def test_larger_frames_that_succeed_count_though_smaller_ones_fail() -> None:
    held = [[1, 2, 20], [1, 2, 18], [1, 2, 12, 21, 31], [1, 2, 19], [*range(1, 8), 31, 39], [6], [11]]
    tried, hits = searched(alone(held), len(held), (1, 2, 5, 10, 20, 40), "all", 0.5)
    # 19 is more than 4·2 + 10, and on no way there; 6 and 11 are near, or not, to nothing.
    assert dimension_of(tried, hits, "all").tolist() == [20, 18, 31, 2, 39, 6, 0]


def test_sizes_that_are_left_are_tried_where_they_cost_little() -> None:
    held, grid = [[1, 2, 39]], (1, 2, 5, 10, 20, 40)
    # All of 1 to 18, 20 and 40: 3 + 18 passes. What is left are 20 sizes, one pass each.
    spent, left = 21, 20
    for spare, best in ((0.0, 2), (0.99 * left / spent, 2), (1.01 * left / spent, 39), (math.inf, 39)):
        tried, hits = searched(alone(held), 1, grid, "all", spare)
        assert dimension_of(tried, hits, "all").tolist() == [best]
        assert (tried.shape[1] == 40) == (best == 39)
    # A frame that all but succeeds takes as many passes as it has directions.
    tried, hits = searched(bumps(held), 1, grid, "all")
    assert dimension_of(tried, hits, "all").tolist() == [39]


@pytest.mark.parametrize("rule", ["all", "count"])
@pytest.mark.parametrize("grid", [(1, 5, 20, 60), (60,), default_grid(60)])
def test_with_nothing_spared_the_best_of_all_sizes_is_found(grid: tuple[int, ...], rule: str) -> None:
    table = torch.randint(61, (40, 61), generator=torch.Generator().manual_seed(3))
    table = torch.where(torch.rand(table.shape, generator=torch.Generator().manual_seed(4)) < 0.05, 60, table)
    table = table.minimum((torch.arange(61) - 1).clamp_min(0))
    table[range(20), range(12, 52, 2)] = torch.arange(12, 52, 2)
    tried, hits = searched(lambda example, k: table[example, k], 40, grid, rule, math.inf)
    best = [best_by_hand(list(range(1, 61)), row[1:], rule)[1] for row in table.tolist()]
    assert dimension_of(tried, hits, rule).tolist() == best
    assert is_closed(tried, hits, torch.tensor(best), torch.arange(1, 61), rule=rule).all()
    usual, its = searched(lambda example, k: table[example, k], 40, grid, rule, 0.0)
    assert bool((dimension_of(usual, its, rule) < torch.tensor(best)).any())


def test_most_successes_are_found_beside_others() -> None:
    table = torch.tensor([min(k, 12) for k in range(41)])
    table[[17, 19, 26, 30, 40]] = torch.tensor([13, 15, 16, 17, 16])
    tried, hits = searched(lambda _, size: table[size], 1, (1, 10, 20, 40), "count")
    assert dimension_of(tried, hits, "count").tolist() == [17]


@pytest.mark.parametrize("rule", ["all", "count"])
@pytest.mark.parametrize("seed", range(4))
def test_random_tables_have_nothing_better_near_the_best(rule: str, seed: int) -> None:
    # `searched` compares with what is near; the exhaustive best of the same sizes is no other.
    chance = torch.Generator().manual_seed(seed)
    size = torch.arange(81)
    share = torch.rand(30, 81, generator=chance) * torch.linspace(1.3, 0.2, 81)
    table = (size * share.clamp_max(1)).long()
    tried, hits = searched(lambda example, k: table[example, k], 30, default_grid(80), rule)
    for i, (count, row) in enumerate(zip(dimension_of(tried, hits, rule).tolist(), table.tolist(), strict=True)):
        best, reached = best_by_hand(tried[i].tolist(), hits[i].tolist(), rule)
        near = list(range(max(1, best - NEAR), min(80, best + NEAR) + 1))
        assert best_by_hand(near, [row[k] for k in near], rule)[1] == reached == count


def test_everything_needs_no_more_than_the_grid_and_nothing_its_neighbours() -> None:
    for rule in ("all", "count"):
        tried, hits = searched(lambda _, size: size, 1, (1, 5, 200), rule)
        assert tried.tolist() == [[1, 5, 200]]
        assert dimension_of(tried, hits, rule).tolist() == [200]
        tried, hits = searched(lambda _, size: 0 * size, 1, (1, 5, 200), rule)
        assert tried.tolist() == [[*range(1, NEAR + 1), 200]]
        assert dimension_of(tried, hits, rule).tolist() == [0]


def test_the_best_count_is_found_between_grid_points() -> None:
    # Up to the peak all succeed; from there one is lost with each further one.
    places = list(range(1, 41))
    tried, hits = searched(peaks(places), 40, (1, 10, 20, 40), "count")
    assert dimension_of(tried, hits, "count").tolist() == places


@pytest.mark.parametrize("limit", [21, 45, 60, 77, 99])
def test_gaps_below_the_best_count_are_halved_where_its_neighbours_are_alike(limit: int) -> None:
    tried, hits = searched(lambda _, size: torch.where(size <= limit, size, 20), 1, (1, 100), "count")
    assert dimension_of(tried, hits, "count").tolist() == [limit]
    assert tried.shape[1] <= 2 + 2 * math.ceil(math.log2(100)) + 2 * NEAR  # halved, not walked down


def test_frames_that_cannot_be_better_are_left_out() -> None:
    # Of 20 directions 14 succeed: frames of 15 to 19 can have more successes, one of 14 cannot.
    tried, _ = searched(lambda _, size: size.clamp_max(14), 1, (20, 40), "count")
    assert min(tried[0].tolist()) == 15
    tried, _ = searched(thresholds([20]), 1, (20, 40), "all")
    assert tried.tolist() == [[*range(20, 41)]]


def test_counts_are_closed_where_no_size_that_could_be_better_was_left_out() -> None:
    cases = [  # of the sizes 1 to 5
        ([1, 3, 4, 5], [1, 3, 1, 1], 3, True),  # 2 was left out, and is no better
        ([1, 2, 4, 5], [1, 2, 1, 1], 2, False),  # 3 was left out
        ([1, 2, 3, 4], [1, 2, 1, 1], 2, False),  # 5 was
        ([1, 3, 5, 0], [1, 1, 5, 0], 5, True),  # there is no larger one
        ([1, 2, 4, 5], [1, 1, 4, 5], 4, False),  # one of the five was lost when they were looked at once more
        ([0, 0, 0, 0], [0, 0, 0, 0], 0, False),  # excluded
    ]
    tried, hits, count = (torch.tensor([case[i] for case in cases]) for i in range(3))
    assert is_closed(tried, hits, count, torch.arange(1, 6), rule="all").tolist() == [case[3] for case in cases]
    tried, hits = torch.tensor([[1, 3, 4, 5], [1, 2, 4, 5]]), torch.tensor([[1, 2, 2, 0], [1, 2, 1, 0]])
    assert is_closed(tried, hits, torch.tensor([2, 2]), torch.arange(1, 6), rule="count").tolist() == [True, False]
    few = (torch.tensor([[1, 4, 16]]), torch.tensor([[1, 4, 8]]), torch.tensor([4]))
    assert is_closed(*few, torch.tensor([1, 4, 16]), rule="all").all()  # of the sizes that there are
    assert not is_closed(*few, torch.tensor([1, 4, 16, 36]), rule="all").any()


@pytest.mark.parametrize("rule", ["all", "count"])
def test_examples_do_not_depend_on_each_other(rule: str) -> None:
    places = [3, 39, 0, 12, 20, 40, 12, 1]
    hits = {"all": thresholds(places), "count": peaks(places)}[rule]
    tried, found = searched(hits, len(places), (1, 5, 10, 20, 40), rule)
    for i, place in enumerate(places):
        alone = {"all": thresholds([place]), "count": peaks([place])}[rule]
        one, its = searched(alone, 1, (1, 5, 10, 20, 40), rule)
        assert one[0].tolist() == tried[i][: one.shape[1]].tolist()
        assert its[0].tolist() == found[i][: one.shape[1]].tolist()
        assert (tried[i][one.shape[1] :] == 0).all()


def test_what_failed_is_that_of_the_nearest_size() -> None:
    chance = np.random.default_rng(0)
    known = Failures(5, 30)
    rows: dict[tuple[int, int], int] = {}
    for _ in range(40):
        example, size = int(chance.integers(5)), int(chance.integers(1, 31))
        rows[example, size] = int(chance.integers(-1, size))
        known.add(*(torch.tensor([value]) for value in (example, size, rows[example, size])))
    for example, size in itertools.product(range(5), range(1, 31)):
        failed = {other: row for (who, other), row in rows.items() if who == example and row >= 0}
        nearest = min(failed, key=lambda other: (abs(other - size), other))
        expected = failed[nearest] if failed[nearest] < size else -1
        assert known.near(torch.tensor([example]), torch.tensor([size])).tolist() == [expected]
    assert Failures(2, 3).near(torch.tensor([1, 0]), torch.tensor([3, 1])).tolist() == [-1, -1]


def test_frames_are_given_up_at_the_direction_that_failed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []

    def hits(_, __, example: Tensor, size: Tensor, first: Tensor, last: Tensor, **___: Any) -> tuple[Tensor, Tensor]:
        # Of example 0 direction 5 fails, in frames of more than seven; of example 1 none does.
        looked.extend(range(int(a), int(b)) for a, b in zip(first, last, strict=True))
        fails = (example == 0) & (size > 7) & (first <= 5) & (last > 5)
        return last - first - fails.long(), torch.where(fails, 5, -1)

    monkeypatch.setattr("boundarygeo.subspace.frames.jobs._hits", hits)
    known = Failures(2, 20)

    def attempt(example: int, size: int) -> tuple[int, list[range]]:
        looked.clear()
        jobs = (torch.tensor([example]), torch.tensor([size]))
        counts = successes_until_failure([], [], *jobs, known=known, input_size=1, progress=False)
        return int(counts), list(looked)

    blocks = [range(1), range(1, 3), range(3, 7), range(7, 15), range(15, 20)]
    assert attempt(1, 20) == (20, blocks)
    assert attempt(0, 20) == (6, blocks[:3])
    assert attempt(0, 12) == (0, [range(5, 6)])
    assert attempt(0, 7) == (7, [range(5, 6), *blocks[:3]])  # what was looked at alone is looked at once more
    assert attempt(0, 4) == (4, [*blocks[:2], range(3, 4)])  # there is no direction 5
    assert attempt(1, 12) == (12, [*blocks[:3], range(7, 12)])


def test_dimensions_of_padded_tables() -> None:
    tried = torch.tensor([[1, 5, 10, 0], [1, 5, 7, 10], [5, 0, 0, 0], [2, 3, 0, 0]])
    hits = torch.tensor([[1, 4, 6, 0], [1, 5, 7, 4], [0, 0, 0, 0], [1, 2, 0, 0]])
    assert dimension_of(tried, hits, "all").tolist() == [1, 7, 0, 0]
    assert dimension_of(tried, hits, "count").tolist() == [6, 7, 0, 2]
    assert best_attempt(tried, hits, "all")[:2].tolist() == [0, 2]
    assert best_attempt(tried, hits, "count")[[0, 1, 3]].tolist() == [2, 2, 1]


@pytest.mark.parametrize("cap", [1, 2, 3, 6, 12, 175, 199, 200, 201, 784, 3072])
def test_default_grids_ascend_to_the_cap_without_large_gaps(cap: int) -> None:
    grid = default_grid(cap)
    assert grid[0] == 1
    assert grid[-1] == cap
    assert all(0 < high - low <= 50 for low, high in itertools.pairwise(grid))


def test_the_default_grid_is_that_of_the_paper_from_fifty_on() -> None:
    assert default_grid(200)[-7:] == (50, 75, 100, 125, 150, 175, 200)
    assert default_grid(320)[-4:] == (200, 250, 300, 320)


GRIDS = [[1, 3, 5], (1, 3, 5), range(1, 6, 2), np.arange(1, 6, 2), np.array([1, 3, 5], dtype=np.uint8)]
GRIDS += [torch.tensor([1, 3, 5]), [np.int64(1), 3, np.int32(5)]]


@pytest.mark.parametrize("grid", GRIDS, ids=[f"{type(grid).__name__}-{i}" for i, grid in enumerate(GRIDS)])
def test_a_grid_is_any_sequence_of_whole_numbers(grid: object) -> None:
    sizes = settings_of(grid).grid
    assert sizes == (1, 3, 5)
    assert all(type(size) is int for size in sizes)


BAD_GRIDS = [5, None.__class__, "123", "Full", "", b"full", np.array([1.0, 2.0]), torch.tensor([1.5]), torch.tensor(3)]
BAD_GRIDS += [
    np.ones((2, 2), int),
    [1, True],
    [[1], [2]],
    [1, None],
    torch.tensor([True, True]),
    np.arange(0, 4),
    np.arange(1, 9, dtype=int),
]


@pytest.mark.parametrize("grid", BAD_GRIDS, ids=[f"{type(grid).__name__}-{i}" for i, grid in enumerate(BAD_GRIDS)])
def test_other_grids_are_refused_in_one_line(grid: object) -> None:
    match = r"grid must be 'full' or ascending whole numbers from 1 to max_dimension \(7\), got "
    with pytest.raises(ValueError, match=f"^{match}") as error:
        settings_of(grid)
    assert "\n" not in str(error.value)


def settings_of(grid: Any) -> Settings:
    return check_settings(
        30, eps=1.0, norm="l2", method="gaas", rule="all", box="ignore", max_dimension=7, grid=grid, restarts=1,
        steps=1, seed=0,
    )  # fmt: skip


def test_a_full_grid_is_the_default_one_with_nothing_left_out() -> None:
    assert settings_of("full").full
    assert settings_of("full").grid == settings_of(None).grid == default_grid(7)
    assert not settings_of(None).full
    assert not settings_of(range(1, 8)).full


@pytest.mark.parametrize("keep", [False, True])
def test_draws_are_held_one_at_a_time(keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    living, most = weakref.WeakSet(), []
    build = GaasFrames.__init__

    def counted(self: GaasFrames, *arguments: Any, **settings: Any) -> None:
        living.add(self)
        most.append(len(living))
        build(self, *arguments, **settings)

    monkeypatch.setattr(GaasFrames, "__init__", counted)
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = images(6, seed=1)
    y = clf.predict(x)
    result = bg.adversarial_dimension(
        clf, x, y, eps=1.0, box="ignore", rule="count", restarts=4, keep_directions=keep, progress=False
    )
    assert len(most) >= 4
    assert max(most) == 1
    draws = [search_alone(clf, x, y, draw, monkeypatch) for draw in range(4)]
    assert torch.equal(result.verified, torch.stack(draws).amax(0))
    assert len({tuple(draw.tolist()) for draw in draws}) > 1


def search_alone(clf: bg.Classifier, x: Tensor, y: Tensor, draw: int, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Counts of one draw."""
    with monkeypatch.context() as patch:
        made = Study._made
        patch.setattr(Study, "_made", lambda self, _: made(self, draw))
        return bg.adversarial_dimension(clf, x, y, eps=1.0, box="ignore", rule="count", progress=False).verified
