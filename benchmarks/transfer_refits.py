"""Do refits share adversarial directions? Everything that `boundarygeo.transfer` measures, in one table per data set.

    python benchmarks/transfer_refits.py mnist   [--examples 1000] [--few 100] [--results results]
    python benchmarks/transfer_refits.py cifar10 [--examples 200] [--few 50]

Needs BOUNDARYGEO_DATA, `make mnist-models` and `python benchmarks/refits_train.py mnist|cifar10`. The networks:

- MNIST: softmax regression, two MLPs (seeds), two MLPs on disjoint halves of the training digits, two CNNs;
- CIFAR-10: a ResNet-20 of third parties, a ResNet-20 and two small CNNs trained on the JPEG copies.

Printed are the transfer matrix; the transferred dimension; and for each pair of networks the same mistakes, shared
dimension, overlap of the subspaces, distances between boundaries and the agreement of labels on planes, each beside its
null; at last what predicts the transfer. Every measure is saved to the folder of results and read from there by a
second run. On one CPU core it takes about ten minutes for MNIST.
"""

import argparse
import itertools
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from real import machine, resnet20_on_cifar10
from torch import Tensor

import boundarygeo as bg
from boundarygeo.results import Result
from boundarygeo.results.statistics import Estimate, mean
from boundarygeo.training import load_checkpoint
from boundarygeo.zoo import load_data

MNIST = {
    "softmax": "softmax_regression-mnist-seed0",
    "MLP 0": "mlp-mnist-seed0",
    "MLP 1": "mlp-mnist-seed1",
    "MLP half 0": "mlp-mnist-half0",
    "MLP half 1": "mlp-mnist-half1",
    "CNN 0": "small_cnn-mnist-seed0",
    "CNN 1": "small_cnn-mnist-seed1",
}
CIFAR10 = {
    "CNN 0": "small_cnn-cifar10-seed0",
    "CNN 1": "small_cnn-cifar10-seed1",
    "ResNet-20 own": "resnet20-cifar10-seed0",
}

# ε of the matrix in L∞; of the dimensions, of the overlap and the reach of boundaries in L2.
SETTINGS = {
    "mnist": {"eps": 0.1, "dimension_eps": 5.0, "overlap_eps": 3.0, "reach": 12.0, "cap": 200},
    "cifar10": {"eps": 2 / 255, "dimension_eps": 0.5, "overlap_eps": 0.5, "reach": 10.0, "cap": 100},
}
BASIS = 5  # dimensions of each subspace
OPTIMISED = 30  # images of the optimised frames
PAIRS = (("MLP 0", "MLP 1"), ("MLP half 0", "MLP half 1"), ("MLP 0", "CNN 0"))  # those of the optimised frames, MNIST


def networks(data: str, device: str) -> dict[str, bg.Classifier]:
    found = {}
    if data == "cifar10":
        found["ResNet-20"] = resnet20_on_cifar10(1, device)[0]
    for name, file in (MNIST if data == "mnist" else CIFAR10).items():
        path = Path(f"models/{file}.pt")
        if not path.is_file():
            sys.exit(f"{path} is missing: run `make mnist-models` and `python benchmarks/refits_train.py {data}`")
        module, checkpoint = load_checkpoint(path)
        found[name] = bg.Classifier(module, mean=checkpoint.mean, std=checkpoint.std, device=device)
    return found


def test_images(data: str) -> tuple[Tensor, Tensor]:
    folder = os.environ.get("BOUNDARYGEO_DATA")
    if not folder:
        sys.exit("set BOUNDARYGEO_DATA to the folder that holds mnist.npz and cifar10-jpeg.tar")
    split = load_data(f"npz:{folder}/mnist.npz" if data == "mnist" else f"folder:{folder}/cifar10-jpeg.tar").test
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    return split.x[order], split.y[order]


class Results:
    """Measures that are saved when they are made, and read when they are there."""

    def __init__(self, folder: Path, data: str) -> None:
        self.folder, self.data = folder, data
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, make: Callable[[], Result]) -> Result:
        path = self.folder / f"{self.data}-{name.replace(' ', '_')}.zarr"
        if path.exists():
            return bg.load(path)
        began = time.perf_counter()
        result = make()
        result.save(path)
        print(f"<!-- {name}: {time.perf_counter() - began:.0f} s -->", file=sys.stderr, flush=True)
        return result


