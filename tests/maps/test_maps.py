import math
from pathlib import Path

import pytest
import torch
from oracles import Checkerboard, Linear, SmallNet, Sphere, images, plain_map, planes_along
from torch import nn

import boundarygeo as bg
from boundarygeo.maps.refine import changes, coarse_ticks, guess, interpolation_matrix

METHODS = ["adaptive", "dense"]


def axes(length: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The plane of the first two coordinates through the middle of the unit cube in 4-D."""
    return torch.full((1, 4), 0.5), length * torch.eye(4)[:1], length * torch.eye(4)[1:2]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("degrees", [0, 30, 90, 137])
def test_linear_classifier_is_cut_along_its_line(method: str, degrees: int) -> None:
    angle = math.radians(degrees)
    weight = torch.tensor([math.cos(angle), math.sin(angle), 0.0, 0.0])
    distance = 0.1137  # from the origin of the plane, along the normal
    clf = bg.Classifier(Linear(weight, float(weight[:2].sum()) / 2 + distance))
    planes = planes_along(*axes(), torch.tensor([0]))
    maps = bg.boundary_maps(clf, planes, extent=0.3, resolution=65, method=method)
    a, b = maps.u[None, :], maps.v[:, None]
    expected = (a * math.cos(angle) + b * math.sin(angle) > distance).short()
    assert torch.equal(maps.labels[0], expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("radius", [0.0703, 0.2003, 0.4507])
def test_sphere_is_cut_in_its_circle(method: str, radius: float) -> None:
    centre = torch.tensor([0.55, 0.42, 0.5, 0.5])
    clf = bg.Classifier(Sphere(centre, radius))
    maps = bg.boundary_maps(clf, planes_along(*axes(), torch.tensor([0])), extent=0.4, resolution=129, method=method)
    a, b = maps.u[None, :] - 0.05, maps.v[:, None] + 0.08
    assert torch.equal(maps.labels[0], (a**2 + b**2 > radius**2).short())


def test_second_adversarial_plane_is_cut_along_the_diagonal_computed_by_hand() -> None:
    # w = (3, 1): u = (1, 1), v = (1, -1) for class 0; the boundary wᵀx = b is 4a + 2b = const in the plane.
    clf = bg.Classifier(Linear(torch.tensor([3.0, 1.0]), 2.4))
    planes = bg.fgsm_adversarial_planes(clf, torch.tensor([[0.5, 0.5]]), torch.tensor([0]))
    maps = bg.boundary_maps(clf, planes, extent=0.3, resolution=33)
    expected = (4 * maps.u[None, :] + 2 * maps.v[:, None] > 0.4 + 1e-9).short()
    assert (maps.labels[0] != expected).sum() <= 2  # pixels exactly on the line may go either way
    assert maps.labels[0].float().mean() == pytest.approx(float(expected.float().mean()), abs=2 / 33**2)


def test_fgsm_extent_is_epsilon_in_linf() -> None:
    # From 0.5·1 the L∞ distance to Σx = 2.4 is 0.1: the label changes between the pixels at 0.09375 and 0.1125.
    clf = bg.Classifier(Linear(torch.ones(4), 2.4))
    planes = bg.fgsm_random_planes(clf, torch.full((1, 4), 0.5), torch.tensor([0]))
    maps = bg.boundary_maps(clf, planes, extent=0.3, resolution=33)
    row = maps.labels[0, 16]
    assert maps.u[row == 1].min() == pytest.approx(0.1125)
    assert maps.u[row == 0].max() == pytest.approx(0.09375)


def test_checkerboard_shows_what_adaptive_may_miss_and_dense_does_not() -> None:
    # Squares of 5 pixels under a coarse grid of 32 whose logits are ±1: most of the board is never seen.
    clf = bg.Classifier(Checkerboard(5 * 0.4 / 64))
    planes = planes_along(*axes(), torch.tensor([0]))
    settings = {"extent": 0.4, "resolution": 129, "clip": False, "precision": "float32"}
    a = planes.origin[0, 0] + torch.linspace(-0.4, 0.4, 129, dtype=torch.float64).float()
    cell = (a / (5 * 0.4 / 64)).floor()
    expected = (cell[None, :] + cell[:, None]) % 2
    dense = bg.boundary_maps(clf, planes, method="dense", **settings)
    assert torch.equal(dense.labels[0], expected.short())
    fine = bg.boundary_maps(clf, planes, coarse=2, **settings)
    assert torch.equal(fine.labels[0], expected.short())
    island = Checkerboard(1.0)
    island.forward = (
        lambda x: torch.stack(  # one island of 3 × 3 pixels, off the coarse grid
            [torch.ones(len(x)), 2.0 * ((x[:, :2] - 0.5 - 5 * 0.4 / 64).abs().amax(1) < 1.4 * 0.4 / 64)], 1
        )
    )
    lonely = bg.Classifier(island)
    assert (bg.boundary_maps(lonely, planes, method="dense", **settings).labels == 1).sum() == 9
    assert (bg.boundary_maps(lonely, planes, coarse=32, **settings).labels == 1).sum() == 0
    assert (bg.boundary_maps(lonely, planes, coarse=4, **settings).labels == 1).sum() == 9


@pytest.mark.parametrize("clip", [True, False])
def test_dense_agrees_with_a_plain_loop(clip: bool) -> None:
    module, x, y = SmallNet(), images(3), torch.arange(3)
    clf = bg.Classifier(module, device="cpu")
    planes = bg.fgsm_random_planes(clf, x, y)
    maps = bg.boundary_maps(clf, planes, extent=0.7, resolution=21, method="dense", clip=clip)
    assert torch.equal(maps.labels, plain_map(module, planes, maps.u.float(), (0.0, 1.0) if clip else None))
    assert maps.labels.unique().numel() > 2  # a map of one colour would agree with anything


class Normalised(nn.Module):
    """A module behind the normalisation of its inputs, as a user would write it."""

    def __init__(self, module: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.module = module
        self.mean, self.std = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module((x - self.mean) / self.std)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_normalised_classifier_agrees_with_a_plain_loop(precision: str, clip: bool) -> None:
    mean, std = (0.3, 0.5, 0.4), (0.5, 0.8, 0.6)
    clf = bg.Classifier(SmallNet(), mean=mean, std=std, bounds=(0.1, 0.9), device="cpu")
    planes = bg.fgsm_random_planes(clf, images(3), torch.arange(3))
    maps = bg.boundary_maps(clf, planes, extent=0.7, resolution=21, method="dense", clip=clip, precision=precision)
    expected = plain_map(Normalised(SmallNet(), mean, std), planes, maps.u.float(), (0.1, 0.9) if clip else None)
    assert torch.equal(maps.labels, expected)
    assert maps.labels.unique().numel() > 2
    # Were its points wrong in the faster arithmetic only, it would not be trusted, and all be decided twice.
    assert maps.provenance.forwards < 1.1 * maps.labels.numel()


def test_a_predicted_line_costs_its_own_pixels_only() -> None:
    # The logits are linear, and so the spline between the coarse pixels is exact.
    weight = torch.tensor([math.cos(0.4), math.sin(0.4), 0.0, 0.0])
    clf = bg.Classifier(Linear(weight, float(weight.sum()) / 2 + 0.0537))
    planes = planes_along(*axes(), torch.tensor([0]))
    maps = bg.boundary_maps(clf, planes, extent=0.3, resolution=65, keep=("margin",), precision="float32")
    expected = changes(maps.labels)
    ticks = coarse_ticks(65, 4)
    expected[:, ticks[:, None], ticks] = True
    assert torch.equal(~maps.margin.isnan(), expected)


def test_coarse_grid_is_a_sixteenth_of_the_width_unless_said() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    planes = bg.random_planes(images(2), torch.arange(2))
    for resolution, stride in ((65, 4), (9, 1)):
        default, given = (
            bg.boundary_maps(clf, planes, extent=0.3, resolution=resolution, coarse=coarse) for coarse in (None, stride)
        )
        assert torch.equal(default.evaluated, given.evaluated)
        assert f"coarse={stride})" in default.provenance.command
        assert default.provenance.command == given.provenance.command
    assert (default.evaluated == 1).all()


def test_clipping_changes_maps_that_leave_the_bounds() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    planes = bg.random_planes(images(2), torch.arange(2))
    clipped, free = (bg.boundary_maps(clf, planes, extent=2.0, resolution=33, clip=c) for c in (True, False))
    assert not torch.equal(clipped.labels, free.labels)


@pytest.mark.parametrize("kind", ["fgsm_random", "fgsm_adversarial", "random", "through"])
def test_default_agrees_with_dense_float32(kind: str) -> None:
    clf, x, y = bg.Classifier(SmallNet(), device="cpu"), images(8), torch.arange(8) % 5
    if kind == "through":
        planes, extent = bg.planes_through(x, images(8, seed=1), images(8, seed=2)), None
    elif kind == "random":
        planes, extent = bg.random_planes(x, y), 0.5
    else:
        planes = getattr(bg, f"{kind}_planes")(clf, x, y)
        extent = 0.5
    fast = bg.boundary_maps(clf, planes, extent=extent, resolution=65)
    exact = bg.boundary_maps(clf, planes, extent=extent, resolution=65, method="dense", precision="float32")
    assert (fast.labels == exact.labels).double().mean() >= 0.9995
    assert fast.evaluated.mean() < 0.5
    assert (exact.evaluated == 1).all()


def maps_of(batch: slice | list[int], **settings) -> bg.BoundaryMaps:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x, y, index = images(7)[batch], (torch.arange(7) % 5)[batch], torch.arange(7)[batch]
    planes = bg.fgsm_random_planes(clf, x, y, index=index, seed=5)
    return bg.boundary_maps(clf, planes, extent=0.4, resolution=33, keep=("margin", "probability"), **settings)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_splitting_and_order_of_the_examples_do_not_matter(method: str, precision: str) -> None:
    settings = {"method": method, "precision": precision}
    whole = maps_of(slice(None), **settings)
    order = [5, 0, 3, 1, 6, 2, 4]
    assert torch.equal(maps_of(order, **settings).labels, whole.labels[order])
    parts = [maps_of(slice(0, 2), **settings), maps_of(slice(2, 7), **settings)]
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_batch_size_does_not_matter(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = maps_of(slice(None))
    monkeypatch.setattr("boundarygeo.evaluation.batches.FIRST_SIZE", {"cpu": size, "cuda": size})
    monkeypatch.setattr("boundarygeo.evaluation.batches.LARGEST_SIZE", {"cpu": size, "cuda": size})
    assert torch.equal(maps_of(slice(None)).labels, whole.labels)


def test_planes_at_once_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = maps_of(slice(None))
    at_once = 2 * 33**2
    monkeypatch.setattr("boundarygeo.maps.maps.PIXELS_AT_ONCE", {"cpu": at_once, "cuda": at_once})
    assert torch.equal(maps_of(slice(None)).labels, whole.labels)


def test_dense_float32_twice_is_bit_identical() -> None:
    first, second = (maps_of(slice(None), method="dense", precision="float32") for _ in range(2))
    assert torch.equal(first.labels, second.labels)
    assert first.margin is not None
    assert second.margin is not None
    torch.testing.assert_close(first.margin, second.margin, rtol=1e-5, atol=1e-6)


def test_ties_in_float32_are_decided_in_float64() -> None:
    # Logits that differ by 1e-9 of their size: float32 cannot tell them apart, the network can.
    class Tie(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            score = x[:, :1] - 0.5
            return torch.cat([1000 - 1e-6 * score, 1000 + 1e-6 * score], 1)

    maps = bg.boundary_maps(
        bg.Classifier(Tie()), planes_along(*axes(), torch.tensor([0])), extent=0.3, resolution=9, precision="float32"
    )
    assert torch.equal(maps.labels[0, 0, 5:], torch.ones(4, dtype=torch.int16))
    assert torch.equal(maps.labels[0, 0, :4], torch.zeros(4, dtype=torch.int16))


def test_margin_and_probability_where_evaluated() -> None:
    module = SmallNet()
    clf = bg.Classifier(module, device="cpu")
    planes = bg.random_planes(images(2), torch.tensor([0, 2]), seed=1)
    settings = {"extent": 0.6, "resolution": 33, "keep": ("margin", "probability"), "precision": "float32"}
    dense = bg.boundary_maps(clf, planes, method="dense", **settings)
    sparse = bg.boundary_maps(clf, planes, **settings)
    assert not dense.margin.isnan().any()
    assert 0 < (dense.margin[0] > 0).double().mean() < 1  # the first plane holds a boundary, the second does not
    seen = ~sparse.margin.isnan()
    torch.testing.assert_close(seen.double().mean((1, 2)), sparse.evaluated)
    assert sparse.evaluated[0] != sparse.evaluated[1]
    torch.testing.assert_close(sparse.margin[seen], dense.margin[seen], rtol=1e-4, atol=1e-4)
    corner = (planes.origin - 0.6 * planes.u - 0.6 * planes.v).clamp(0, 1)
    torch.testing.assert_close(clf.margin(corner, torch.tensor([0, 2])), dense.margin[:, 0, 0], rtol=1e-4, atol=1e-4)
    chance = clf.logits(corner).softmax(1)[[0, 1], [0, 2]]
    torch.testing.assert_close(chance, dense.probability[:, 0, 0], rtol=1e-4, atol=1e-5)
    assert ((dense.margin > 0) == (dense.labels == torch.tensor([0, 2]).view(2, 1, 1))).all()


def test_centre_is_the_prediction_and_invalid_planes_are_marked() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    planes = bg.random_planes(images(4), torch.arange(4))
    planes.valid[2] = False
    maps = bg.boundary_maps(clf, planes, extent=0.2, resolution=33)
    valid = planes.valid
    assert torch.equal(maps.center_labels[valid], clf.predict(images(4))[valid])
    assert (maps.labels[2] == -1).all()
    assert maps.evaluated[2] == 0


def test_centre_label_is_that_of_the_origin_and_of_no_pixel_beside_it() -> None:
    # The boundary runs just below and left of the origin.
    clf = bg.Classifier(Linear(torch.tensor([1.0, 1.0, 0.0, 0.0]), 0.999))
    for method in METHODS:
        maps = bg.boundary_maps(clf, planes_along(*axes(), torch.tensor([1])), extent=0.3, resolution=9, method=method)
        assert maps.center_labels.tolist() == [1]
        assert maps.labels[0, 4, 3] == maps.labels[0, 3, 4] == 0
        assert maps.u[4] == maps.v[4] == 0


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_a_classifier_without_gradients_gives_marked_maps() -> None:
    clf = bg.Classifier(Linear(torch.zeros(4), 0.1))
    planes = bg.fgsm_random_planes(clf, images(3, shape=(4,)), torch.tensor([0, 1, 0]))
    maps = bg.boundary_maps(clf, planes, extent=0.1, resolution=9)
    assert not maps.valid.any()
    assert (maps.labels == -1).all()
    assert bg.region_summary(maps).axis_distance.isnan().all()


def test_maps_of_one_model_on_planes_of_another() -> None:
    first, second = (bg.Classifier(SmallNet(seed), device="cpu") for seed in (0, 1))
    planes = bg.fgsm_random_planes(first, images(3), torch.arange(3))
    maps = bg.boundary_maps(second, planes, extent=0.4, resolution=21)
    assert torch.equal(maps.labels, plain_map(second.module, planes, maps.u.float(), (0.0, 1.0)))


def test_cost_is_counted() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    planes = bg.random_planes(images(2), torch.arange(2))
    maps = bg.boundary_maps(clf, planes, extent=0.4, resolution=33, method="dense", precision="bfloat16")
    assert maps.provenance.forwards == 2 * 33 * 33
    assert maps.provenance.precision == "bfloat16"


def test_provenance_is_that_of_this_map_alone() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    planes = bg.fgsm_random_planes(clf, images(2), torch.arange(2), seed=7)
    assert clf.counts.backwards == 2
    first, second = (bg.boundary_maps(clf, planes, extent=0.4, resolution=33).provenance for _ in range(2))
    assert 0 < first.forwards == second.forwards
    assert (first.backwards, second.backwards) == (0, 0)
    assert first.seed == 7
    assert first.model == clf.digest()
    assert first.device == "cpu"
    assert first.seconds > 0
    for word in ("planes='fgsm_random'", "extent=0.4", "resolution=33", "method='adaptive'", "clip=True"):
        assert word in first.command


def test_maps_say_what_they_show() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    planes = bg.planes_through(images(3), images(3, seed=1), images(3, seed=2), index=[4, 2, 9])
    maps = bg.boundary_maps(clf, planes, resolution=9, clip=False, method="dense")
    assert torch.equal(maps.anchors, planes.anchors)
    assert maps.index.tolist() == [4, 2, 9]
    assert maps.true_labels is None
    torch.testing.assert_close(maps.axis_length, planes.u.double().flatten(1).norm(dim=1))
    assert (maps.kind, maps.axis_names, maps.unit) == (planes.kind, planes.axis_names, planes.unit)
    assert (maps.clip, maps.method) == (False, "dense")
    assert maps.u[-1] == maps.v[-1] == 1
    assert bg.boundary_maps(clf, planes, extent=0.5, resolution=9).u[-1] == 0.5
    assert bg.boundary_maps(clf, planes, extent=0.5, resolution=9).clip


def test_planes_whose_origin_leaves_the_bounds_need_images_inside() -> None:
    clf = bg.Classifier(Linear(torch.ones(2), 0.3), device="cpu")
    x1, x2, x3 = (torch.tensor([point]) for point in ([0.0, 1.0], [1.0, 0.9], [0.1, 0.9]))
    through = bg.planes_through(x1, x2, x3)
    through.origin[0, 1] = 1.1  # the middle of the window may lie outside, where the three images do not
    assert bg.boundary_maps(clf, through, resolution=5).valid.all()
    outside = planes_along(through.origin, through.u, through.v, torch.tensor([0]))
    with pytest.raises(ValueError, match=r"planes.origin must lie in \[0, 1\]"):
        bg.boundary_maps(clf, outside, extent=1.0, resolution=5)


def test_caller_keeps_mode_random_state_and_weights() -> None:
    module = SmallNet().train()
    state, before = torch.get_rng_state(), [p.clone() for p in module.parameters()]
    clf = bg.Classifier(module, device="cpu")
    bg.boundary_maps(clf, bg.fgsm_random_planes(clf, images(2), torch.arange(2)), extent=0.1, resolution=9)
    assert module.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))


def test_saved_maps_come_back_and_xarray_reads_them(tmp_path) -> None:
    import xarray as xr

    maps = maps_of(slice(0, 3))
    maps.save(tmp_path / "maps.zarr")
    again = bg.load(tmp_path / "maps.zarr")
    assert isinstance(again, bg.BoundaryMaps)
    for name in ("labels", "u", "v", "index", "true_labels", "valid", "evaluated"):
        assert torch.equal(getattr(again, name), getattr(maps, name)), name
        assert getattr(again, name).dtype == getattr(maps, name).dtype, name
    assert again.provenance == maps.provenance
    assert again.axis_names == maps.axis_names
    dataset = xr.open_zarr(tmp_path / "maps.zarr", chunks=None)
    assert dataset.labels.dims == ("example", "row", "col")
    assert dataset.u.attrs["units"]
    torch.testing.assert_close(torch.from_numpy(dataset.labels.values), maps.labels)


BAD_SETTINGS = [
    ({"extent": 0.0}, "extent must be a positive number, in axis units, got 0"),
    ({"extent": -0.1}, "extent must be a positive number"),
    ({"extent": math.nan}, "extent must be a positive number"),
    ({"extent": math.inf}, "extent must be a positive number"),
    ({"extent": None}, "'random' planes need an extent"),
    ({"resolution": 128}, "resolution must be an odd number of pixels, at least 5, got 128"),
    ({"resolution": 3}, "resolution must be an odd number of pixels, at least 5, got 3"),
    ({"resolution": 33.0}, "resolution must be an odd number"),
    ({"method": "clever"}, r"method must be one of \['adaptive', 'dense'\], got 'clever'"),
    ({"precision": "half"}, "precision must be 'auto' or one of"),
    ({"coarse": 0}, "coarse must be a whole number of pixels, at least 1, got 0"),
    ({"keep": ("logits",)}, r"keep must hold any of \['margin', 'probability', 'planes'\], got \['logits'\]"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS)
def test_unusable_settings_are_refused(settings: dict, message: str) -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    planes = bg.random_planes(images(2), torch.arange(2))
    with pytest.raises(ValueError, match=message):
        bg.boundary_maps(clf, planes, **({"extent": 0.1, "resolution": 33} | settings))


def test_no_planes_and_labels_beyond_the_classes_are_refused() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    planes = bg.random_planes(images(2), torch.tensor([0, 9]))
    with pytest.raises(ValueError, match=r"planes.labels must be in \[0, 5\)"):
        bg.boundary_maps(clf, planes, extent=0.1)
    with pytest.raises(ValueError, match="planes must hold at least one plane"):
        bg.boundary_maps(clf, planes.select(torch.tensor([], dtype=torch.int64)), extent=0.1)


@pytest.mark.filterwarnings("ignore:.*seems to return probabilities")
def test_nan_away_from_the_examples_is_an_error_and_not_a_label() -> None:
    class Cliff(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x[:, :1], 1 - x[:, :1]], 1) / (x[:, :1] < 0.6)

    with pytest.raises(ValueError, match="finite logits, got NaN"):
        bg.boundary_maps(bg.Classifier(Cliff()), planes_along(*axes(), torch.tensor([0])), extent=0.4, method="dense")


def test_coarse_grid_is_symmetric_and_holds_centre_and_ends() -> None:
    for resolution, stride in ((129, 8), (51, 8), (5, 2), (33, 16), (9, 1)):
        ticks = coarse_ticks(resolution, stride)
        assert torch.equal(ticks, resolution - 1 - ticks.flip(0))
        assert {0, resolution // 2, resolution - 1} <= set(ticks.tolist())
        assert ticks.diff().max() <= stride


def test_coarse_grid_of_an_even_number_of_rows_holds_both_ends() -> None:
    for resolution, stride in ((50, 7), (50, 8), (50, 3), (50, 49), (50, 100), (8, 1)):
        ticks = coarse_ticks(resolution, stride)
        assert (ticks[0], ticks[-1]) == (0, resolution - 1)
        assert 1 <= ticks.diff().min() <= ticks.diff().max() <= stride
        assert ticks.diff().max() - ticks.diff().min() <= 1
    assert torch.equal(coarse_ticks(50, 7), torch.arange(0, 50, 7))


@pytest.mark.parametrize("method", METHODS)
def test_planes_through_three_examples_may_have_no_middle_pixel(method: str) -> None:
    net = SmallNet().eval()
    with torch.no_grad():
        net.head.bias -= net(images(6)).mean(0)  # without which almost all points are of one class
    clf = bg.Classifier(net, device="cpu")
    planes = bg.planes_through(*(images(6, seed=seed) for seed in range(3)))
    planes.valid[1] = False
    maps = bg.boundary_maps(clf, planes, resolution=20, clip=False, method=method, coarse=3)
    assert maps.labels.shape == (6, 20, 20)
    valid = planes.valid
    expected = plain_map(clf.module, planes, torch.linspace(-1, 1, 20), None)
    assert torch.equal(maps.labels[valid], expected[valid].to(torch.int16))
    assert len(expected[valid].unique()) > 1
    assert torch.equal(maps.center_labels[valid], clf.predict(planes.origin[valid].clamp(0, 1)))
    assert (maps.labels[1] == maps.center_labels[1]).all()
    with pytest.raises(ValueError, match="resolution must be a whole number of pixels, at least 5, got 4"):
        bg.boundary_maps(clf, planes, resolution=4)


def test_the_centre_label_of_an_even_map_is_that_of_the_origin_itself() -> None:
    # A thin region around the origin that no pixel falls into.
    class Thin(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            far = (x[:, :1] - 0.5).abs() - 0.01
            return torch.cat([far, -far], 1)

    x1, x2, x3 = (torch.tensor([point]) for point in ([0.1, 0.1], [0.9, 0.1], [0.5, 0.9]))
    planes = bg.planes_through(x1, x2, x3)
    maps = bg.boundary_maps(bg.Classifier(Thin()), planes, resolution=10, method="dense")
    assert (maps.labels == 0).all()
    assert maps.center_labels.tolist() == [1]
    # The same, where clipping moves the origin into the thin region.
    planes.origin[:, 0] = -0.3
    for clip in (True, False):
        clf = bg.Classifier(Thin(), bounds=(0.5, 1.5))
        assert bg.boundary_maps(clf, planes, resolution=10, clip=clip).center_labels.tolist() == [int(clip)]


def test_interpolation_is_exact_at_the_ticks_and_for_cubics() -> None:
    ticks = coarse_ticks(51, 8)
    matrix = interpolation_matrix(51, ticks).double()
    rows = torch.linspace(-1, 1, 51, dtype=torch.float64)
    for power in range(4):
        torch.testing.assert_close(matrix @ rows[ticks] ** power, rows**power, rtol=0, atol=1e-5)


def test_guessed_labels_and_gaps_are_those_of_the_interpolated_logits() -> None:
    coarse = torch.randn(5, 5, 4, generator=torch.Generator().manual_seed(0))
    spread = interpolation_matrix(20, coarse_ticks(20, 5))
    labels, gaps = guess(coarse, spread)
    assert len(labels.unique()) == 4
    for row in range(20):
        for col in range(20):
            logits = sum(spread[row, i] * spread[col, j] * coarse[i, j] for i in range(5) for j in range(5))
            first, second = torch.as_tensor(logits).sort(descending=True).values[:2]
            assert labels[row, col] == torch.as_tensor(logits).argmax()
            torch.testing.assert_close(gaps[row, col], first - second, rtol=1e-4, atol=1e-5)


def test_changes_against_a_loop() -> None:
    labels = torch.randint(0, 2, (2, 6, 7), generator=torch.Generator().manual_seed(0))
    found = changes(labels)
    for plane in range(2):
        for row in range(6):
            for col in range(7):
                around = [(row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)]
                differs = any(
                    labels[plane, r, c] != labels[plane, row, col] for r, c in around if 0 <= r < 6 and 0 <= c < 7
                )
                assert bool(found[plane, row, col]) == differs


@pytest.mark.parametrize("clip", [True, False])
def test_kept_planes_give_the_inputs_that_were_labelled(clip: bool, tmp_path: Path) -> None:
    net = SmallNet().eval()
    clf = bg.Classifier(net, device="cpu")
    planes = bg.fgsm_random_planes(clf, images(2), clf.predict(images(2)))
    settings = {"extent": 1.0, "resolution": 17, "method": "dense", "precision": "float32", "clip": clip}
    maps = bg.load(bg.boundary_maps(clf, planes, keep=["planes"], **settings).save(tmp_path / "maps.zarr"))
    assert isinstance(maps, bg.BoundaryMaps)
    rows, cols = torch.arange(17).repeat_interleave(17), torch.arange(17).repeat(17)
    assert not torch.equal(maps.labels, maps.labels.mT)  # rows and columns are not the same here
    for example in range(2):
        inputs = maps.inputs(example, rows, cols)
        assert bool(inputs.amax() > 1) is not clip
        assert torch.equal(net(inputs).argmax(1).view(17, 17), maps.labels[example].long())
    with pytest.raises(ValueError, match="maps were made without their planes"):
        bg.boundary_maps(clf, planes, **settings).inputs(0, rows, cols)
