"""From the words of the command line to classifiers and examples."""

import importlib
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from boundarygeo.classifier import Classifier
from boundarygeo.cli.options import StudyOptions
from boundarygeo.cli.words import numbers
from boundarygeo.directions import Directions, named_directions
from boundarygeo.training import load_checkpoint
from boundarygeo.zoo import Dataset, load_data, load_weights

AT_ONCE = 1000  # examples looked at together, however many are asked for
MODEL_FORMS = (
    "a checkpoint that `boundarygeo train` wrote, package.module:factory (with --weights FILE), or torchvision:NAME"
)


class Rows:
    """Some examples of a split, copied when a range of them is asked for.

    Args:
        x: all inputs of the split, `[example, *input]`.
        index: which, int64 `[example]`.
    """

    def __init__(self, x: Tensor, index: Tensor) -> None:
        self._x, self._index = x, index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, rows: slice) -> Tensor:
        return self._x[self._index[rows]]

    def first(self, count: int) -> "Rows":
        """The first of them."""
        return Rows(self._x, self._index[:count])


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples drawn from a test split.

    Attributes:
        inputs: images in [0, 1]: slices of it are float32 `[example, channel, row, col]`.
        y: true classes, int64 `[example]`.
        index: their numbers in the split, int64 `[example]`.
        accuracy: share of the examples looked at that the classifier gets right.
        looked_at: how many that are.
    """

    inputs: Rows
    y: Tensor
    index: Tensor
    accuracy: float
    looked_at: int

    @property
    def x(self) -> Tensor:
        """All images at once."""
        return self.inputs[:]

    def first(self, count: int) -> "Examples":
        """The first of them, all if there are not so many."""
        rows = slice(count)
        return replace(self, inputs=self.inputs.first(count), y=self.y[rows], index=self.index[rows])


@dataclass(frozen=True, eq=False)
class Study:
    """What every analysis command starts from.

    Attributes:
        data: the data set.
        classifiers: one per `--model`.
        names: what figures call each of them.
        examples: examples drawn by the first classifier.
        class_names: names of the first classifier's classes.
    """

    data: Dataset
    classifiers: list[Classifier]
    names: list[str]
    examples: Examples
    class_names: tuple[str, ...]


def open_study(options: StudyOptions, *, correct_only: bool) -> Study:
    """Data, classifiers and examples, as the options say.

    Args:
        options: of the study.
        correct_only: whether to pass over examples that the first classifier gets wrong.

    Returns:
        The study.

    Raises:
        ValueError: if an option is not usable.
    """
    dataset = load_data(options.data)
    classifiers = load_classifiers(
        options.model,
        weights=options.weights or [],
        mean=options.mean,
        std=options.std,
        bounds=options.bounds,
        device=options.device,
        data=dataset,
    )
    drawn = draw_examples(classifiers[0], dataset, options.examples, correct_only=correct_only, seed=options.seed)
    return Study(dataset, classifiers, short_names(options.model), drawn, class_names(classifiers[0], dataset))


def short_names(models: Sequence[str]) -> list[str]:
    """What figures call the models: checkpoints by the name of their file, where that tells them apart.

    Args:
        models: values of `--model`.

    Returns:
        One name per model.

    Examples:
        >>> short_names(["nets.mlp:make", "torchvision:resnet18"])
        ['nets.mlp:make', 'torchvision:resnet18']
    """
    names = [Path(model).stem if Path(model).is_file() else model for model in models]
    return names if len(set(names)) == len(set(models)) else list(models)


def load_classifiers(
    models: Sequence[str],
    *,
    weights: Sequence[Path],
    mean: str | None,
    std: str | None,
    bounds: str,
    device: str,
    data: Dataset,
) -> list[Classifier]:
    """The classifiers that `--model` and its companions name.

    Args:
        models: values of `--model`.
        weights: state dicts, one for each model that is not a checkpoint, or none.
        mean: `--mean`; by default what a checkpoint says, for others nothing.
        std: `--std`, likewise.
        bounds: `--bounds`.
        device: `--device`.
        data: what they are to classify; their number of classes must fit.

    Returns:
        The classifiers, in order.

    Raises:
        ValueError: if a model cannot be found or read.
    """
    limits = numbers(bounds, "--bounds")
    if limits is None or len(limits) != 2:
        raise ValueError(f"--bounds must be two numbers LOW,HIGH, got {bounds!r}")
    bare = [model for model in models if not Path(model).is_file()]
    if weights and len(weights) != len(bare):
        raise ValueError(
            f"--weights must be given once per model without weights of its own ({len(bare)}), got {len(weights)}"
        )
    files = iter(weights or [None] * len(bare))
    classifiers = []
    for model in models:
        means, stds = numbers(mean, "--mean"), numbers(std, "--std")
        if Path(model).is_file():
            module, checkpoint = load_checkpoint(model)
            means = checkpoint.mean if means is None else means
            stds = checkpoint.std if stds is None else stds
        else:
            module = _bare_module(model, next(files))
        clf = Classifier(module, bounds=(limits[0], limits[1]), mean=means, std=stds, device=device)
        classes = _count_classes(clf, model, data)
        if classes < data.num_classes:
            raise ValueError(f"--model must have at least the {data.num_classes} classes of --data, got {classes}")
        classifiers.append(clf)
    return classifiers


def _count_classes(clf: Classifier, model: str, data: Dataset) -> int:
    """Number of a model's classes; a model that does not take the data's inputs is refused in words."""
    try:
        return clf.logits(data.test.x[:2]).shape[1]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        shape, reason = list(data.test.x.shape[1:]), str(error).splitlines()[0]
        raise ValueError(f"--model must take inputs of the shape {shape} of --data, got {model!r}: {reason}") from error


def draw_examples(clf: Classifier, data: Dataset, count: int, *, correct_only: bool, seed: int) -> Examples:
    """Examples of the test split in a random order that the seed decides.

    Args:
        clf: the classifier that sorts out what it gets wrong.
        data: where to draw from.
        count: how many to draw; with a warning, fewer where there are not so many.
        correct_only: whether to pass over examples that the classifier gets wrong.
        seed: decides the order.

    Returns:
        The examples, numbered by their place in the split.

    Raises:
        ValueError: if `count` is not positive or no example is left.
    """
    if count < 1:
        raise ValueError(f"--examples must be at least 1, got {count}")
    order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(seed))
    taken: list[Tensor] = []
    found = right = looked_at = 0
    while found < count and looked_at < len(order):
        part = order[looked_at : looked_at + min(max(count, 100), AT_ONCE)]
        correct = clf.predict(data.test.x[part]) == data.test.y[part]
        taken.append(part[correct] if correct_only else part)
        found += len(taken[-1])
        right += int(correct.sum())
        looked_at += len(part)
    index = torch.cat(taken)[:count]
    if not len(index):
        raise ValueError(f"--data must hold an example that the model classifies correctly, got none of {looked_at}")
    if len(index) < count:
        kind = "correctly classified " if correct_only else ""
        warnings.warn(
            f"only {len(index)} of the {count} {kind}examples asked for are there: using {len(index)}",
            stacklevel=2,
        )
    return Examples(Rows(data.test.x, index), data.test.y[index], index, right / looked_at, looked_at)


def directions_of(clf: Classifier, examples: Examples, name: str, *, seed: int) -> Directions:
    """Directions by name, refused where no example has one.

    Args:
        clf: the classifier.
        examples: where they start.
        name: `"fgsm"`, `"gradient"` or `"random"`.
        seed: seed of random directions.

    Returns:
        One direction per example; zero where a gradient is zero.

    Raises:
        ValueError: if all of them are zero.
    """
    along = named_directions(clf, examples.x, examples.y, name, seed=seed, index=examples.index)
    if not bool(along.vectors.any()):
        raise ValueError(
            f"--direction must exist for some example, got a gradient of zero for all {len(examples.x)}: "
            "the logits do not depend on the input there"
        )
    return along


def class_names(clf: Classifier, data: Dataset) -> tuple[str, ...]:
    """Names of all the classifier's classes, numbers where the data does not name them."""
    unnamed = range(data.num_classes, clf.num_classes or data.num_classes)
    return (*data.class_names, *(str(number) for number in unnamed))


