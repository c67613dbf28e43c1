"""Gradient-aligned frames against explicit reflections, and the counts that they claim."""

import math

import numpy as np
import pytest
import torch
from oracles import Linear, images
from torch import Tensor

import boundarygeo as bg
from boundarygeo.subspace.frames.gaas import GaasFrames, aligned, claimed_dimension, gaas_frame, random_orthonormal
from boundarygeo.subspace.frames.jobs import rows_of

SIZES = [(1, 1), (1, 2), (2, 2), (1, 30), (7, 30), (29, 30), (30, 30), (100, 784)]
PRECISE = {torch.float64: 1e-12, torch.float32: 1e-5}


def gradients(count: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).pow(3)


def plain_frame(gradient: np.ndarray, count: int, *, seed: int, draw: int) -> np.ndarray:
    """The frame of one flat gradient as on paper: a random frame by Gram-Schmidt, times an explicit d×d reflection."""
    dimension = len(gradient)
    base = []
    for normal in np.random.default_rng((seed, draw)).standard_normal((count, dimension)):
        for _ in range(2):
            for other in base:
                normal = normal - (other @ normal) * other
        base.append(normal / np.linalg.norm(normal))
    h = np.stack(base)
    mean, unit = h.sum(0) / math.sqrt(count), gradient / np.linalg.norm(gradient)
    # To the farther one of ±unit, and back by the sign.
    sign = -1.0 if mean @ unit > 0 else 1.0
    w = sign * unit - mean
    return sign * h @ (np.eye(dimension) - 2 * np.outer(w, w) / (w @ w))


@pytest.mark.parametrize("dtype", PRECISE)
@pytest.mark.parametrize(("count", "dimension"), SIZES)
def test_frames_are_orthonormal_with_equal_and_largest_inner_products(
    count: int, dimension: int, dtype: torch.dtype
) -> None:
    gradient = gradients(3, dimension).to(dtype)
    frame = gaas_frame(gradient, count, seed=5)
    assert frame.dtype == dtype
    assert frame.shape == (3, count, dimension)
    frame, gradient = frame.double(), gradient.double()
    atol = PRECISE[dtype]
    torch.testing.assert_close(frame @ frame.mT, torch.eye(count).double().expand(3, -1, -1), rtol=0, atol=atol)
    length = gradient.norm(dim=1)
    products = (frame @ gradient[:, :, None])[:, :, 0] / length[:, None]
    torch.testing.assert_close(products, torch.full_like(products, count**-0.5), rtol=0, atol=atol)
    # The sum is the only part that is the same for all such frames; no more than that fits (Bessel).
    torch.testing.assert_close(frame.sum(1) / count**0.5, gradient / length[:, None], rtol=0, atol=10 * atol)


@pytest.mark.parametrize(("count", "dimension"), SIZES[:-1])
def test_frames_are_explicit_reflections_of_a_random_frame(count: int, dimension: int) -> None:
    gradient = gradients(4, dimension)
    gradient[1] = -gradient[0]  # one of them lies on the side of the random frame, one does not
    frame = gaas_frame(gradient, count, seed=2, draw=3)
    for i in range(4):
        expected = plain_frame(gradient[i].numpy(), count, seed=2, draw=3)
        np.testing.assert_allclose(frame[i].numpy(), expected, rtol=0, atol=1e-12)


def test_the_shape_is_kept_and_the_scale_does_not_matter() -> None:
    gradient = gradients(2, 3, 4, 5)
    frame = gaas_frame(gradient, 6)
    assert frame.shape == (2, 6, 3, 4, 5)
    flat = gaas_frame(gradient.flatten(1), 6)
    assert torch.equal(frame.flatten(2), flat)
    for scale in (1e-120, 1e120):
        torch.testing.assert_close(gaas_frame(scale * gradient, 6), frame, rtol=0, atol=1e-12)


