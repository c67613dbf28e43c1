"""The search over sizes, against success functions made by hand."""

import itertools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from oracles import SmallNet, images
from torch import Tensor

import boundarygeo as bg
from boundarygeo.subspace.gaas import GaasFrames
from boundarygeo.subspace.search import best_attempt, default_grid, dimension_of, search_sizes
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


def searched(hits: Attempt, examples: int, grid: tuple[int, ...], rule: str, rounds: int) -> tuple[Tensor, Tensor]:
    """The tables, checked: sorted, padded at the end, and just what was attempted."""
    attempt = Recorded(hits)
    tried, found = search_sizes(attempt, examples, grid, rule=rule, rounds=rounds)
    assert tried.dtype == found.dtype == torch.int64
    assert tried.shape == found.shape
    for i in range(examples):
        sizes = [size for size in tried[i].tolist() if size]
        assert sizes == sorted(set(sizes))
        assert tried[i].tolist() == sizes + [0] * (tried.shape[1] - len(sizes))
        assert sizes == sorted(size for example, size in attempt.jobs if example == i)
        expected = hits(torch.full((len(sizes),), i), torch.tensor(sizes))
        assert found[i].tolist() == expected.tolist() + [0] * (tried.shape[1] - len(sizes))
    assert (tried > 0).any(0).all()
    assert len(attempt.jobs) == len(set(attempt.jobs))
    return tried, found


LIMITS = [0, 1, 2, 3, 7, 10, 11, 19, 20, 21, 38, 39, 40]


def test_thresholds_between_grid_points_are_found_exactly_with_enough_rounds() -> None:
    grid = (1, 2, 5, 10, 20, 40)
    tried, hits = searched(thresholds(LIMITS), len(LIMITS), grid, "all", 5)
    assert dimension_of(tried, hits, "all").tolist() == LIMITS
    # Gaps up to 2^rounds are resolved: each round halves one.
    assert (tried > 0).sum(1).max() == len(grid) + 5
    assert (tried > 0).sum(1)[[0, 1, 2, -1]].tolist() == [6, 6, 7, 6]


def test_without_rounds_the_grid_is_the_resolution() -> None:
    grid = (1, 2, 5, 10, 20, 40)
    tried, hits = searched(thresholds(LIMITS), len(LIMITS), grid, "all", 0)
    assert tried.tolist() == [list(grid)] * len(LIMITS)
    expected = [max((size for size in grid if size <= limit), default=0) for limit in LIMITS]
    assert dimension_of(tried, hits, "all").tolist() == expected


