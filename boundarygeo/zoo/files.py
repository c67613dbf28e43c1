"""Labelled images from the user's own files: a folder or tar archive of images, or an .npz file of arrays."""

import hashlib
import os
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from torchvision.datasets import ImageFolder
from tqdm.auto import tqdm


class Arrays(NamedTuple):
    """One split as it was read.

    Attributes:
        images: `[example, row, col]` or `[example, row, col, channel]`, uint8 or floating.
        labels: integers `[example]`.
        class_names: name of each class.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


def cache_folder() -> Path:
    """The folder for downloads and decoded archives: `$BOUNDARYGEO_CACHE`, else `~/.cache/boundarygeo`."""
    folder = os.environ.get("BOUNDARYGEO_CACHE") or Path.home() / ".cache" / "boundarygeo"
    return Path(folder).expanduser()


def read_npz(path: Path, split: str) -> Arrays:
    """Read one split of an .npz file in the Keras layout: `x_train`, `y_train`, `x_test`, `y_test`.

    The classes are named by their numbers. A file without the training arrays is a test split only.

    Args:
        path: the file.
        split: `"train"` or `"test"`.

    Returns:
        The images and labels of the split.

    Raises:
        ValueError: if the file is missing, broken or pickled, or lacks the arrays.
    """
    wanted = [f"x_{split}", f"y_{split}"]
    try:
        # Opened here because np.load leaves its own handle open when the file turns out to be broken.
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise ValueError("a single array, not an .npz file")
            missing = [key for key in wanted if key not in content]
            if missing:
                raise ValueError(f"no {' and '.join(missing)} (found: {', '.join(content) or 'nothing'})")
            images, labels = (content[key] for key in wanted)
            others = [content[key] for key in ("y_train", "y_test") if key in content and key not in wanted]
    except Exception as error:  # broken files raise those of zip, zlib, pickle and more
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"data must be a readable .npz file with {' and '.join(wanted)}, got {str(path)!r}: {reason}"
        ) from error
    for y in (labels, *others):
        if y.dtype.kind not in "iu" or y.size == 0 or y.min() < 0:
            raise ValueError(f"labels in {str(path)!r} must be integers from 0, got {y.dtype} {y.shape}")
    classes = 1 + max(int(y.max()) for y in (labels, *others))
    if labels.shape == (len(labels), 1):  # the CIFAR arrays of Keras have their labels in a column
        labels = labels[:, 0]
    return Arrays(images, labels, tuple(str(number) for number in range(classes)))


def read_images(path: Path, split: str, *, limit: int | None = None, progress: bool = True) -> Arrays:
    """Read one split of a folder or tar archive of images in the layout of torchvision's `ImageFolder`.

    The layout is `train/<class>/*` and `test/<class>/*`, or `<class>/*` for a test split only. Images are
    read as RGB. They come in a random order that is the same every time, so that the first few are of many
    classes. An archive is unpacked as far as the split needs, once: the decoded images are kept in
    `cache_folder()`.

    Args:
        path: the folder or the archive.
        split: `"train"` or `"test"`.
        limit: number of images to read, or None for all.
        progress: whether to show a progress bar.

    Returns:
        The images, uint8 `[example, row, col, 3]`, and their labels.

    Raises:
        ValueError: if there is no such split, a class is empty, or an image is broken or of another size.
    """
    if path.is_dir():
        return _read_folder(path, split, limit, progress)
    if not path.is_file() or not tarfile.is_tarfile(path):
        raise ValueError(f"data must be a folder or a tar archive of images, got {str(path)!r}")
    status = path.stat()
    key = f"{path.resolve()} {status.st_size} {status.st_mtime_ns} {split}"
    decoded = cache_folder() / f"decoded-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not decoded.exists():
        _decode_archive(path, split, decoded, progress)
    with np.load(decoded, allow_pickle=False) as content:
        class_names = tuple(content["class_names"].tolist())
        return Arrays(content["images"][:limit], content["labels"][:limit], class_names)


def _decode_archive(path: Path, split: str, decoded: Path, progress: bool) -> None:
    decoded.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=decoded.parent) as scratch:
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        try:
            with tarfile.open(path) as archive:
                members = archive.getmembers()
                if any(_top_folder(member) in ("train", "test") for member in members):
                    members = [member for member in members if _top_folder(member) == split]
                archive.extractall(unpacked, members, filter="data")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise ValueError(f"data must be a whole, safe tar archive, got {str(path)!r}: {error}") from error
        try:
            images, labels, class_names = _read_folder(unpacked, split, None, progress)
        except ValueError as error:  # name the user's file and not our copy, which is deleted now
            raise ValueError(str(error).replace(str(unpacked), str(path))) from error
        partial = Path(scratch) / decoded.name
        np.savez(partial, images=images, labels=labels, class_names=np.array(class_names))
        partial.replace(decoded)


def _top_folder(member: tarfile.TarInfo) -> str:
    return next(iter(PurePosixPath(member.name).parts), "")


def _read_folder(path: Path, split: str, limit: int | None, progress: bool) -> Arrays:
    has_splits = any((path / name).is_dir() for name in ("train", "test"))
    root = path / split if has_splits else path
    if not root.is_dir() or (split == "train" and not has_splits):
        raise ValueError(f"data must have a {split} split, {split}/<class>/<image>, got none in {str(path)!r}")
    try:
        folder = ImageFolder(str(root))
    except FileNotFoundError as error:
        raise ValueError(
            f"data must have images in one folder per class, got {str(root)!r}: {str(error).splitlines()[0]}"
        ) from error
    if len(folder.classes) < 2:
        raise ValueError(f"data must have two or more class folders, got {folder.classes} in {str(root)!r}")
    order = torch.randperm(len(folder.samples), generator=torch.Generator().manual_seed(0))[:limit].tolist()
    files = [folder.samples[number][0] for number in order]
    first = _read_image(folder, files[0])
    images = np.empty((len(files), *first.shape), np.uint8)
    for row, file in enumerate(tqdm(files, "images", disable=None if progress else True, leave=False)):
        image = _read_image(folder, file)
        if image.shape != first.shape:
            raise ValueError(
                f"images must all be of one size, got {image.shape[1]}x{image.shape[0]} for {file!r} and "
                f"{first.shape[1]}x{first.shape[0]} for {files[0]!r}: resize them first"
            )
        images[row] = image
    labels = np.array([folder.targets[number] for number in order], np.int64)
    return Arrays(images, labels, tuple(folder.classes))


def _read_image(folder: ImageFolder, file: str) -> np.ndarray:
    try:
        return np.asarray(folder.loader(file))
    except OSError as error:
        raise ValueError(f"data must be readable images, got {file!r}: {error}") from error
