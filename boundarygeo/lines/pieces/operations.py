"""Supported operations: whether each is affine, or where its pattern changes.

Functions and methods are identified by name (`torch.relu`, `F.relu` and `Tensor.relu` are one), modules by type.
Anything else is refused. `program.py` tests whether an operation treats the examples of a batch independently.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from boundarygeo.lines.pieces import switches

Finder = Callable[..., switches.Switches]


class MaxOverDimension(NamedTuple):
    """Result of `torch.max(x, dim)` without the indices, which are not affine."""

    values: Tensor
    indices: None = None


@dataclass(frozen=True)
class Operation:
    """Properties of an operation on tensors that depend on the input."""

    find: Finder | None = None  # finds where its pattern changes; None for affine operations
    operands: str = "first"  # which arguments may depend on the input: "first", "one" (any one) or "any"
    refuse: Callable[..., str] | None = None  # given the arguments, why this use is not supported, or ""
    run: Callable[..., Any] | None = None  # computes it instead of the operation itself


def _other_than_slices(value: Any, index: Any) -> str:
    if not isinstance(value, Tensor):
        return ""
    first = index[0] if isinstance(index, tuple) else index
    return "" if first is Ellipsis or first == slice(None) else "into the batch dimension"


def _indices(*arguments: Any, return_indices: bool = False, **_: Any) -> str:
    return "with return_indices" if return_indices else ""


def _value_of_maximum(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        found = function(*args, **kwargs)
        return found if isinstance(found, Tensor) else MaxOverDimension(found[0])

    return run


def _same(value: Tensor, *_: Any, **__: Any) -> Tensor:
    # Ignore conversions, which would leave float64 or the device.
    return value


_AFFINE = Operation()
_ONE = Operation(operands="one")
_ANY = Operation(operands="any")

BY_NAME: dict[str, Operation] = {
    **dict.fromkeys(
        [
            "linear", "matmul", "conv1d", "conv2d", "conv3d",
            "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
            "avg_pool1d", "avg_pool2d", "avg_pool3d",
            "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
            "div", "divide", "truediv", "true_divide", "neg", "negative", "pos", "positive", "mean", "sum",
            "flatten", "unflatten", "reshape", "reshape_as", "view", "view_as", "squeeze", "unsqueeze", "permute",
            "transpose", "swapaxes", "movedim", "expand", "contiguous", "clone", "detach", "pad", "pixel_shuffle",
            "interpolate", "upsample", "chunk", "split", "unbind", "narrow", "select", "getattr",
            "zeros_like", "ones_like", "new_zeros", "new_ones",
            # Affine in eval mode, without dropout or batch statistics, which `Classifier.session` rules out.
            "batch_norm", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "alpha_dropout",
        ],
        _AFFINE,
    ),
    **dict.fromkeys(["mul", "multiply"], _ONE),
    **dict.fromkeys(["add", "sub", "subtract", "cat", "concat", "concatenate", "stack"], _ANY),
    **dict.fromkeys(["to", "double", "type_as"], Operation(run=_same)),
    "getitem": Operation(refuse=_other_than_slices),
    **dict.fromkeys(["relu", "leaky_relu", "prelu", "abs", "absolute"], Operation(switches.at_zero)),
    "relu6": Operation(switches.at_relu6_limits),
    "hardtanh": Operation(switches.at_hardtanh_limits),
    **dict.fromkeys(["clamp", "clip"], Operation(switches.at_limits)),
    "clamp_min": Operation(lambda joined, input, min: switches.at_limits(joined, input, min)),
    "clamp_max": Operation(lambda joined, input, max: switches.at_limits(joined, input, None, max)),
    **dict.fromkeys(["maximum", "minimum"], Operation(switches.where_equal, operands="any")),
    "max": Operation(switches.in_maximum, operands="any", run=_value_of_maximum(torch.max)),
    "min": Operation(switches.in_minimum, operands="any", run=_value_of_maximum(torch.min)),
    "amax": Operation(switches.in_maximum),
    "amin": Operation(switches.in_minimum),
    **dict.fromkeys(["max_pool1d", "max_pool2d", "max_pool3d"], Operation(switches.in_max_pool, refuse=_indices)),
    **dict.fromkeys(
        ["adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"],
        Operation(switches.in_adaptive_max_pool, refuse=_indices),
    ),
}  # fmt: skip
"""Operations by name of the function or method; in-place variants (`add_`, `iadd`) go by the plain name (`add`)."""

AFFINE_MODULES: tuple[type[nn.Module], ...] = (
    nn.Linear,
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm,
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
    nn.Identity, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.Upsample,
    nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d,
    nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d,
    nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d,
)  # fmt: skip
"""Modules that are affine in evaluation mode."""

_POOL = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")

BENDING_MODULES: dict[type[nn.Module], tuple[str, tuple[str, ...]]] = {
    nn.ReLU: ("relu", ()),
    nn.ReLU6: ("relu6", ()),
    nn.LeakyReLU: ("leaky_relu", ("negative_slope",)),
    nn.PReLU: ("prelu", ("weight",)),
    nn.Hardtanh: ("hardtanh", ("min_val", "max_val")),
    nn.MaxPool1d: ("max_pool1d", _POOL),
    nn.MaxPool2d: ("max_pool2d", _POOL),
    nn.MaxPool3d: ("max_pool3d", _POOL),
    nn.AdaptiveMaxPool1d: ("adaptive_max_pool1d", ("output_size", "return_indices")),
    nn.AdaptiveMaxPool2d: ("adaptive_max_pool2d", ("output_size", "return_indices")),
    nn.AdaptiveMaxPool3d: ("adaptive_max_pool3d", ("output_size", "return_indices")),
}
"""Modules equivalent to a function above: its name, and the attributes that are its keyword arguments."""


def operation_of_module(module: nn.Module) -> tuple[Operation, dict[str, Any]] | None:
    """The operation of a leaf module and keyword arguments of its finder, or None if it is not supported."""
    for kind, (name, attributes) in BENDING_MODULES.items():
        if isinstance(module, kind):
            return BY_NAME[name], {attribute: getattr(module, attribute) for attribute in attributes}
    return (_AFFINE, {}) if isinstance(module, AFFINE_MODULES) else None