@pytest.mark.parametrize("rounds", [1, 2, 3, 4])
def test_each_round_halves_the_gap(rounds: int) -> None:
    limits = list(range(100, 117))
    tried, hits = searched(thresholds(limits), len(limits), (100, 116), "all", rounds)
    step = 16 >> rounds
    expected = [100 + (limit - 100) // step * step for limit in limits]
    assert dimension_of(tried, hits, "all").tolist() == expected


def test_the_default_grid_finds_every_threshold_up_to_fifty() -> None:
    limits = list(range(51))
    tried, hits = searched(thresholds(limits), 51, default_grid(200), "all", 4)
    assert dimension_of(tried, hits, "all").tolist() == limits


def test_a_larger_frame_that_succeeds_counts_though_smaller_ones_fail() -> None:
    def hits(example: Tensor, size: Tensor) -> Tensor:
        return torch.where((size == 20) | (size <= 2), size, size - 1)

    tried, found = searched(hits, 1, (1, 2, 5, 10, 20, 40), "all", 3)
    assert dimension_of(tried, found, "all").tolist() == [20]
    assert tried.tolist() == [[1, 2, 5, 10, 20, 22, 25, 30, 40]]


@pytest.mark.parametrize("rule", ["all", "count"])
def test_nothing_and_everything_need_no_more_than_the_grid(rule: str) -> None:
    grid = (1, 5, 20)
    tried, hits = searched(thresholds([0]), 1, grid, "all", 4)
    assert dimension_of(tried, hits, "all").tolist() == [0]
    for limit, dimension in ((-1, 0), (20, 20)):
        tried, hits = searched(lambda _, size, limit=limit: size * (limit > 0), 1, grid, rule, 4)
        assert tried.tolist() == [list(grid)]
        assert dimension_of(tried, hits, rule).tolist() == [dimension]


def test_a_grid_of_one_size_is_enough() -> None:
    for rule in ("all", "count"):
        tried, hits = searched(thresholds([7, 3]), 2, (7,), rule, 3)
        assert dimension_of(tried, hits, rule).tolist() == [7, 0 if rule == "all" else 3]


@pytest.mark.parametrize("place", range(1, 41))
def test_the_best_count_is_found_between_grid_points(place: int) -> None:
    # Up to the peak all succeed; from there one is lost with each further one.
    tried, hits = searched(peaks([place]), 1, (1, 10, 20, 40), "count", 5)
    assert dimension_of(tried, hits, "count").tolist() == [place]


def test_both_sides_of_the_best_are_tried_in_one_round() -> None:
    tried, hits = searched(peaks([20, 26, 18]), 3, (1, 20, 40), "count", 1)
    assert tried.tolist() == [[1, 20, 30, 40, 0], [1, 20, 30, 40, 0], [1, 18, 20, 30, 40]]
    assert dimension_of(tried, hits, "count").tolist() == [20, 22, 18]
    # Of 20 directions 4 succeed: frames of 5 to 19 can have more successes, one of 4 cannot.
    four = searched(lambda _, size: size.clamp_max(4), 2, (20, 40), "count", 1)[0]
    assert four.tolist() == [[12, 20, 30, 40]] * 2
    assert searched(lambda _, size: size.clamp_max(4), 1, (4, 20), "count", 1)[0].tolist() == [[4, 12, 20]]


@pytest.mark.parametrize("rule", ["all", "count"])
def test_examples_do_not_depend_on_each_other(rule: str) -> None:
    places = [3, 39, 0, 12, 20, 40, 12, 1]
    hits = {"all": thresholds(places), "count": peaks(places)}[rule]
    tried, found = searched(hits, len(places), (1, 5, 10, 20, 40), rule, 3)
    for i, place in enumerate(places):
        alone = {"all": thresholds([place]), "count": peaks([place])}[rule]
        one, its = searched(alone, 1, (1, 5, 10, 20, 40), rule, 3)
        assert one[0].tolist() == tried[i][: one.shape[1]].tolist()
        assert its[0].tolist() == found[i][: one.shape[1]].tolist()
        assert (tried[i][one.shape[1] :] == 0).all()


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


BAD_GRIDS = [5, None.__class__, "123", np.array([1.0, 2.0]), torch.tensor([1.5]), torch.tensor(3), np.ones((2, 2), int)]
BAD_GRIDS += [[1, True], [[1], [2]], [1, None], torch.tensor([True, True]), np.arange(0, 4), np.arange(1, 9, dtype=int)]


@pytest.mark.parametrize("grid", BAD_GRIDS, ids=[f"{type(grid).__name__}-{i}" for i, grid in enumerate(BAD_GRIDS)])
def test_other_grids_are_refused_in_one_line(grid: object) -> None:
    match = r"grid must be ascending whole numbers from 1 to max_dimension \(7\), got "
    with pytest.raises(ValueError, match=f"^{match}") as error:
        settings_of(grid)
    assert "\n" not in str(error.value)


def settings_of(grid: Any) -> Settings:
    return check_settings(
        30, eps=1.0, norm="l2", method="gaas", rule="all", box="ignore", max_dimension=7, grid=grid, restarts=1,
        steps=1, seed=0,
    )  # fmt: skip


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
    x = images(12, seed=1)
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
