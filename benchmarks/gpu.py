"""What a GPU brings: tests, speeds, memory and agreement, in one command of a few minutes.

    python benchmarks/gpu.py --out gpu.md            # needs one CUDA device; no network
    python benchmarks/gpu.py --dry-run               # tiny, on the CPU: does it run?

Stages in the order of their importance, each written to `--out` when it ends, so that a run that is cut off still says
something; one that fails says so and the next one begins. Ratios are of one run: the plain loop is what a user writes,
at its best batch size on the same card; raw forwards are passes over a batch that is on the card already; the CPU has
two threads. With BOUNDARYGEO_DATA, ResNet-20 has the weights of third parties and sees CIFAR-10; else weights and
images are random, scaled so that labels differ.

A machine without a network needs beside PyTorch and torchvision: matplotlib, numpy, scipy, seaborn, tqdm, typer, xarray
and zarr with donfig, google-crc32c and numcodecs; pytest for the first stage; timm for EfficientNet-Lite0.
"""

import argparse
import contextlib
import importlib.util
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from maps_speed import plain_loop, raw_rate, timed
from real import machine, resnet20_on_cifar10
from torch import Tensor, nn
from torchvision.models import resnet50

import boundarygeo as bg
from boundarygeo.zoo.models import resnet20

QUIET = {"progress": False}
CPU_THREADS = 2
FORMS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        device: where.
        planes: of a kind of map.
        resolutions: of the maps.
        examples: of the other instruments.
        on_cpu: of them, on the CPU.
        batches: sizes to try.
        side: of the large images.
        seconds: for each rate.
    """

    device: str
    planes: int
    resolutions: tuple[int, ...]
    examples: int
    on_cpu: int
    batches: tuple[int, ...]
    side: int
    seconds: float


FULL = Size("cuda", 200, (129, 257), 512, 16, (512, 1024, 2048, 4096, 8192, 16384), 224, 1.0)
DRY = Size("cpu", 1, (9, 17), 2, 1, (32,), 32, 0.02)


def network(count: int, device: str) -> tuple[bg.Classifier, Tensor, Tensor]:
    """ResNet-20 and images that it gets right."""
    if os.environ.get("BOUNDARYGEO_DATA"):
        return resnet20_on_cifar10(count, device)
    torch.manual_seed(0)
    module, x = resnet20(), torch.rand(count, 3, 32, 32)
    clf = with_random_weights(module, x.shape[1:], device)
    return clf, x, clf.predict(x)


def with_random_weights(module: nn.Module, shape: torch.Size, device: str) -> bg.Classifier:
    """A classifier whose batch norms have seen a few images, so that its logits differ from image to image."""
    module.train()
    with torch.no_grad():
        for _ in range(3):
            module(torch.rand(8, *shape))
    return bg.Classifier(module.eval(), device=device)


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def half(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x[: max(1, len(x) // 2)], y[: max(1, len(x) // 2)]


def tests(size: Size) -> str:
    """The tests that need a GPU."""
    if size.device == "cpu":
        return "not run: there is no GPU in a dry run"
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/test_gpu.py", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "```\n" + "\n".join(done.stdout.splitlines()[-12:]) + "\n```"


def maps(size: Size) -> str:
    """Default and dense maps against the plain loop and raw forwards."""
    clf, x, y = network(size.planes, size.device)
    planes = bg.fgsm_random_planes(clf, x, y)
    few = planes.select(torch.arange(min(4, size.planes)))
    extent = 16 / 255
    rates = {form: max((raw_rate(clf, form, n, size.seconds), n) for n in size.batches) for form in FORMS}
    lines = [
        "| maps | plain loop (batch), px/s | default, px/s | default / plain | compiled (batch), px/s | dense, px/s | "
        "dense / raw float32 | evaluated |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for resolution in size.resolutions:
        axis = torch.linspace(-extent, extent, resolution)

        def rate(count: int, work: Callable[[], object], resolution: int = resolution) -> float:
            work()  # settles batch sizes and kernels
            return count * resolution**2 / timed(work, clf.device)

        slow, batch = max(
            (rate(len(few), lambda n=n, axis=axis: plain_loop(clf, few, axis, n)), n) for n in size.batches
        )
        settings = {"extent": extent, "resolution": resolution, **QUIET}
        fast = rate(len(planes), lambda settings=settings: bg.boundary_maps(clf, planes, **settings))
        dense = rate(
            len(few),
            lambda settings=settings: bg.boundary_maps(clf, few, method="dense", precision="float32", **settings),
        )
        quick = "not run"
        if size.device != "cpu":  # the compiler takes half a minute
            settled = clf.settings() | {"batch_size": rates["bfloat16"][1], "compile": True}
            swift = bg.Classifier(clf.module, device=size.device, **settled)
            speed = rate(
                len(planes), lambda swift=swift, settings=settings: bg.boundary_maps(swift, planes, **settings)
            )
            quick = f"{speed:,.0f} ({swift.batch_size})"
        evaluated = float(bg.boundary_maps(clf, few, **settings).evaluated.mean())
        lines.append(
            f"| {resolution}² | {slow:,.0f} ({batch}) | {fast:,.0f} | **{fast / slow:.1f}** | {quick} | "
            f"{dense:,.0f} | {dense / rates['float32'][0]:.2f} | {evaluated:.1%} |"
        )
    told = ", ".join(f"{form} {best:,.0f}/s (batch {n})" for form, (best, n) in rates.items())
    return "\n".join([*lines, "", f"n = {len(planes)} planes; raw forwards: {told}"])


def agreement(size: Size) -> str:
    """Labels of the card and of the CPU."""
    clf, x, y = network(min(4, size.planes), size.device)
    settings = {"extent": 16 / 255, "resolution": size.resolutions[0], **QUIET}
    planes = bg.fgsm_random_planes(clf, x, y)
    here = bg.boundary_maps(clf, planes, **settings).labels
    with threads(CPU_THREADS):
        cpu, _, _ = network(min(4, size.planes), "cpu")
        there = bg.boundary_maps(cpu, planes, **settings).labels
    differ = int((here != there).sum())
    return f"{differ} of {here.numel():,} pixels of {len(here)} default maps have another label than on the CPU"


def instruments(size: Size) -> str:
    """Other instruments against the same work on two threads of the CPU."""
    clf, x, y = network(size.examples, size.device)
    (cpu, _, _), few = network(size.examples, "cpu"), size.on_cpu

    def pieces(clf: bg.Classifier, x: Tensor, y: Tensor) -> object:
        some = slice(max(2, len(x) // 16))
        return bg.linear_pieces(clf, x[some], y[some], extent=(0.0, 0.1 / 255), **QUIET)

    work: dict[str, Callable[[bg.Classifier, Tensor, Tensor], object]] = {
        "PGD-20, ε = 2/255": lambda clf, x, y: bg.pgd(clf, x, y, eps=2 / 255, early_stop=False, **QUIET),
        "minimal_norm, 100 steps": lambda clf, x, y: bg.minimal_norm(clf, x, y, steps=100, **QUIET),
        "dimension, gaas, ε = 0.5": lambda clf, x, y: bg.adversarial_dimension(
            clf, x, y, eps=0.5, max_dimension=50, rule="count", **QUIET
        ),
        "dimension, frames of 20": lambda clf, x, y: bg.adversarial_dimension(
            clf, *half(x, y), eps=0.5, method="frame", max_dimension=20, steps=20, **QUIET
        ),
        "transfer to itself": lambda clf, x, y: bg.transfer_matrix({"a": clf, "b": clf}, x, y, eps=2 / 255, **QUIET),
        "exact pieces": pieces,
    }
    lines = ["| instrument | examples/s | CPU, examples/s | ratio |", "|---|---|---|---|"]
    for name, do in work.items():
        do(clf, x, y)
        fast = len(x) / timed(lambda do=do: do(clf, x, y), clf.device)
        with threads(CPU_THREADS):
            slow = few / timed(lambda do=do: do(cpu, x[:few], y[:few]), cpu.device)
        lines.append(f"| {name} | {fast:,.1f} | {slow:,.2f} | **{fast / slow:.1f}** |")
    return "\n".join(
        [
            *lines,
            "",
            f"n = {len(x)} examples, {few} on the CPU; frames: half of them; pieces: a sixteenth, two at least",
        ]
    )


def memory(size: Size) -> str:
    """Batches that do not fit, and the most that was held."""
    clf, x, y = network(min(16, size.planes), size.device)
    planes = bg.fgsm_random_planes(clf, x, y)
    settings = {"extent": 16 / 255, "resolution": size.resolutions[0], "method": "dense", **QUIET}
    expected = bg.boundary_maps(clf, planes, **settings).labels
    if size.device == "cpu":
        return "not run: memory is the GPU's"
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + (1 << 29)) / total)
        found = bg.boundary_maps(clf.with_batch_size(1 << 16), planes, **settings).labels
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    differ = int((expected != found).sum())
    return (
        f"peak of dense maps of {len(planes)} planes: {peak:.2f} GiB; with 0.5 GiB more than the network, batches of "
        f"65,536 are halved until they fit: {differ} of {found.numel():,} labels differ"
    )


def large_networks(size: Size) -> str:
    """Raw forwards and default maps of networks of large images."""
    shape = torch.Size((3, size.side, size.side))
    networks: dict[str, Callable[[], nn.Module]] = {"ResNet-50": lambda: resnet50(num_classes=1000)}
    if size.device != "cpu" and importlib.util.find_spec("timm"):
        networks["EfficientNet-Lite0"] = lambda: importlib.import_module("timm").create_model("efficientnet_lite0")
    lines = [
        "| network | images | raw float32, /s | raw bfloat16, /s | default maps, px/s | evaluated |",
        "|" + "---|" * 6,
    ]
    for name, make in networks.items():
        torch.manual_seed(0)
        x = torch.rand(min(4, size.planes), *shape)
        clf = with_random_weights(make(), shape, size.device)
        planes = bg.random_planes(x, clf.predict(x))
        batch = min(256, size.batches[-1])
        rates = [raw_rate(clf, form, batch, size.seconds, shape) for form in FORMS]
        settings = {"extent": 0.1, "resolution": min(129, size.resolutions[0]), **QUIET}
        bg.boundary_maps(clf, planes.select(torch.tensor([0])), **settings)
        began = time.perf_counter()
        drawn = bg.boundary_maps(clf, planes, **settings)
        speed = drawn.labels.numel() / (time.perf_counter() - began)
        lines.append(
            f"| {name}, random weights | {size.side}² | {rates[0]:,.0f} | {rates[1]:,.0f} | {speed:,.0f} | "
            f"{float(drawn.evaluated.mean()):.1%} |"
        )
    return "\n".join(lines)


STAGES = (tests, maps, agreement, instruments, memory, large_networks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="Markdown file")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--stages", nargs="+", choices=[stage.__name__ for stage in STAGES])
    arguments = parser.parse_args()
    size = DRY if arguments.dry_run else FULL
    if size.device == "cuda" and not torch.cuda.is_available():
        sys.exit("there is no CUDA device here: use --dry-run to see whether this runs")
    parts = [f"# On a GPU\n\n{machine(torch.device(size.device))}"]
    for stage in STAGES:
        if arguments.stages and stage.__name__ not in arguments.stages:
            continue
        began = time.perf_counter()
        try:
            found = stage(size)
        except Exception:  # the next stage may still say something
            found = f"**failed**\n\n```\n{traceback.format_exc(limit=-3)}```"
        heading = (stage.__doc__ or "").rstrip(".")
        parts.append(f"## {heading}\n\n{found}\n\n{time.perf_counter() - began:.0f} s")
        print(parts[-1], end="\n\n", flush=True)
        if arguments.out:
            arguments.out.write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
