"""Image files as tensors: pixel formats, resizing, and decoding on demand."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

HEADERS_READ = 100
"""Number of headers that decide whether a folder's images are grey."""

_WHOLE_NUMBERS_OF_16_BITS = ("PNG", "PPM")
"""Formats whose 16-bit images Pillow opens in mode `I`, which in other formats means 32 bits."""

_TRANSPARENT = "it has transparent pixels, which have no colour of their own: save it without transparency"

_OF_A_BYTE = 1e-3
"""How far a prepared pixel may be from a multiple of 1/255, as a share of it, by rounding alone."""

Prepare = Callable[[Image.Image], Tensor]
"""From a photo in RGB to float32 `[channel, row, col]` in [0, 1]."""

_TIFF_BITS, _TIFF_PHOTOMETRIC, _BLACK_IS_ZERO = 258, 262, 1


@dataclass(frozen=True)
class Crop:
    """Resizing of the shorter side, then a centre crop, as in the preprocessing of ImageNet models; lengths in pixels.

    Without `resize`, the shorter side becomes 256/224 of the side that just covers the crop.
    """

    rows: int
    cols: int
    resize: int | None = None

    def __call__(self, image: Image.Image) -> Image.Image:
        """Resize and crop as torchvision does, with Pillow's bilinear filter and antialiasing."""
        short, long = min(image.size), max(image.size)
        covering = short * max(self.cols / image.width, self.rows / image.height)
        side = self.resize or round(covering * 256 / 224)
        other = int(side * long / short)
        width, height = (side, other) if image.width == short else (other, side)
        if width < self.cols or height < self.rows:
            raise ValueError(
                f"its size {width}x{height}, resized with resize={side}, is less than the crop of "
                f"{self.cols}x{self.rows}"
            )
        left, top = round((width - self.cols) / 2), round((height - self.rows) / 2)
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        return resized.crop((left, top, left + self.cols, top + self.rows))


class LazyImages:
    """Images in files: indexed like a tensor `[example, channel, row, col]`, decoded on access.

    Indexing examples (by a slice, list, mask or tensor of numbers) gives a float32 tensor in [0, 1]; `images[:]` reads
    all. Pixels are value / 255 for 8 bits and value / 65535 for 16-bit grey; floats must lie in [0, 1]. For 16-bit
    colour, Pillow returns the upper 8 bits. CMYK and palettes become RGB; transparent pixels are rejected. The EXIF
    orientation is not applied, as in torchvision's `ImageFolder`.

    With `channels=1`, colour is rejected; with 3, grey is repeated. The default is 1 if the first 100 files are all
    grey, by their headers. These must be readable and, without a crop, of one size. With `prepare`, it alone makes the
    images, of photos in 8-bit RGB.
    """

    def __init__(
        self,
        files: Sequence[str],
        *,
        channels: int | None = None,
        crop: Crop | None = None,
        prepare: Prepare | None = None,
        progress: bool = True,
    ) -> None:
        self._files, self._crop, self._prepare, self._progress = list(files), crop, prepare, progress
        if prepare is not None:
            self._rows, self._cols, self._channels = self._read(self._files[0]).shape
            return
        headers = [_header(file) for file in self._files[:HEADERS_READ]]
        self._channels = channels or (1 if all(_is_grey(mode) for mode, _ in headers) else 3)
        self._cols, self._rows = headers[0][1] if crop is None else (crop.cols, crop.rows)
        for file, (_, size) in zip(self._files, headers, strict=False):
            self._check_size(file, size)

    def __len__(self) -> int:
        return len(self._files)

    def __repr__(self) -> str:
        return f"LazyImages({list(self.shape)})"

    @property
    def shape(self) -> torch.Size:
        """Numbers of examples, channels, rows and columns."""
        return torch.Size((len(self), self._channels, self._rows, self._cols))

    def __getitem__(self, index: Any) -> Tensor:
        first, *rest = index if isinstance(index, tuple) else (index,)
        # Several tensors would be indexed jointly.
        if first is None or first is ... or not all(isinstance(part, int | slice) for part in rest):
            raise IndexError("index LazyImages by examples first, then by numbers and slices")
        numbers = torch.arange(len(self))[first]
        images = torch.empty(numbers.numel(), *self.shape[1:])
        shown = tqdm(
            numbers.flatten().tolist(), "images", delay=2, disable=None if self._progress else True, leave=False
        )
        for row, number in enumerate(shown):
            images[row] = to_tensor(self.pixels(number))
        return images.view(*numbers.shape, *self.shape[1:])[(slice(None),) * numbers.ndim + tuple(rest)]

    def pixels(self, number: int) -> np.ndarray:
        """One image `[row, col, channel]`: uint8, or float32 in [0, 1] if the file has more than 8 bits."""
        file = self._files[number]
        pixels = self._read(file)
        self._check_size(file, (pixels.shape[1], pixels.shape[0]))
        if pixels.ndim == 3 and pixels.shape[-1] != self._channels:
            raise ValueError(
                f"images must all be grey, like the first ones, got colour in {file!r}: channels=3 reads all as RGB"
            )
        return pixels if pixels.ndim == 3 else pixels[..., None].repeat(self._channels, -1)

    def _read(self, file: str) -> np.ndarray:
        """The pixels of a file `[row, col]` or `[row, col, channel]`, cropped or prepared."""
        try:
            with Image.open(file) as opened:
                image = _plain(opened)
                if self._prepare is not None:
                    return _pixels(self._prepare(_in_rgb(image)))
                return np.array(image if self._crop is None else self._crop(image))
        except ValueError as error:
            raise ValueError(f"image {file!r} cannot be used: {error}") from error
        except Exception as error:  # Pillow raises many types for broken files
            raise _unreadable(file, error) from error

    def _check_size(self, file: str, size: tuple[int, int]) -> None:
        if self._crop is None and size != (self._cols, self._rows):
            raise ValueError(
                f"images must have the same size, got {size[0]}x{size[1]} for {file!r} and {self._cols}x{self._rows} "
                f"for {self._files[0]!r}: pass size to resize and crop all of them"
            )


