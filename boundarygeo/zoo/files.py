"""Labelled images from user files: a folder or tar archive of images, or an .npz file of arrays."""

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS
from tqdm.auto import tqdm

from boundarygeo.zoo.images import Crop, LazyImages, Prepare, fingerprint

SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "validation")}
"""Folder names of each split; the first that contains class folders is read."""

_CACHE_FORMAT = 2


class Arrays(NamedTuple):
    """One split, as read: image files, or arrays `[example, row, col]` or with channels last, uint8 or floating."""

    images: np.ndarray | LazyImages
    labels: np.ndarray
    class_names: tuple[str, ...]


def cache_folder() -> Path:
    """Folder for downloads and decoded archives: `$BOUNDARYGEO_CACHE`, else `~/.cache/boundarygeo`."""
    folder = os.environ.get("BOUNDARYGEO_CACHE") or Path.home() / ".cache" / "boundarygeo"
    return Path(folder).expanduser()


def read_npz(path: Path, split: str) -> Arrays:
    """Read one split of an .npz file in the Keras layout: `x_train`, `y_train`, `x_test`, `y_test`.

    Classes are named by their numbers. A file without training arrays has a test split only.
    """
    wanted = [f"x_{split}", f"y_{split}"]
    try:
        # Opened here because np.load leaves its own handle open if the file is broken.
        with path.open("rb") as file:
            content = np.load(file, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise ValueError("a single array, not an .npz file")
            missing = [key for key in wanted if key not in content]
            if missing:
                raise ValueError(f"no {' and '.join(missing)} (found: {', '.join(content) or 'nothing'})")
            images, labels = (content[key] for key in wanted)
            others = [content[key] for key in ("y_train", "y_test") if key in content and key not in wanted]
    except Exception as error:  # broken files raise errors of zip, zlib, pickle and more
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"data must be a readable .npz file with {' and '.join(wanted)}, got {str(path)!r}: {reason}"
        ) from error
    for y in (labels, *others):
        if y.dtype.kind not in "iu" or y.size == 0 or y.min() < 0:
            raise ValueError(f"labels in {str(path)!r} must be integers from 0, got {y.dtype} {y.shape}")
    classes = 1 + max(int(y.max()) for y in (labels, *others))
    if labels.shape == (len(labels), 1):  # Keras stores CIFAR labels in a column
        labels = labels[:, 0]
    return Arrays(images, labels, tuple(str(number) for number in range(classes)))


def read_images(
    path: Path,
    split: str,
    *,
    limit: int | None = None,
    channels: int | None = None,
    crop: Crop | None = None,
    prepare: Prepare | None = None,
    progress: bool = True,
) -> Arrays:
    """Read one split of a folder or tar archive of images in the layout of torchvision's `ImageFolder`.

    The layout is `train/<class>/*` and `test/<class>/*`, or `<class>/*` for a test split only; `val` or `validation` is
    the test split if `test` has no class folders. Hidden files and folders are skipped. Images are in a fixed random
    order, so that the first few cover many classes. Those of a folder are decoded on use; those of an archive at once,
    and stored in `cache_folder()`.
    """
    options: dict[str, Any] = {"channels": channels, "crop": crop, "prepare": prepare, "progress": progress}
    if path.is_dir():
        found = {child.name for child in path.iterdir() if child.is_dir() and any(_visible_folders(child))}
        files, labels, class_names = _list_images(path / _choose_folder(found, split, path))
        images = LazyImages(files[:limit], **options)
        return Arrays(images, labels[:limit], class_names)
    if not path.is_file() or not tarfile.is_tarfile(path):
        raise ValueError(f"data must be a folder or a tar archive of images, got {str(path)!r}")
    status = path.stat()
    key = f"{_CACHE_FORMAT} {path.resolve()} {status.st_size} {status.st_mtime_ns} {split} {channels} {crop}"
    if prepare is not None:
        key += f" {fingerprint(prepare)}"
    decoded = cache_folder() / f"decoded-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not decoded.exists():
        _decode_archive(path, split, decoded, options)
    with np.load(decoded, allow_pickle=False) as content:
        class_names = tuple(content["class_names"].tolist())
        return Arrays(content["images"][:limit], content["labels"][:limit], class_names)