def heading(*cells: str) -> None:
    print("\n| " + " | ".join(cells) + " |\n" + "|---" * len(cells) + "|")


def row(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def short(estimate: Estimate, digits: int = 1) -> str:
    return "–" if not estimate.n else estimate.plain(digits)


def optimised(several: dict[str, bg.Classifier], x: Tensor, y: Tensor, results: Results) -> None:
    """How many directions frames find that are optimised to fool two networks, and two of which one is rotated."""
    settings = SETTINGS["mnist"]
    some = min(OPTIMISED, len(x))
    print(f"\nThe same shared dimension by optimised frames (n = {some}, cap {settings['cap']})")
    heading("pair", "first order", "optimised", "optimised, one network rotated", "first order, one network rotated")
    for a, b in PAIRS:
        made = {}
        for method in ("gaas", "frame"):
            made[method] = results.get(
                f"{method} {a} {b}",
                lambda a=a, b=b, method=method: bg.shared_dimension(
                    {a: several[a], b: several[b]},
                    x[:some],
                    y[:some],
                    eps=settings["dimension_eps"],
                    method=method,
                    box="ignore",
                    max_dimension=settings["cap"],
                    progress=False,
                ),
            )
        first, best = made["gaas"], made["frame"]
        row(
            f"{a} – {b}",
            *(
                short(mean(counts.double().numpy(), within=(0, math.inf)))
                for counts in (first.verified, best.verified, best.null_verified, first.null_verified)
            ),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("mnist", "cifar10"))
    parser.add_argument("--examples", type=int, default=1000, help="of the matrix, distances and transferred dimension")
    parser.add_argument("--few", type=int, default=100, help="examples of the shared dimension and the overlap")
    parser.add_argument("--planes", type=int, default=100)
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    several = networks(arguments.data, arguments.device)
    x, y = test_images(arguments.data)
    kept = torch.stack([clf.predict(x) for clf in several.values()]).eq(y)
    clean = {name: float(right.double().mean()) for name, right in zip(several, kept, strict=True)}
    shared = kept.all(0).nonzero()[:, 0]
    x, y = x[shared[: arguments.examples]], y[shared[: arguments.examples]]
    few = min(arguments.few, len(x))
    results = Results(arguments.results, arguments.data)
    settings = SETTINGS[arguments.data]
    print(f"{machine(next(iter(several.values())).device)}")
    print(
        f"{len(x)} test images that all {len(several)} networks get right; accuracy on all of them: "
        + ", ".join(f"{name} {100 * share:.1f} %" for name, share in clean.items())
    )

    matrix = results.get("matrix", lambda: bg.transfer_matrix(several, x, y, eps=settings["eps"], progress=False))
    print(f"\nPGD-10, L∞, ε = {settings['eps']:.4f}: success in %, sources as rows")
    heading("", *several)
    for source in several:
        row(source, *(matrix.estimate(source, target).percent().replace(" %", "") for target in several))

    print(
        f"\nTransferred dimension, L2, ε = {settings['dimension_eps']:g}, cap {settings['cap']}, bounds ignored, rule "
        "`all`: mean number of the source's verified orthogonal directions, and of those that fool each target"
    )
    heading("source", "verified", *several)
    for source, clf in several.items():
        dimension = results.get(
            f"dimension {source}",
            lambda clf=clf: bg.adversarial_dimension(
                clf,
                x,
                y,
                eps=settings["dimension_eps"],
                box="ignore",
                max_dimension=settings["cap"],
                keep_directions=True,
                progress=False,
            ),
        )
        cells = [short(bg.dimension_summary(dimension).mean)]
        for target in several:
            if target == source:
                cells.append("")
                continue
            moved = results.get(
                f"moved {source} {target}",
                lambda d=dimension, t=target: bg.transferred_dimension(several[t], x, d, progress=False),
            )
            cells.append(short(mean(moved.count[moved.correct].double().numpy(), within=(0, math.inf))))
        row(source, *cells)

    again = {f"{name} again": clf for name, clf in several.items()}
    overlap = results.get(
        "overlap",
        lambda: bg.subspace_overlap(
            several | again,
            x[:few],
            y[:few],
            dimension=BASIS,
            eps=settings["overlap_eps"],
            restarts=16,
            steps=20,
            progress=False,
        ),
    )
    distances = results.get(
        "distances", lambda: bg.inter_boundary_distance(several, x, y, max_distance=settings["reach"])
    )
    agreement = results.get(
        "agreement", lambda: bg.reproducibility(several, x, y, planes=arguments.planes, progress=False)
    )
    mistakes = bg.transfer_mistakes(matrix)

    print(
        "\nBoth ways of each pair: success of the transferred attack; share of the same mistake among the target's, "
        "beside chance"
    )
    heading("pair", "success there", "back", "same mistake there", "by chance", "back", "by chance")
    pairs = list(itertools.combinations(several, 2))
    for a, b in pairs:
        row(
            f"{a} – {b}",
            matrix.estimate(a, b).percent(),
            matrix.estimate(b, a).percent(),
            *(
                f"{each.percent()}" if each.n else "–"
                for s, t in ((a, b), (b, a))
                for each in (mistakes.same_share(s, t), mistakes.chance_share(s, t))
            ),
        )

    print(
        f"\nShared by two: mean verified dimension at ε = {settings['dimension_eps']:g} (n = {few}, bounds ignored, "
        f"rule `all`) beside that with one network rotated; share of energy that their {BASIS}-dimensional subspaces "
        f"at ε = {settings['overlap_eps']:g} have in common (n = {few}), minus that with other images, chance "
        f"{BASIS / x[0].numel():.4f}; labels that agree on planes through three images"
    )
    heading(
        "pair",
        "shared dimension",
        "rotated",
        "overlap",
        "minus other images",
        "p (random)",
        "p (other images)",
        "agreement of labels",
    )
    for a, b in pairs:
        common = results.get(
            f"shared {a} {b}",
            lambda a=a, b=b: bg.shared_dimension(
                {a: several[a], b: several[b]},
                x[:few],
                y[:few],
                eps=settings["dimension_eps"],
                box="ignore",
                max_dimension=settings["cap"],
                progress=False,
            ),
        )
        number = overlap.pair(a, b)
        row(
            f"{a} – {b}",
            *(
                short(mean(counts[common.correct].double().numpy(), within=(0, math.inf)))
                for counts in (common.verified, common.null_verified)
            ),
            overlap.estimate(a, b).plain(3),
            overlap.excess(a, b).plain(3),
            f"{float(overlap.random_p_all[number]):.3f}",
            f"{float(overlap.permuted_p_all[number]):.3f}",
            agreement.estimate(a, b).percent(),
        )

    print("\nThe same for a network and itself, with perturbations from other random starts: the most to be expected")
    heading("network", "overlap", "minus other images")
    for name in several:
        row(name, overlap.estimate(name, f"{name} again").plain(3), overlap.excess(name, f"{name} again").plain(3))

    if arguments.data == "mnist":
        optimised(several, x[:few], y[:few], results)

    print(
        "\nIs the target's boundary nearer to the source's than that is to the image (ID < MD)? Mean MD and ID, and "
        "the share of images with ID < MD, counting censored images as not"
    )
    heading(
        "source",
        "target",
        *(
            f"{kind}: MD" if part == 0 else ("ID" if part == 1 else "ID < MD")
            for kind in distances.directions
            for part in range(3)
        ),
    )
    for source, target in itertools.permutations(several, 2):
        cells = []
        for kind in distances.directions:
            compared = distances.compare(kind, source, target)
            cells += [short(compared.distance, 2), short(compared.inter, 2), compared.conservative.percent()]
        row(source, target, *cells)

    dimensions = {
        name: bg.dimension_summary(results.get(f"dimension {name}", lambda: sys.exit("missing"))).mean.value
        for name in several
    }
    predictors = results.get(
        "predictors", lambda: bg.transfer_predictors(several, x, y, matrix, dimensions=dimensions, progress=False)
    )
    print(
        "\nRank correlation with the success of transfer, over ordered pairs; intervals over the choice of the networks"
    )
    heading("predictor", "rank correlation")
    for name, correlation in predictors.correlations().items():
        row(name.replace("_", " "), correlation.plain(2))


if __name__ == "__main__":
    main()
