"""The explorer's page holds what the maps hold, is not too large, and no text in it becomes markup."""

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import base, make_folder, refused, run
from explored_maps import HOSTILE, Page, explored_maps
from synthetic_maps import make_maps

import boundarygeo as bg
from boundarygeo.explorer import explorer_page
from boundarygeo.explorer.build import IMAGE_BYTES
from boundarygeo.explorer.encoding import MISSING, encoded, encoded_symmetric, script_json


def decoded(packed: dict[str, Any]) -> np.ndarray:
    """What the page's script reads, by a second implementation."""
    whole = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), "<i2").astype(float)
    values = packed["offset"] + packed["scale"] * whole
    values[whole == MISSING] = np.nan
    return values.reshape(packed["shape"])


def content_of(maps: bg.BoundaryMaps, **settings) -> dict[str, Any]:
    return Page(explorer_page(maps, **settings)).content


@pytest.mark.parametrize("largest", [1e-8, 1.0, 3e6])
def test_values_come_back_to_half_a_step(largest: float) -> None:
    values = np.random.default_rng(0).uniform(-largest, largest, (3, 4, 5))
    values[0, 1, 2], values[1, 0, 0] = np.nan, 0
    packed = encoded_symmetric(values)
    again = decoded(packed)
    assert np.array_equal(np.isnan(again), np.isnan(values))
    assert np.nanmax(np.abs(again - values)) <= packed["scale"] / 2 * (1 + 1e-9)
    assert packed["scale"] <= largest / 32767
    assert again[1, 0, 0] == 0


@pytest.mark.parametrize("values", [np.zeros((2, 3)), np.full((2, 3), np.nan), np.zeros((0, 3))])
def test_arrays_without_a_magnitude_come_back(values: np.ndarray) -> None:
    assert np.array_equal(decoded(encoded_symmetric(values)), values, equal_nan=True)


def test_whole_numbers_are_exact_and_what_does_not_fit_is_refused() -> None:
    labels = np.array([[-1, 0], [9, 32767]], dtype=np.int16)
    assert np.array_equal(decoded(encoded(labels)), labels)
    with pytest.raises(ValueError, match="values must be within 32767 steps of the offset, got 32768"):
        encoded(np.array([-32768]))  # means NaN
    with pytest.raises(ValueError, match="got inf"):
        encoded(np.array([np.inf]))


def test_page_holds_the_maps() -> None:
    maps = explored_maps()
    assert maps.origin is not None
    content = content_of(maps)
    assert np.array_equal(decoded(content["labels"]), maps.labels)
    margin = decoded(content["margin"])
    assert np.array_equal(np.isnan(margin), maps.margin.isnan())
    assert np.nanmax(np.abs(margin - maps.margin.numpy())) < 1e-3
    assert content["probability"] is None
    levels = 255 * decoded(content["images"]["origin"])
    assert np.abs(levels - np.rint(levels)).max() < 1e-9  # 8-bit images are exact
    assert np.array_equal(np.rint(levels), (255 * maps.origin).round())
    assert np.abs(decoded(content["images"]["axes"]) - maps.axes.numpy()).max() < 1e-4
    assert content["u"][4] == content["v"][4] == 0
    assert content["u"] == pytest.approx(maps.u.tolist())
    assert [each["name"] for each in content["classes"]] == ["aeroplane", "bird", "cat", "deer"]
    assert [each["color"] for each in content["classes"]] == ["#dd7700", "#442299", "#77ccff", "#aa0000"]
    assert content["true"] == [0, 1, 2, 3]


def test_cells_names_and_title_are_those_asked_for() -> None:
    maps = explored_maps()
    page = Page(explorer_page(maps, cells=[2, 0], class_names=["a", "b", "c", "d"], title="Two"))
    assert np.array_equal(decoded(page.content["labels"]), maps.labels[[2, 0]])
    assert page.content["index"] == [2, 0]
    assert np.abs(decoded(page.content["images"]["axes"]) - maps.axes[[2, 0]].numpy()).max() < 1e-4
    assert [each["name"] for each in page.content["classes"]] == ["a", "b", "c", "d"]
    assert page.text["title"].strip() == "Two"
    with pytest.raises(ValueError, match="class_names must have a name for class 3, got 2 names"):
        explorer_page(maps, class_names=["a", "b"])
    with pytest.raises(ValueError, match="cells must be between 0 and 3, got 4"):
        explorer_page(maps, cells=[4])
    with pytest.raises(TypeError, match="maps must be a BoundaryMaps, got str"):
        explorer_page("maps.zarr")  # type: ignore[arg-type]


