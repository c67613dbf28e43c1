"""Classifiers and examples from command-line words."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.cli.libraries import LIBRARIES
from boundarygeo.cli.models import Model, load_models
from boundarygeo.cli.options import StudyOptions
from boundarygeo.cli.words import numbers
from boundarygeo.directions import named_directions
from boundarygeo.zoo import Dataset, load_data
from boundarygeo.zoo.classes import ClassMatch, check_same_classes, match_classes
from boundarygeo.zoo.images import LazyImages, fingerprint

AT_ONCE = 1000  # examples evaluated together
_SAME = 0.5 / 255  # largest difference of pixels of the same image


class Rows:
    """Some examples of a split, copied or read on access."""

    def __init__(self, x: Tensor | LazyImages, index: Tensor) -> None:
        self._x, self._index = x, index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, rows: slice) -> Tensor:
        return self._x[self._index[rows]]

    def first(self, count: int) -> "Rows":
        """The first few."""
        return Rows(self._x, self._index[:count])


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples drawn from a test split: slices of `inputs` are float32 `[example, channel, row, col]`, in [0, 1].

    `index` is their positions in the split, `accuracy` the share that the classifier gets right of those `looked_at`.
    """

    inputs: Rows
    y: Tensor
    index: Tensor
    accuracy: float
    looked_at: int

    @property
    def x(self) -> Tensor:
        """All images."""
        return self.inputs[:]

    def first(self, count: int) -> "Examples":
        """The first few, or all if there are fewer."""
        rows = slice(count)
        return replace(self, inputs=self.inputs.first(count), y=self.y[rows], index=self.index[rows])


@dataclass(frozen=True, eq=False)
class Study:
    """Starting point of every analysis command: the data has the classifiers' class numbers and names."""

    data: Dataset
    classifiers: list[Classifier]
    names: list[str]
    examples: Examples
    class_names: tuple[str, ...]


def open_study(options: StudyOptions, *, correct_only: bool) -> Study:
    """Data, classifiers and examples given by the options."""
    models = load_models(options.entries, weights=options.weights or [], classes=options.classes or [])
    dataset = load_images(options.data, models, resize=options.resize, size=options.size)
    classifiers = [
        make_classifier(model, mean=options.mean, std=options.std, bounds=options.bounds, device=options.device)
        for model in models
    ]
    dataset = with_classes(dataset, models, classifiers)
    drawn = draw_examples(classifiers[0], dataset, options.examples, correct_only=correct_only, seed=options.seed)
    return Study(dataset, classifiers, options.names, drawn, dataset.class_names)


def load_images(spec: str, models: Sequence[Model], *, resize: int | None, size: int | None) -> Dataset:
    """The data set of `--data`; images of a folder are prepared for the models."""
    if not spec.startswith("folder:"):
        return load_data(spec, resize=resize, size=size)
    if resize is None and size is None and (able := [model for model in models if model.prepare is not None]):
        return _prepared(spec, able)
    channels = {model.channels for model in models if model.channels is not None}
    return load_data(spec, resize=resize, size=size, channels=channels.pop() if len(channels) == 1 else None)


def _prepared(spec: str, models: Sequence[Model]) -> Dataset:
    """The images of a folder as the models prepare them; raises if they differ."""
    ways: dict[str, Model] = {}  # the first model that prepares images in each way
    for model in models:
        assert model.prepare is not None
        ways.setdefault(fingerprint(model.prepare), model)
    (chosen, data), *others = ((model, load_data(spec, prepare=model.prepare)) for model in ways.values())
    own = data.test.x[:1]
    for model, other in others:
        theirs = other.test.x[:1]
        if theirs.shape != own.shape or not torch.allclose(theirs, own, rtol=0, atol=_SAME):
            words = " and ".join(
                f"{one.word} ({'x'.join(map(str, images.shape[1:]))}, by {one.source})"
                for one, images in ((chosen, own), (model, theirs))
            )
            raise ValueError(f"--size (and --resize) must be given for models that prepare photos differently: {words}")
    return data


def make_classifier(model: Model, *, mean: str | None, std: str | None, bounds: str, device: str) -> Classifier:
    """The classifier of a model."""
    limits = numbers(bounds, "--bounds")
    if limits is None or len(limits) != 2:
        raise ValueError(f"--bounds must be two numbers LOW,HIGH, got {bounds!r}")
    means, stds = numbers(mean, "--mean") or model.mean, numbers(std, "--std") or model.std
    if model.word.partition(":")[0] in LIBRARIES and not model.source and means is None and stds is None:
        warnings.warn(f"no --mean and --std for {model.word}: its inputs are not normalised", stacklevel=2)
    clf = Classifier(model.module, bounds=(limits[0], limits[1]), mean=means, std=stds, device=device)
    clf.source = model.source
    return clf


