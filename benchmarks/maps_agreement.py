"""Agreement of the default maps with dense float32, on real networks.

    python benchmarks/maps_agreement.py [--device cuda] [--maps 50]

Prints, for each network and kind of plane, the share of pixels with equal labels over all maps, the worst map, and
what was evaluated.
"""

import argparse

from real import EXTENT, KINDS, machine, planes_of, resnet20_on_cifar10, small_cnn_on_mnist5k

import boundarygeo as bg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--maps", type=int, default=50)
    arguments = parser.parse_args()
    networks = {"small_cnn": small_cnn_on_mnist5k, "resnet20": resnet20_on_cifar10}
    print("| network | planes | maps | equal labels | worst map | wrong pixels | evaluated |")
    print("|---|---|---|---|---|---|---|")
    for name, make in networks.items():
        clf, x, y = make(arguments.maps, arguments.device)
        for kind in KINDS:
            planes = planes_of(kind, clf, x, y)
            planes = planes.select(planes.valid)
            default = bg.boundary_maps(clf, planes, extent=EXTENT[name])
            dense = bg.boundary_maps(clf, planes, extent=EXTENT[name], method="dense", precision="float32")
            equal = bg.agreement(default, dense)
            wrong = int((default.labels != dense.labels).sum())
            print(
                f"| {name} | {kind} | {len(planes)} | {100 * equal.mean():.4f} % | {100 * equal.min():.3f} % | "
                f"{wrong} of {dense.labels.numel():,} | {100 * default.evaluated.mean():.1f} % |",
                flush=True,
            )
    print(f"\n{machine(clf.device)}")


if __name__ == "__main__":
    main()
