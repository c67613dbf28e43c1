"""Models as users have them: what comes with those of torchvision, timm, Hugging Face and RobustBench.

Each library turns a photo into the model's input by a pipeline of its own, which is not read but measured: on images of
one grey each it is an affine function, whose inverse gives inputs in [0, 1]. None of these libraries is imported before
one of its models arrives.
"""

import importlib
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

Pipeline = Callable[[Image.Image], Tensor]
"""From a photo to one input `[channel, row, col]`."""

_SIDE = 256
_COLOURS = ((0, 0, 0), (255, 255, 255), (51, 102, 153))
_DECIMALS = 6  # means and deviations are published with fewer, and float32 has no more
_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A module that returns logits, and what came with it.

    Attributes:
        module: maps normalised inputs to logits.
        source: where the rest was found, in words.
        mean: subtracted from inputs in [0, 1], one number per channel, or None.
        std: divides the inputs after that, or None.
        class_names: name of each output, or none.
        prepare: from a photo to an input in [0, 1], with the model's own resizing and crop, or None if unknown.
    """

    module: nn.Module
    source: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    class_names: tuple[str, ...] = ()
    prepare: Pipeline | None = None


class Logits(nn.Module):
    """A module of which one output is the logits.

    Args:
        module: returns a tuple, a dict, or an object with fields.
        output: position, key or name of the logits.
    """

    def __init__(self, module: nn.Module, output: str | int) -> None:
        super().__init__()
        self.module = module
        self.output = output

    def forward(self, x: Tensor) -> Any:
        """The logits."""
        found = self.module(x)
        if isinstance(self.output, str) and not isinstance(found, dict):
            return getattr(found, self.output)
        return found[self.output]


def adapt(
    model: nn.Module,
    *,
    weights: Any = None,
    image_processor: Any = None,
    transform: Pipeline | None = None,
    output: str | int | None = None,
    stated: bool = False,
) -> Adapted:
    """Collect what is known of a model.

    Args:
        model: any module. Those of timm carry their configuration, those of RobustBench normalise inside.
        weights: for torchvision: a member of the model's weights, such as `ResNet18_Weights.DEFAULT`.
        image_processor: for Hugging Face: the model's image processor.
        transform: for any model: the function that turns a photo into its input.
        output: which output is the logits: a position, key or name. Needed if the module returns several; Hugging Face
            classifiers name theirs.
        stated: whether the caller states the normalisation, which then need not be known here.

    Returns:
        The module and what was found.

    Raises:
        TypeError: if `weights` or `image_processor` is of another kind.
        ValueError: if the preprocessing is unknown, or not affine in the pixels.
    """
    if sum(given is not None for given in (weights, image_processor, transform)) > 1:
        raise ValueError("pass one of weights, image_processor and transform")
    library = type(model).__module__.partition(".")[0]
    if library == "transformers" and output is None:
        output = "logits"
    found = Adapted(module=model, source="the module alone")
    pipeline, source = None, ""
    if transform is not None:
        pipeline, source = transform, "the given transform"
    elif weights is not None:
        if not hasattr(weights, "transforms") or not hasattr(weights, "meta"):
            raise TypeError(f"weights must be a member of torchvision's weights, got {type(weights).__name__}")
        found = replace(found, class_names=tuple(weights.meta["categories"]))
        pipeline, source = weights.transforms(), f"torchvision's {weights}"
    elif image_processor is not None:
        found, pipeline, source = _of_hugging_face(found, image_processor)
    elif isinstance(getattr(model, "pretrained_cfg", None), dict):
        found, pipeline, source = _of_timm(found)
    elif library == "robustbench":
        found = replace(found, source="RobustBench: inputs in [0, 1], normalised by the model itself")
    elif library in ("torchvision", "transformers") and not stated:
        need = "weights=…, a member of its weights" if library == "torchvision" else "image_processor=…"
        raise ValueError(f"a model of {library} needs {need}, or mean and std: its normalisation is not in the module")
    if pipeline is not None:
        found = _measured(found, pipeline, source, stated=stated)
    found = _normalised_once(found)
    return found if output is None else replace(found, module=Logits(found.module, output))


def _of_timm(found: Adapted) -> tuple[Adapted, Pipeline, str]:
    timm: Any = importlib.import_module("timm.data")
    cfg: dict[str, Any] = found.module.pretrained_cfg  # type: ignore[assignment]
    names, subset = cfg.get("label_names") or (), timm.infer_imagenet_subset(found.module)
    if not names and subset:
        info = timm.ImageNetInfo(subset)
        names = [info.index_to_description(number) for number in range(info.num_classes())]
    pipeline = timm.create_transform(**timm.resolve_model_data_config(found.module), is_training=False)
    source = f"timm's configuration of {cfg.get('architecture', type(found.module).__name__)}"
    return replace(found, class_names=tuple(names)), pipeline, source


def _of_hugging_face(found: Adapted, processor: Any) -> tuple[Adapted, Pipeline, str]:
    if not hasattr(processor, "image_processor_type") and not hasattr(processor, "preprocess"):
        raise TypeError(f"image_processor must be one of transformers, got {type(processor).__name__}")

    def pipeline(image: Image.Image) -> Tensor:
        return processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]

    names = getattr(getattr(found.module, "config", None), "id2label", None) or {}
    ordered = tuple(names[number] for number in sorted(names))
    counted = all(re.fullmatch(r"LABEL_\d+", name) for name in ordered)  # what a configuration says without names
    found = replace(found, class_names=() if counted else ordered)
    return found, pipeline, f"the Hugging Face {type(processor).__name__}"


def _measured(found: Adapted, pipeline: Pipeline, source: str, *, stated: bool) -> Adapted:
    """The affine function of the pixels that a pipeline applies, from one black, one white and one coloured image."""
    black, white, coloured = (pipeline(Image.new("RGB", (_SIDE, _SIDE), rgb)).double() for rgb in _COLOURS)
    low, high = black[:, 0, 0], white[:, 0, 0]
    expected = [low, high]
    if len(low) == 3:  # not what makes grey images of coloured ones
        expected.append(low + (high - low) * torch.tensor(_COLOURS[2]) / 255)
    off = max(
        float((image - plain[:, None, None]).abs().max())
        for image, plain in zip((black, white, coloured), expected, strict=False)
    )
    if off > _TOLERANCE * float((high - low).abs().max()) or not bool((high > low).all()):
        if stated:
            return replace(found, source=source)
        raise ValueError(f"{source} does not normalise red, green and blue by fixed numbers: pass mean and std instead")
    std = 1 / (high - low)
    mean = -low * std

    def prepare(image: Image.Image) -> Tensor:
        x = pipeline(image).double()
        return (x * std[:, None, None] + mean[:, None, None]).float().clamp(0, 1)

    rounded = [tuple(round(value, _DECIMALS) for value in values.tolist()) for values in (mean, std)]
    return replace(found, source=source, mean=rounded[0], std=rounded[1], prepare=prepare)


def _normalised_once(found: Adapted) -> Adapted:
    """Leave the normalisation to a layer inside that normalises, and warn."""
    layer = normaliser_of(found.module)
    if layer is None or found.mean is None or found.std is None:
        return found
    name, mean, std = layer
    if _near(mean, found.mean) and _near(std, found.std):
        about = "the same in both"
    else:
        about = (
            f"mean {_shown(mean)} and std {_shown(std)} inside, {_shown(found.mean)} and {_shown(found.std)} outside"
        )
    warnings.warn(
        f"the module normalises its inputs itself ({name}), and so does {found.source} ({about}): inputs are "
        "normalised inside only; pass mean and std to normalise them before that",
        stacklevel=4,
    )
    return replace(found, mean=None, std=None)


def normaliser_of(module: nn.Module) -> tuple[str, tuple[float, ...], tuple[float, ...]] | None:
    """Name, mean and std of a layer that normalises inputs by fixed numbers, or None."""
    for name, layer in module.named_modules():
        mean = getattr(layer, "mean", getattr(layer, "mu", None))
        std = getattr(layer, "std", getattr(layer, "sigma", None))
        if "normal" not in type(layer).__name__.lower() or mean is None or std is None or callable(mean):
            continue
        try:
            values = [tuple(torch.as_tensor(each, dtype=torch.float64).flatten().tolist()) for each in (mean, std)]
        except (TypeError, ValueError, RuntimeError):
            continue
        return name or type(layer).__name__, values[0], values[1]
    return None


def _near(a: Sequence[float], b: Sequence[float]) -> bool:
    return len(a) == len(b) and all(abs(p - q) <= _TOLERANCE for p, q in zip(a, b, strict=True))


def _shown(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