def _decode_archive(path: Path, split: str, decoded: Path, options: dict[str, Any]) -> None:
    decoded.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=decoded.parent) as scratch:
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        try:
            with tarfile.open(path) as archive:
                members = [(member, PurePosixPath(member.name).parts) for member in archive]
                found = {parts[0] for _, parts in members if len(parts) > 2 and not parts[1].startswith(".")}
                folder = _choose_folder(found, split, path)
                wanted = [member for member, parts in members if not folder or parts[:1] == (folder,)]
                archive.extractall(unpacked, wanted, filter="data")
        except (tarfile.TarError, OSError, EOFError) as error:
            raise ValueError(f"data must be a whole, safe tar archive, got {str(path)!r}: {error}") from error
        try:
            files, labels, class_names = _list_images(unpacked / folder)
            images = _decode(LazyImages(files, **options), options["progress"])
        except ValueError as error:  # name the user's file, not our deleted copy
            raise ValueError(str(error).replace(str(unpacked), str(path))) from error
        partial = Path(scratch) / decoded.name
        np.savez(partial, images=images, labels=labels, class_names=np.array(class_names))
        partial.replace(decoded)


def _decode(images: LazyImages, progress: bool) -> np.ndarray:
    """All images, in bytes if none has more than 8 bits."""
    count, channels, rows, cols = images.shape
    decoded = np.empty((count, rows, cols, channels), np.uint8)
    for number in tqdm(range(count), "images", disable=None if progress else True, leave=False):
        pixels = images.pixels(number)
        if pixels.dtype != decoded.dtype:
            decoded, pixels = _to_floats(decoded), _to_floats(pixels)
        decoded[number] = pixels
    return decoded


def _to_floats(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.float32 else pixels.astype(np.float32) / 255


def _choose_folder(found: Collection[str], split: str, path: Path) -> str:
    """The folder of the split, which has class folders; the root itself if there are no split folders."""
    for name in SPLIT_FOLDERS[split]:
        if name in found:
            return name
    others = [name for names in SPLIT_FOLDERS.values() for name in names if name in found]
    if split == "train" or others:
        wanted = " or ".join(f"{name}/<class>/<image>" for name in SPLIT_FOLDERS[split])
        instead = f" but {', '.join(others)}" if others else ""
        raise ValueError(f"data must have a {split} split, {wanted}, got none{instead} in {str(path)!r}")
    return ""


def _visible_folders(folder: Path | str) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


class _VisibleImages(ImageFolder):
    """An `ImageFolder` that skips hidden files and folders."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root), is_valid_file=self._is_visible_image)

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        classes = _visible_folders(directory)
        if not classes:
            raise FileNotFoundError(f"Couldn't find any class folder in {directory}.")
        if all(name.isdecimal() for name in classes):
            classes.sort(key=int)  # as text, "10" would come before "2"
        return classes, {name: number for number, name in enumerate(classes)}

    def _is_visible_image(self, file: str) -> bool:
        return file.lower().endswith(IMG_EXTENSIONS) and f"{os.sep}." not in file.removeprefix(str(self.root))


def _list_images(root: Path) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    """Files in random order, their labels, and the class names."""
    try:
        folder = _VisibleImages(root)
    except FileNotFoundError as error:
        raise ValueError(
            f"data must have images in one folder per class, got {str(root)!r}: {str(error).splitlines()[0]}"
        ) from error
    if len(folder.classes) < 2:
        raise ValueError(f"{str(root)!r} must have two or more class folders, got {folder.classes}")
    order = torch.randperm(len(folder.samples), generator=torch.Generator().manual_seed(0)).tolist()
    files = [folder.samples[number][0] for number in order]
    return files, np.array([folder.targets[number] for number in order], np.int64), tuple(folder.classes)
