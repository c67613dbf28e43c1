"""Arrays as text that a page can decode without a library: integers with a scale, zlib, base64.

A page decodes them with `atob`, `DecompressionStream("deflate")` and an `Int16Array` (or, where `bits` is 32, an
`Int32Array`), which every browser has had since 2023: value = offset + scale · integer, and the integer `MISSING`
stands for NaN.
"""

import base64
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING = -32768
LARGEST = 32767


def encoded(values: NDArray[Any], *, offset: float = 0.0, scale: float = 1.0) -> dict[str, Any]:
    """An array as JSON; the error is at most `scale` / 2.

    Args:
        values: any shape; may contain NaN.
        offset: value of the integer 0.
        scale: value of one step.

    Returns:
        `data` (base64 of zlib of little-endian int16, in C order), `bits`, `offset`, `scale` and `shape`.

    Raises:
        ValueError: if a value does not fit in 16 bits.
    """
    steps = np.rint((np.asarray(values, dtype=np.float64) - offset) / scale)
    largest = float(np.nanmax(np.abs(steps), initial=0.0))
    if not largest <= LARGEST:
        raise ValueError(f"values must be within {LARGEST} steps of the offset, got {largest:g}")
    whole = np.where(np.isnan(steps), MISSING, steps).astype("<i2")
    return {
        "data": _text(whole),
        "bits": 16,
        "offset": float(offset),
        "scale": float(scale),
        "shape": list(whole.shape),
    }


def encoded_whole(values: NDArray[np.integer]) -> dict[str, Any]:
    """Whole numbers, exactly: in 16 bits if these suffice, otherwise in 32.

    Args:
        values: any shape, each within ±2³¹.

    Returns:
        As `encoded`.
    """
    if np.abs(values, dtype=np.int64).max(initial=0) <= LARGEST:
        return encoded(values)
    whole = values.astype("<i4")
    scaled = {"offset": 0.0, "scale": 1.0, "shape": list(whole.shape)}
    return {"data": _text(whole), "bits": 32, **scaled}


def encoded_symmetric(values: NDArray[Any]) -> dict[str, Any]:
    """An array scaled so that its largest magnitude uses all 16 bits; the error is below 1/65,000 of it.

    Args:
        values: any shape, finite or NaN; 0 is exact.

    Returns:
        As `encoded`.
    """
    largest = float(np.nanmax(np.abs(np.asarray(values, dtype=np.float64)), initial=0.0))
    return encoded(values, scale=largest / LARGEST if largest else 1.0)


def _text(whole: NDArray[np.integer]) -> str:
    return base64.b64encode(zlib.compress(whole.tobytes())).decode("ascii")


def script_json(content: Any) -> str:
    r"""JSON for use inside a `<script>` element, which no text in it can close.

    Args:
        content: a value that JSON can represent, without NaN.

    Returns:
        JSON without `<`, `>`, `&` and the line separators of JavaScript.

    >>> script_json("</script>")
    '"\\u003c/script\\u003e"'
    """
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
