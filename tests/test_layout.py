"""Flat rows against inputs normalised the plain way, and the frames that are put together in them."""

import pytest
import torch
from oracles import SmallNet, images
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.layout import FlatInputs
from boundarygeo.subspace.frames.gaas import GaasFrames
from boundarygeo.subspace.frames.jobs import Frames, rows_of
from boundarygeo.subspace.frames.partition import PartitionFrames
from boundarygeo.subspace.frames.signs import SignFrames

SHAPES = {"flat": (12,), "sequence": (4, 6), "image": (3, 8, 8), "one_channel": (1, 5, 7), "volume": (2, 3, 4, 5)}
NORMALISATION = {"plain": {}, "scalar": {"mean": 0.4, "std": 0.3}}
CHANNELS = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.1)}


def classifier(shape: tuple[int, ...], **settings) -> bg.Classifier:
    return bg.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 2)), device="cpu", **settings)


@pytest.mark.parametrize("settings", NORMALISATION.values(), ids=NORMALISATION)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_points_and_axes_add_up_to_normalised_inputs(shape: tuple[int, ...], settings: dict) -> None:
    check_sums(classifier(shape, **settings), shape)


def test_channels_are_normalised_one_by_one() -> None:
    check_sums(classifier((3, 8, 8), **CHANNELS), (3, 8, 8))
    check_sums(classifier((3,), **CHANNELS), (3,))


def check_sums(clf: bg.Classifier, shape: tuple[int, ...]) -> None:
    x, v = images(5, shape=shape), images(5, seed=1, shape=shape) - 0.5
    layout = FlatInputs(clf, torch.Size(shape))
    point, axis = layout.points(x), layout.axes(v)
    assert point.shape == axis.shape == (5, x[0].numel())
    assert torch.equal(layout.inputs(point), clf.normalise(x))
    torch.testing.assert_close(layout.inputs(point + 3 * axis), clf.normalise(x + 3 * v), rtol=0, atol=1e-5)
    clipped = layout.clip_(point + 3 * axis)
    torch.testing.assert_close(layout.inputs(clipped), clf.normalise((x + 3 * v).clamp(0, 1)), rtol=0, atol=1e-5)
    assert not torch.allclose(clipped, point + 3 * axis)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_anything_can_be_brought_in_the_same_order(shape: tuple[int, ...]) -> None:
    layout = FlatInputs(classifier(shape, mean=0.4, std=0.3), torch.Size(shape))
    number = torch.arange(3 * torch.Size(shape).numel()).view(3, *shape)
    assert torch.equal(layout.inputs(layout.rearranged(number)), number)


def test_inputs_are_views_and_images_have_their_channels_last() -> None:
    for shape in SHAPES.values():
        layout = FlatInputs(classifier(shape), torch.Size(shape))
        rows = layout.points(images(2, shape=shape))
        assert layout.inputs(rows).data_ptr() == rows.data_ptr()
        if len(shape) == 3:
            assert layout.inputs(rows).is_contiguous(memory_format=torch.channels_last)


FAMILIES = {
    "gaas_ignore": lambda *args: GaasFrames(*args, eps=0.8, largest=40, clip=False, seed=1, draw=1),
    "gaas_clip": lambda *args: GaasFrames(*args, eps=0.8, largest=40, clip=True, seed=1, draw=1),
    "partition": lambda *args: PartitionFrames(*args, eps=0.8, seed=1, draw=1, index=torch.arange(4)),
    "signs_ignore": lambda *args: SignFrames(*args, eps=0.1, box="ignore", seed=1, draw=1, index=torch.arange(4)),
    "signs_clip": lambda *args: SignFrames(*args, eps=0.1, box="clip", seed=1, draw=1, index=torch.arange(4)),
    "signs_feasible": lambda *args: SignFrames(*args, eps=0.1, box="feasible", seed=1, draw=1, index=torch.arange(4)),
}


def jobs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Jobs of mixed sizes, examples twice and out of order; example, size, job, row."""
    example, size = torch.tensor([2, 0, 2, 3, 1]), torch.tensor([4, 16, 36, 1, 4])
    return example, size, *rows_of(size)


@pytest.mark.parametrize("settings", [{}, CHANNELS], ids=["plain", "channels"])
@pytest.mark.parametrize("family", FAMILIES)
def test_frames_make_the_points_that_they_report(family: str, settings: dict) -> None:
    clf = bg.Classifier(SmallNet(), device="cpu", **settings)
    x = ((images(4) - 0.5) * 2 + 0.5).clamp(0, 1)
    assert (x == 0).sum() > 20
    frames = FAMILIES[family](clf, x, clf.input_gradient(x, clf.predict(x)))
    check_points(clf, x, frames)


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_of_flat_inputs_make_the_points_that_they_report(family: str) -> None:
    clf = classifier((50,), mean=0.4, std=0.3)
    x = images(4, shape=(50,))
    frames = FAMILIES[family](clf, x, images(4, seed=2, shape=(50,)) - 0.5)
    check_points(clf, x, frames)


def check_points(clf: bg.Classifier, x: Tensor, frames: Frames) -> None:
    example, size, job, row = jobs()
    make = frames.points(example, size, job, row)
    delta = frames.perturbations(example, size, job, row)
    assert delta.dtype == torch.float32
    assert delta.shape == (len(job), *x.shape[1:])
    expected = clf.normalise(x[example[job]] + delta)
    made = torch.cat([make(0, 7), make(7, 8), make(8, len(job))])  # batches may begin and end inside a frame
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)
    assert (delta.flatten(1).abs().amax(1) > 0).float().mean() > 0.9