def test_one_vector_is_the_gradient() -> None:
    gradient = gradients(3, 20)
    expected = gradient / gradient.norm(dim=1, keepdim=True)
    torch.testing.assert_close(gaas_frame(gradient, 1)[:, 0], expected, rtol=0, atol=1e-14)


def test_seed_and_draw_decide_the_frame() -> None:
    gradient = gradients(2, 40)
    frame = gaas_frame(gradient, 8, seed=1, draw=2)
    assert torch.equal(frame, gaas_frame(gradient, 8, seed=1, draw=2))
    torch.testing.assert_close(gaas_frame(gradient[1:], 8, seed=1, draw=2)[0], frame[1], rtol=0, atol=1e-14)
    for seed, draw in ((1, 0), (0, 2), (2, 1)):
        assert (gaas_frame(gradient, 8, seed=seed, draw=draw) - frame).abs().amax() > 0.1


def test_a_gradient_along_the_random_frame_does_not_cancel() -> None:
    for sign in (1.0, -1.0):
        base = random_orthonormal(5, 30, seed=0)
        unit = sign * base.sum(0, keepdim=True) / 5**0.5 + 1e-9 * gradients(1, 30)
        unit = unit / unit.norm()
        frame = aligned(base[None], unit)[0]
        torch.testing.assert_close(frame @ frame.T, torch.eye(5).double(), rtol=0, atol=1e-12)
        torch.testing.assert_close(frame @ unit[0], torch.full((5,), 5**-0.5, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("gradient", "count", "match"),
    [
        (torch.ones(2, 4), 5, "count must be from 1 to the number of input dimensions, 4, got 5"),
        (torch.ones(2, 4), 0, "count must be from 1 to the number of input dimensions, 4, got 0"),
        (
            torch.tensor([[1.0, 0.0], [0.0, 0.0]]),
            1,
            "gradient must not be zero, got 1 zero gradients: leave those examples out",
        ),
    ],
)
def test_impossible_frames_are_refused(gradient: Tensor, count: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        gaas_frame(gradient, count)


def test_random_frames_are_orthonormal_and_begin_alike() -> None:
    frame = random_orthonormal(20, 50, seed=3)
    torch.testing.assert_close(frame @ frame.T, torch.eye(20).double(), rtol=0, atol=1e-13)
    torch.testing.assert_close(random_orthonormal(7, 50, seed=3), frame[:7], rtol=0, atol=1e-13)


def test_random_frames_are_uniformly_distributed() -> None:
    frames = torch.stack([random_orthonormal(2, 3, seed=seed) for seed in range(2000)])
    spread = 2000**-0.5
    assert frames.mean(0).abs().amax() < 4 * spread * 3**-0.5  # no direction is preferred
    # The second vector is as isotropic as the first: E[v vᵀ] = I/3.
    second_moments = torch.einsum("nki,nkj->kij", frames, frames) / 2000
    assert (second_moments - torch.eye(3) / 3).abs().amax() < 4 * 0.3 * spread


CLAIMS = [  # ‖g‖, ε, γ, d, count
    ("floor", 2.0, 1.0, 0.5, 784, 16),
    ("below_the_next", 2.0, 1.0, 0.3999, 784, 25),
    ("rounded_down", 2.0, 1.0, 0.41, 784, 23),
    ("exactly_25", 5.0, 0.3, 0.3, 784, 25),  # ε‖g‖/γ is 5 only up to rounding
    ("exactly_49", 0.7, 0.1, 0.01, 784, 49),
    ("fewer_than_one", 1.0, 1.0, 1.001, 784, 0),
    ("just_one", 1.0, 1.0, 1.0, 784, 1),
    ("cap", 100.0, 1.0, 0.5, 30, 30),
    ("overflow", 1e200, 1.0, 1e-200, 30, 30),
    ("beyond_already", 1.0, 1.0, -0.5, 30, 30),
    ("on_the_boundary", 1.0, 1.0, 0.0, 30, 30),
    ("no_gradient", 0.0, 1.0, 0.5, 30, 0),
    ("no_gradient_on_the_boundary", 0.0, 1.0, 0.0, 30, 0),
]


@pytest.mark.parametrize(
    ("norm", "eps", "gamma", "dimension", "count"), [c[1:] for c in CLAIMS], ids=[c[0] for c in CLAIMS]
)
def test_claims_are_the_closed_form(norm: float, eps: float, gamma: float, dimension: int, count: int) -> None:
    length = torch.tensor([norm], dtype=torch.float64)
    for wanted in (gamma, torch.tensor([gamma], dtype=torch.float64)):
        claim = claimed_dimension(length, eps, wanted, dimension)
        assert claim.dtype == torch.int64
        assert claim.tolist() == [count]


def test_claims_of_every_square_are_exact() -> None:
    roots = torch.arange(1, 28)
    for gamma in (0.1, 0.3, 1 / 3, 0.7, 1e-3):
        claim = claimed_dimension(roots * torch.tensor(gamma, dtype=torch.float64) / 0.7, 0.7, gamma, 784)
        assert torch.equal(claim, roots.square())


def test_a_claim_is_what_the_frame_reaches_and_not_one_more() -> None:
    gradient = gradients(4, 60)
    eps, gamma = 0.3, 0.3 * float(gradient.norm(dim=1).amin()) / 20**0.5
    for i, count in enumerate(claimed_dimension(gradient.norm(dim=1), eps, gamma, 60).tolist()):
        assert 19 <= count <= 60
        reached = (eps * gaas_frame(gradient[i : i + 1], count) @ gradient[i])[0]
        assert reached.min() >= gamma * (1 - 1e-9)
        if count < 60:
            assert (eps * gaas_frame(gradient[i : i + 1], count + 1) @ gradient[i]).max() < gamma


def linear_frames(
    gradient: Tensor, *, eps: float, largest: int, clip: bool = False, draw: int = 0
) -> tuple[GaasFrames, Tensor]:
    clf = bg.Classifier(Linear(torch.ones(gradient[0].numel()), 0.0), device="cpu")
    x = images(len(gradient), shape=tuple(gradient.shape[1:]))
    return GaasFrames(clf, x, gradient, eps=eps, largest=largest, clip=clip, seed=4, draw=draw), x


@pytest.mark.parametrize("shape", [(30,), (3, 4, 5)])
def test_frames_of_all_sizes_at_once_are_those_of_each_size(shape: tuple[int, ...]) -> None:
    gradient = gradients(3, *shape).float()
    gradient[2] = -gradient[1]
    frames, _ = linear_frames(gradient, eps=0.7, largest=25, draw=1)
    example, size = torch.tensor([2, 0, 1, 2, 0]), torch.tensor([3, 25, 1, 24, 7])
    job, row = rows_of(size)
    delta = frames.perturbations(example, size, job, row)
    expected = [
        0.7 * gaas_frame(gradient[i : i + 1], k, seed=4, draw=1)[0] for i, k in zip(example, size.tolist(), strict=True)
    ]
    torch.testing.assert_close(delta, torch.cat(expected), rtol=0, atol=1e-6)
    some = torch.tensor([0, 2, 5, 40, 28, 59])
    assert torch.equal(frames.perturbations(example, size, job[some], row[some]), delta[some])


def test_clipped_perturbations_are_those_of_clipped_points() -> None:
    gradient = gradients(3, 30).float()
    free, x = linear_frames(gradient, eps=2.0, largest=9)
    clipped, _ = linear_frames(gradient, eps=2.0, largest=9, clip=True)
    example, size = torch.arange(3), torch.tensor([9, 4, 2])
    job, row = rows_of(size)
    moved = x[job] + clipped.perturbations(example, size, job, row)
    assert moved.min() >= 0
    assert moved.max() <= 1
    expected = (x[job] + free.perturbations(example, size, job, row)).clamp(0, 1)
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-6)
    assert ((moved == 0) | (moved == 1)).float().mean() > 0.05
