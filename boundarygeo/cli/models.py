"""Modules from command-line words, and what is known of them: normalisation, sizes, class names."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from boundarygeo.cli.factories import make_module
from boundarygeo.cli.words import read_class_names
from boundarygeo.training import load_checkpoint
from boundarygeo.training.checkpoint import NoCheckpointError
from boundarygeo.zoo import load_weights
from boundarygeo.zoo.classes import are_numbers
from boundarygeo.zoo.weights import OtherClassesError

MODEL_FORMS = "a checkpoint from `boundarygeo train`, package.module:factory (with --weights FILE), or torchvision:NAME"


@dataclass(frozen=True, eq=False)
class Model:
    """A module without normalisation, and what is known of it; None (or no names) is what is not known.

    Attributes:
        names_are_certain: whether the names came with the weights, and are not just numbers.
        resize: size in pixels to which the shorter side of its images is resized.
        size: rows and columns after the crop.
    """

    word: str
    module: nn.Module
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    class_names: tuple[str, ...] = ()
    names_are_certain: bool = False
    resize: int | None = None
    size: int | None = None
    channels: int | None = None


def load_models(models: Sequence[str], *, weights: Sequence[Path], classes: Sequence[Path]) -> list[Model]:
    """The modules named by `--model` and related options."""
    bare = [model for model in models if not Path(model).is_file()]
    if weights and len(weights) != len(bare):
        raise ValueError(
            f"--weights must be given once per model without weights of its own ({len(bare)}), got {len(weights)}"
        )
    named = [read_class_names(file) for file in classes]
    files = iter(weights or [None] * len(bare))
    loaded = [_checkpoint(model) if Path(model).is_file() else _bare(model, next(files)) for model in models]
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


def _checkpoint(model: str) -> Model:
    try:
        module, checkpoint = load_checkpoint(model)
    except NoCheckpointError as error:
        raise ValueError(
            f"{error}; for a model of your own, pass --model package.module:factory --weights FILE, "
            "where FILE is from torch.save(module.state_dict(), FILE)"
        ) from error
    words = bool(checkpoint.class_names) and not are_numbers(checkpoint.class_names)
    return Model(
        model,
        module,
        checkpoint.mean,
        checkpoint.std,
        checkpoint.class_names,
        words,
        channels=checkpoint.input_shape[0],
    )


def _bare(model: str, weights: Path | None) -> Model:
    """A module from a factory or torchvision, with the weights of a file."""
    if model.startswith("torchvision:"):
        return _from_torchvision(model, weights)
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", model):
        raise ValueError(f"--model must be {MODEL_FORMS}, got {model!r}")
    module = make_module(model)
    if weights is None:
        warnings.warn(f"no --weights for {model}: its parameters are as the factory made them", stacklevel=2)
        return Model(model, module, channels=_channels(module))
    load_weights(module, weights)
    return Model(model, module, channels=_channels(module))


def _from_torchvision(model: str, weights: Path | None) -> Model:
    from torchvision import models  # slow to import, and rarely needed

    name = model.removeprefix("torchvision:")
    try:
        usual = models.get_model_weights(name)["DEFAULT"]
        module = models.get_model(name, weights=usual if weights is None else None)
    except (ValueError, KeyError) as error:
        raise ValueError(f"--model must name a model of torchvision, got {name!r}: {error}") from error
    except OSError as error:
        raise ValueError(
            f"weights of torchvision:{name} could not be downloaded ({error}): pass --weights FILE"
        ) from error
    if weights is not None:
        try:
            load_weights(module, weights)
        except OtherClassesError as error:
            module = models.get_model(name, weights=None, num_classes=error.classes)
            load_weights(module, weights)
            # Trained on other data, whose preprocessing is unknown.
            return Model(model, module, channels=_channels(module))
    prepared = usual.transforms()
    return Model(
        model,
        module,
        mean=getattr(prepared, "mean", None),
        std=getattr(prepared, "std", None),
        class_names=tuple(usual.meta["categories"]),
        names_are_certain=weights is None,
        resize=_side(getattr(prepared, "resize_size", None)),
        size=_side(getattr(prepared, "crop_size", None)),
        channels=_channels(module),
    )


def _side(size: Sequence[int] | None) -> int | None:
    return size[0] if size else None


def _channels(module: nn.Module) -> int | None:
    """Channels of the first convolution, if images with that number can be read."""
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    return first.in_channels if first is not None and first.in_channels in (1, 3) else None
