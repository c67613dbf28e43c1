"""Common style of all figures: one fixed colour per class, class names, fonts, notebook display and files."""

import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from boundarygeo.choices import FIGURE_SUFFIXES
from boundarygeo.plots.differences import difference
from boundarygeo.results.overwriting import MARK, check_free

CLASS_COLORS = (
    "#dd7700",  # orange
    "#442299",  # indigo
    "#77ccff",  # sky blue
    "#aa0000",  # red
    "#338866",  # green
    "#ffcc33",  # yellow
    "#996699",  # mauve
    "#772244",  # plum
    "#99bb88",  # sage
    "#7777ff",  # periwinkle
)
"""Colours of the classes 0 to 9.

Found by a search that maximised the smallest CIEDE2000 difference between any two of them, and to white,
black and light grey, in normal vision and in full protanopia, deuteranopia and tritanopia (simulated as in
Machado et al. 2009). The smallest difference is 16; it is 1 in matplotlib's tab10, 5 in seaborn's colorblind.
"""

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 11,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 9,
    "legend.title_fontsize": 9,
    "axes.grid": False,
    # White means the true class in any theme; text must be dark on it.
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "legend.facecolor": "white",
    "text.color": "black",
    "axes.labelcolor": "black",
    "axes.titlecolor": "black",
    "axes.edgecolor": "black",
    "xtick.color": "black",
    "ytick.color": "black",
    # Names of classes and models are text, not TeX.
    "text.parse_math": False,
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
}
"""Settings of every figure, for `styled`."""

DPI = 200
LONGEST_NAME = 32
DISTINCT = 12.0
"""CIEDE2000 difference below which two colours are too similar for one figure."""

# Roberts' R3 sequence: multiples of powers of the root of x⁴ = x + 1 fill a cube evenly for any number of points.
_R3 = 1.2207440846057596 ** -np.arange(1.0, 4.0)
_SPARE = 400  # candidate colours from the sequence


class NotebookFigure(Figure):
    """A figure that notebooks display as a cell's value and that is not registered with pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=DPI / 2, bbox_inches="tight")
        return buffer.getvalue()


@contextmanager
def styled() -> Iterator[None]:
    """Apply the settings of every figure while one is drawn.

    Not `matplotlib.rc_context`, which restores all settings: pyplot's first figure loads the notebook backend, which
    turns interactive mode on; without that mode the second figure would not be shown.
    """
    before = {name: mpl.rcParams[name] for name in STYLE}
    mpl.rcParams.update(STYLE)
    try:
        yield
    finally:
        mpl.rcParams.update(before)


def class_colors(n: int) -> NDArray[np.float64]:
    """Colours of the classes 0 to n - 1, the same in every figure and never near white.

    The first ten are `CLASS_COLORS`. The others come from a sequence that fills hue, saturation and
    brightness evenly: deterministic and without repetition, but a thousand colours cannot all be distinguishable.

    Args:
        n: number of classes.

    Returns:
        RGB in [0, 1], float64 `[class, 3]`.

    Raises:
        TypeError: if `n` is not an integer.
        ValueError: if `n` is negative.

    Examples:
        >>> bool((class_colors(1000)[:10] == class_colors(10)).all())
        True
    """
    if not isinstance(n, Integral) or isinstance(n, bool):
        raise TypeError(f"n must be an integer, got {n!r}")
    if n < 0:
        raise ValueError(f"n must be >= 0, got {n}")
    fixed = np.array([to_rgb(color) for color in CLASS_COLORS])
    steps = np.arange(1, n - len(fixed) + 1)
    # Saturation and brightness in [0.5, 1] and [0.4, 0.9]: neither grey nor near white.
    further = hsv_to_rgb(steps[:, None] * _R3 % 1 * [1, 0.5, 0.5] + [0, 0.5, 0.4])
    return np.concatenate([fixed, further])[:n]


def shown_colors(shown: Iterable[int], n: int) -> NDArray[np.float64]:
    """Colours `[class, 3]` of the classes 0 to n - 1, distinct for the classes that a figure names.

    Classes keep their colour of `class_colors`, except classes from 10 on that are shown and whose colour differs by
    less than `DISTINCT` from that of an earlier class shown. Such a class gets, from the first colours of the sequence,
    the one farthest from those before it. This works for about twenty classes, not for a hundred.
    """
    colors = class_colors(n)
    spare = class_colors(_SPARE)
    before: list[NDArray[np.float64]] = []
    for number in sorted({int(number) for number in shown}):
        if number >= len(CLASS_COLORS) and _nearest(colors[number], before) < DISTINCT:
            colors[number] = spare[np.argmax(_nearest(spare, before))]
        before.append(colors[number])
    return colors


def _nearest(colors: NDArray[np.float64], others: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Difference between colours and the most similar of others, infinite without others."""
    if not others:
        return np.full(colors.shape[:-1], np.inf)
    return difference(colors[..., None, :], np.array(others)).min(axis=-1)


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """A name shortened in the middle to `longest` characters, because names often start or end alike.

    >>> shortened("Transportation, road vehicle, car", 16)
    'Transpor…le, car'
    """
    if len(name) <= longest:
        return name
    return f"{name[: longest // 2]}…{name[len(name) - (longest - longest // 2 - 1) :]}"


