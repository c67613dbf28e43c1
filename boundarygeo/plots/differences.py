"""Perceived differences between colours."""

import numpy as np
from numpy.typing import NDArray

_WHITE = np.array([0.95047, 1.0, 1.08883])  # daylight, D65
_TO_XYZ = np.array(
    [[0.4124564, 0.2126729, 0.0193339], [0.3575761, 0.7151522, 0.1191920], [0.1804375, 0.0721750, 0.9503041]]
)


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIEDE2000 between colours: below 5 they look alike, above 10 they are clearly different.

    G. Sharma, W. Wu and E. N. Dalal, The CIEDE2000 color-difference formula, Color Research and Application 30 (2005).
    Both are sRGB in [0, 1], `[*colors, 3]`, of shapes that broadcast; the differences are `[*colors]`.
    """
    (light1, a1, b1), (light2, a2, b2) = (np.moveaxis(_lab(colors), -1, 0) for colors in (one, other))
    stretch = 1.5 - 0.5 * _saturation((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2)
    chroma1, chroma2 = np.hypot(stretch * a1, b1), np.hypot(stretch * a2, b2)
    hue1, hue2 = np.arctan2(b1, stretch * a1), np.arctan2(b2, stretch * a2)
    turn = (hue2 - hue1 + np.pi) % (2 * np.pi) - np.pi
    hue, light, chroma = hue1 + turn / 2, (light1 + light2) / 2, (chroma1 + chroma2) / 2
    waves = (
        1
        - 0.17 * np.cos(hue - np.radians(30))
        + 0.24 * np.cos(2 * hue)
        + 0.32 * np.cos(3 * hue + np.radians(6))
        - 0.20 * np.cos(4 * hue - np.radians(63))
    )
    blue = np.radians(60) * np.exp(-((((np.degrees(hue) % 360) - 275) / 25) ** 2))
    in_light = (light2 - light1) / (1 + 0.015 * (light - 50) ** 2 / np.sqrt(20 + (light - 50) ** 2))
    in_chroma = (chroma2 - chroma1) / (1 + 0.045 * chroma)
    in_hue = 2 * np.sqrt(chroma1 * chroma2) * np.sin(turn / 2) / (1 + 0.015 * chroma * waves)
    crossed = -2 * _saturation(chroma) * np.sin(blue) * in_chroma * in_hue
    return np.sqrt(in_light**2 + in_chroma**2 + in_hue**2 + crossed)


def _saturation(chroma: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.sqrt(chroma**7 / (chroma**7 + 25.0**7))


def _lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB coordinates of sRGB colours."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    relative = linear @ _TO_XYZ / _WHITE
    x, y, z = np.moveaxis(np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative * 841 / 108 + 4 / 29), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