def test_only_frequent_classes_are_in_the_legend_and_planes_that_do_not_exist_count_for_nothing() -> None:
    labels = np.arange(2 * 81).reshape(2, 9, 9) % 30
    labels[0, 0, :5] = 31  # more pixels than the others have, where it exists
    content = content_of(make_maps(labels, valid=[True, False], true_labels=[7, 7]))
    named = [each["number"] for each in content["classes"] if each["named"]]
    assert len(named) == 20
    assert 7 not in named  # white wherever it appears
    assert 31 in named
    assert max(each["number"] for each in content_of(make_maps(labels, valid=[False, True]))["classes"]) == 29
    assert content_of(make_maps(labels, valid=[False, False], true_labels=None))["classes"] == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"origin": None, "axes": None}, "The planes were not kept"),
        ({"bounds": None}, "The planes were not kept"),
        ({"origin": torch.rand(4, 2), "axes": torch.rand(4, 2, 2)}, r"Inputs of shape \[2\] are not images"),
        ({"origin": torch.rand(4, 2, 3, 3), "axes": torch.rand(4, 2, 2, 3, 3)}, r"shape \[2, 3, 3\] are not images"),
    ],
)
def test_maps_without_images_say_why(changes: dict[str, Any], why: str) -> None:
    assert re.search(why, content_of(explored_maps(**changes))["images"])


def test_images_without_channels_are_grey() -> None:
    images = content_of(explored_maps((5, 7)))["images"]
    assert (images["origin"]["shape"], images["axes"]["shape"]) == ([4, 1, 5, 7], [4, 2, 1, 5, 7])


def test_origins_outside_the_bounds_come_back() -> None:
    origin = torch.linspace(-0.4, 1.3, 4 * 105).view(4, 3, 5, 7)  # the middle of a plane through three images
    images = content_of(explored_maps(origin=origin))["images"]
    assert np.abs(decoded(images["origin"]) - origin.numpy()).max() < 2e-5
    assert (images["low"], images["high"]) == (0, 1)


def test_large_images_are_averaged_until_they_fit() -> None:
    maps = explored_maps((3, 150, 151), maps=20)
    images = content_of(maps)["images"]
    side = images["averaged"]
    assert side == 2
    small = decoded(images["origin"])
    assert small.shape == (20, 3, 75, 76)
    assert 6 * small.size <= IMAGE_BYTES < 6 * maps.origin.numel()
    assert small[3, 1, 4, 5] == pytest.approx(float(maps.origin[3, 1, 8:10, 10:12].mean()), abs=1e-4)
    assert small[3, 1, 4, 75] == pytest.approx(float(maps.origin[3, 1, 8:10, 150:].mean()), abs=1e-4)  # half a square


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 224, 224)])
def test_a_hundred_maps_fit_in_15_megabytes_whatever_they_hold(shape: tuple[int, ...]) -> None:
    # Noise, which nothing compresses, with a margin at every pixel: no real result is larger.
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, (100, 129, 129))
    changes = {"margin": torch.randn(labels.shape), "true_labels": labels[:, 0, 0]}
    planes = {"origin": torch.rand(1, *shape).expand(100, *shape), "axes": torch.randn(100, 2, *shape)}
    page = explorer_page(make_maps(labels, bounds=(0.0, 1.0), **changes, **planes))
    assert 2e6 < len(page.encode()) < 15e6


def test_json_cannot_end_its_script() -> None:
    text = script_json({"name": HOSTILE})
    assert json.loads(text) == {"name": HOSTILE}
    assert not set("<>&\u2028") & set(text)
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json([float("nan")])