def _bare_module(model: str, weights: Path | None) -> nn.Module:
    """A module that a factory or torchvision makes, with the weights of a file."""
    if model.startswith("torchvision:"):
        module = _from_torchvision(model.removeprefix("torchvision:"), weights)
    elif re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", model):
        module = _from_factory(model)
        if weights is None:
            warnings.warn(f"no --weights for {model}: its parameters are what the factory left", stacklevel=2)
    else:
        raise ValueError(f"--model must be {MODEL_FORMS}, got {model!r}")
    if weights is not None:
        load_weights(module, weights)
    return module


def _from_factory(model: str) -> nn.Module:
    name, _, attribute = model.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # the user's own files, as for `python -m`
    try:
        factory = importlib.import_module(name)
        for part in attribute.split("."):
            factory = getattr(factory, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--model must name a factory that can be imported, got {model!r}: {error}") from error
    module = factory() if callable(factory) and not isinstance(factory, nn.Module) else factory
    if not isinstance(module, nn.Module):
        raise ValueError(f"--model must give a torch.nn.Module, got {type(module).__name__} from {model!r}")
    return module


def _from_torchvision(name: str, weights: Path | None) -> nn.Module:
    from torchvision import models  # slow to import, and rarely needed

    try:
        return models.get_model(name, weights=None if weights is not None else "DEFAULT")
    except ValueError as error:
        raise ValueError(f"--model must name a model of torchvision, got {name!r}: {error}") from error
    except OSError as error:
        raise ValueError(
            f"weights of torchvision:{name} could not be downloaded ({error}): pass --weights FILE"
        ) from error
