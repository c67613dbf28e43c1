"""Modules from command-line words, and what is known of them: normalisation, sizes, class names."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from boundarygeo.adapters import Pipeline, adapt
from boundarygeo.cli.factories import make_module
from boundarygeo.cli.libraries import LIBRARIES, loading
from boundarygeo.cli.study import ModelEntry
from boundarygeo.cli.words import read_class_names
from boundarygeo.training import Checkpoint, load_checkpoint
from boundarygeo.training.checkpoint import NoCheckpointError
from boundarygeo.zoo import load_weights
from boundarygeo.zoo.classes import are_numbers, usual_names
from boundarygeo.zoo.weights import OtherClassesError

MODEL_FORMS = (
    "a checkpoint from `boundarygeo train`, package.module:factory (with --weights FILE), torchvision:NAME, timm:NAME, "
    "hf:FOLDER or robustbench:NAME"
)


@dataclass(frozen=True, eq=False)
class Model:
    """A module without normalisation, and what is known of it; None, or nothing, is what is not known.

    Attributes:
        names_are_certain: whether the names came with the weights, and are not just numbers.
        prepare: from a photo to an input in [0, 1], by the model's own resizing and crop.
        source: where its library's preprocessing was found, in words.
    """

    word: str
    module: nn.Module
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    class_names: tuple[str, ...] = ()
    names_are_certain: bool = False
    channels: int | None = None
    prepare: Pipeline | None = None
    source: str = ""
    checkpoint: Checkpoint | None = None


def load_models(
    entries: Sequence[ModelEntry], *, weights: Sequence[Path] = (), classes: Sequence[Path] = ()
) -> list[Model]:
    """The modules of a study; `--weights` and `--classes` win over its file."""
    bare = [entry for entry in entries if not Path(entry.model).is_file()]
    if weights and len(weights) != len(bare):
        raise ValueError(
            f"--weights must be given once per model without weights of its own ({len(bare)}), got {len(weights)}"
        )
    named = [read_class_names(file) for file in classes]
    files = iter(weights or [entry.weights for entry in bare])
    loaded = [_load(entry, next(files) if entry in bare else entry.weights) for entry in entries]
    if not named:
        return loaded
    needy = [k for k, model in enumerate(loaded) if not model.names_are_certain] or list(range(len(loaded)))
    if len(named) not in (1, len(needy)):
        raise ValueError(
            f"--classes must be given once, or once per model without class names of its own ({len(needy)}), "
            f"got {len(named)}"
        )
    for number, names in zip(needy, named * len(needy) if len(named) == 1 else named, strict=True):
        loaded[number] = replace(loaded[number], class_names=names, names_are_certain=True)
    return loaded


def _load(entry: ModelEntry, weights: Path | None) -> Model:
    """A module, with what is said about it instead of what is known."""
    is_checkpoint = Path(entry.model).is_file()
    if is_checkpoint and weights is not None:
        raise ValueError(f"checkpoint {entry.model} has its own weights: leave out {weights}")
    model = _checkpoint(entry.model) if is_checkpoint else _bare(entry.model, weights)
    channels = model.channels or _channels(model.module)
    model = replace(model, mean=entry.mean or model.mean, std=entry.std or model.std, channels=channels)
    if entry.classes is None:
        return model
    return replace(model, class_names=read_class_names(entry.classes), names_are_certain=True)


def _checkpoint(model: str) -> Model:
    try:
        module, checkpoint = load_checkpoint(model)
    except NoCheckpointError as error:
        raise ValueError(
            f"{error}; for a model of your own, pass --model package.module:factory --weights FILE, "
            "where FILE is from torch.save(module.state_dict(), FILE)"
        ) from error
    words = bool(checkpoint.class_names) and not are_numbers(checkpoint.class_names)
    channels, *_ = checkpoint.input_shape
    return Model(
        model, module, checkpoint.mean, checkpoint.std, checkpoint.class_names, words, channels, checkpoint=checkpoint
    )


def _bare(model: str, weights: Path | None) -> Model:
    """A module from a library or a factory, with the weights of a file."""
    library, _, name = model.partition(":")
    if name and library in LIBRARIES:
        return _of_library(model, weights)
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", model):
        raise ValueError(f"--model must be {MODEL_FORMS}, got {model!r}")
    module = make_module(model)
    if weights is None:
        warnings.warn(f"no --weights for {model}: its parameters are as the factory made them", stacklevel=2)
    else:
        load_weights(module, weights)
    return Model(model, module)


def _of_library(model: str, weights: Path | None) -> Model:
    """A model of a library, with what comes with it."""
    library, _, name = model.partition(":")
    build, known = LIBRARIES[library](name)
    with loading(model):
        module = build(weights is None, None)
    if weights is not None:
        try:
            load_weights(module, weights)
        except OtherClassesError as error:
            with loading(model):
                module = build(False, error.classes)
            load_weights(module, weights)
            # Trained on other data, whose preprocessing is unknown.
            return Model(model, adapt(module, stated=True).module)
    found = adapt(module, **known)
    names = usual_names(found.class_names)
    certain = bool(names) and weights is None
    return Model(model, found.module, found.mean, found.std, names, certain, prepare=found.prepare, source=found.source)


def _channels(module: nn.Module) -> int | None:
    """Channels of the first convolution, if images with that number can be read."""
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    return first.in_channels if first is not None and first.in_channels in (1, 3) else None
