"""How many affine pieces, and how straight: exact pieces and straightness of four networks, as a table.

    python benchmarks/pieces_table.py [--examples 50] [--networks softmax_regression mlp small_cnn resnet20]

Needs BOUNDARYGEO_DATA and `make mnist-models`. Segments of three kinds run through correctly classified test examples:
along the FGSM sign direction, along a random direction, and towards a random test example of another label. All
directions have the L2 length √d of a sign vector, so that one unit of ε is equally long along each: it is ε in L∞ along
FGSM. Points are not clipped to the bounds unless --clip says so: the clamp bends the logits of a linear model, too.
Medians over examples with 95 % intervals of order statistics; of each example, the median over its logits.
"""

import argparse
import time

import torch
from real import machine, mnist_network, resnet20_on_cifar10
from torch import Tensor

import boundarygeo as bg
from boundarygeo.directions import Directions, gradient_directions, random_directions, random_of_other_label
from boundarygeo.linalg import scaled_to
from boundarygeo.lines.straightness import gradient_cosines
from boundarygeo.results.statistics import median

EXTENT = {"softmax_regression": 0.25, "mlp": 0.25, "small_cnn": 0.25, "resnet20": 1 / 255}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=50)
    parser.add_argument("--networks", nargs="+", default=list(EXTENT), choices=list(EXTENT))
    parser.add_argument("--resnet-extent", type=float, default=1.0, help="in 1/255")
    parser.add_argument("--clip", action="store_true", help="clip points to the bounds, as images are")
    arguments = parser.parse_args()
    print(
        "| network | extent | direction | n | pieces | pieces per unit ε | R² of the best line | "
        "largest deviation / range | cosine of the gradients at 0 and at the ends | seconds |\n" + "|---" * 10 + "|"
    )
    for network in arguments.networks:
        if network == "resnet20":
            clf, x, y = resnet20_on_cifar10(arguments.examples)
            extent = arguments.resnet_extent / 255
        else:
            clf, x, y = mnist_network(network, arguments.examples)
            extent = EXTENT[network]
        for name, vectors in directions_of(clf, x, y).items():
            print(row(clf, x, y, Directions(vectors, "ε", name), extent, network, clip=arguments.clip), flush=True)
    print(f"\n{machine(torch.device('cpu'))}")


def directions_of(clf: bg.Classifier, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """FGSM, random, and towards a random example of another label, all of L2 length √d."""
    length = torch.full((len(x),), x[0].numel() ** 0.5)
    labels = clf.predict(x)
    noise = random_directions(x.shape[1:], torch.arange(len(x)), seed=0)
    other = random_of_other_label(labels, x, labels) - x
    return {
        "FGSM": gradient_directions(clf, x, y).sign(),
        "random": scaled_to(noise, length).float(),
        "to another example": scaled_to(other, length).float(),
    }


def row(clf: bg.Classifier, x: Tensor, y: Tensor, along: Directions, extent: float, network: str, *, clip: bool) -> str:
    """One line of the table."""
    began = time.perf_counter()
    pieces = bg.linear_pieces(clf, x, y, direction=along, extent=extent, clip=clip)
    seconds = time.perf_counter() - began
    straight = bg.straightness(pieces)
    cosine = gradient_cosines(clf, x, y, direction=along, at=[-extent, extent], clip=clip).cosine.mean(1)
    count = median(pieces.count.double().numpy())
    deviation = (straight.line_deviation / straight.range).nanmedian(1).values
    cells = (
        network,
        f"±{extent * 255:.3g}/255" if extent < 0.1 else f"±{extent:g}",
        along.name,
        str(len(x)),
        count.plain(0),
        f"{count.value / (2 * extent):,.0f} [{count.low / (2 * extent):,.0f}, {count.high / (2 * extent):,.0f}]",
        median(straight.r_squared.nanmedian(1).values.numpy()).plain(4),
        median(deviation.numpy()).plain(4),
        median(cosine.numpy()).plain(3),
        f"{seconds:.0f}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
