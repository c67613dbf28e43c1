"""Image files: pixel formats, sizes, and reading of only what is indexed.

Situations of each kind:
right values: PNG of 1, 2, 4, 8 and 16 bits of grey, grey with alpha, RGB and RGBA of 8 and 16 bits, with an unused
    transparent colour; palettes with and without transparency; PGM of 8, 10 and 16 bits; TIFF of floats and of 16 bits
    in both byte orders; BMP; JPEG in CMYK and grey; an EXIF orientation, which is not applied.
refused, with the file: transparent pixels (alpha, palette, colour key of 8 and 16 bits), floats outside [0, 1] or NaN,
    integers of 12, 16 (signed) and 32 bits, zero as white, truncated and empty files.
channels: all grey; grey among colour, first or later; colour behind 100 grey files; `channels=1` and `3`.
sizes: `size` alone, with `resize`, of rows and columns; images upright, wide, of floats; a crop that is too large.
indices: numbers, slices, lists, tensors, masks, arrays, pairs with rows and columns.

Files are written byte by byte where Pillow would have to agree with itself; resizing is compared with torchvision.
"""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet18_Weights
from torchvision.transforms import v2

from boundarygeo.zoo import LazySplit, load_data
from boundarygeo.zoo.images import Crop, LazyImages

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


