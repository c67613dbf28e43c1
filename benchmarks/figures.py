"""The figures of the README, and a caption file beside each; `make figures`.

    python benchmarks/figures.py [NAME ...] [--device cuda]

Needs BOUNDARYGEO_DATA and `make mnist-models`; the picture of the explorer needs a Chromium with its driver and
selenium, and is left as it is without them. What is measured is saved in results/figures/NAME/, and a figure that finds
it there is only drawn: remove that folder to measure again. The caption says what the saved results say of themselves.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from real import mnist_network
from torch import Tensor

import boundarygeo as bg
from boundarygeo.directions import named_directions
from boundarygeo.explorer import explorer_page
from boundarygeo.zoo import Dataset, load_data, load_weights
from boundarygeo.zoo.models import resnet20

FIGURES = Path("figures")
STORES = Path("results/figures")
SEED = 0
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RESNET20 = "ResNet-20, weights of third parties (`resnet20-12fca82f.th` of akamaster/pytorch_resnet_cifar10)"
CIFAR10_TEST = "CIFAR-10 test split, JPEG copies (`cifar10-jpeg.tar`)"
MNIST_TEST = "MNIST test split (`mnist.npz`)"
WHO = ("MLP, seed 0", "MLP, seed 1", "CNN, seed 0", "CNN, seed 1")
FILES = tuple(f"`models/{arch}-mnist-seed{seed}.pt`" for arch in ("mlp", "small_cnn") for seed in (0, 1))


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: of its files, `figures/NAME.png` and `figures/NAME.md`.
        shows: the caption.
        model: networks, in words and files.
        data: where the examples are from, and how many there are.
        measure: makes the results, on a device.
        draw: makes the figure of the results, or the bytes of a picture; None where it cannot.
    """

    name: str
    shows: str
    model: str
    data: str
    measure: Callable[[str], list[bg.Result]]
    draw: Callable[[list], Drawing | Axes | bytes | None]

    def results(self, device: str) -> list[bg.Result]:
        """What was measured, from the store if it is there."""
        store = STORES / self.name
        if not store.is_dir():
            STORES.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{self.name}.", dir=STORES))
            for number, result in enumerate(self.measure(device)):
                result.save(partial / f"{number}.zarr")
            partial.rename(store)
        return [bg.load(path) for path in sorted(store.glob("*.zarr"), key=lambda path: int(path.stem))]

    def caption(self, results: Sequence[bg.Result]) -> str:
        """Markdown: what is seen, and where it came from."""
        made = [result.provenance for result in results]
        hashes = dict.fromkeys(one for each in made for one in each.model.split(", "))
        versions = dict.fromkeys(", ".join(f"{name} {v}" for name, v in each.versions.items()) for each in made)
        rows = {
            "command": f"`python benchmarks/figures.py {self.name}`",
            "measured": "<br>".join(f"`{command}`" for command in dict.fromkeys(each.command for each in made)),
            "seed": ", ".join(dict.fromkeys(str(each.seed) for each in made if each.seed is not None)) or "none drawn",
            "model": f"{self.model}; SHA-256 {', '.join(f'`{one}`' for one in hashes)}",
            "data": self.data,
            "device": ", ".join(dict.fromkeys(f"{each.device} ({each.precision})" for each in made)),
            "versions": "; ".join(versions),
            "cost": f"{sum(each.seconds for each in made):,.0f} s, {sum(each.forwards for each in made):,} forward and "
            f"{sum(each.backwards for each in made):,} backward passes",
        }
        table = "\n".join(f"| {name} | {text} |" for name, text in rows.items())
        return f"![{self.name}]({self.name}.png)\n\n{self.shows}\n\n| | |\n|---|---|\n{table}\n"


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs, their true classes, and their numbers in the test split."""

    x: Tensor
    y: Tensor
    index: Tensor


def examples(clf: bg.Classifier, data: Dataset, count: int) -> Examples:
    """The first that a classifier gets right, in the order in which the command line draws them."""
    order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(SEED))[: 2 * count + 100]
    x, y = data.test.x[order], data.test.y[order]
    right = (clf.predict(x) == y).nonzero()[:count, 0]
    return Examples(x[right], y[right], order[right])


def resnet20_examples(device: str, count: int = 100) -> tuple[bg.Classifier, Examples]:
    """The third-party ResNet-20 and images that it gets right."""
    folder = data_folder()
    module = resnet20()
    load_weights(module, f"{folder}/resnet20-12fca82f.th")
    clf = bg.Classifier(module, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), device=device)
    data = load_data(f"folder:{folder}/cifar10-jpeg.tar")
    return clf, examples(clf, data, count)


def planes_of(kind: str, clf: bg.Classifier, drawn: Examples) -> bg.Planes:
    """Planes of one kind through the examples."""
    if kind == "random":
        return bg.random_planes(drawn.x, drawn.y, seed=SEED, index=drawn.index)
    if kind == "fgsm_adversarial":
        return bg.fgsm_adversarial_planes(clf, drawn.x, drawn.y, index=drawn.index)
    return bg.fgsm_random_planes(clf, drawn.x, drawn.y, seed=SEED, index=drawn.index)


def resnet20_maps(kind: str, extent: float) -> Callable[[str], list[bg.Result]]:
    """Measures 100 boundary maps."""

    def measure(device: str) -> list[bg.Result]:
        clf, drawn = resnet20_examples(device)
        planes = planes_of(kind, clf, drawn)
        return [replace(bg.boundary_maps(clf, planes, extent=extent, keep=("margin", "planes")), class_names=CIFAR10)]

    return measure


def resnet20_pieces(device: str) -> list[bg.Result]:
    """Every affine piece along FGSM of the first example."""
    clf, drawn = resnet20_examples(device, 1)
    along = named_directions(clf, drawn.x, drawn.y, "fgsm", seed=SEED, index=drawn.index)
    line = bg.logit_lines(clf, drawn.x, drawn.y, direction=along, extent=1 / 255, points=3, index=drawn.index)
    return [bg.linear_pieces(clf, drawn.x, drawn.y, direction=along, extent=1 / 255), line]


def mnist_examples(clf: bg.Classifier, count: int) -> Examples:
    """Digits that a network gets right."""
    return examples(clf, load_data(f"npz:{data_folder()}/mnist.npz"), count)


def mnist_networks(device: str) -> dict[str, bg.Classifier]:
    """Two MLPs and two CNNs, by name."""
    kinds = (("mlp", 0), ("mlp", 1), ("small_cnn", 0), ("small_cnn", 1))
    return {
        name: mnist_network(arch, 1, seed=seed, device=device)[0] for name, (arch, seed) in zip(WHO, kinds, strict=True)
    }


def mnist_lines(device: str) -> list[bg.Result]:
    """Logits along FGSM of one digit."""
    clf = mnist_networks(device)[WHO[2]]
    drawn = mnist_examples(clf, 1)
    return [bg.logit_lines(clf, drawn.x, drawn.y, extent=0.5, index=drawn.index)]


def mnist_plane(device: str) -> list[bg.Result]:
    """One plane for three networks."""
    networks = mnist_networks(device)
    del networks[WHO[3]]
    drawn = mnist_examples(networks[WHO[0]], 1)
    planes = planes_of("fgsm_random", networks[WHO[0]], drawn)
    return [bg.boundary_maps(clf, planes, extent=0.4, resolution=257) for clf in networks.values()]


def mnist_dimension(device: str) -> list[bg.Result]:
    """Verified directions of an MLP, and which of them fool the other."""
    networks = mnist_networks(device)
    own, other = networks[WHO[0]], networks[WHO[1]]
    drawn = mnist_examples(own, 1000)
    found = bg.adversarial_dimension(
        own, drawn.x, drawn.y, eps=5.0, box="ignore", keep_directions=True, seed=SEED, index=drawn.index
    )
    sent = bg.transferred_dimension(other, drawn.x, found)
    return [replace(found, perturbations=None, owner=None, adversarial_label=None), sent]


def mnist_frames(device: str) -> list[bg.Result]:
    """Frames of the theory and optimised ones, inside the bounds, for an MLP and a CNN."""
    found = []
    for name, clf in mnist_networks(device).items():
        if name in (WHO[0], WHO[2]):
            drawn = mnist_examples(clf, 100)
            for method in ("gaas", "frame"):
                settings = {"eps": 5.0, "box": "feasible", "rule": "count", "seed": SEED, "index": drawn.index}
                found.append(bg.adversarial_dimension(clf, drawn.x, drawn.y, method=method, **settings))
    return found


def mnist_sequential(device: str) -> list[bg.Result]:
    """One direction after another, without the bounds and inside them."""
    found = []
    for name, clf in mnist_networks(device).items():
        if name in (WHO[0], WHO[2]):
            drawn = mnist_examples(clf, 100)
            for box in ("ignore", "feasible"):
                settings = {"box": box, "max_directions": 50, "seed": SEED, "index": drawn.index}
                found.append(bg.sequential_directions(clf, drawn.x, drawn.y, **settings))
    return found


def mnist_transfer(device: str) -> list[bg.Result]:
    """PGD examples of each network, sent to the others."""
    networks = mnist_networks(device)
    drawn = mnist_examples(networks[WHO[0]], 1000)
    return [bg.transfer_matrix(networks, drawn.x, drawn.y, eps=0.1, seed=SEED, index=drawn.index)]


def mnist_overlap(device: str) -> list[bg.Result]:
    """Subspaces that many perturbations span, for all pairs of three networks."""
    networks = mnist_networks(device)
    del networks[WHO[3]]
    drawn = mnist_examples(networks[WHO[0]], 100)
    settings = {"dimension": 10, "eps": 3.0, "seed": SEED, "index": drawn.index}
    return [bg.subspace_overlap(networks, drawn.x, drawn.y, **settings)]


def data_folder() -> str:
    """The folder of the data, or an end with one line."""
    return os.environ.get("BOUNDARYGEO_DATA") or sys.exit("set BOUNDARYGEO_DATA: see CONTRIBUTING.md")


def grid(results: list[bg.BoundaryMaps]) -> Drawing:
    """The grid of maps."""
    return bg.plots.map_grid(results[0], class_names=CIFAR10)


def pieces(results: list) -> Drawing:
    """Logits and breakpoints."""
    found, line = results
    return bg.plots.pieces(found, true_labels=line.true_labels, index=line.index, class_names=CIFAR10)


def explorer(results: list[bg.BoundaryMaps]) -> bytes | None:
    """A picture of the explorer in a browser, the pointer on one pixel; None without a browser."""
    try:
        from selenium import webdriver
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.support.ui import WebDriverWait
    except ImportError:
        return None
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if browser is None or driver is None:
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for option in ("--headless", "--no-sandbox", "--disable-gpu", "--force-device-scale-factor=1"):
        options.add_argument(option)
    page = STORES / "explorer.html"
    page.write_text(explorer_page(results[0], title="ResNet-20 on CIFAR-10"), encoding="utf-8")
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        window.set_window_size(1280, 930)
        window.get(page.resolve().as_uri())
        WebDriverWait(window, 30).until(lambda it: it.execute_script("return document.body.dataset.ready"))
        cell = window.find_element("css selector", "#grid .cell:nth-child(24) canvas")
        ActionChains(window).move_to_element_with_offset(cell, 18, 4).perform()
        return window.get_screenshot_as_png()
    finally:
        window.quit()


MAPS_SHOW = (
    "Each cell is a 2-D cross-section of the input space through one correctly classified image (the cross): white is "
    "the true class, every other class has one fixed colour. "
)
DECLARED = (
    Figure(
        "resnet20-fgsm_random",
        MAPS_SHOW + "To the right: the FGSM direction, ε from -16/255 to 16/255; upwards: a random direction "
        "orthogonal to it, of the same L2 length. The label often changes along the random axis too, because the "
        "network is sensitive to noise of this length (3.5 in L2).",
        RESNET20, f"{CIFAR10_TEST}, n = 100", resnet20_maps("fgsm_random", 16 / 255), grid,
    ),
    Figure(
        "resnet20-fgsm_adversarial",
        MAPS_SHOW + "The loss rises along both axes: to the right the FGSM direction, upwards the part of the "
        "gradient that is orthogonal to it, so boundaries come out diagonal.",
        RESNET20, f"{CIFAR10_TEST}, n = 100", resnet20_maps("fgsm_adversarial", 16 / 255), grid,
    ),
    Figure(
        "resnet20-random",
        MAPS_SHOW + "Both axes are random, with the L2 length of a sign vector: not white at 16/255, because steps of "
        "3.5 in L2 are long for this network in any direction.",
        RESNET20, f"{CIFAR10_TEST}, n = 100", resnet20_maps("random", 16 / 255), grid,
    ),
    Figure(
        "resnet20-fgsm_random-4",
        MAPS_SHOW + "FGSM and a random direction, as in resnet20-fgsm_random, at a quarter of the extent: 4/255. Left "
        "half right, right half wrong, random axis mostly white.",
        RESNET20, f"{CIFAR10_TEST}, n = 100", resnet20_maps("fgsm_random", 4 / 255), grid,
    ),
    Figure(
        "resnet20-pieces",
        "Logits along the FGSM direction, ε from -1/255 to 1/255, through every one of the affine pieces; below, each "
        "breakpoint in the row of the layer that causes it. The curves look nearly straight, but have "
        "thousands of pieces.",
        RESNET20, f"{CIFAR10_TEST}, n = 1", resnet20_pieces, pieces,
    ),
    Figure(
        "explorer",
        "The page made by `boundarygeo explore`, with the pointer on a pixel of the 24th map: the perturbed image, "
        "its label, margin and coordinates.",
        RESNET20, f"{CIFAR10_TEST}, n = 100", lambda device: DECLARED[0].results(device), explorer,
    ),
    Figure(
        "mnist-lines",
        "All ten logits of a CNN against ε along the FGSM direction, for one digit; below the curves the inputs, "
        "those still classified correctly in a yellow box. Inputs are clipped to [0, 1].",
        f"CNN, {FILES[2]} (`make mnist-models`)", f"{MNIST_TEST}, n = 1", mnist_lines,
        lambda results: bg.plots.lines(results[0]),
    ),
    Figure(
        "mnist-plane",
        "One plane through one digit for three networks; the last panel outlines the true class's region for each of "
        "them. To the right: the first MLP's FGSM direction.",
        f"{', '.join(FILES[:3])} (`make mnist-models`)", f"{MNIST_TEST}, n = 1", mnist_plane,
        lambda results: bg.plots.one_plane(results, names=WHO[:3], columns=2),
    ),
    Figure(
        "mnist-dimension",
        "How many orthogonal directions of length 5 (L2) fool an MLP, and how many of these also fool another: frames "
        "of the theory, where all of a frame must succeed, bounds ignored. The distribution is wide; the "
        "means hide it.",
        f"{FILES[0]} and {FILES[1]} (`make mnist-models`)", f"{MNIST_TEST}, n = 1,000", mnist_dimension,
        lambda results: bg.plots.dimension(*results, names=WHO[:2]),
    ),
    Figure(
        "mnist-frames",
        "Share of digits with at least k orthogonal adversarial directions of length 5 (L2) inside the bounds: frames "
        "of the theory, and frames optimised on the network, which find more. All are lower bounds.",
        f"{FILES[0]} and {FILES[2]} (`make mnist-models`)", f"{MNIST_TEST}, n = 100 per network", mnist_frames,
        lambda results: bg.plots.dimension_at_least(results, names=["MLP", "MLP", "CNN", "CNN"]),
    ),
    Figure(
        "mnist-sequential",
        "Length of the shortest adversarial direction, of the shortest orthogonal to it, and so on, up to the 50th; "
        "below, the share of digits that have that many.",
        f"{FILES[0]} and {FILES[2]} (`make mnist-models`)", f"{MNIST_TEST}, n = 100 per network", mnist_sequential,
        lambda results: bg.plots.sequential_distances(results, names=["MLP", "MLP", "CNN", "CNN"]),
    ),
    Figure(
        "mnist-transfer",
        "For how many of the digits that all four networks classify correctly does an adversarial example made for the "
        "source fool the target? PGD with 20 steps, ε = 0.1 in L∞.",
        f"{', '.join(FILES)} (`make mnist-models`)", f"{MNIST_TEST}, n = 1,000 drawn", mnist_transfer,
        lambda results: bg.plots.transfer_matrix(results[0]),
    ),
    Figure(
        "mnist-overlap",
        "How many of 10 dimensions the adversarial subspaces of two networks share, beside random subspaces and those "
        "of other digits. Subspaces of 32 L2 perturbations of ε = 3.",
        f"{', '.join(FILES[:3])} (`make mnist-models`)", f"{MNIST_TEST}, n = 100 drawn", mnist_overlap,
        lambda results: bg.plots.overlap(results[0]),
    ),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [figure.name for figure in DECLARED]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(names)}; by default all")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(names):
        parser.error(f"NAME must be any of {', '.join(names)}, got {', '.join(sorted(unknown))}")
    for figure in DECLARED:
        if figure.name not in (arguments.names or names):
            continue
        results = figure.results(arguments.device)
        drawing = figure.draw(results)
        path = FIGURES / f"{figure.name}.png"
        if drawing is None:
            print(f"left {path}: no browser with selenium")
            continue
        if isinstance(drawing, bytes):
            path.write_bytes(drawing)
        else:
            bg.plots.save_figure(drawing, path)
        path.with_suffix(".md").write_text(figure.caption(results), encoding="utf-8")
        print(f"saved {path}", flush=True)


if __name__ == "__main__":
    main()
