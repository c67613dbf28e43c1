"""Every instrument takes a defended classifier, and attacks on it are adaptive or oblivious as one chooses."""

from collections.abc import Callable

import pytest
import torch
from balanced import balanced_net
from oracles import images
from torch import Tensor

import boundarygeo as bg

DEFENCES: dict[str, Callable[[bg.Classifier], bg.Classifier]] = {
    "mixup inference": lambda clf: bg.defences.with_mixup_inference(
        clf, images(30, seed=7), torch.arange(30) % 5, samples=6
    ),
    "smoothing": lambda clf: bg.defences.with_smoothing(clf, sigma=0.05, input_shape=(3, 8, 8), samples=8),
}

INSTRUMENTS: dict[str, Callable[[bg.Classifier, Tensor, Tensor], bg.Result]] = {
    "maps": lambda clf, x, y: bg.boundary_maps(clf, bg.fgsm_random_planes(clf, x, y), extent=0.1, resolution=9),
    "lines": lambda clf, x, y: bg.logit_lines(clf, x, y, extent=0.1, points=11),
    "distances": lambda clf, x, y: bg.boundary_distance(clf, x, y, direction="gradient", max_distance=3.0, scan=8),
    "accuracy": lambda clf, x, y: bg.accuracy_curve(clf, x, y, attack="pgd", eps=[0.0, 0.05], steps=3),
    "fgsm": lambda clf, x, y: bg.fgsm(clf, x, y, eps=0.05),
    "minimal norm": lambda clf, x, y: bg.minimal_norm(clf, x, y, steps=10),
    "dimension": lambda clf, x, y: bg.adversarial_dimension(clf, x, y, eps=2.0, max_dimension=8),
    "noise": lambda clf, x, y: bg.noise_success(clf, x, y, eps=0.5, draws=4),
    "segments": lambda clf, x, y: bg.segment_curves(clf, x, y, x.flip(0), y.flip(0), points=3),
    "transfer": lambda clf, x, y: bg.transfer_matrix(
        [bg.Classifier(balanced_net()), clf], x, y, attack="fgsm", eps=0.05
    ),
}


@pytest.mark.parametrize("defence", DEFENCES)
@pytest.mark.parametrize("instrument", INSTRUMENTS)
def test_every_instrument_takes_it(instrument: str, defence: str) -> None:
    clf = DEFENCES[defence](bg.Classifier(balanced_net()))
    x = images(5, seed=2)
    y = clf.predict(x)
    first, second = (INSTRUMENTS[instrument](clf, x, y).to_xarray() for _ in range(2))
    for name, values in first.variables.items():
        assert values.equals(second[name].variable), name


@pytest.mark.parametrize("defence", DEFENCES)
def test_maps_are_the_labels_of_every_pixel_by_itself(defence: str) -> None:
    clf = DEFENCES[defence](bg.Classifier(balanced_net()))
    x = images(2, seed=2)
    planes = bg.random_planes(x, clf.predict(x))
    maps = bg.boundary_maps(clf, planes, extent=0.2, resolution=9, method="dense", keep=["probability"])
    assert maps.probability is not None
    assert len(maps.labels.unique()) > 1
    for i in range(2):
        for row, b in enumerate(maps.v.tolist()):
            points = torch.stack([planes.origin[i] + a * planes.u[i] + b * planes.v[i] for a in maps.u.tolist()])
            chances = clf.module.eval()(points.clamp(0, 1)).exp().detach()
            assert torch.equal(chances.argmax(1).short(), maps.labels[i, row])
            true = chances[:, planes.labels[i]]  # type: ignore[index]
            torch.testing.assert_close(maps.probability[i, row], true, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("defence", DEFENCES)
def test_oblivious_and_adaptive_attacks(defence: str) -> None:
    bare = bg.Classifier(balanced_net())
    defended = DEFENCES[defence](bare)
    x = images(80, seed=4)
    y = bare.predict(x)
    settings = {"eps": 0.02, "norm": "linf", "steps": 8}
    oblivious = bg.pgd(bare, x, y, **settings).x_adv
    adaptive = bg.pgd(defended, x, y, **settings).x_adv
    standing = [int((defended.predict(attacked) == y).sum()) for attacked in (x, oblivious, adaptive)]
    assert standing[2] < standing[1] <= standing[0]
    matrix = bg.transfer_matrix([bare, defended], x, y, attack="pgd", eps=0.02, steps=8, early_stop=True)
    wrong = matrix.success[:, 1].sum(1)
    assert (80 - wrong).tolist() == [standing[1], standing[2]]


def test_another_module_in_the_same_place() -> None:
    clf = bg.Classifier(balanced_net(), bounds=(0, 2), mean=(0.1, 0.2, 0.3), std=0.5)
    other = clf.with_module(balanced_net(1))
    same = bg.Classifier(balanced_net(1), bounds=(0, 2), mean=(0.1, 0.2, 0.3), std=0.5)
    assert repr(other) == repr(same)
    x = images(4)
    assert torch.equal(other.logits(x), same.logits(x))
    assert bg.Classifier(balanced_net()).with_module(balanced_net()).bounds == (0.0, 1.0)
