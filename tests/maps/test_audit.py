"""How much maps may have missed: islands planted where no pixel sees them, of known area."""

import math
from dataclasses import replace

import pytest
import torch
from oracles import Linear, SmallNet, Sphere, images, no_labels, planes_along
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.directions import generator_of
from boundarygeo.maps.audit import _points as points_of
from boundarygeo.maps.audit import upper_end

EXTENT = 0.2


class Island(nn.Module):
    """Class 1 in a disc around (1/2, 1/2), class 0 elsewhere; logits ±1 without a hint of the boundary."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = radius
        self.slope = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        inside = ((x - 0.5).square().sum(1, keepdim=True) < self.radius**2).float()
        score = 2 * inside - 1 + self.slope * x.sum(1, keepdim=True)
        return torch.cat([-score, score], 1)


def squares(count: int, seed: int = 0) -> bg.Planes:
    """Squares of half-width 0.2 that contain the disc, somewhere."""
    generator = torch.Generator().manual_seed(seed)
    origin = 0.5 + 0.3 * (torch.rand(count, 2, generator=generator) - 0.5)
    u, v = torch.eye(2)
    return planes_along(origin, u.expand(count, 2), v.expand(count, 2), torch.zeros(count, dtype=torch.int64))


def test_the_bound_holds_for_islands_that_maps_do_not_show() -> None:
    radius = 0.02
    clf, planes = bg.Classifier(Island(radius)), squares(300)
    maps = bg.boundary_maps(clf, planes, extent=EXTENT, resolution=9)  # the disc is smaller than a pixel's cell
    audit = bg.audit_maps(clf, maps, planes, points=500)
    unseen = (maps.labels == 0).all((1, 2))
    assert unseen.sum() > 20
    share = math.pi * radius**2 / (2 * EXTENT) ** 2
    missed = audit.missed[unseen].double()
    assert missed.mean() / 500 == pytest.approx(share, rel=0.15)
    assert (audit.missed_share[unseen] >= share).double().mean() >= 0.95 - 2 * math.sqrt(0.05 / int(unseen.sum()))
    assert (audit.near[unseen] == 0).all()
    assert share * float(unseen.double().mean()) < audit.missed_at_most() < 1.3 * share


def test_beside_a_boundary_that_is_drawn_nothing_is_missed() -> None:
    clf = bg.Classifier(Sphere(torch.tensor([0.5, 0.5]), 0.11))
    planes = planes_along(torch.full((1, 2), 0.5), torch.eye(2)[:1], torch.eye(2)[1:], torch.tensor([0]))
    maps = bg.boundary_maps(clf, planes, extent=EXTENT, resolution=33)
    audit = bg.audit_maps(clf, maps, planes, points=20_000)
    assert audit.missed.item() == 0
    assert audit.missed_share.item() == pytest.approx(1 - 0.05 ** (1 / 20_000))
    # Pixels are squares: about a quarter of a pixel along the circle is on the other side.
    along = 2 * math.pi * 0.11 * (2 * EXTENT / 32) / (2 * EXTENT) ** 2
    assert 0.1 * along < audit.near.item() / 20_000 < 0.4 * along


def test_a_wrong_map_is_found_out() -> None:

    clf, x = bg.Classifier(SmallNet()), images(3)
    planes = bg.random_planes(x, clf.predict(x))
    maps = bg.boundary_maps(clf, planes, extent=1.0, resolution=33)
    wrong = replace(maps, labels=(maps.labels + 1) % 5)
    good, bad = (bg.audit_maps(clf, each, planes, points=300) for each in (maps, wrong))
    assert (good.missed <= 3).all()
    assert (bad.missed > 150).all()
    # Rows and columns are not mixed up: a vertical boundary, drawn as a horizontal one.
    clf, planes = bg.Classifier(Linear(torch.tensor([1.0, 0.0]), 0.6)), squares(1)
    maps = bg.boundary_maps(clf, planes, extent=EXTENT, resolution=33)
    turned = replace(maps, labels=maps.labels.transpose(1, 2))
    counts = [int(bg.audit_maps(clf, each, planes, points=300).missed) for each in (maps, turned)]
    assert counts[0] == 0
    assert counts[1] > 50


def test_points_depend_on_seed_and_example_alone() -> None:
    clf, planes = bg.Classifier(Island(0.05)), squares(4)
    maps = bg.boundary_maps(clf, planes, extent=EXTENT, resolution=5)
    whole = bg.audit_maps(clf, maps, planes, points=200)

    few = replace(maps, labels=maps.labels[2:], index=maps.index[2:])
    part = bg.audit_maps(clf.with_batch_size(3), few, planes.select(torch.tensor([2, 3])), points=200)
    assert torch.equal(part.missed, whole.missed[2:])
    other = bg.audit_maps(clf, maps, planes, points=200, seed=1)
    assert not torch.equal(other.missed + other.near, whole.missed + whole.near)
    assert whole.provenance.forwards == 800


def test_points_are_drawn_from_other_numbers_than_random_axes() -> None:
    for axis in (0, 1):
        drawn = generator_of(0, 5, axis).uniform(-1, 1, (4, 2))
        assert not (torch.from_numpy(drawn) == points_of(torch.tensor([5]), 4, 1.0, 0)[0]).any()


def test_planes_that_do_not_exist_are_not_counted(tmp_path) -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight.T + torch.tensor([1.0, 0.0, 0.0])

    clf, x = bg.Classifier(Constant()), torch.full((2, 4), 0.5)
    with pytest.warns(UserWarning, match="exactly zero"):
        planes = bg.fgsm_random_planes(clf, x, no_labels(x))
    maps = bg.boundary_maps(clf, planes, extent=0.1, resolution=5)
    audit = bg.audit_maps(clf, maps, planes)
    assert not audit.valid.any()
    assert audit.missed_share.tolist() == [1, 1]
    assert math.isnan(audit.missed_at_most())
    assert torch.equal(bg.load(audit.save(tmp_path / "audit.zarr")).missed, audit.missed)


def test_other_planes_are_refused() -> None:
    clf, planes = bg.Classifier(Island(0.05)), squares(3)
    maps = bg.boundary_maps(clf, planes, extent=EXTENT, resolution=5)
    with pytest.raises(ValueError, match="planes must be those of the maps, 3 of kind 'by_hand' in the same order"):
        bg.audit_maps(clf, maps, planes.select(torch.tensor([0, 2, 1])))
    with pytest.raises(ValueError, match="points must be a whole number, at least 1, got 0"):
        bg.audit_maps(clf, maps, planes, points=0)


def test_upper_ends() -> None:
    assert upper_end(torch.tensor([0, 5, 10]), 10).tolist() == pytest.approx([1 - 0.05**0.1, 0.7775588989, 1.0])