def png(raw: bytes, kind: int, bits: int, width: int = 2, **chunks: bytes) -> bytes:
    """A PNG file of two rows, each of them unfiltered."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    half = len(raw) // 2
    body = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, 2, bits, kind, 0, 0, 0))]
    body += [chunk(name.encode(), content) for name, content in chunks.items()]
    body += [chunk(b"IDAT", zlib.compress(b"\0" + raw[:half] + b"\0" + raw[half:])), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def tiff(raw: bytes, bits: int, *, photometric: int = 1, sample: int = 1, order: str = "<") -> bytes:
    """A grey TIFF file of 2×2 pixels in one strip."""
    tags = [
        (256, 2), (257, 2), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 2), (279, len(raw)),
        (339, sample),
    ]  # fmt: skip
    entries = b"".join(struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    start = struct.pack(order + "HI", 42, 8 + len(raw))
    return (b"II" if order == "<" else b"MM") + start + raw + struct.pack(order + "H", len(tags)) + entries + bytes(4)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def palette_image(**options: object) -> bytes:
    image = Image.new("P", (2, 2))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 1, 0])
    return saved(image, "PNG", **options)


def read(content: bytes, tmp_path: Path, **options: int) -> torch.Tensor:
    (tmp_path / "image").write_bytes(content)
    return LazyImages([str(tmp_path / "image")], **options)[0]


def of_grey(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, 2, 2)


def of_colours(*colours: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(colours, dtype=torch.float64).T.reshape(3, 2, 2)


SHORTS = (0, 1000, 40000, 65535)
FLOATS = (0.0, 0.125, 0.7, 1.0)
GREYS = of_grey(*(value / 65535 for value in SHORTS))
COLOURS = [(1, 2, 3), (40, 50, 60), (255, 0, 128), (9, 9, 9)]
BYTES = bytes(value for colour in COLOURS for value in colour)
OPAQUE = bytes(value for colour in COLOURS for value in (*colour, 255))
COLOUR = of_colours(*COLOURS) / 255
WIDE = np.array([[300, 60000, 65535], [1, 256, 32768], [0, 0, 0], [511, 512, 513]])
PALETTE_COLOURS = of_colours((10, 20, 30), (40, 50, 60), (40, 50, 60), (10, 20, 30)) / 255

RIGHT = {
    "1 bit": (png(b"\x40\x80", GREY, 1), of_grey(0, 1, 1, 0)),
    "2 bits": (png(b"\x10\xe0", GREY, 2), of_grey(0, 1 / 3, 1, 2 / 3)),
    "4 bits": (png(b"\x1f\x70", GREY, 4), of_grey(1 / 15, 1, 7 / 15, 0)),
    "8 bits": (png(bytes([0, 1, 200, 255]), GREY, 8), of_grey(0, 1 / 255, 200 / 255, 1)),
    "16 bits": (png(struct.pack(">4H", *SHORTS), GREY, 16), GREYS),
    "16 bits with an unused transparent grey": (
        png(struct.pack(">4H", *SHORTS), GREY, 16, tRNS=struct.pack(">H", 77)),
        GREYS,
    ),
    "grey, alpha": (png(bytes([0, 255, 1, 255, 200, 255, 255, 255]), GREY_ALPHA, 8), of_grey(0, 1 / 255, 200 / 255, 1)),
    "RGB": (png(BYTES, RGB, 8), COLOUR),
    "RGB with an unused transparent colour": (png(BYTES, RGB, 8, tRNS=struct.pack(">3H", 7, 7, 7)), COLOUR),
    "RGBA": (png(OPAQUE, RGBA, 8), COLOUR),
    "palette": (palette_image(), PALETTE_COLOURS),
    "palette with an unused transparent colour": (palette_image(transparency=2), PALETTE_COLOURS),
    "palette with opaque alpha": (palette_image(transparency=b"\xff\xff\xff"), PALETTE_COLOURS),
    "PGM": (b"P5 2 2 255\n" + bytes([0, 1, 200, 255]), of_grey(0, 1 / 255, 200 / 255, 1)),
    "PGM of 16 bits": (b"P5 2 2 65535\n" + struct.pack(">4H", *SHORTS), GREYS),
    "BMP": (saved(Image.frombytes("RGB", (2, 2), BYTES), "BMP"), COLOUR),
    "TIFF of floats": (tiff(struct.pack("<4f", *FLOATS), 32, sample=3), of_grey(*FLOATS)),
    "TIFF of 16 bits": (tiff(struct.pack("<4H", *SHORTS), 16), GREYS),
    "TIFF of 16 bits, big-endian": (tiff(struct.pack(">4H", *SHORTS), 16, order=">"), GREYS),
}


@pytest.mark.parametrize(("content", "expected"), RIGHT.values(), ids=RIGHT)
def test_pixel_formats(content: bytes, expected: torch.Tensor, tmp_path: Path) -> None:
    image = read(content, tmp_path)
    assert image.dtype == torch.float32
    torch.testing.assert_close(image.double(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", [RGB, RGBA])
def test_16_bits_of_colour_keep_their_upper_8(kind: int, tmp_path: Path) -> None:
    alpha = np.full((4, 1), 65535)
    values = WIDE if kind == RGB else np.concatenate([WIDE, alpha], 1)
    image = read(png(values.astype(">u2").tobytes(), kind, 16), tmp_path)
    torch.testing.assert_close(image.double(), of_colours(*WIDE.tolist()) / 65535, rtol=0, atol=1 / 256)


def test_grey_levels_of_10_bits(tmp_path: Path) -> None:
    image = read(b"P5 2 2 1023\n" + struct.pack(">4H", 0, 1, 500, 1023), tmp_path)
    torch.testing.assert_close(image.double(), of_grey(0, 1, 500, 1023) / 1023, rtol=0, atol=1 / 65535)


def test_jpeg(tmp_path: Path) -> None:
    for inks, colour in {
        (0, 0, 0, 0): (255, 255, 255),
        (255, 0, 0, 0): (0, 255, 255),
        (0, 0, 0, 128): (127,) * 3,
    }.items():
        image = read(saved(Image.new("CMYK", (8, 8), inks), "JPEG", quality=100), tmp_path)
        torch.testing.assert_close(image[:, 4, 4] * 255, torch.tensor(colour).float(), rtol=0, atol=3)
    assert read(saved(Image.new("L", (8, 8), 100), "JPEG"), tmp_path).shape == (1, 8, 8)


def test_the_orientation_in_exif_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    image = Image.new("L", (8, 4))
    image.paste(255, (0, 0, 4, 4))
    halves = read(saved(image, "JPEG", exif=exif, quality=100), tmp_path)
    assert halves.shape == (1, 4, 8)
    assert halves[..., :4].min() > 0.9
    assert halves[..., 4:].max() < 0.1


TRANSPARENT = "it has transparent pixels"
UNKNOWN = "the range of its integers is not known"
REFUSED = {
    "alpha": (png(OPAQUE[:-1] + b"\xfe", RGBA, 8), TRANSPARENT),
    "grey alpha": (png(bytes([0, 255, 1, 255, 2, 0, 3, 255]), GREY_ALPHA, 8), TRANSPARENT),
    "palette": (palette_image(transparency=1), TRANSPARENT),
    "colour key": (png(BYTES, RGB, 8, tRNS=struct.pack(">3H", 40, 50, 60)), TRANSPARENT),
    "grey key": (png(bytes([0, 1, 200, 255]), GREY, 8, tRNS=struct.pack(">H", 200)), TRANSPARENT),
    "16-bit key": (png(struct.pack(">4H", *SHORTS), GREY, 16, tRNS=struct.pack(">H", 1000)), TRANSPARENT),
    "large floats": (
        tiff(struct.pack("<4f", 0, 1, 2, 1.5), 32, sample=3),
        r"must lie in \[0, 1\], got values from 0 to 2",
    ),
    "NaN": (tiff(struct.pack("<4f", 0, 1, float("nan"), 1), 32, sample=3), "got values from nan to nan"),
    "just above 1": (tiff(struct.pack("<4f", 0, 1.000001, 0, 1), 32, sample=3), "from 0 to 1.00000095"),
    "32 bits": (tiff(struct.pack("<4I", 0, 1, 2, 3), 32), UNKNOWN),
    "signed": (tiff(struct.pack("<4h", 0, -1, 2, 3), 16, sample=2), UNKNOWN),
    "12 bits": (tiff(bytes(6), 12), UNKNOWN),
    "zero is white": (tiff(struct.pack("<4H", *SHORTS), 16, photometric=0), "its zero is white"),
    "empty": (b"", "cannot identify image file"),
    "cut": (png(BYTES, RGB, 8)[:50], ""),
    "no image": (b"no image", "cannot identify image file"),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_formats_without_a_clear_meaning_are_refused_with_the_file(
    content: bytes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path}/image.*{message}") as caught:
        read(content, tmp_path)
    assert "\n" not in str(caught.value)


def write(folder: Path, images: list[Image.Image]) -> list[str]:
    files = [str(folder / f"{number}.png") for number in range(len(images))]
    for image, file in zip(images, files, strict=True):
        image.save(file)
    return files


def test_grey_files_have_one_channel_and_are_repeated_among_colours(tmp_path: Path) -> None:
    grey, colour = Image.new("L", (2, 2), 51), Image.new("RGB", (2, 2), (255, 0, 102))
    files = write(tmp_path, [grey, grey, colour])
    assert LazyImages(files[:2]).shape == (2, 1, 2, 2)
    assert LazyImages(files[:2], channels=3)[1][:, 0, 0].tolist() == pytest.approx([0.2] * 3)
    for order in (files, files[::-1]):
        mixed = LazyImages(order)
        assert mixed.shape == (3, 3, 2, 2)
        assert mixed[1][:, 0, 0].tolist() == pytest.approx([0.2] * 3)
    assert LazyImages(files)[2][:, 1, 1].tolist() == pytest.approx([1, 0, 0.4])
    late = LazyImages([files[0]] * 100 + [files[2]])
    assert late.shape == (101, 1, 2, 2)
    for images in (late, LazyImages([*files[:2], files[2]], channels=1)):
        with pytest.raises(ValueError, match=r"got colour in '.*2.png': channels=3 reads all as RGB"):
            images[-1]


SCENES = [(300, 240), (240, 310), (256, 256), (500, 333), (224, 224), (150, 90)]


def scene(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def test_images_are_resized_and_cropped_as_torchvision_does(tmp_path: Path) -> None:
    images = [scene(*size) for size in SCENES]
    files = write(tmp_path, images)
    preset = ResNet18_Weights.DEFAULT.transforms(mean=(0, 0, 0), std=(1, 1, 1))
    assert torch.equal(LazyImages(files, crop=Crop(224, 224))[:], torch.stack([preset(image) for image in images]))
    for crop, other in (
        (Crop(64, 64, 64), [v2.Resize(64), v2.CenterCrop(64)]),
        (Crop(50, 40, 61), [v2.Resize(61), v2.CenterCrop((50, 40))]),
        (Crop(32, 32), [v2.Resize(37), v2.CenterCrop(32)]),
    ):
        expected = torch.stack([v2.Compose([*other, v2.PILToTensor()])(image) for image in images]) / 255
        assert torch.equal(LazyImages(files, crop=crop)[:], expected)


def test_rows_and_columns_are_covered_by_default(tmp_path: Path) -> None:
    # 300 wide must cover 210 columns, 240 high 84 rows: scaled by 210/300 · 256/224 = 0.8, to 240x192.
    files = write(tmp_path, [scene(300, 240)])
    resized = scene(300, 240).resize((240, 192), Image.Resampling.BILINEAR)
    expected = np.asarray(resized.crop((15, 54, 225, 138))) / np.float32(255)
    assert np.array_equal(LazyImages(files, crop=Crop(84, 210))[0].permute(1, 2, 0).numpy(), expected)


def test_images_of_more_than_8_bits_are_resized_in_floats(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (32, 1))
    Image.fromarray(ramp).save(tmp_path / "0.png")
    image = LazyImages([str(tmp_path / "0.png")], crop=Crop(16, 16, 16))[0, 0]
    # Two neighbours make one pixel; the crop begins at the 8th of 32, i.e. between the 16th and 17th of 64.
    torch.testing.assert_close(image[8], torch.linspace(16.5, 46.5, 16) / 63, rtol=0, atol=1e-3)


def test_a_crop_that_does_not_fit_is_refused_with_the_file(tmp_path: Path) -> None:
    files = write(tmp_path, [scene(40, 30)])
    with pytest.raises(
        ValueError, match=r"'.*0.png' cannot be used: .* resized with resize=30, is less than the crop of 50x20"
    ):
        LazyImages(files, crop=Crop(20, 50, 30))[0]


def doubled(photo: Image.Image) -> torch.Tensor:
    """The photo at twice its size, normalised and back, as a model's own pipeline gives it."""
    assert photo.mode == "RGB"
    x = torch.from_numpy(np.array(photo.resize((2 * photo.width, 2 * photo.height), 0))).movedim(-1, 0) / 255
    return ((x.double() - 0.45) / 0.225).float() * 0.225 + 0.45


