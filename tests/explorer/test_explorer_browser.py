"""The explorer in a real browser: what it shows for a pixel is what the data say."""

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explored_maps import EXTENT, HOSTILE, SIDE, explored_maps

from boundarygeo.explorer import explorer_page
from boundarygeo.maps.maps import BoundaryMaps
from boundarygeo.plots.maps import cell_images, colors_of

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("selenium") is None, reason="selenium is not installed: pip install '.[browser]'"
    ),
    pytest.mark.skipif(
        not (BROWSER and DRIVER),
        reason="no Chromium or Chrome with chromedriver is installed (Debian: chromium, chromium-driver)",
    ),
]

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,800",
)  # fmt: skip
HIDDEN = (0xD9, 0xDA, 0xDF)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver  # pyright: ignore[reportMissingImports]

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield started
    started.quit()


@pytest.fixture
def opened(driver: Any, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Opens the page of maps; at the end, nothing may have been loaded, refused or gone wrong."""
    from selenium.webdriver.support.ui import WebDriverWait  # pyright: ignore[reportMissingImports]

    def open_page(maps: BoundaryMaps, **settings: Any) -> None:
        path = tmp_path / "page.html"
        path.write_text(explorer_page(maps, **settings), encoding="utf-8")
        driver.get(path.as_uri())
        ready = "return document.body.dataset.ready || document.getElementById('notice').textContent.includes('not')"
        WebDriverWait(driver, 30, poll_frequency=0.02).until(lambda it: it.execute_script(ready))
        assert driver.execute_script("return document.body.dataset.ready") == "true", text(driver, "#notice")

    driver.get_log("browser")
    yield open_page
    # Reading the canvases, as these tests do, is answered by warnings that say it is slow.
    assert [entry for entry in driver.get_log("browser") if "willReadFrequently" not in entry["message"]] == []
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0


def find(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def text(driver: Any, selector: str) -> str:
    return driver.execute_script("return document.querySelector(arguments[0]).textContent", selector)


def pixels(driver: Any, selector: str) -> np.ndarray:
    """RGB of a canvas `[row, col, 3]`, from the top."""
    script = """const c = document.querySelector(arguments[0]);
        return [c.height, c.width, ...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]"""
    height, width, *values = driver.execute_script(script, selector)
    return np.array(values).reshape(height, width, 4)[..., :3]


def point_at(driver: Any, selector: str, row: int, col: int, *, side: int = SIDE) -> None:
    """Move the pointer to the middle of a pixel, and a bit to its upper right."""
    from selenium.webdriver.common.action_chains import ActionChains  # pyright: ignore[reportMissingImports]

    canvas = find(driver, f"{selector} canvas")
    size = canvas.size["width"]
    right, up = (((place + 0.6) / side - 0.5) * size for place in (col, row))
    ActionChains(driver).move_to_element_with_offset(canvas, round(right), -round(up)).perform()


def press(driver: Any, *keys: str, shift: bool = False) -> None:
    from selenium.webdriver.common.action_chains import ActionChains  # pyright: ignore[reportMissingImports]
    from selenium.webdriver.common.keys import Keys  # pyright: ignore[reportMissingImports]

    actions = ActionChains(driver)
    if shift:
        actions.key_down(Keys.SHIFT)
    for key in keys:
        actions.send_keys(getattr(Keys, key))
    if shift:
        actions.key_up(Keys.SHIFT)
    actions.perform()


def cell(number: int) -> str:
    return f"#grid .cell:nth-child({number + 1})"


def shown(driver: Any) -> tuple[int, ...]:
    """Map, row, column and label that the panel is about."""
    return tuple(int(find(driver, "#panel").get_attribute(f"data-{name}")) for name in ("map", "row", "col", "label"))


def assert_shows(driver: Any, maps: BoundaryMaps, number: int, row: int, col: int) -> None:
    """The panel says and draws what the maps hold for a pixel."""
    label = int(maps.labels[number, row, col])
    assert shown(driver) == (number, row, col, label)
    assert text(driver, "#fact-label").strip() == maps.class_names[label]
    assert text(driver, "#fact-true").split()[0] == maps.class_names[maps.true_labels[number]]
    for axis, values, place in (("u", maps.u, col), ("v", maps.v, row)):
        said = float(text(driver, f"#fact-{axis}").split()[0].replace("−", "-"))
        assert said == pytest.approx(float(values[place]), rel=6e-3, abs=1e-12)
    image = maps.inputs(number, torch.tensor([row]), torch.tensor([col]))[0]
    change = image - maps.origin[number]  # clipped, as the image is
    largest = float(change.abs().max())
    said = float(text(driver, "#perturbation figcaption").removeprefix("change ±").replace("−", "-"))
    assert said == pytest.approx(largest, rel=0.06, abs=1e-12)
    shades = 0.5 + change / (2 * (largest or 1))
    for name, expected in (("perturbed", image), ("example", maps.origin[number]), ("perturbation", shades)):
        drawn = pixels(driver, f"#{name} canvas").transpose(2, 0, 1)
        assert drawn.shape[1:] == expected.shape[1:]
        assert np.abs(drawn - 255 * expected.clamp(0, 1).numpy()).max() <= 0.51  # the rounding to grey levels


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 6, 4)])
@pytest.mark.parametrize("clip", [True, False])
def test_hovering_shows_label_image_and_coordinates(driver: Any, opened: Any, shape: Any, clip: bool) -> None:
    maps = explored_maps(shape, clip=clip)
    opened(maps)
    assert_shows(driver, maps, 0, SIDE // 2, SIDE // 2)
    for number, row, col in ((0, 0, 0), (1, 8, 0), (2, 2, 7), (3, 5, 5)):
        point_at(driver, cell(number), row, col)
        assert_shows(driver, maps, number, row, col)


def test_margins_are_those_of_the_pixel_or_of_the_nearest_that_has_one(driver: Any, opened: Any) -> None:
    maps = explored_maps()
    margin = maps.margin[1].numpy()
    opened(maps)
    for row, col in (*np.argwhere(np.isnan(margin))[:4], *np.argwhere(~np.isnan(margin))[::20]):
        point_at(driver, cell(1), row, col)
        said, *place = text(driver, "#fact-margin").replace("−", "-").split()
        rows, cols = np.nonzero(~np.isnan(margin))
        away = np.hypot(rows - row, cols - col)
        nearest = margin[rows, cols][away == away.min()]
        assert np.isclose(float(said), nearest, rtol=6e-3, atol=1e-3).any()
        assert (" ".join(place) == "") == (not np.isnan(margin[row, col]))


def test_cells_have_the_colours_of_the_figures(driver: Any, opened: Any) -> None:
    maps = explored_maps()
    opened(maps)
    images = cell_images(maps, np.arange(4), colors_of([maps], np.arange(4)))
    expected = np.rint(255 * images)[:, ::-1]  # the lowest row is drawn last
    for number in range(4):
        assert np.array_equal(pixels(driver, f"{cell(number)} canvas"), expected[number])


def test_clicking_enlarges_a_cell_and_back(driver: Any, opened: Any) -> None:
    maps = explored_maps()
    opened(maps)
    small = pixels(driver, f"{cell(2)} canvas")
    point_at(driver, cell(2), 6, 3)
    find(driver, cell(2)).click()
    assert not find(driver, "#grid").is_displayed()
    assert text(driver, "#large-title") == "Map 3 · example 2 · true class: cat"
    assert np.array_equal(pixels(driver, "#map canvas"), small)
    assert find(driver, "#map canvas").size["width"] > 400
    for row, col in ((8, 8), (0, 5), (6, 3)):
        point_at(driver, "#map", row, col)
        assert_shows(driver, maps, 2, row, col)
    ticks = [each.text for each in driver.find_elements("css selector", "#u-ticks span")]
    assert ticks == ["−0.25", "−0.125", "0", "0.125", "0.25"]
    assert float(ticks[-1]) == EXTENT
    find(driver, "#next").click()
    assert_shows(driver, maps, 3, 6, 3)
    assert not find(driver, "#next").is_enabled()
    assert np.array_equal(pixels(driver, "#map canvas"), pixels(driver, f"{cell(3)} canvas"))
    find(driver, "#back").click()
    assert find(driver, "#grid").is_displayed()
    assert not find(driver, "#large").is_displayed()


def test_legend_hides_classes_and_the_white_of_the_true_one(driver: Any, opened: Any) -> None:
    maps = explored_maps()
    opened(maps)
    true, label = 1, maps.labels[1].numpy()[::-1]
    before = pixels(driver, f"{cell(1)} canvas")
    bird = find(driver, '#legend [data-class="2"]')
    bird.click()
    assert bird.get_attribute("aria-pressed") == "false"
    after = pixels(driver, f"{cell(1)} canvas")
    assert (after[label == 2] == HIDDEN).all()
    assert np.array_equal(after[label != 2], before[label != 2])
    assert text(driver, "#legend-all") == "hide all"
    find(driver, "#legend-white").click()
    after = pixels(driver, f"{cell(1)} canvas")
    assert (after[label == true] == (0x44, 0x22, 0x99)).all()
    find(driver, "#legend-all").click()
    assert (pixels(driver, f"{cell(1)} canvas") == HIDDEN).all()
    assert text(driver, "#legend-all") == "show all"
    find(driver, cell(1)).click()  # what is hidden stays so in the large map
    assert (pixels(driver, "#map canvas") == HIDDEN).all()
    find(driver, "#legend-all").click()
    find(driver, "#legend-white").click()
    assert np.array_equal(pixels(driver, "#map canvas"), before)
    assert driver.find_elements("css selector", '#legend [aria-pressed="false"]') == []


def test_everything_works_from_the_keyboard(driver: Any, opened: Any) -> None:
    maps = explored_maps(side=33, valid=[True, False, True, True])
    opened(maps)
    focused = "return document.activeElement.getAttribute('aria-label')"
    for _ in range(20):
        press(driver, "TAB")
        if driver.execute_script(focused) == "Map 1 · example 0 · true class: aeroplane":
            break
    else:
        pytest.fail("the first map cannot be reached with the Tab key")
    outline = "const s = getComputedStyle(document.activeElement); return [s.outlineStyle, parseFloat(s.outlineWidth)]"
    style, width = driver.execute_script(outline)
    assert (style, width >= 2) == ("solid", True)
    assert_shows(driver, maps, 0, 16, 16)
    press(driver, "ARROW_RIGHT", "ARROW_RIGHT", "ARROW_UP")
    assert_shows(driver, maps, 0, 17, 18)
    press(driver, "ARROW_DOWN", "ARROW_LEFT", shift=True)
    assert_shows(driver, maps, 0, 7, 8)
    press(driver, "ARROW_DOWN", "ARROW_LEFT", shift=True)
    assert_shows(driver, maps, 0, 0, 0)  # the map ends there
    press(driver, "TAB")
    assert_shows(driver, maps, 2, 0, 0)  # the second plane does not exist
    press(driver, "ENTER")
    assert find(driver, "#map").is_displayed()
    assert driver.execute_script("return document.activeElement.id") == "map"
    press(driver, "ARROW_UP")
    assert_shows(driver, maps, 2, 1, 0)
    press(driver, "PAGE_UP")
    assert_shows(driver, maps, 0, 1, 0)
    assert text(driver, "#large-title").startswith("Map 1 ")
    press(driver, "HOME", "PAGE_DOWN", "PAGE_DOWN", "PAGE_DOWN")
    assert_shows(driver, maps, 3, 16, 16)
    press(driver, "ESCAPE")
    assert not find(driver, "#large").is_displayed()
    assert driver.execute_script(focused).startswith("Map 4 ")
    assert driver.execute_script("return document.activeElement.classList.contains('active')")


def test_screen_readers_are_told(driver: Any, opened: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait  # pyright: ignore[reportMissingImports]

    maps = explored_maps()
    opened(maps)
    point_at(driver, cell(3), 8, 0)
    WebDriverWait(driver, 5).until(lambda _: "Map 4" in text(driver, "#status"))
    label = int(maps.labels[3, 8, 0])
    assert f"Label here: {maps.class_names[label]}. FGSM sign direction −0.25" in text(driver, "#status")
    unnamed = """return [...document.querySelectorAll("button, [role=application], canvas[role=img]")]
        .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim())).length"""
    assert driver.execute_script(unnamed) == 0


def test_hostile_names_are_text(driver: Any, opened: Any) -> None:
    opened(
        explored_maps(class_names=tuple(HOSTILE), axis_names=(HOSTILE[0], HOSTILE[1]), unit=HOSTILE[1]),
        title=HOSTILE[0],
    )
    point_at(driver, cell(1), 3, 3)
    find(driver, cell(1)).click()
    assert driver.title == text(driver, "h1") == HOSTILE[0]
    assert text(driver, "#u-name").startswith(HOSTILE[0])
    assert text(driver, '#legend [data-class="1"]') == HOSTILE[1][:31] + "…" * (len(HOSTILE[1]) > 32)
    assert driver.execute_script("return document.body.dataset.broken") is None
    assert driver.execute_script("return document.images.length") == 0


def test_maps_that_hold_only_labels_say_so(driver: Any, opened: Any) -> None:
    opened(explored_maps(origin=None, axes=None, margin=None))
    point_at(driver, cell(1), 2, 6)
    assert shown(driver)[:3] == (1, 2, 6)
    assert not find(driver, "#pictures").is_displayed()
    assert "The planes were not kept" in find(driver, "#picture-note").text
    assert driver.find_elements("css selector", "#fact-margin") == []


def test_maps_without_true_classes_have_no_white(driver: Any, opened: Any) -> None:
    anchors = torch.tensor([[[-0.2, -0.2], [0.2, -0.2], [0.0, 0.9]]], dtype=torch.float64).expand(4, 3, 2)
    opened(explored_maps(true_labels=None, kind="through", anchors=anchors))
    assert driver.find_elements("css selector", "#legend-white, #fact-true") == []
    assert not (pixels(driver, f"{cell(1)} canvas") == 255).all(2).any()
    assert len(driver.find_elements("css selector", f"{cell(1)} .cross")) == 2  # the third lies outside


def test_planes_that_do_not_exist_are_no_maps(driver: Any, opened: Any) -> None:
    opened(explored_maps(valid=[False] * 4))
    assert find(driver, cell(2)).text == "zero gradient"
    assert not find(driver, "#panel").is_displayed()


def test_a_hundred_maps_fit_on_the_screen(driver: Any, opened: Any) -> None:
    labels = np.kron(np.random.default_rng(0).integers(0, 4, (100, 43, 43)), np.ones((3, 3), int))
    opened(explored_maps((3, 32, 32), maps=100, side=129, labels=labels))
    last = driver.execute_script("return document.querySelector('.cell:last-child').getBoundingClientRect().bottom")
    assert last <= driver.execute_script("return innerHeight") + 1
    assert find(driver, f"{cell(99)}").size["width"] >= 48