def class_labels(class_names: Sequence[str] | None, classes: Iterable[int]) -> dict[int, str]:
    """Names of classes for legends; without `class_names`, "class 3" and so on.

    Long names, as in ImageNet, are shortened in the middle; classes that would then have the same name get their number
    appended.
    """
    numbers = sorted({int(number) for number in classes})
    if class_names is None:
        return {number: f"class {number}" for number in numbers}
    if isinstance(class_names, str):
        raise TypeError(f"class_names must be a sequence of names, got {class_names!r}")
    if numbers and numbers[-1] >= len(class_names):
        raise ValueError(f"class_names must have a name for class {numbers[-1]}, got {len(class_names)} names")
    names = [shortened(str(name)) for name in class_names]
    often = Counter(names)
    return {number: names[number] if often[names[number]] == 1 else f"{names[number]} ({number})" for number in numbers}


def few_ticks(axes: Axes) -> None:
    """Few and short ticks on the horizontal axis, to fit below a narrow panel at any scale."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}".replace("-", "\N{MINUS SIGN}")))


def check_figure_path(path: str | os.PathLike[str]) -> Path:
    """Check the suffix of a figure file, which determines its format, before any work.

    Args:
        path: file to write.

    Raises:
        ValueError: if the suffix is unknown.
    """
    path = Path(path)
    if path.suffix.lower() not in FIGURE_SUFFIXES:
        raise ValueError(f"path must end in {', '.join(FIGURE_SUFFIXES)}, got {str(path)!r}")
    return path


def save_figure(figure: Figure | Axes, path: str | os.PathLike[str]) -> Path:
    """Write a figure to a PNG (200 dpi), PDF or SVG file marked as written by this package, creating folders.

    An earlier figure of this function is replaced; any other existing file raises an error.

    Args:
        figure: a figure or axes.
        path: file to write, whose suffix determines the format.

    Raises:
        TypeError: if `figure` is neither.
        ValueError: if the suffix is unknown, or the file cannot be written or must not be replaced.
    """
    root = figure.get_figure(root=True) if isinstance(figure, Axes) else figure
    if not isinstance(root, Figure):
        raise TypeError(f"figure must be a matplotlib Figure or Axes, got {type(figure).__name__}")
    path = check_free(check_figure_path(path), overwrite=True, kind="figure")
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {".png": {"Software": MARK}, ".pdf": {"Creator": MARK}, ".svg": {"Creator": [MARK]}}
    # Type 42 embeds fonts as searchable text, as journals require.
    with mpl.rc_context({"pdf.fonttype": 42}):
        root.savefig(path, dpi=DPI, bbox_inches="tight", metadata=metadata[path.suffix.lower()])
    return path
