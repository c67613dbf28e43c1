import math

import pytest
import torch
from oracles import Checkerboard, Linear, SmallNet, images

import boundarygeo as bg
from boundarygeo.directions import random_directions
from boundarygeo.linalg import orthogonal_part

X, Y = images(6), torch.tensor([0, 1, 2, 3, 4, 0])


def make(kind: str, x: torch.Tensor = X, y: torch.Tensor = Y, **settings) -> bg.Planes:
    clf = bg.Classifier(SmallNet(), device="cpu")
    if kind == "fgsm_random":
        return bg.fgsm_random_planes(clf, x, y, **settings)
    if kind == "fgsm_adversarial":
        return bg.fgsm_adversarial_planes(clf, x, y, **settings)
    if kind == "random":
        return bg.random_planes(x, y, **settings)
    return bg.planes_through(x, x.flip(0) * 0.9, x.roll(1, 0), **settings)


KINDS = ["fgsm_random", "fgsm_adversarial", "random", "through"]


@pytest.mark.parametrize("kind", KINDS)
def test_axes_are_orthogonal_and_of_one_length(kind: str) -> None:
    planes = make(kind)
    assert planes.valid.all()
    u, v = planes.u.double().flatten(1), planes.v.double().flatten(1)
    torch.testing.assert_close(u.norm(dim=1), v.norm(dim=1), rtol=1e-6, atol=0)
    cosine = (u * v).sum(1) / u.norm(dim=1) / v.norm(dim=1)
    assert cosine.abs().max() < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [1, 4])
def test_a_part_of_the_examples_gives_a_part_of_the_planes(kind: str, cut: int) -> None:
    if kind == "through":
        whole = bg.planes_through(X, X.flip(0) * 0.9, X.roll(1, 0))
        part = bg.planes_through(X[cut:], (X.flip(0) * 0.9)[cut:], X.roll(1, 0)[cut:], index=range(cut, 6))
    else:
        whole, part = make(kind), make(kind, X[cut:], Y[cut:], index=range(cut, 6))
    for name in ("origin", "u", "v", "index", "valid"):
        torch.testing.assert_close(getattr(part, name), getattr(whole, name)[cut:], rtol=1e-5, atol=1e-6)


def test_fgsm_axis_is_the_sign_of_the_gradient() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    planes = bg.fgsm_random_planes(clf, X, Y)
    assert torch.equal(planes.u, clf.input_gradient(X, Y).sign())
    assert torch.equal(planes.origin, X)


def test_second_adversarial_axis_by_hand() -> None:
    # Gradient (3, 1) for class 0: sign (1, 1), orthogonal part (1, -1).
    clf = bg.Classifier(Linear(torch.tensor([3.0, 1.0]), 0.0))
    planes = bg.fgsm_adversarial_planes(clf, torch.tensor([[0.2, 0.2]]), torch.tensor([0]))
    torch.testing.assert_close(planes.u, torch.tensor([[1.0, 1.0]]))
    torch.testing.assert_close(planes.v, torch.tensor([[1.0, -1.0]]))


def test_both_adversarial_axes_climb_the_loss() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    planes, gradient = bg.fgsm_adversarial_planes(clf, X, Y), clf.input_gradient(X, Y).flatten(1)
    assert ((planes.u.flatten(1) * gradient).sum(1) > 0).all()
    assert ((planes.v.flatten(1) * gradient).sum(1) > 0).all()


def test_a_gradient_parallel_to_its_sign_leaves_no_second_axis() -> None:
    clf = bg.Classifier(Linear(torch.tensor([2.0, -2.0]), 0.0))
    x, y = torch.tensor([[0.2, 0.2]]), torch.tensor([0])
    assert not bg.fgsm_adversarial_planes(clf, x, y).valid.any()
    assert bg.fgsm_random_planes(clf, x, y).valid.all()


def test_what_rounding_leaves_of_a_parallel_gradient_is_no_second_axis() -> None:
    weight = torch.full((1000,), 0.1)
    weight[0] += 1e-8  # one unit in the last place
    clf = bg.Classifier(Linear(weight, 0.0))
    planes = bg.fgsm_adversarial_planes(clf, torch.full((1, 1000), 0.2), torch.tensor([0]))
    assert not planes.valid.any()
    assert not planes.u.any()
    assert not planes.v.any()


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_zero_gradients_are_marked_and_have_no_axes() -> None:
    clf = bg.Classifier(Checkerboard(0.3))
    module = clf.module
    module.slope.data.fill_(0)
    for make_planes in (bg.fgsm_random_planes, bg.fgsm_adversarial_planes):
        planes = make_planes(clf, images(2, shape=(4,)), torch.tensor([0, 1]))
        assert not planes.valid.any()
        assert not planes.u.any()
        assert not planes.v.any()


def test_random_directions_depend_on_seed_example_and_axis() -> None:
    shape, index = torch.Size([3, 8, 8]), torch.arange(4)
    first = random_directions(shape, index, seed=0)
    assert torch.equal(first, random_directions(shape, index, seed=0))
    for other in (
        random_directions(shape, index, seed=1),
        random_directions(shape, index, seed=0, axis=1),
        random_directions(shape, index + 4, seed=0),
    ):
        cosines = torch.cosine_similarity(first.flatten(1), other.flatten(1))
        assert cosines.abs().max() < 0.3  # 192 dimensions: a standard deviation of 0.07


