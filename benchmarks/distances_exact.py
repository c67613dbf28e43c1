"""Distances by scan and bisection against exact ones, on the third-party ResNet-20: needs BOUNDARYGEO_DATA.

    python benchmarks/distances_exact.py [--examples 20] [--reach 1]

Along the FGSM direction, reach in 1/255. Where both find a change of label, they should agree to the tolerance of the
bisection (a millionth of the reach) and the rounding of float32; where the scan stepped over a thin region, the exact
distance is smaller.
"""

import argparse

from real import machine, resnet20_on_cifar10

import boundarygeo as bg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=20)
    parser.add_argument("--reach", type=float, default=1.0)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    clf, x, y = resnet20_on_cifar10(arguments.examples, arguments.device)
    reach = arguments.reach / 255
    scanned = bg.boundary_distance(clf, x, y, direction="fgsm", max_distance=reach)
    exact = bg.exact_boundary_distance(clf, x, y, direction="fgsm", max_distance=reach)
    both = scanned.found & exact.found
    off = (scanned.distance - exact.distance)[both]
    stepped_over = off > 10 * scanned.tolerance
    print(f"n = {len(x)}, reach {arguments.reach:g}/255 along FGSM, tolerance {scanned.tolerance:.1e}")
    print(f"found: scan {int(scanned.found.sum())}, exact {int(exact.found.sum())}, both {int(both.sum())}")
    same = (scanned.adversarial_label == exact.adversarial_label)[both]
    print(f"same class met: {int(same.sum())} of {int(both.sum())}")
    print(f"scan stepped over a thin region: {int(stepped_over.sum())}")
    print(f"largest difference of the others: {float(off[~stepped_over].abs().max()):.1e}")
    for name, result in (("scan", scanned), ("exact", exact)):
        print(f"{name}: {result.provenance.forwards:,} forwards, {result.provenance.seconds:.1f} s")
    print(machine(clf.device))


if __name__ == "__main__":
    main()
