import pytest
import torch
from torch import nn

import boundarygeo as bg
from boundarygeo.training import NonRobustSplit, non_robust_dataset, train
from boundarygeo.zoo import Split, build_model, load_data

pytestmark = pytest.mark.usefixtures("one_thread")


def linear(classes: int = 4) -> tuple[nn.Module, Split]:
    """Class k is told by pixel k: an L2 perturbation that moves two pixels suffices."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(6, classes, bias=False))
    with torch.no_grad():
        module[1].weight.copy_(torch.eye(classes, 6))
    y = torch.arange(40) % classes
    x = torch.full((40, 1, 2, 3), 0.4)
    x.view(40, 6)[torch.arange(40), y] = 0.6
    return module, Split(x, y)


def test_next_targets_are_reached_and_become_the_labels() -> None:
    module, split = linear()
    clf = bg.Classifier(module, device="cpu")
    made = non_robust_dataset(clf, split, targets="next", eps=0.3, steps=20, progress=False)
    assert isinstance(made, NonRobustSplit)
    assert isinstance(made, Split)
    assert torch.equal(made.y, (split.y + 1) % 4)
    assert torch.equal(made.true, split.y)
    assert made.found.all()
    assert torch.equal(clf.predict(made.x), made.y)
    moved = (made.x - split.x).flatten(1)
    assert (moved.norm(dim=1) <= 0.3 * (1 + 1e-5)).all()
    # The margin between true and target class is 0.2: its gradient has two pixels, and the search goes on behind it.
    rows = torch.arange(40)
    assert (moved[rows, made.y] > 0.1).all()
    assert (moved[rows, split.y] < -0.09).all()
    assert "found" not in repr(made)


def test_random_targets_are_uniform_among_all_classes() -> None:
    module, split = linear()
    many = Split(split.x.repeat(25, 1, 1, 1), split.y.repeat(25))
    clf = bg.Classifier(module, device="cpu")
    made = non_robust_dataset(clf, many, eps=0.3, steps=5, seed=3, progress=False)
    pairs = torch.bincount(made.true * 4 + made.y, minlength=16)
    assert (pairs - 62.5).abs().max() < 5 * 62.5**0.5  # also the true class itself
    unmoved = made.y == many.y
    assert torch.equal(made.x[unmoved], many.x[unmoved])
    again = non_robust_dataset(clf, many, eps=0.3, steps=5, seed=3, progress=False)
    assert torch.equal(again.x, made.x)
    assert torch.equal(again.y, made.y)
    assert not torch.equal(non_robust_dataset(clf, many, eps=0.3, steps=1, seed=4, progress=False).y, made.y)


def test_failures_are_labelled_as_their_targets_and_marked() -> None:
    module, split = linear()
    made = non_robust_dataset(bg.Classifier(module, device="cpu"), split, targets="next", eps=0.05, progress=False)
    assert not made.found.any()
    assert torch.equal(made.y, (split.y + 1) % 4)


def test_bad_arguments() -> None:
    module, split = linear()
    clf = bg.Classifier(module, device="cpu")
    with pytest.raises(ValueError, match=r"targets must be one of \['random', 'next'\], got 'last'"):
        non_robust_dataset(clf, split, targets="last", eps=0.1)
    with pytest.raises(ValueError, match="eps must be a finite number >= 0"):
        non_robust_dataset(clf, split, eps=-0.1)
    with pytest.raises(ValueError, match="y must be"):
        non_robust_dataset(clf, Split(split.x, split.y + 1), eps=0.1)


@pytest.mark.parametrize("targets", ["random", "next"])
def test_training_on_digits_that_look_mislabelled_generalises(targets: str) -> None:
    data = load_data("mnist5k", limit=1500)
    settings = {"epochs": 4, "mean": data.mean, "std": data.std, "device": "cpu", "progress": False, "test": data.test}
    module = build_model("mlp", num_classes=10, input_shape=data.input_shape)
    train(module, data.train, **settings)
    clf = bg.Classifier(module, mean=data.mean, std=data.std, device="cpu")
    made = non_robust_dataset(clf, data.train, targets=targets, eps=4.0, steps=20, progress=False)
    assert made.found.float().mean() > 0.85
    other = build_model("mlp", num_classes=10, input_shape=data.input_shape, seed=1)
    result = train(other, made, **settings)
    # By chance it is right on a tenth, and following what a person sees on none with the next class as label.
    assert result.test_accuracy[-1] > {"random": 0.6, "next": 0.25}[targets]
