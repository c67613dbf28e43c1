"""From words to classifiers and examples."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from oracles import Linear
from torch import Tensor

import boundarygeo as bg
from boundarygeo.cli.models import load_models
from boundarygeo.cli.sources import Study, check_directions, draw_examples, make_classifier, with_classes
from boundarygeo.cli.study import ModelEntry
from boundarygeo.cli.words import short_names
from boundarygeo.training import Checkpoint, save_checkpoint
from boundarygeo.zoo import Dataset, build_model
from boundarygeo.zoo.data import Split


def dataset(x: Tensor, y: Tensor, classes: int = 2) -> Dataset:
    return Dataset(
        name="made",
        test=Split(x, y),
        class_names=tuple("abcdefgh"[:classes]),
        mean=(0.5,),
        std=(0.5,),
        read_train=lambda: Split(x, y),
    )


@pytest.fixture
def data() -> Dataset:
    """250 inputs, a fifth of which are labelled wrongly for `Linear(ones, 1.5)`."""
    x = torch.rand(250, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    y = (x.flatten(1).sum(1) > 1.5).long()
    y[::5] = 1 - y[::5]
    return dataset(x, y)


@pytest.fixture
def clf() -> bg.Classifier:
    return bg.Classifier(Linear(torch.ones(3), 1.5), device="cpu")


def test_drawn_examples_are_right_where_that_is_asked_for(data: Dataset, clf: bg.Classifier) -> None:
    drawn = draw_examples(clf, data, 150, correct_only=True, seed=0)
    assert len(drawn.x) == len(drawn.y) == len(drawn.index) == 150
    assert drawn.index.unique().numel() == 150
    assert torch.equal(drawn.x, data.test.x[drawn.index])
    assert torch.equal(drawn.y, data.test.y[drawn.index])
    assert torch.equal(clf.predict(drawn.x), drawn.y)
    assert not torch.equal(drawn.index, drawn.index.sort().values)
    assert drawn.looked_at == 250  # the first 150 do not hold 150 right ones
    assert drawn.accuracy == 0.8


def test_drawn_examples_are_the_first_of_an_order_that_the_seed_decides(data: Dataset, clf: bg.Classifier) -> None:
    many, few = (draw_examples(clf, data, count, correct_only=False, seed=3) for count in (60, 7))
    assert torch.equal(many.index[:7], few.index)
    assert not torch.equal(draw_examples(clf, data, 7, correct_only=False, seed=4).index, few.index)
    right = clf.predict(many.x) == many.y
    assert 0 < right.sum() < 60
    only = draw_examples(clf, data, 40, correct_only=True, seed=3)
    assert torch.equal(only.index, many.index[right][:40])
    assert few.looked_at == 7
    assert few.accuracy == float((clf.predict(few.x) == few.y).double().mean())


class Looked:
    """Inputs that remember which of them were asked for."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.seen, self.most = x, set[int](), 0

    def __getitem__(self, rows: Tensor) -> Tensor:
        self.seen |= set(rows.tolist())
        self.most = max(self.most, len(rows))
        return self.x[rows]


@pytest.mark.parametrize("count", [1, 10, 60])
def test_only_what_is_drawn_is_looked_at(count: int, data: Dataset, clf: bg.Classifier) -> None:
    looked: Any = Looked(data.test.x[:])
    lazily = dataset(looked, data.test.y)
    drawn = draw_examples(clf, lazily, count, correct_only=False, seed=3)
    assert looked.seen == set(drawn.index.tolist())
    assert torch.equal(drawn.inputs[2:5], data.test.x[drawn.index[2:5]])
    looked.seen.clear()
    right = draw_examples(clf, lazily, count, correct_only=True, seed=3)
    assert len(looked.seen) == right.looked_at < 2 * count + 5  # a fifth is labelled wrongly
    assert looked.most == count


def test_fewer_examples_than_asked_for_are_a_warning_and_none_an_error(data: Dataset, clf: bg.Classifier) -> None:
    with pytest.warns(UserWarning, match="only 200 of the 201 correctly classified examples asked for"):
        assert len(draw_examples(clf, data, 201, correct_only=True, seed=0).x) == 200
    with pytest.warns(UserWarning, match="only 250 of the 300 examples asked for"):
        assert len(draw_examples(clf, data, 300, correct_only=False, seed=0).x) == 250
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_examples(clf, data, 200, correct_only=True, seed=0)
    wrong = dataset(data.test.x[::5], data.test.y[::5])
    with pytest.raises(ValueError, match="classifies none of the 50 examples of --data correctly"):
        draw_examples(clf, wrong, 5, correct_only=True, seed=0)


