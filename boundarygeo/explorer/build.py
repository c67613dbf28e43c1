"""The explorer of boundary maps: a grid of maps and, for the pixel under the pointer, its input and labels.

The page is self-contained: it holds the labels, the stored margins and probabilities and, if the planes were stored,
the origin and axes of each plane, from which the browser composes the perturbed image. It never needs the model.
"""

import base64
import hashlib
import html
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import numpy as np
import torch.nn.functional as F
from matplotlib.colors import to_hex
from numpy.typing import NDArray
from torch import Tensor

from boundarygeo.explorer.encoding import MISSING, encoded, encoded_symmetric, encoded_whole, script_json
from boundarygeo.maps.maps import BoundaryMaps
from boundarygeo.plots.cells import axes_lines, marked_points, missing_note, positions_of
from boundarygeo.plots.maps import frequent_classes
from boundarygeo.plots.style import class_labels, shown_colors
from boundarygeo.results.overwriting import MARK

IMAGE_BYTES = 7_000_000
"""Origins and axes above this size, at 16 bits a value, are averaged over squares of pixels."""

CHANNELS = (1, 3)


def explorer_page(
    maps: BoundaryMaps,
    *,
    class_names: Sequence[str] | None = None,
    title: str = "Boundary maps",
    cells: Iterable[int] | None = None,
) -> str:
    """An HTML page for exploring boundary maps with the pointer or the keyboard, offline.

    The colours are those of all figures; white is the true class. If the maps hold their planes
    (`boundary_maps(..., keep=["planes"])`; the command line does this) and the inputs are images of 1 or 3 channels,
    the page shows the perturbed image at each pixel, clipped as the maps were. Images are accurate to 1/65,000 of the
    range of their values; where they would make the file too large they are averaged over squares of pixels, and the
    page says so.

    Args:
        maps: boundary maps.
        class_names: name of each class; by default those in the maps, or "class 3".
        title: title of the page.
        cells: positions of the examples to show, in the order shown; by default all.

    Returns:
        The page, to be written in UTF-8. It loads nothing, and its security policy forbids loading.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if there is nothing to show, a position does not exist, or names are missing.
    """
    positions = positions_of(maps, cells)
    names = maps.class_names if class_names is None else class_names
    content = _content(maps, positions, names)
    script, style = (_part(f"page.{suffix}") for suffix in ("js", "css"))
    policy = f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; img-src data:"
    parts = {
        "policy": html.escape(policy),
        "generator": html.escape(MARK),
        "title": html.escape(title),
        "style": style,
        "content": script_json(content),
        "script": script,
    }
    # In one pass, so that a title such as "{{script}}" is not expanded.
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _part("page.html"))


def _content(maps: BoundaryMaps, positions: NDArray[np.intp], names: Sequence[str] | None) -> dict[str, Any]:
    """The data for the page's script."""
    labels = maps.labels.numpy()[positions]
    valid = maps.valid.numpy()[positions]
    true = None if maps.true_labels is None else maps.true_labels.numpy()[positions]
    points = marked_points(maps, positions)
    lines = axes_lines(maps)
    return {
        "maps": len(positions),
        "index": maps.index.numpy()[positions].tolist(),
        "valid": valid.tolist(),
        "true": None if true is None else true.tolist(),
        "u": _ticks(maps.u),
        "v": _ticks(maps.v),
        "anchors": [[xy.tolist() for xy in cell if np.isfinite(xy).all()] for cell in points],
        "axisLength": maps.axis_length.numpy()[positions].tolist(),
        "axisNames": list(maps.axis_names),
        "unit": maps.unit,
        "axesText": list(lines),
        "missingNote": missing_note(maps),
        "clip": maps.clip,
        "bounds": maps.bounds,
        "hasExample": maps.kind != "through",
        "classes": _classes(labels, valid, true, names),
        "labels": encoded_whole(labels),
        "margin": _of_pixels(maps.margin, positions),
        "probability": _of_pixels(maps.probability, positions),
        "missing": MISSING,
        "images": _images(maps, positions),
        "provenance": _provenance(maps),
    }


