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
    """An array, perhaps with NaN, as JSON; the error is at most `scale` / 2.

    `data` is base64 of zlib of little-endian int16, in C order; `offset` is the value of the integer 0.
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
    """Whole numbers within ±2³¹, exactly: in 16 bits if these suffice, otherwise in 32."""
    if np.abs(values, dtype=np.int64).max(initial=0) <= LARGEST:
        return encoded(values)
    whole = values.astype("<i4")
    scaled = {"offset": 0.0, "scale": 1.0, "shape": list(whole.shape)}
    return {"data": _text(whole), "bits": 32, **scaled}


def encoded_symmetric(values: NDArray[Any]) -> dict[str, Any]:
    """An array scaled so that its largest magnitude uses all 16 bits: 0 is exact, the error below 1/65,000 of that."""
    largest = float(np.nanmax(np.abs(np.asarray(values, dtype=np.float64)), initial=0.0))
    return encoded(values, scale=largest / LARGEST if largest else 1.0)


def _text(whole: NDArray[np.integer]) -> str:
    return base64.b64encode(zlib.compress(whole.tobytes())).decode("ascii")


def script_json(content: Any) -> str:
    r"""JSON for use inside a `<script>` element, which no text in it can close.

    >>> script_json("</script>")
    '"\\u003c/script\\u003e"'
    """
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
