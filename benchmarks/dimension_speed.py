"""Speed of verified dimensions against the bare forward passes they contain, and against one example at a time.

    python benchmarks/dimension_speed.py [--examples 1000] [--rounds 3] [--networks small_cnn mlp]

Needs BOUNDARYGEO_DATA and `make mnist-models`. The bare passes are those of the same float32 form of the network, over
one batch that is there already, at the best of five batch sizes. The loop is what a user would write after the paper:
for each example and each k of the same grid a frame by a Householder reflection in PyTorch, and one forward pass of its
k points. The rule `count` sends all points of the grid through the network, `all` gives a frame up soon after its first
failure: it needs fewer passes than the loop, which has the same result.
"""

import argparse
import resource
import time
from itertools import product

import torch
from maps_speed import best_raw_rate, summary
from real import machine, mnist_network
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.subspace.frames.search import default_grid

EPS, CAP = 5.0, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--loop-examples", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=["small_cnn", "mlp"])
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    print(
        "| network | rule | bounds | forwards | forwards/s | raw, forwards/s | time / time of the raw forwards | "
        "loop, examples/s | batched / loop |\n" + "|---" * 9 + "|"
    )
    for network in arguments.networks:
        clf, x, y = mnist_network(network, arguments.examples, device=arguments.device)
        for rule, box in product(("count", "all"), ("ignore", "feasible")):
            dimensions(clf, x, y, rule, box)  # settles the batch size
            rates, raws, ratios, loops, gains = [], [], [], [], []
            for _ in range(arguments.rounds):
                before, _size = best_raw_rate(clf, "float32", x.shape[1:])
                began = time.perf_counter()
                forwards = dimensions(clf, x, y, rule, box)
                seconds = time.perf_counter() - began
                raws.append((before + best_raw_rate(clf, "float32", x.shape[1:])[0]) / 2)
                rates.append(forwards / seconds)
                ratios.append(raws[-1] / rates[-1])
                if box == "ignore":
                    began = time.perf_counter()
                    plain_loop(clf, x[: arguments.loop_examples], y[: arguments.loop_examples])
                    loops.append(arguments.loop_examples / (time.perf_counter() - began))
                    gains.append(len(x) / seconds / loops[-1])
            print(
                f"| {network} | {rule} | {box} | {forwards:,} | {summary(rates, 0)} | {summary(raws, 0)} | "
                f"**{summary(ratios, 2)}** | {summary(loops, 2) if loops else ''} | "
                f"{'**' + summary(gains, 1) + '**' if gains else ''} |",
                flush=True,
            )
    print(f"\npeak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    if clf.device.type == "cuda":
        print(f"peak memory of the device: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
    print(machine(clf.device))


def dimensions(clf: bg.Classifier, x: Tensor, y: Tensor, rule: str, box: str) -> int:
    """The work that is timed; gives its number of forward passes."""
    result = bg.adversarial_dimension(clf, x, y, eps=EPS, rule=rule, box=box, max_dimension=CAP, progress=False)
    return result.provenance.forwards


def plain_loop(clf: bg.Classifier, x: Tensor, y: Tensor) -> list[int]:
    """One example, and one k, after the other."""
    module = nn.Sequential(Normalise(clf), clf.module).to(clf.device).eval()
    found = []
    for image, label in zip(x.to(clf.device), y.tolist(), strict=True):
        point = image[None].clone().requires_grad_()
        logits = module(point)[0]
        others = torch.cat([logits[:label], logits[label + 1 :]])
        (gradient,) = torch.autograd.grad(others.max() - logits[label], point)
        best = 0
        for k in default_grid(CAP):
            frame = householder_frame(gradient.flatten(), k)
            with torch.no_grad():
                labels = module(image + EPS * frame.view(k, *image.shape)).argmax(1)
            if bool((labels != label).all()):
                best = k
        found.append(best)
    return found


def householder_frame(gradient: Tensor, k: int) -> Tensor:
    """The rows ε·Qᵀe_i of Tramèr et al. 2017, with Q the reflection that takes g to ‖g‖(1/√k, …, 1/√k, 0, …)."""
    target = torch.zeros_like(gradient)
    target[:k] = k**-0.5
    mirror = gradient / gradient.norm() - target
    rows = torch.eye(k, len(gradient), device=gradient.device)
    return rows - 2 * torch.outer(mirror[:k], mirror) / mirror.dot(mirror)


class Normalise(nn.Module):
    """The classifier's normalisation as a layer."""

    def __init__(self, clf: bg.Classifier) -> None:
        super().__init__()
        self.normalise = clf.normalise

    def forward(self, x: Tensor) -> Tensor:
        """Inputs as the module wants them."""
        return self.normalise(x)


if __name__ == "__main__":
    main()
