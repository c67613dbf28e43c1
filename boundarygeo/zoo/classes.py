"""Correspondence between the classes of a data set and those of a model: by name, wherever there are names."""

import functools
import importlib.resources
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_ID = re.compile(r"n\d{8}\b")
_NUMBER = re.compile(r"[0-9]+")
_SHOWN = 8  # names of a list in a message
_SPELT_OTHERWISE = 20  # of ImageNet's names, by other libraries


@dataclass(frozen=True)
class ClassMatch:
    """The classes of a data set among those of a model.

    Attributes:
        numbers: for each class of the data, its number among the model's outputs.
        names: names of all the model's classes: its own, else the data's, else numbers.
        by_number: whether the data's names are numbers, and the model's words: only the numbers could be compared.
    """

    numbers: tuple[int, ...]
    names: tuple[str, ...]
    by_number: bool = False


def match_classes(data: Sequence[str], model: Sequence[str], outputs: int) -> ClassMatch:
    """Find each class of a data set among those of a model; the model may have more classes.

    - WordNet ids (`n01440764`) are matched with ids of the model: its names, or the beginnings of its names. A model of
      1,000 classes without names, or named as in torchvision, is assumed to have ImageNet's ids in sorted order.
    - Numbers are matched by value if the model's names are numbers, too; otherwise they are numbers of its outputs.
    - Other names are matched exactly, or else ignoring case, spaces, underscores and hyphens.
    - If the model's classes have no names, and it has as many classes as the data, the data's order is assumed.

    Examples:
        >>> match_classes(["cat", "dog"], ["ant", "bee", "Cat", "Dog"], 4).numbers
        (2, 3)
        >>> match_classes(["0", "1", "10"], (), 12).numbers
        (0, 1, 10)
    """
    if model and len(model) != outputs:
        raise ValueError(f"the model has {outputs} outputs, but names of {len(model)} classes: {_listed(model)}")
    if all(_ID.fullmatch(name) for name in data) and (ids := _wordnet_ids(model, outputs)):
        return ClassMatch(_look_up(data, ids), tuple(model or ids))
    if are_numbers(data):
        own = model if are_numbers(model) else range(outputs)
        numbers = _look_up([str(int(name)) for name in data], [str(int(name)) for name in own])
        return ClassMatch(numbers, tuple(model) or tuple(map(str, own)), by_number=own is not model and bool(model))
    if not model:
        if len(data) != outputs:
            raise ValueError(
                f"the data has {len(data)} classes ({_listed(data)}), the model has {outputs} classes without names: "
                "give the model's class names"
            )
        return ClassMatch(tuple(range(outputs)), tuple(data))
    return ClassMatch(_look_up(data, model), tuple(model))


def check_same_classes(names: Mapping[str, Sequence[str]]) -> None:
    """Raise if models do not have the same classes in the same order, naming the first difference."""
    (first, its), *others = list(names.items()) or [("", ())]
    for other, theirs in others:
        if _all_plain(theirs) == _all_plain(its):
            continue
        if sorted(_all_plain(theirs)) == sorted(_all_plain(its)):
            what = "the same classes in the same order"
        else:
            what = "the same classes"
        places = [
            k for k, pair in enumerate(zip(_all_plain(its), _all_plain(theirs), strict=False)) if len(set(pair)) > 1
        ]
        where = f"; class {places[0]} is {its[places[0]]!r} and {theirs[places[0]]!r}" if places else ""
        raise ValueError(
            f"models must have {what}: {first} has {len(its)}, {_listed(its)}, and {other} has {len(theirs)}, "
            f"{_listed(theirs)}{where}"
        )


def usual_names(names: Sequence[str]) -> tuple[str, ...]:
    """A model's names; torchvision's for ImageNet's classes, of which other libraries list synonyms and differ on two.

    So models of several libraries are known to have the same classes, and WordNet ids are known.
    """
    if len(names) != len(imagenet_ids()):
        return tuple(names)
    usual = _imagenet_names()
    firsts = _all_plain([name.partition(",")[0] for name in names])
    differing = sum(first != own for first, own in zip(firsts, _all_plain(usual), strict=True))
    return tuple(usual if differing <= _SPELT_OTHERWISE else names)


def are_numbers(names: Sequence[str]) -> bool:
    """Whether there are names and all are numbers."""
    return bool(names) and all(_NUMBER.fullmatch(name) for name in names)


@functools.cache
def imagenet_ids() -> tuple[str, ...]:
    """WordNet ids of ImageNet's 1,000 classes, sorted: the usual order of a network's outputs."""
    return tuple(importlib.resources.files("boundarygeo.zoo").joinpath("imagenet_ids.txt").read_text("utf-8").split())


def _wordnet_ids(names: Sequence[str], outputs: int) -> Sequence[str]:
    """Ids of a model's classes, or empty."""
    own = [found[0] for name in names if (found := _ID.match(name))]
    if names and len(own) == len(names):
        return own
    usual = imagenet_ids()
    return usual if outputs == len(usual) and (not names or _all_plain(names) == _all_plain(_imagenet_names())) else ()


def _imagenet_names() -> list[str]:
    from torchvision.models import ResNet18_Weights  # slow to import

    return ResNet18_Weights.DEFAULT.meta["categories"]


def _look_up(data: Sequence[str], model: Sequence[str]) -> tuple[int, ...]:
    """Position of each of the data's names among the model's; raises if one is missing or ambiguous."""
    exactly = _places(model)
    loosely = _places([_plain(name) for name in model])
    times = Counter(map(_plain, data))
    unknown, numbers = [], []
    for name in data:
        # Data names that differ only in case are different classes, neither of which matches a third spelling.
        places = exactly.get(name) or (loosely.get(_plain(name), []) if times[_plain(name)] == 1 else [])
        if len(places) > 1:
            raise ValueError(
                f"class {name!r} of the data matches several of the model's classes, {', '.join(map(str, places))}: "
                "name the data's classes by number"
            )
        unknown += [] if places else [name]
        numbers += places
    if unknown:
        raise ValueError(
            f"the model has no class {_listed(unknown)} (the data's classes: {_listed(data)}; "
            f"the model's: {_listed(model)})"
        )
    found = Counter(numbers)
    if twice := [name for name, number in zip(data, numbers, strict=True) if found[number] > 1]:
        raise ValueError(f"classes {_listed(twice)} of the data match the same class of the model")
    return tuple(numbers)


def _places(names: Sequence[str]) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        places.setdefault(name, []).append(number)
    return places


def _all_plain(names: Sequence[str]) -> list[str]:
    return [_plain(name) for name in names]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _listed(names: Sequence[str]) -> str:
    """Names for a message, with long lists and long names shortened in the middle."""
    short = [name if len(name) <= 40 else f"{name[:20]}…{name[-16:]}" for name in names]
    if len(short) > _SHOWN:
        short = [*short[: _SHOWN - 2], f"… {len(short) - _SHOWN + 1} more …", short[-1]]
    return ", ".join(short)