def fingerprint(prepare: Prepare) -> str:
    """What tells one way to prepare photos from another: a digest of what it makes of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (400, 300, 3), np.uint8)
    return hashlib.sha256(_pixels(prepare(Image.fromarray(noise))).tobytes()).hexdigest()


def _pixels(x: Tensor) -> np.ndarray:
    """A prepared image as pixels `[row, col, channel]`: bytes, where normalising and back has only rounded these."""
    values = 255 * x.movedim(0, -1).numpy()
    whole = np.rint(values)
    return whole.astype(np.uint8) if np.abs(values - whole).max() < _OF_A_BYTE else x.movedim(0, -1).numpy()


def _in_rgb(image: Image.Image) -> Image.Image:
    """An image of `_plain` in 8 bits."""
    if image.mode == "F":
        image = Image.fromarray(np.rint(255 * np.asarray(image)).astype(np.uint8))
    return image.convert("RGB")


def to_tensor(images: np.ndarray) -> Tensor:
    """Images `[..., row, col, channel]`, uint8 or floating in [0, 1], as float32 `[..., channel, row, col]`."""
    x = torch.from_numpy(np.moveaxis(images.astype(np.float32, copy=False), -1, -3)).contiguous()
    return x / 255 if images.dtype == np.uint8 else x


def _header(file: str) -> tuple[str, tuple[int, int]]:
    try:
        with Image.open(file) as image:
            return image.mode, image.size
    except Exception as error:  # Pillow raises many types for broken files
        raise _unreadable(file, error) from error


def _unreadable(file: str, error: Exception) -> ValueError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ValueError(f"data must be readable images, got {file!r}: {reason}")


def _is_grey(mode: str) -> bool:
    return mode in ("1", "L", "LA", "F") or mode.startswith("I")


def _plain(image: Image.Image) -> Image.Image:
    """The image in mode `L`, `RGB`, or `F` with values in [0, 1]."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _deep(image)
    if not image.has_transparency_data:
        return image.convert("L" if _is_grey(image.mode) else "RGB")
    with_alpha = image.convert("RGBA")
    if with_alpha.getchannel("A").getextrema() != (255, 255):
        raise ValueError(_TRANSPARENT)
    return image.convert("L") if _is_grey(image.mode) else with_alpha.convert("RGB")


def _deep(image: Image.Image) -> Image.Image:
    """A grey image with more than 8 bits."""
    tags = getattr(image, "tag_v2", {})
    # Pillow does not handle TIFF files that count from white, or have 12 of 16 bits.
    if tags and tags.get(_TIFF_PHOTOMETRIC, _BLACK_IS_ZERO) != _BLACK_IS_ZERO:
        raise ValueError("its zero is white: save it as 8 or 16 bits of grey with zero for black")
    if image.mode == "F":
        values = np.asarray(image)
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= 1):  # this form also rejects NaN
            raise ValueError(f"its floats must lie in [0, 1], got values from {low:.9g} to {high:.9g}")
        return Image.fromarray(values)
    has_16_bits = image.mode != "I" or image.format in _WHOLE_NUMBERS_OF_16_BITS
    if not has_16_bits or tags.get(_TIFF_BITS, (16,)) != (16,):
        raise ValueError("the range of its integers is not known: save it as 8 or 16 bits of grey")
    values = np.asarray(image)
    if (values == image.info.get("transparency")).any():
        raise ValueError(_TRANSPARENT)
    return Image.fromarray(values.astype(np.float32) / 65535)
