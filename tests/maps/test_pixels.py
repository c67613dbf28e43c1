"""Deciding pixels: which arithmetic sees how many of them, with errors that are known."""

import math
from collections import Counter

import pytest
import torch
from oracles import planes_along
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.maps.pixels import TRUST, PixelJudge
from boundarygeo.maps.refine import coarse_ticks, refine

LADDER = ("bfloat16", "float32", "float64")
SIDE = 33
AXIS = torch.linspace(-0.02, 0.02, SIDE, dtype=torch.float64)
OFFSET = 2e-4  # the boundary lies between two columns
SCORE = AXIS + OFFSET  # of each column


class Tally(Counter):
    """Counts that all copies of a module share."""

    def __deepcopy__(self, memo: dict) -> "Tally":
        return self


class Rough(nn.Module):
    """Logits (-s, s, -1) of s = x₀, off by a known error in each arithmetic where x₃ > 0; counts what it is sent."""

    def __init__(self, **errors: tuple[float, float, float]) -> None:
        super().__init__()
        self.errors = errors
        self.seen = Tally()

    def forward(self, x: Tensor) -> Tensor:
        name = str(x.dtype).removeprefix("torch.")
        self.seen[name] += len(x)
        logits = torch.cat([-x[:, :1], x[:, :1], -torch.ones_like(x[:, :1])], 1)
        return logits + (x[:, 3:] > 0) * x.new_tensor(self.errors.get(name, (0, 0, 0)))


def opposed(error: float) -> tuple[float, float, float]:
    return (-error, error, 0)


def trusted(errors: dict[str, float], name: str) -> float:
    """The gap below which an arithmetic is not trusted on the rough plane: its errors are opposed, against the next."""
    following = LADDER[LADDER.index(name) + 1]
    return TRUST[name] * abs(errors[name] - errors.get(following, 0.0)) * math.sqrt(2 / 3)


def smooth_and_rough() -> bg.Planes:
    """Two planes of the first two coordinates: on the first there are no errors, on the second there are."""
    origin = torch.tensor([[OFFSET, 0.0, 0.0, -0.5], [OFFSET, 0.0, 0.0, 0.5]])
    u, v = torch.eye(4)[:1].repeat(2, 1), torch.eye(4)[1:2].repeat(2, 1)
    return planes_along(origin, u, v, torch.tensor([1, 1]))


def expected_labels() -> Tensor:
    return (SCORE > 0).long().expand(2, SIDE, SIDE)


def everything() -> Tensor:
    return torch.arange(2 * SIDE * SIDE)


@pytest.fixture
def errors() -> dict[str, float]:
    # Each larger than the score of a column, so that its own labels are wrong there.
    return {"bfloat16": 2.4e-3, "float32": -4e-4}


@pytest.fixture
def module(errors: dict[str, float]) -> Rough:
    return Rough(**{name: opposed(error) for name, error in errors.items()})


def doubtful(errors: dict[str, float], name: str) -> Tensor:
    """Columns of the rough plane whose label an arithmetic is not trusted with."""
    return 2 * (SCORE + errors[name]).abs() <= trusted(errors, name)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_each_arithmetic_decides_what_the_faster_one_is_not_trusted_with_on_that_plane(
    order: list[int], module: Rough, errors: dict[str, float]
) -> None:
    clf = bg.Classifier(module, bounds=(-1, 1), device="cpu")
    planes = smooth_and_rough().select(torch.tensor(order))
    with clf.session(planes.origin) as session:
        judge = PixelJudge(clf, session, planes, AXIS, ladder=LADDER, clip=True)
        module.seen.clear()
        decided = judge.decide(everything())
    assert torch.equal(decided.labels.view(2, SIDE, SIDE), expected_labels())
    second, third = doubtful(errors, "bfloat16"), doubtful(errors, "float32")
    assert 0 < third.sum() < second.sum() < SIDE
    assert module.seen == {
        "bfloat16": 2 * SIDE**2,
        "float32": SIDE * int(second.sum()),
        "float64": SIDE * int((second & third).sum()),
    }