def _ticks(axis: Tensor) -> list[float]:
    """Coordinates, with the rounding error of the middle one (about 1e-18) replaced by 0."""
    return axis.where(axis.abs() > 1e-12 * axis.abs().max(), 0.0).tolist()


def _classes(
    labels: NDArray[np.integer], valid: NDArray[np.bool_], true: NDArray[np.int64] | None, names: Sequence[str] | None
) -> list[dict[str, Any]]:
    """Number, name and colour of each class that appears, its pixels in colour, and whether it is in the legend."""
    colored = np.broadcast_to(valid[:, None, None], labels.shape)
    if true is not None:
        colored = colored & (labels != true[:, None, None])
    appearing = {int(number) for number in np.unique(labels[valid])} | ({*true.tolist()} if true is not None else set())
    called = class_labels(names, appearing)
    pixels = np.bincount(labels[colored], minlength=max(appearing, default=-1) + 1)
    frequent = frequent_classes(pixels).tolist()
    colors = shown_colors(frequent, len(pixels))
    return [
        {
            "number": number,
            "name": name,
            "color": to_hex(colors[number]),
            "pixels": int(pixels[number]),
            "named": number in frequent,
        }
        for number, name in called.items()
    ]


def _of_pixels(values: Tensor | None, positions: NDArray[np.intp]) -> dict[str, Any] | None:
    return None if values is None else encoded_symmetric(values.numpy()[positions])


def _images(maps: BoundaryMaps, positions: NDArray[np.intp]) -> dict[str, Any] | str:
    """Origins and axes as images `[example, channel, row, col]`, or the reason why there are none."""
    if maps.origin is None or maps.axes is None or maps.bounds is None:
        return 'The planes were not kept: boundary_maps(…, keep=["planes"]).'
    origin, axes = maps.origin[positions], maps.axes[positions]
    shape = list(origin.shape[1:])
    if origin.ndim == 3:  # [example, row, col]
        origin, axes = origin[:, None], axes[:, :, None]
    if origin.ndim != 4 or origin.shape[1] not in CHANNELS:
        return f"Inputs of shape {shape} are not images of 1 or 3 channels."
    side = _averaging(tuple(origin.shape))
    if side > 1:
        origin = F.avg_pool2d(origin, side, ceil_mode=True)
        axes = F.avg_pool2d(axes.flatten(0, 1), side, ceil_mode=True).unflatten(0, (-1, 2))
    low, high = maps.bounds
    first, last = min(low, float(origin.min())), max(high, float(origin.max()))
    # The range between the bounds is divided into a multiple of 255 steps if the origin lies within them, so that grey
    # levels of 8-bit images are exact.
    middle, scale = (first + last) / 2, (last - first) / 65280
    return {
        "origin": encoded(origin.numpy(), offset=middle, scale=scale),
        "axes": encoded_symmetric(axes.numpy()),
        "low": low,
        "high": high,
        "averaged": side,
        "shape": shape,
    }


def _averaging(shape: tuple[int, ...]) -> int:
    """Side of the squares of pixels to average, so that three arrays of this shape fit in the budget."""
    count, channels, rows, cols = shape
    side = 1
    while 6 * count * channels * -(-rows // side) * -(-cols // side) > IMAGE_BYTES and side < max(rows, cols):
        side += 1
    return side


def _provenance(maps: BoundaryMaps) -> list[tuple[str, str]]:
    of = maps.provenance
    rows = [
        ("call", of.command),
        ("seed", "none" if of.seed is None else str(of.seed)),
        ("model (SHA-256 of its weights)", of.model),
        ("computed", f"{of.seconds:.1f} s on {of.device}, {of.forwards:,} forwards in {of.precision}"),
        ("pixels evaluated", f"{100 * float(maps.evaluated.mean()):.1f} % ({maps.method})"),
        ("versions", ", ".join(f"{name} {version}" for name, version in of.versions.items())),
    ]
    return [(name, value) for name, value in rows if value]


def _part(name: str) -> str:
    return resources.files("boundarygeo.explorer").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """The hash that allows an inline script or style in a security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
