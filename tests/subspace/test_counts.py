"""Counts are what they say: closed forms with every gap between sizes closed, whatever holds the inputs and settings.

Closed forms, each computed here in float64 from the weights alone:

- half-spaces of 20, 300 and 1,000 dimensions in L2, either rule: ⌊ε²/distance²⌋, at most d;
- half-spaces whose weights are all ±1 in L∞: the largest order k with ε·⌊d/k⌋·√k beyond the margin;
- the same with perturbations inside the bounds: ⌊d/m⌋ groups of the m movable pixels that one direction needs;
- two parallel half-spaces: the count of the farther is shared, and all or none of the directions transfer;
- distances that are exactly ε/√k, where rounding decides between k and k - 1;
- five linear classes: no size near the count does better, by a loop over plain forward passes; the claim is met.

No closed form: a random net with a frame of every size near the count, by the same loop.

Inputs and settings: float64, float16 and bfloat16, not contiguous, channels last, with `requires_grad`; NumPy's whole
and real numbers of several widths; grids that start above the count, that have one size, or that leave orders out.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from oracles import Linear, SmallNet, images
from subspaces import count_of, random
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.results import Result
from boundarygeo.subspace.frames.gaas import gaas_frame
from boundarygeo.subspace.frames.hadamard import REGULAR_ORDERS
from boundarygeo.subspace.frames.search import NEAR, REACH

RULES = ("all", "count")


def distances(dimension: int, count: int, *, eps: float) -> Tensor:
    """Distances with room for 0.5 to 1.5·d directions of norm ε, none of them near a whole number."""
    share = 0.5 * (3 * dimension) ** torch.linspace(0, 1, count, dtype=torch.float64)
    return eps / (share.floor() + 0.2 + 0.6 * (share % 1)).sqrt()


def proven(result: bg.AdversarialDimension | bg.SharedDimension, sizes: Sequence[int] = ()) -> list[bool]:
    """Whether all sizes above each count, up to the cap, were tried, and none does better."""
    every = sizes or range(1, result.max_dimension + 1)
    rows = zip(result.verified.tolist(), result.tried.tolist(), result.successes.tolist(), strict=True)
    return [
        {size for size in every if count < size <= result.max_dimension} <= set(tried)
        and all(hit <= count for size, hit in zip(tried, hits, strict=True) if result.rule == "count" or hit == size)
        for count, tried, hits in rows
    ]


def before(weight: Tensor, offset: float, distance: Tensor, seed: int = 1) -> Tensor:
    """Points at distances (negative: behind) before the hyperplane wᵀx = b, float32."""
    w = weight.double()
    x = random(len(distance), len(w), seed=seed).double()
    x -= ((x @ w - offset) / w.square().sum())[:, None] * w
    return (x - distance.double()[:, None] * w / w.norm()).float()


def plain_half_space(weight: Tensor, offset: float = 0.0, **settings: Any) -> bg.Classifier:
    return bg.Classifier(Linear(weight, offset), **{"bounds": (-99, 99), "device": "cpu"} | settings)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("dimension", "count"), [(20, 200), (300, 200), (1000, 12)])
def test_half_spaces_have_what_the_closed_form_says(dimension: int, count: int, rule: str) -> None:
    weight = random(dimension).pow(3)
    clf = plain_half_space(weight, 0.4)
    distance = distances(dimension, count, eps=0.7) * torch.tensor([1, -1]).repeat(count)[:count]
    x = before(weight, 0.4, distance)
    y = (distance < 0).long()
    result = count_of(clf, x, y, eps=0.7, box="ignore", rule=rule, max_dimension=dimension)
    expected = (0.49 / distance.square()).floor().clamp_max(dimension).long()
    assert result.correct.all()
    assert result.verified.tolist() == result.claimed.tolist() == expected.tolist()
    assert result.closed.tolist() == proven(result)
    if rule == "all" or dimension < 100:  # the others take half a million passes
        few = slice(None, None, 5)
        full = count_of(clf, x[few], y[few], eps=0.7, box="ignore", rule=rule, max_dimension=dimension, grid="full")
        assert full.closed.all()
        assert full.verified.tolist() == expected[few].tolist()
        assert full.provenance.command.count("grid='full'") == 1


def test_the_cap_and_the_last_size_of_a_grid_leave_counts_open() -> None:
    weight = random(300)
    x = before(weight, 0.0, 1 / torch.tensor([287.5, 64.5, 63.5, 199.5]).sqrt())
    y = torch.zeros(4, dtype=torch.int64)
    for settings, cap in (({}, 200), ({"max_dimension": 64}, 64), ({"grid": (1, 64)}, 64), ({"grid": (63,)}, 63)):
        result = count_of(plain_half_space(weight), x, y, eps=1.0, box="ignore", **settings)
        expected = [min(count, cap) for count in (287, 64, 63, 199)]
        assert result.verified.tolist() == expected
        assert result.closed.tolist() == proven(result)
        assert result.closed[[count == cap for count in expected]].all()  # no larger size may be tried
        assert result.attempts.tolist() == [sum(size > 0 for size in sizes) for sizes in result.tried.tolist()]


def test_no_count_stays_below_the_first_size_of_a_grid() -> None:
    weight = random(60)
    expected = list(range(61))
    x = before(weight, 0.0, 1 / (torch.tensor(expected) + 0.5).sqrt())
    for rule, grid in (("all", (60,)), ("all", (25, 60)), ("count", (10, 25, 50, 60))):
        result = count_of(
            plain_half_space(weight), x, torch.zeros(61).long(), eps=1.0, box="ignore", rule=rule, grid=grid
        )
        assert result.verified.tolist() == expected


def test_rounding_decides_nothing_but_ties() -> None:
    weight = torch.ones(64)
    for k in (1, 4, 9, 25, 36):
        clf = plain_half_space(weight)
        x = torch.full((2, 64), -0.125 / math.sqrt(k))
        x[1] *= 1 - 1e-5
        result = count_of(clf, x, torch.zeros(2).long(), eps=1.0, box="ignore")
        for count in (result.claimed, result.verified):
            assert int(count[0]) in (k - 1, k)
            assert int(count[1]) == k


@pytest.mark.parametrize("grid", [None, [256], [1, 64], [4, 36, 144]])
@pytest.mark.parametrize("rule", RULES)
def test_orders_in_the_maximum_norm(rule: str, grid: list[int] | None) -> None:
    weight = random(300).sign()
    margin = torch.tensor([301.0, 299, 151, 149, 73, 71, 49, 47, 33, 31, 29, 25, 23, 17, 15]) * 0.01
    x = before(weight, 0.0, margin / math.sqrt(300))
    cap = max(grid or [256])
    result = count_of(
        plain_half_space(weight), x, torch.zeros(15).long(), eps=0.01, norm="linf", box="ignore", rule=rule, grid=grid,
        max_dimension=300,
    )  # fmt: skip
    orders = [k for k in REGULAR_ORDERS if k <= cap]
    expected = [max((k for k in orders if 0.01 * (300 // k) * math.sqrt(k) > m), default=0) for m in margin.tolist()]
    assert result.verified.tolist() == expected
    assert result.max_dimension == cap
    assert result.tried.tolist() == [orders] * 15
    assert result.closed.tolist() == proven(result, orders) == [True] * 15
    full = count_of(
        plain_half_space(weight), x, torch.zeros(15).long(), eps=0.01, norm="linf", box="ignore", rule=rule,
        grid="full", max_dimension=cap,
    )  # fmt: skip
    assert torch.equal(full.tried, result.tried)
    assert torch.equal(full.verified, result.verified)


@pytest.mark.parametrize("stuck", [0, 37])
@pytest.mark.parametrize("rule", RULES)
def test_groups_of_pixels_inside_the_bounds(rule: str, stuck: int) -> None:
    # Each direction needs m of the n pixels that can move: ε√m is its gain, and ⌊n/m⌋ directions share them.
    needed, n = torch.tensor([1, 2, 3, 4, 5, 7, 11, 30, 61, 262, 400]), 300 - stuck
    x = (0.5 - 0.1 * (needed - 0.5).sqrt() / n)[:, None].repeat(1, 300)
    x[:, :stuck] = 1.0  # white, and white is uphill
    clf = plain_half_space(torch.ones(300), 150.0 + 0.5 * stuck, bounds=(0, 1))
    result = count_of(clf, x, torch.zeros(11).long(), eps=0.1, rule=rule, max_dimension=300)
    assert result.verified.tolist() == [n // m for m in needed.tolist()]
    assert result.closed.tolist() == proven(result)


@pytest.mark.parametrize("rule", RULES)
def test_parallel_half_spaces_share_and_transfer_what_the_farther_allows(rule: str) -> None:
    weight, shares = random(300), torch.tensor([287.5, 64.5, 63.5, 19.5, 1.5])
    x, y = before(weight, 0.0, 1 / shares.sqrt()), torch.zeros(5).long()
    near, farther = plain_half_space(weight), plain_half_space(2 * weight, 2 * 0.01 * float(weight.norm()))
    settings: dict[str, Any] = {"eps": 1.0, "box": "ignore", "rule": rule, "max_dimension": 300, "progress": False}
    distance = 1 / shares.sqrt() + 0.01
    shared = bg.shared_dimension([near, farther], x, y, **settings)
    assert shared.verified.tolist() == (1 / distance.square()).floor().long().tolist()
    assert shared.closed.tolist() == proven(shared)
    full = bg.shared_dimension([near, farther], x[:3], y[:3], grid="full", **settings)
    assert full.verified.tolist() == shared.verified[:3].tolist()
    assert full.closed.all()
    assert torch.equal(full.attempts, (full.tried > 0).sum(1))
    for source, target, reach in ((near, farther, distance), (farther, near, 1 / shares.sqrt())):
        own = bg.adversarial_dimension(source, x, y, keep_directions=True, **settings)
        sent = bg.transferred_dimension(target, x, own, progress=False)
        all_or_none = torch.where(1 / own.verified.sqrt() > reach, own.verified, 0)
        assert sent.count.tolist() == all_or_none.tolist()
    assert sent.count.tolist() == shared.verified.tolist()


def best_by_hand(module: nn.Module, x: Tensor, y: int, sizes: range, eps: float, rule: str) -> int:
    """The count of one example from the frames of all sizes, with plain forward passes."""
    point = x.clone().requires_grad_()
    logits = module(point[None])[0]
    others = torch.cat([logits[:y], logits[y + 1 :]])
    (gradient,) = torch.autograd.grad(others.amax() - logits[y], point)
    counts = [0]
    for k in sizes:
        frame = gaas_frame(gradient[None].double(), k)[0].float()
        with torch.no_grad():
            hit = int((module(x + eps * frame).argmax(1) != y).sum())
        counts.append(hit if rule == "count" or hit == k else 0)
    return max(counts)


def networks() -> list[tuple[str, nn.Module, Tensor, float]]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        linear = nn.Linear(60, 5)
        mlp = nn.Sequential(nn.Flatten(), nn.Linear(60, 30), nn.Tanh(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 4))
    return [
        ("five linear classes", linear, 0.1 * random(6, 60) + 0.5, 3.0),
        ("perceptron", mlp, 0.3 * random(6, 3, 4, 5) + 0.5, 2.5),
        ("convolutions", SmallNet(), images(6), 2.0),
    ]


CASES = pytest.mark.parametrize(
    ("module", "x", "eps"), [case[1:] for case in networks()], ids=[case[0] for case in networks()]
)


@pytest.mark.parametrize("rule", RULES)
@CASES
def test_no_size_near_the_count_does_better(module: nn.Module, x: Tensor, eps: float, rule: str) -> None:
    module = module.eval()
    clf = bg.Classifier(module, bounds=(-99, 99), device="cpu")
    y = clf.predict(x)
    result = count_of(clf, x, y, eps=eps, box="ignore", rule=rule, max_dimension=60)
    assert 1 < result.verified.double().median() < 55
    linear = isinstance(module, nn.Linear)
    for i, (found, claim) in enumerate(zip(result.verified.tolist(), result.claimed.tolist(), strict=True)):
        scores = torch.where(result.successes[i] == result.tried[i], result.tried[i], 0)
        scores = scores if rule == "all" else result.successes[i]
        best = int(result.tried[i][scores.argmax()]) if found else 0
        last = NEAR + (REACH * best if rule == "all" else best)
        sizes = range(max(1, best - NEAR), min(60, last) + 1)
        assert best_by_hand(module, x[i], int(y[i]), sizes, eps, rule) == found
        if linear:
            assert found >= min(claim, 60)
    assert result.closed.tolist() == proven(result)


@pytest.mark.parametrize("rule", RULES)
@CASES
def test_a_full_grid_gives_the_best_of_all_sizes(module: nn.Module, x: Tensor, eps: float, rule: str) -> None:
    module, x = module.eval(), x[:4]
    clf = bg.Classifier(module, bounds=(-99, 99), device="cpu")
    y = clf.predict(x)
    cap = 40
    result = count_of(clf, x, y, eps=eps, box="ignore", rule=rule, max_dimension=cap, grid="full")
    every = count_of(clf, x, y, eps=eps, box="ignore", rule=rule, max_dimension=cap, grid=range(1, cap + 1))
    assert result.closed.all()
    assert result.closed.tolist() == proven(result)
    assert torch.equal(result.verified, every.verified)
    assert result.provenance.forwards < every.provenance.forwards
    for i, found in enumerate(result.verified.tolist()):
        assert best_by_hand(module, x[i], int(y[i]), range(1, cap + 1), eps, rule) == found


def alike(result: Result, other: Result) -> bool:
    """Whether two results are the same in all but their provenance."""
    for name, value in vars(result).items():
        twin = getattr(other, name)
        if isinstance(value, Tensor):
            if value.dtype != twin.dtype or not torch.equal(value.nan_to_num(), twin.nan_to_num()):
                return False
        elif name != "provenance" and (value != twin or type(value) is not type(twin)):
            return False
    return True


METHODS = [
    *({"norm": norm, "box": box} for norm in ("l2", "linf") for box in ("ignore", "clip", "feasible")),
    {"method": "frame", "box": "ignore"},
    {"method": "frame", "box": "feasible"},
]


@pytest.mark.parametrize("settings", METHODS, ids=["-".join(s.values()) for s in METHODS])
def test_inputs_of_any_kind_give_what_float32_gives(settings: dict[str, Any]) -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = images(3, seed=1).half().float().bfloat16().float()  # values that all kinds can hold
    y = clf.predict(x)
    eps = 0.3 if settings.get("norm") == "linf" else 3.0
    common = {"eps": eps, "max_dimension": 4, "steps": 4, "keep_directions": True, **settings}
    expected = count_of(clf, x, y, **common)
    assert expected.verified.sum() > 1
    spread = torch.zeros(3, 3, 8, 16)
    spread[..., ::2] = x
    for other, kind in (
        (x.double().requires_grad_(), torch.int8),
        (x.half(), torch.uint8),
        (x.bfloat16().contiguous(memory_format=torch.channels_last), torch.int64),
        (spread[..., ::2], torch.int32),
    ):
        assert alike(count_of(clf, other, y.to(kind), **common), expected)


@pytest.mark.usefixtures("short_start")
def test_float64_inputs_give_the_same_in_all_counts() -> None:
    clf, other = (bg.Classifier(SmallNet(seed), device="cpu") for seed in (0, 1))
    x = images(4, seed=1)
    y = clf.predict(x)
    few = {"eps": 3.0, "max_directions": 2, "steps": 4, "progress": False}
    assert alike(bg.sequential_directions(clf, x.double(), y.byte(), **few), bg.sequential_directions(clf, x, y, **few))
    own = count_of(clf, x, y, eps=2.0, max_dimension=8, keep_directions=True)
    for kind in (torch.float64, torch.float32):
        inputs = x.to(kind)
        assert alike(
            bg.shared_dimension([clf, other], inputs, y, eps=3.0, max_dimension=8, progress=False),
            bg.shared_dimension([clf, other], x, y, eps=3.0, max_dimension=8, progress=False),
        )
        assert alike(
            bg.transferred_dimension(other, inputs, own, progress=False),
            bg.transferred_dimension(other, x, own, progress=False),
        )


NUMBERS = [(np.int64, np.float32), (np.uint8, np.float16)]


@pytest.mark.usefixtures("short_start")
@pytest.mark.parametrize(("whole", "real"), NUMBERS, ids=[whole.__name__ for whole, _ in NUMBERS])
def test_numbers_of_numpy_are_numbers(whole: Any, real: Any, tmp_path) -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x = images(2, seed=1)
    y = clf.predict(x)
    common: dict[str, Any] = {"progress": False}

    def results(i: Any, r: Any) -> list[Result]:
        few = {"max_dimension": i(2), "steps": i(4), "seed": i(3), **common}
        return [
            count_of(clf, x, y, eps=r(1.25), restarts=i(2), gamma=r(0.5), grid=[i(1), i(4)], max_dimension=i(7)),
            bg.adversarial_dimension(clf, x, y, eps=r(1.25), method="frame", **few),
            bg.shared_dimension([clf, clf], x, y, eps=r(1.25), **few),
            bg.noise_success(clf, x, y, eps=r(1.25), draws=i(4), seed=i(3), **common),
            bg.local_smoothness(clf, x, y, eps=r(1.25), points=i(2), iterations=i(3), seed=i(3), **common),
            bg.sequential_directions(clf, x, y, eps=r(1.25), max_directions=i(2), starts=i(1), failures=i(2),
                                     steps=i(4), seed=i(3), **common),
        ]  # fmt: skip

    for number, (result, expected) in enumerate(zip(results(whole, real), results(int, float), strict=True)):
        assert alike(result, expected)
        assert result.provenance.command == expected.provenance.command
        assert alike(bg.load(result.save(tmp_path / f"{number}.zarr")), expected)
    for wrong in (np.bool_(True), np.float64(2.5)):
        with pytest.raises(ValueError, match="max_dimension must be a whole number, at least 1, got"):
            count_of(clf, x, y, eps=1.0, max_dimension=wrong)
    with pytest.raises(ValueError, match="eps must be a positive number, got"):
        count_of(clf, x, y, eps=np.float32(-1))