def test_photos_are_prepared_in_rgb_and_rounding_is_undone(tmp_path: Path) -> None:
    files = write(tmp_path, [scene(6, 4), scene(6, 4).convert("L")])
    Image.fromarray(np.full((4, 6), 13107, np.uint16)).save(tmp_path / "deep.png")
    images = LazyImages([*files, str(tmp_path / "deep.png")], prepare=doubled)
    assert images.shape == (3, 3, 8, 12)
    for number, file in enumerate(files):
        plain = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).movedim(-1, 0) / 255
        assert torch.equal(images[number], plain.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert images[2].unique().tolist() == pytest.approx([0.2])
    halves = LazyImages(files, prepare=lambda photo: doubled(photo) / 2)[0]
    torch.testing.assert_close(halves, images[0] / 2)
    with pytest.raises(ValueError, match=r"must have the same size, got 10x8 for '.*1.png' and 12x8 for"):
        LazyImages(write(tmp_path, [scene(6, 4), scene(5, 4)]), prepare=doubled)[1]


def test_images_are_indexed_like_a_tensor(tmp_path: Path) -> None:
    images = LazyImages(write(tmp_path, [scene(width, 5) for width in [4] * 6]))
    files = [tmp_path / f"{number}.png" for number in range(6)]
    whole = torch.stack(
        [torch.from_numpy(np.asarray(Image.open(file)) / np.float32(255)).movedim(-1, 0) for file in files]
    )
    mask = torch.tensor([True, False, True, True, False, False])
    pairs = torch.tensor([[0, 5], [2, 2]])
    for index in (
        0, -1, slice(None), slice(2, 4), slice(0, 6, 2), slice(9, 12), [3, 1], torch.tensor([5, 0, 5]), mask, pairs,
        np.array([4, 2]), torch.tensor(3), torch.arange(0), (2, 0), (slice(1, 3), 0, slice(2)), ([4, 1], 2, 0),
        (-1, 0, 1, 2),
    ):  # fmt: skip
        assert torch.equal(images[index], whole[index])
    assert (len(images), images.shape) == (6, whole.shape)
    assert torch.equal(torch.stack(list(images)), whole)
    assert repr(images) == "LazyImages([6, 3, 5, 4])"
    for index in (6, (..., 0), None, ([1], [2])):
        with pytest.raises(IndexError):
            images[index]


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Path, set[int]]:
    """150 images of two classes, of which all but every tenth are cut behind their headers."""
    content = saved(Image.new("RGB", (6, 4), (0, 51, 102)), "PNG")
    for number in range(150):
        folder = tmp_path / "data" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03}.png").write_bytes(content if number % 10 == 0 else content[:45])
    return tmp_path / "data", set(range(0, 150, 10))