def test_no_text_becomes_markup() -> None:
    plain, hostile = (
        Page(
            explorer_page(
                explored_maps(class_names=names, unit=names[0], axis_names=tuple(names[:2]), kind=names[2]),
                title=names[0] + "{{script}}",
            )
        )
        for names in (["a", "b", "c", "d"], HOSTILE)
    )
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert hostile.text["title"].strip() == hostile.text["h1"].strip() == HOSTILE[0] + "{{script}}"
    assert [each["name"] for each in hostile.content["classes"]][2:] == HOSTILE[2:]


def test_page_loads_nothing() -> None:
    text = explorer_page(explored_maps())
    page = Page(text)
    assert not [tag for tag, attributes in page.tags if {"src", "href", "srcset"} & set(attributes) or tag == "link"]
    assert not re.findall(r"https?:|@import|url\(", text)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_stores_of_before_planes_were_kept_load_and_can_be_explored() -> None:
    dataset = explored_maps().to_xarray().drop_vars(["origin", "axes"])
    del dataset.attrs["bounds"], dataset.attrs["class_names"]
    maps = bg.BoundaryMaps.from_xarray(dataset)
    assert (maps.origin, maps.axes, maps.bounds, maps.class_names) == (None,) * 4
    content = content_of(maps)
    assert content["images"].startswith("The planes were not kept")
    assert content["classes"][3]["name"] == "class 3"


# ---- the command


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_folder(tmp_path_factory.mktemp("cli"))
    explored_maps().save(folder / "maps.zarr")
    return folder


def test_command_writes_a_page_of_what_maps_saved(
    stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, page = tmp_path / "maps.zarr", tmp_path / "new" / "page.html"
    assert run(capsys, *base(stores), "--examples", 3, "--resolution", 9, "--out", store)[0] == 0
    status, said, _ = run(capsys, "explore", store, "--out", page, "--title", "My <net>")
    assert status == 0
    assert said == f"saved {page} (3 maps, 0.0 MB)\n"
    maps = bg.load(store)
    assert isinstance(maps, bg.BoundaryMaps)
    assert page.read_text(encoding="utf-8") == explorer_page(maps, title="My <net>")
    content = Page(page.read_text(encoding="utf-8")).content
    assert {each["name"] for each in content["classes"]} <= {"0", "1"}
    assert (content["images"]["shape"], content["margin"]["shape"]) == ([3, 8, 8], [3, 9, 9])


def test_settings_reach_the_page(stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    page.write_text(explorer_page(explored_maps()), encoding="utf-8")
    words = [
        "explore",
        stores / "maps.zarr",
        "--out",
        page,
        "--examples",
        2,
        "--class-names",
        "w, x,y,z",
        "--overwrite",
    ]
    assert run(capsys, *words)[0] == 0
    content = Page(page.read_text(encoding="utf-8")).content
    assert content["maps"] == 2
    assert [each["name"] for each in content["classes"]] == ["w", "x", "y", "z"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["maps.zarr", "--out", "page.png"], "--out must end in .html, .htm"),
        (["maps.zarr", "--out", "old.html"], "must not exist yet"),
        (["nothing.zarr", "--out", "page.html"], "must be a Zarr store"),
        (["lines.zarr", "--out", "page.html"], "RESULT must hold boundary maps"),
        (["maps.zarr", "--out", "page.html", "--examples", "0"], "--examples must be at least 1"),
        (["maps.zarr", "--out", "page.html", "--class-names", "a,b"], "must have a name for class 3, got 2 names"),
        (["maps.zarr", "--out", "folder.html", "--overwrite"], "--out must be a file"),
        (["maps.zarr"], "Missing option"),
    ],
)
def test_errors_are_one_line_and_write_nothing(
    words: list[str], complaint: str, stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("maps.zarr").symlink_to(stores / "maps.zarr")
    Path("old.html").write_text("old")
    Path("folder.html").mkdir()
    if "lines.zarr" in words:
        lines = [*base(stores, "lines"), "--examples", 2, "--points", 3, "--out", "lines.zarr"]
        assert run(capsys, *lines)[0] == 0
    before = sorted(tmp_path.iterdir())
    assert complaint in refused(capsys, "explore", *words)
    assert sorted(tmp_path.iterdir()) == before
    assert Path("old.html").read_text() == "old"
