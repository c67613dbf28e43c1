"""Where the pattern of a nonlinearity changes between neighbouring breakpoints.

A finder is called with `joined` (bool `[row - 1]`: whether a row and the next are neighbours on one segment) and the
arguments of the operation, whose tensors have one row per breakpoint and are affine between neighbours. It returns
the changes as `(pair, fraction)`: between rows pair and pair + 1, at that fraction of the way. They are in any order,
and rounding may put a fraction at 0 or 1.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from boundarygeo.lines.pieces.envelope import ROUNDING, envelope_vertices

Switches = tuple[Tensor, Tensor]


def sign_changes(joined: Tensor, z: Tensor) -> Switches:
    """Where elements of z `[row, ...]` pass through zero.

    An element that is zero at both ends, exactly or up to rounding, does not change in-between; one that is zero at one
    end may change there, at an existing breakpoint.
    """
    flat = z.flatten(1)
    negative = flat < 0
    pair, unit = (negative[1:] ^ negative[:-1]).logical_and_(joined[:, None]).nonzero(as_tuple=True)
    if not len(pair):
        return pair, flat.new_empty(0)
    left, right = flat[pair, unit], flat[pair + 1, unit]
    size = row_scale(flat)
    noise = ROUNDING * torch.maximum(size[pair], size[pair + 1])
    crosses = torch.maximum(left.abs(), right.abs()) > noise
    pair, left, right = pair[crosses], left[crosses], right[crosses]
    return pair, left / (left - right)


def row_scale(flat: Tensor) -> Tensor:
    """Largest absolute value in each row of `[row, element]`."""
    least, most = flat.aminmax(dim=1)
    return torch.maximum(-least, most)


def at_zero(joined: Tensor, input: Tensor, *_: Any, **__: Any) -> Switches:
    """For relu, leaky_relu, prelu, abs: at zero."""
    return sign_changes(joined, input)


def at_limits(joined: Tensor, input: Tensor, min: Any = None, max: Any = None, **_: Any) -> Switches:
    """For clamp: at either limit."""
    return _together(*(sign_changes(joined, input - limit) for limit in (min, max) if limit is not None))


def at_hardtanh_limits(
    joined: Tensor, input: Tensor, min_val: float = -1.0, max_val: float = 1.0, **_: Any
) -> Switches:
    """For hardtanh: at either limit."""
    return at_limits(joined, input, min_val, max_val)


def at_relu6_limits(joined: Tensor, input: Tensor, *_: Any, **__: Any) -> Switches:
    """For relu6: at 0 and at 6."""
    return at_limits(joined, input, 0.0, 6.0)


def where_equal(joined: Tensor, input: Tensor, other: Any) -> Switches:
    """For the elementwise maximum and minimum of two tensors."""
    return sign_changes(joined, input - other)


def in_max_pool(
    joined: Tensor,
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Switches:
    """For max pooling in one to three dimensions: where the largest element of a window changes."""
    axes = input.ndim - 2
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[axes - 1]
    values, index = pool(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices=True)
    sizes, steps = _per_axis(kernel_size, axes), _per_axis(stride or kernel_size, axes)
    pads, gaps = _per_axis(padding, axes), _per_axis(dilation, axes)
    columns = []
    for axis, (length, out) in enumerate(zip(input.shape[2:], values.shape[2:], strict=True)):
        place = torch.arange(out)[:, None] * steps[axis] - pads[axis] + gaps[axis] * torch.arange(sizes[axis])
        columns.append(place.where((place >= 0) & (place < length), -1))
    return _in_windows(joined, input.flatten(2), index.flatten(2), _windows(columns, input.shape[2:]))


def in_adaptive_max_pool(joined: Tensor, input: Tensor, output_size: Any, return_indices: bool = False) -> Switches:
    """For adaptive max pooling: window i of n on an axis of length l runs from ⌊i·l/n⌋ to ⌈(i+1)·l/n⌉."""
    axes = input.ndim - 2
    pool = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[axes - 1]
    values, index = pool(input, output_size, return_indices=True)
    columns = []
    for length, out in zip(input.shape[2:], values.shape[2:], strict=True):
        window = torch.arange(out)[:, None]
        begin, end = window * length // out, -(-(window + 1) * length // out)
        place = begin + torch.arange(int((end - begin).max()))
        columns.append(place.where(place < end, -1))
    return _in_windows(joined, input.flatten(2), index.flatten(2), _windows(columns, input.shape[2:]))


def in_maximum(joined: Tensor, input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Switches:
    """For max and amax: over dimensions, or of two tensors."""
    if isinstance(dim, Tensor) or other is not None:
        return where_equal(joined, input, dim if other is None else other)
    over = sorted({axis % input.ndim for axis in ((dim,) if isinstance(dim, int) else dim)})
    rest = [axis for axis in range(input.ndim) if axis not in over]
    flat = input.permute(*rest, *over).reshape(len(input), -1, *(input.shape[axis] for axis in over)).flatten(2)
    windows = torch.arange(flat.shape[2])[None]
    return _in_windows(joined, flat, flat.argmax(2, keepdim=True), windows)


def in_minimum(joined: Tensor, input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Switches:
    """For min and amin: over dimensions, or of two tensors."""
    negated = -dim if isinstance(dim, Tensor) else dim
    return in_maximum(joined, -input, negated, keepdim, other=None if other is None else -other)


def _in_windows(joined: Tensor, values: Tensor, index: Tensor, windows: Tensor) -> Switches:
    """Vertices of the maximum over each window `[window, k]` of places (-1: none) in `values` `[row, channel, place]`.

    `index` is the place of the largest value of each window, `[row, channel, window]`.
    """
    pair, channel, window = ((index[1:] != index[:-1]) & joined[:, None, None]).nonzero(as_tuple=True)
    old, new = index[pair, channel, window], index[pair + 1, channel, window]
    # Most changes of the index are ties, often of zeros: one element is largest at both ends, and so all the way.
    passed = (values[pair, channel, old] > values[pair, channel, new]) & (
        values[pair + 1, channel, new] > values[pair + 1, channel, old]
    )
    pair, channel, window = pair[passed], channel[passed], window[passed]
    size = row_scale(values.flatten(1))
    places = windows.to(values.device)[window]
    missing = places < 0
    start = values[pair[:, None], channel[:, None], places].masked_fill(missing, -torch.inf)
    end = values[pair[:, None] + 1, channel[:, None], places].masked_fill(missing, -torch.inf)
    found = envelope_vertices(start, end, torch.maximum(size[pair], size[pair + 1]))
    return pair[found.item], found.fraction


def _windows(columns: list[Tensor], shape: torch.Size) -> Tensor:
    """Flat places `[window, k]` from the places along each axis `[window, k]`; -1 where any of them is."""
    flat = torch.zeros(1, 1, dtype=torch.int64)
    for column, length in zip(columns, shape, strict=True):
        outer, inner = flat[:, None, :, None], column[None, :, None, :]
        joint = torch.where((outer < 0) | (inner < 0), -1, outer * length + inner)
        flat = joint.reshape(len(flat) * len(column), -1)
    return flat


def _per_axis(setting: Any, axes: int) -> tuple[int, ...]:
    values = (setting,) if isinstance(setting, int) else tuple(setting)
    return values * axes if len(values) == 1 else values


def _together(*found: Switches) -> Switches:
    pairs, fractions = zip(*found, strict=True)
    return torch.cat(pairs), torch.cat(fractions)