def test_pixels_that_are_expected_to_be_doubtful_skip_the_fastest_arithmetic(
    module: Rough, errors: dict[str, float]
) -> None:
    clf, planes = bg.Classifier(module, bounds=(-1, 1), device="cpu"), smooth_and_rough()
    gaps = (2 * SCORE.abs()).expand(2, SIDE, SIDE).flatten()
    with clf.session(planes.origin) as session:
        judge = PixelJudge(clf, session, planes, AXIS, ladder=LADDER, clip=True)
        module.seen.clear()
        decided = judge.decide(everything(), expected_gap=gaps)
    assert torch.equal(decided.labels.view(2, SIDE, SIDE), expected_labels())
    skipping = 2 * SCORE.abs() <= trusted(errors, "bfloat16")
    second = skipping | doubtful(errors, "bfloat16")
    assert skipping.sum() < second.sum()
    assert module.seen["bfloat16"] == SIDE * (SIDE + int((~skipping).sum()))
    assert module.seen["float32"] == SIDE * int(second.sum())


def test_margins_are_those_of_the_arithmetic_that_decided(module: Rough, errors: dict[str, float]) -> None:
    clf, planes = bg.Classifier(module, bounds=(-1, 1), device="cpu"), smooth_and_rough()
    with clf.session(planes.origin) as session:
        decided = PixelJudge(clf, session, planes, AXIS, ladder=LADDER, clip=True).decide(everything())
    second, third = doubtful(errors, "bfloat16"), doubtful(errors, "float32")
    error = torch.where(second, torch.where(third, 0.0, errors["float32"]), errors["bfloat16"])
    expected = (2 * (SCORE + error)).float().expand(SIDE, SIDE)
    margin, gap = (values.view(2, SIDE, SIDE)[1] for values in (decided.margin, decided.gap))
    torch.testing.assert_close(margin, expected, rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(gap, expected.abs(), rtol=1e-2, atol=1e-6)


def test_an_error_that_all_logits_share_moves_no_label_and_costs_nothing() -> None:
    module = Rough(float32=(0.001, 0.001, 0.001))
    clf, planes = bg.Classifier(module, bounds=(-1, 1), device="cpu"), smooth_and_rough()
    with clf.session(planes.origin) as session:
        judge = PixelJudge(clf, session, planes, AXIS, ladder=LADDER[1:], clip=True)
        module.seen.clear()
        judge.decide(everything())
    assert module.seen["float64"] == 0


def test_errors_that_calibration_does_not_see_are_bounded_by_rounding() -> None:
    class Lucky(nn.Module):
        """No rounding error where |x₀| = 1/4, as at the pixels of the calibration, and a wrong label at 0."""

        def forward(self, x: Tensor) -> Tensor:
            t = 16 * x[:, :1] ** 2 - 1
            return torch.cat([1000 + 4e-5 * t, 1000 + 2.9e-5 * t + 2.9e-5 * t, 0 * t], 1)

    clf = bg.Classifier(Lucky(), bounds=(-1, 1), device="cpu")
    planes = planes_along(torch.zeros(1, 4), torch.eye(4)[:1], torch.eye(4)[1:2], torch.tensor([0]))
    assert clf.predict(planes.origin) == 1  # what float32 makes of it
    maps = bg.boundary_maps(clf, planes, extent=0.5, resolution=5, method="dense", precision="float32")
    assert maps.labels[0, :, 2].tolist() == [0] * 5
    assert maps.labels[0, :, 4].tolist() == [1] * 5


def test_refining_sends_expected_boundaries_past_the_fastest_arithmetic(module: Rough) -> None:
    clf, planes = bg.Classifier(module, bounds=(-1, 1), device="cpu"), smooth_and_rough().select(torch.tensor([1]))
    with clf.session(planes.origin) as session:
        judge = PixelJudge(clf, session, planes, AXIS, ladder=LADDER, clip=True)
        module.seen.clear()
        labels, evaluated, _ = refine(judge, 1, 4)
    assert torch.equal(labels, expected_labels()[:1])
    coarse = len(coarse_ticks(SIDE, 4)) ** 2
    assert evaluated.sum() > coarse
    assert module.seen["bfloat16"] == coarse