def test_seed_example_and_axis_are_not_added_up() -> None:
    shape = torch.Size([3, 8, 8])
    drawn = [
        random_directions(shape, torch.tensor([index]), seed=seed, axis=axis)
        for index, seed, axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert torch.cosine_similarity(drawn[one].flatten(), drawn[other].flatten(), dim=0).abs() < 0.3


@pytest.mark.parametrize("kind", ["fgsm_random", "random"])
def test_the_seed_decides_all_random_axes_and_no_other(kind: str) -> None:
    first, second = make(kind, seed=1), make(kind, seed=2)
    assert (first.seed, second.seed) == (1, 2)
    for name in ("u", "v"):
        one, other = getattr(first, name), getattr(second, name)
        if (kind, name) == ("fgsm_random", "u"):
            assert torch.equal(one, other)
        else:
            assert torch.cosine_similarity(one.flatten(1), other.flatten(1)).abs().max() < 0.3


def test_random_axes_are_as_long_as_a_sign_vector() -> None:
    planes = make("random")
    torch.testing.assert_close(planes.u.flatten(1).norm(dim=1), torch.full((6,), math.sqrt(192)))


@pytest.mark.parametrize("which", [torch.tensor([4, 1]), torch.tensor([False, True, False, False, True, False])])
def test_selected_planes_are_as_they_were(which: torch.Tensor) -> None:
    planes = make("through", index=range(10, 16))
    planes.valid[1] = False
    some = planes.select(which)
    order = which if which.dtype == torch.int64 else which.nonzero()[:, 0]
    assert len(some) == 2
    for name in ("origin", "u", "v", "index", "valid", "anchors"):
        assert torch.equal(getattr(some, name), getattr(planes, name)[order]), name
    assert some.labels is None
    assert (some.kind, some.extent, some.unit) == (planes.kind, planes.extent, planes.unit)
    labels = make("random").select(which).labels
    assert torch.equal(labels, Y[order])


def test_random_directions_are_isotropic() -> None:
    drawn = random_directions(torch.Size([20]), torch.arange(4000), seed=3).double()
    covariance = drawn.T @ drawn / len(drawn)
    assert (covariance - torch.eye(20)).abs().max() < 5 * math.sqrt(2 / 4000)


def test_orthogonal_part_of_nearly_parallel_vectors() -> None:
    u = torch.ones(1, 1000, dtype=torch.float64)
    v = u + 1e-9 * torch.randn(1, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rest = orthogonal_part(v, u)
    assert ((rest * u).sum().abs() / rest.norm() / u.norm()) < 1e-12


def test_planes_through_hold_their_images_where_the_anchors_say() -> None:
    x1, x2, x3 = images(5, seed=1), images(5, seed=2), images(5, seed=3)
    planes = bg.planes_through(x1, x2, x3)
    for number, x in enumerate((x1, x2, x3)):
        a, b = (planes.anchors[:, number, axis].float().view(-1, 1, 1, 1) for axis in (0, 1))
        torch.testing.assert_close(planes.origin + a * planes.u + b * planes.v, x, rtol=0, atol=1e-5)


def test_window_of_three_images_by_hand() -> None:
    # A right triangle with legs 4 (to x2) and 2: a square of side 4 · (1 + 2 · 0.1) around the middle (2, 1).
    x1, x2, x3 = (torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[4.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0]]))
    planes = bg.planes_through(x1, x2, x3)
    torch.testing.assert_close(planes.origin, torch.tensor([[2.0, 1.0, 0.0]]))
    torch.testing.assert_close(planes.u, torch.tensor([[2.4, 0.0, 0.0]]))
    torch.testing.assert_close(planes.v, torch.tensor([[0.0, 2.4, 0.0]]))


def test_window_of_an_obtuse_triangle_by_hand() -> None:
    # From (-2, 0) to (4, 0) along the first axis, and up to 3: a square of side 6 · (1 + 2 · 0.25) around (1, 1.5).
    x1, x2, x3 = (torch.tensor([point]) for point in ([0.0, 0.0], [4.0, 0.0], [-2.0, 3.0]))
    planes = bg.planes_through(x1, x2, x3, margin=0.25)
    torch.testing.assert_close(planes.origin, torch.tensor([[1.0, 1.5]]))
    torch.testing.assert_close(planes.u, torch.tensor([[4.5, 0.0]]))
    torch.testing.assert_close(planes.v, torch.tensor([[0.0, 4.5]]))
    anchors = torch.tensor([[-1.0, -1.5], [3.0, -1.5], [-3.0, 1.5]], dtype=torch.float64) / 4.5
    torch.testing.assert_close(planes.anchors[0], anchors)
    assert planes.labels is None
    assert planes.extent == 1.0


def test_three_images_on_a_line_are_marked() -> None:
    x = images(2)
    planes = bg.planes_through(x, x * 0.5, x * 0.25)
    assert not planes.valid.any()


@pytest.mark.parametrize(
    ("index", "message"),
    [([0, 1], "index must be 6 integers >= 0"), ([0.5] * 6, "index must be"), ([-1, 0, 1, 2, 3, 4], "index must be")],
)
def test_unusable_index_is_refused(index: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("random", index=index)


def test_unusable_triples_are_refused() -> None:
    with pytest.raises(ValueError, match="x1, x2 and x3 must have the same shape"):
        bg.planes_through(X, X[:2], X)
    with pytest.raises(ValueError, match="margin must be >= 0, got -0.1"):
        bg.planes_through(X, X.flip(0), X.roll(1, 0), margin=-0.1)


def test_examples_without_labels_are_refused() -> None:
    for kind in ("random", "fgsm_random", "fgsm_adversarial"):
        with pytest.raises(ValueError, match=r"y must have shape \[6\], one class per example, got \[5\]"):
            make(kind, y=Y[:5])