SETTINGS: dict[str, Any] = {"mean": None, "std": None, "bounds": "0,1", "device": "cpu"}


def one_classifier(path: Path, **words: str) -> bg.Classifier:
    (model,) = load_models([ModelEntry(str(path))])
    return make_classifier(model, **(SETTINGS | words))


def images_data(classes: int = 2) -> Dataset:
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return dataset(x, torch.arange(4) % classes, classes)


def checkpoint(path: Path) -> Path:
    module = build_model("softmax_regression", num_classes=2, input_shape=(1, 8, 8), seed=0)
    saved = Checkpoint(
        architecture="softmax_regression",
        num_classes=2,
        input_shape=(1, 8, 8),
        mean=(0.25,),
        std=(0.125,),
        class_names=("a", "b"),
        data="made",
        method="standard",
        training=None,
    )
    return save_checkpoint(path, module, saved)


@pytest.mark.parametrize(
    ("words", "expected"), [({}, 2.0), ({"mean": "0"}, 4.0), ({"std": "1/4"}, 1.0), ({"mean": "0.5", "std": "1"}, 0.0)]
)
def test_a_checkpoint_knows_its_normalisation_unless_another_is_said(
    words: dict, expected: float, tmp_path: Path
) -> None:
    clf = one_classifier(checkpoint(tmp_path / "model.pt"), **words)
    assert clf.normalise(torch.full((1, 1, 8, 8), 0.5)).unique().tolist() == [expected]


def test_bounds_reach_the_classifier(tmp_path: Path) -> None:
    clf = one_classifier(checkpoint(tmp_path / "model.pt"), bounds="-1/2,3")
    assert clf.bounds == (-0.5, 3.0)


FACTORIES = "def flat():\n    from torch import nn\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))\n"


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "factories_of_sources.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    return "factories_of_sources:flat"


def test_weights_go_to_the_models_without_any_in_order(factory: str, tmp_path: Path) -> None:
    files = []
    for number in (1.0, 2.0):
        files.append(tmp_path / f"{number}.pt")
        torch.save({"1.weight": torch.full((2, 64), number), "1.bias": torch.zeros(2)}, files[-1])
    models = [factory, str(checkpoint(tmp_path / "model.pt")), factory]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_models([ModelEntry(word) for word in models], weights=files)
    assert [loaded[k].module.state_dict()["1.weight"][0, 0].item() for k in (0, 2)] == [1.0, 2.0]


def test_a_factory_without_weights_is_a_warning(factory: str) -> None:
    with pytest.warns(UserWarning, match="no --weights for factories_of_sources:flat"):
        load_models([ModelEntry(factory)])


def test_a_model_with_fewer_classes_than_the_data_is_refused(tmp_path: Path) -> None:
    models = load_models([ModelEntry(str(checkpoint(tmp_path / "model.pt")))])
    with pytest.raises(ValueError, match="the model has no class c .the data's classes: a, b, c; the model's: a, b"):
        with_classes(images_data(3), models, [make_classifier(models[0], **SETTINGS)])


def test_figures_call_checkpoints_by_their_file_where_that_tells_them_apart(tmp_path: Path) -> None:
    paths = []
    for name in ("a/one.pt", "a/two.pt", "b/one.pt"):
        paths.append(tmp_path / name)
        paths[-1].parent.mkdir(exist_ok=True)
        paths[-1].touch()
    first, second, third = map(str, paths)
    assert short_names([first, second, "nets:make"]) == ["one", "two", "nets:make"]
    assert short_names([first, third]) == [first, third]
    assert short_names([first, first]) == ["one", "one"]


@pytest.mark.filterwarnings("ignore:.*are exactly zero")
def test_directions_must_exist_for_some_example(data: Dataset, clf: bg.Classifier) -> None:
    drawn = draw_examples(clf, data, 5, correct_only=False, seed=0)
    flat = bg.Classifier(Linear(torch.zeros(3), 1.5), device="cpu")
    check_directions(Study(data, [clf], ["a"], drawn, ()), ["fgsm", "random"], seed=0)
    study = Study(data, [clf, flat], ["a", "b"], drawn, ())
    check_directions(study, ["random"], seed=0)
    with pytest.raises(ValueError, match="--direction fgsm does not exist: the gradient is zero at all 5 examples"):
        check_directions(study, ["random", "fgsm"], seed=0)