def with_classes(data: Dataset, models: Sequence[Model], classifiers: Sequence[Classifier]) -> Dataset:
    """The data with labels as the models' class numbers, and with the models' names."""
    matches = []
    for model, clf in zip(models, classifiers, strict=True):
        outputs = _count_classes(clf, model.word, data)
        try:
            matches.append(match_classes(data.class_names, model.class_names, outputs))
        except ValueError as error:
            raise ValueError(
                f"classes of --data must be those of {model.word}: {error}; "
                "rename the data's folders, or say what the outputs are with --classes FILE, one name a line"
            ) from error
    _check_same(models, matches)
    first = next((match for model, match in zip(models, matches, strict=True) if model.class_names), matches[0])
    return numbered_as(data, first)


def numbered_as(data: Dataset, match: ClassMatch) -> Dataset:
    """The data with a model's class numbers and names."""
    if match.by_number and not data.name.startswith("npz:"):  # whose labels are always numbers
        one, number = data.class_names[-1], match.numbers[-1]
        warnings.warn(
            f"names of the data's classes are numbers, taken for those of the outputs: {one!r} is class {number}, "
            f"{match.names[number]!r}",
            stacklevel=2,
        )
    places = torch.tensor(match.numbers)
    return replace(
        data,
        test=replace(data.test, y=places[data.test.y]),
        class_names=match.names,
        read_train=lambda: replace(data.train, y=places[data.train.y]),
    )


def _check_same(models: Sequence[Model], matches: Sequence[ClassMatch]) -> None:
    """Raise if the models' outputs are known not to be the same classes in the same order."""
    check_same_classes(
        {model.word: match.names for model, match in zip(models, matches, strict=True) if model.class_names}
    )
    for model, match in zip(models, matches, strict=True):
        if len(match.names) != len(matches[0].names):
            raise ValueError(
                f"models must have the same classes, got {len(matches[0].names)} classes of {models[0].word} and "
                f"{len(match.names)} of {model.word}"
            )
        if match.numbers != matches[0].numbers:
            raise ValueError(
                f"models must have the same classes in the same order, and the outputs of {models[0].word} and "
                f"{model.word} do not correspond: say what they are with --classes FILE, one name a line"
            )


def _count_classes(clf: Classifier, model: str, data: Dataset) -> int:
    """Number of a model's classes; raises a readable error if the model does not accept the data's inputs."""
    try:
        return clf.logits(data.test.x[:2]).shape[1]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        shape, reason = list(data.test.x.shape[1:]), str(error).splitlines()[0]
        raise ValueError(f"--model must take inputs of the shape {shape} of --data, got {model!r}: {reason}") from error


def draw_examples(clf: Classifier, data: Dataset, count: int, *, correct_only: bool, seed: int) -> Examples:
    """Examples of the test split in a random order determined by the seed."""
    if count < 1:
        raise ValueError(f"--examples must be at least 1, got {count}")
    order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(seed))
    taken: list[Tensor] = []
    found = right = looked_at = 0
    while found < count and looked_at < len(order):
        part = order[looked_at : looked_at + min(count, AT_ONCE)]
        correct = clf.predict(data.test.x[part]) == data.test.y[part]
        taken.append(part[correct] if correct_only else part)
        found += len(taken[-1])
        right += int(correct.sum())
        looked_at += len(part)
    index = torch.cat(taken)[:count]
    if not len(index):
        raise ValueError(
            f"the model classifies none of the {looked_at} examples of --data correctly: check the order "
            "of its classes, its weights and its normalisation"
        )
    if len(index) < count:
        kind = "correctly classified " if correct_only else ""
        warnings.warn(
            f"only {len(index)} of the {count} {kind}examples asked for are there: using {len(index)}", stacklevel=2
        )
    return Examples(Rows(data.test.x, index), data.test.y[index], index, right / looked_at, looked_at)


def check_directions(study: Study, names: Sequence[str], *, seed: int) -> None:
    """Raise if no example has the direction."""
    some = study.examples.first(AT_ONCE)
    for clf in study.classifiers:
        for name in names:
            along = named_directions(clf, some.x, some.y, name, seed=seed, index=some.index)
            if not bool(along.vectors.any()):
                raise ValueError(
                    f"--direction {name} does not exist: the gradient is zero at all {len(some.y)} examples, whose "
                    "logits do not depend on the input"
                )