def test_only_what_is_indexed_is_decoded(damaged: tuple[Path, set[int]]) -> None:
    data = load_data(f"folder:{damaged[0]}")
    assert isinstance(data.test, LazySplit)
    assert (data.input_shape, len(data.test), data.test.y.shape) == ((3, 4, 6), 150, (150,))
    files = [Path(file) for file in data.test.x._files]
    whole = torch.tensor([number for number, file in enumerate(files) if int(file.stem) in damaged[1]])
    drawn = data.test.x[whole]
    assert drawn.shape == (15, 3, 4, 6)
    torch.testing.assert_close(drawn[7, :, 1, 1], torch.tensor([0, 0.2, 0.4]))
    with pytest.raises(ValueError, match="must be readable images"):
        data.test.load()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for name, size in (("a", (9, 6)), ("b", (6, 12))):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("L", size, 51).save(tmp_path / split / name / "0.png")
    return tmp_path


def test_sizes_of_a_data_set(folder: Path) -> None:
    spec = f"folder:{folder}"
    with pytest.raises(ValueError, match=r"must have the same size, got .*: pass size to resize"):
        load_data(spec)
    data = load_data(spec, size=4, channels=3)
    assert data.input_shape == (3, 4, 4)
    assert data.train.x.shape == (2, 3, 4, 4)
    torch.testing.assert_close(data.test.load().x, torch.full((2, 3, 4, 4), 0.2))
    assert load_data(spec, size=(4, 6), resize=6).input_shape == (1, 4, 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": 8}, "resize needs size"),
        ({"size": 0}, "size must be positive, got 0"),
        ({"size": (4, -1)}, r"size must be positive, got \(4, -1\)"),
        ({"size": 8, "resize": 7}, "resize must be at least size, .*8.*, got 7"),
        ({"channels": 2}, "channels must be 1 or 3, got 2"),
    ],
    ids=str,
)
def test_options_that_cannot_be_meant(folder: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data(f"folder:{folder}", **options)


@pytest.mark.parametrize("options", [{"size": 8}, {"channels": 3}], ids=str)
def test_arrays_are_not_resized(options: dict) -> None:
    with pytest.raises(ValueError, match="size and channels apply to folder:PATH only, got 'digits'"):
        load_data("digits", **options)


def test_the_training_split_has_the_channels_of_the_test_split(tmp_path: Path) -> None:
    def make(split: str, mode: Callable[[str], str]) -> None:
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            Image.new(mode(name), (2, 2)).save(tmp_path / split / name / "0.png")

    make("train", lambda _: "L")
    make("test", lambda name: "RGB" if name == "a" else "L")
    assert load_data(f"folder:{tmp_path}").train.x.shape == (2, 3, 2, 2)


def test_folders_that_are_named_by_number_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    for name in ("0", "2", "10", "011"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (2, 2), (int(name), 0, 0)).save(tmp_path / name / "one.png")
    data = load_data(f"folder:{tmp_path}")
    assert data.class_names == ("0", "2", "10", "011")
    pixels = (255 * data.test.x[:][:, 0, 0, 0]).round().long()
    assert torch.equal(pixels, torch.tensor([0, 2, 10, 11])[data.test.y])
