"""Maps for the tests of the explorer: random labels and planes, whose images differ at every pixel."""

import json
from html.parser import HTMLParser
from typing import Any

import numpy as np
import torch
from synthetic_maps import make_maps

from boundarygeo.maps.maps import BoundaryMaps

SIDE = 9
EXTENT = 0.25
HOSTILE = [
    "</script><script>document.body.dataset.broken = 1</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;a&amp;",
    "naïve ε\u2028",
]


class Page(HTMLParser):
    """Tags in order, the text of the title, and the scripts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = [("", {})]
        self.text: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1]
        name = f"{tag}#{attributes['id']}" if "id" in attributes else tag
        self.text[name] = self.text.get(name, "") + data

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(self.text["script#content"])


def explored_maps(shape: tuple[int, ...] = (3, 5, 7), *, maps: int = 4, side: int = SIDE, **changes) -> BoundaryMaps:
    """Maps of 4 classes with planes, margins at three pixels in four, and 8-bit examples as image files have them."""
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 5, (maps, side, side)).astype(np.float32)
    margin[rng.random(margin.shape) < 0.25] = np.nan
    fields = {
        "extent": EXTENT,
        "true_labels": np.arange(maps) % 4,
        "margin": torch.from_numpy(margin),
        "origin": torch.from_numpy(rng.integers(0, 256, (maps, *shape)) / 255).float(),
        "axes": torch.from_numpy(rng.normal(0, 1, (maps, 2, *shape))).float(),
        "bounds": (0.0, 1.0),
        "class_names": ("aeroplane", "bird", "cat", "deer"),
    }
    labels = changes.pop("labels", rng.integers(0, 4, (maps, side, side)))
    return make_maps(labels, **(fields | changes))
