"""Why the random axis of a CIFAR-10 network is not white at ε = 16/255: label changes at ε, direction by direction.

    python benchmarks/random_axis.py [--examples 1000]

For correctly classified test images, the share whose label differs at a step of ε along ±FGSM, along a random
direction of the same L2 length (the random axis of the maps), and under fresh Gaussian noise of standard deviation ε
per pixel, drawn here without the package: the independent check of the random axis.
"""

import argparse

import torch
from real import machine, planes_of, resnet20_on_cifar10

from boundarygeo.results.statistics import share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    clf, x, y = resnet20_on_cifar10(arguments.examples, arguments.device)
    planes = planes_of("fgsm_random", clf, x, y)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    steps = {"+ FGSM": planes.u, "- FGSM": -planes.u, "random axis": planes.v, "Gaussian noise, std ε": noise}
    print("| ε | L2 length | " + " | ".join(steps) + " |\n|---|---|" + "---|" * len(steps))
    for levels in (1, 2, 4, 8, 16):
        eps = levels / 255
        cells = []
        for step in steps.values():
            changed = clf.predict((x + eps * step).clamp(0, 1)) != y
            cells.append(share(int(changed.sum()), len(x)).percent())
        print(f"| {levels}/255 | {eps * float(planes.u[0].norm()):.2f} | " + " | ".join(cells) + " |", flush=True)
    print(f"\nn = {len(x)} correctly classified images, 95 % Wilson intervals; {machine(clf.device)}")


if __name__ == "__main__":
    main()
