"""Models of torchvision, timm, Hugging Face and RobustBench by name; each library is imported when it is named."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from boundarygeo.cli.words import did_you_mean
from boundarygeo.zoo.files import cache_folder

Build = Callable[[bool, int | None], nn.Module]
"""Makes a module: with the library's weights or new ones, and with a number of classes or as many as usual."""


def _torchvision(name: str) -> tuple[Build, dict[str, Any]]:
    models = _library("torchvision.models")
    name, at, chosen = name.partition("@")
    _check_known(name.lower(), models.list_models(module=models), "a model of torchvision")
    members = models.get_model_weights(name)
    if at:
        _check_known(chosen, list(members.__members__), f"weights of torchvision:{name}")
    weights = members[chosen or "DEFAULT"]

    def build(pretrained: bool, classes: int | None) -> nn.Module:
        head = {} if classes is None else {"num_classes": classes}
        return models.get_model(name, weights=weights if pretrained else None, **head)

    return build, {"weights": weights}


def _timm(name: str) -> tuple[Build, dict[str, Any]]:
    timm = _library("timm")
    if ":" not in name:  # else it names another source, such as hf-hub:OWNER/NAME
        architecture, _, tag = name.partition(".")
        _check_known(architecture, timm.list_models(), "a model of timm")
        if tag:
            _check_known(name, timm.list_pretrained(f"{architecture}.*"), "a model of timm")
    return lambda pretrained, classes: timm.create_model(name, pretrained=pretrained, num_classes=classes), {}


def _hugging_face(name: str) -> tuple[Build, dict[str, Any]]:
    transformers = _library("transformers")
    with loading(f"hf:{name}"):
        processor = transformers.AutoImageProcessor.from_pretrained(name)

    def build(pretrained: bool, classes: int | None) -> nn.Module:
        head = {} if classes is None else {"num_labels": classes}
        kind = transformers.AutoModelForImageClassification
        if not pretrained:
            return kind.from_config(transformers.AutoConfig.from_pretrained(name, **head))
        module, report = kind.from_pretrained(name, output_loading_info=True)
        if missing := sorted(report["missing_keys"]):  # the library would leave them random
            raise ValueError(f"it has no weights for {missing[0]}")
        return module

    return build, {"image_processor": processor}


def _robustbench(name: str) -> tuple[Build, dict[str, Any]]:
    parts = name.split(":")
    if len(parts) not in (1, 3):
        raise ValueError(f"--model must be robustbench:NAME or robustbench:NAME:DATASET:THREAT, got robustbench:{name}")
    name, data, threat = [*parts, "cifar10", "Linf"][:3]
    zoo = {
        (str(data.value), str(threat.value)): models
        for data, kinds in _library("robustbench.model_zoo").model_dicts.items()
        for threat, models in kinds.items()
    }
    _check_known(f"{data}:{threat}", list(map(":".join, zoo)), "a data set and threat model of RobustBench")
    models, load_model = zoo[data, threat], _library("robustbench.utils").load_model
    _check_known(name, list(models), f"a model of RobustBench for {data}:{threat}")

    def build(pretrained: bool, classes: int | None) -> nn.Module:
        if not pretrained:
            return models[name]["model"]()
        return load_model(name, model_dir=cache_folder() / "robustbench", dataset=data, threat_model=threat)

    return build, {}


LIBRARIES: dict[str, Callable[[str], tuple[Build, dict[str, Any]]]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "hf": _hugging_face,
    "robustbench": _robustbench,
}
"""How to make a model by its name, and what `adapt` needs to know of it."""


def _library(name: str) -> Any:
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{package} cannot be imported ({error}): pip install {package}") from error


def _check_known(word: str, known: Sequence[str], what: str) -> None:
    if word not in known:
        raise ValueError(f"--model must name {what}, got {word!r}{did_you_mean(word, known)}")


@contextmanager
def loading(model: str) -> Iterator[None]:
    """One line for what libraries raise, which are many types, where a model cannot be read or downloaded."""
    try:
        yield
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        instead = "hf:FOLDER, where it is saved" if model.startswith("hf:") else "--weights FILE"
        raise ValueError(f"{model} could not be loaded: {reason}; without a network, pass {instead}") from error
