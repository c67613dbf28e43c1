"""What bounds default maps on a CPU: where their time goes, how near the network is to the peak, what a compiler adds.

    python benchmarks/cpu_limit.py --write benchmarks/cpu_limit.md    # needs BOUNDARYGEO_DATA, idle cores, a compiler

Maps of a ResNet-20 (third-party weights) on CIFAR-10, 129², extent 16/255. The profile is Python's own, of which each
part is a function; it costs what the two times of the same maps differ by. The peak is the highest rate that any of the
convolutions or a product of large matrices reaches in the same arithmetic in the same round. The compiled form is
`torch.compile` of the form that maps use, with its weights frozen into the code.
"""

import argparse
import cProfile
import pstats
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from maps_speed import CIFAR, summary
from real import EXTENT, machine, planes_of, resnet20_on_cifar10
from torch import Tensor, nn
from torch._inductor import config as inductor
from torch.utils.flop_counter import FlopCounterMode

import boundarygeo as bg
from boundarygeo.evaluation import Form, build_form, frozen_copy, plain_form

PARTS = {
    "making points": ("points.py", ("fast", "exact")),
    "labels and gaps from logits": ("pixels.py", ("consume",)),
    "predicting labels from the coarse grid": ("refine.py", ("guess",)),
}
LAYERS = ((16, 32), (32, 16), (64, 8), (256, 16))
"""Channels and sides of 3 by 3 convolutions: those of a ResNet-20, and a wide one."""
BATCHES = (16, 32, 64, 128, 256)
SECONDS = 1.0


def rate(work: Callable[[], object], seconds: float = SECONDS) -> float:
    """Calls per second."""
    work()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        work()
        done += 1
    return done / (time.perf_counter() - began)


def profile(clf: bg.Classifier, planes: bg.Planes) -> Iterator[str]:
    """Where the time of default maps goes."""

    def maps() -> bg.BoundaryMaps:
        return bg.boundary_maps(clf, planes, extent=EXTENT["resnet20"], progress=False)

    for _ in range(2):  # settles the batch sizes
        maps()
    began = time.perf_counter()
    made = maps()
    plain = time.perf_counter() - began
    profiler = cProfile.Profile()
    profiler.enable()
    maps()
    profiler.disable()
    stats = pstats.Stats(profiler)
    entries: dict = stats.stats  # type: ignore[attr-defined]  # not in the stubs, documented as what the profiler gives
    total: float = stats.total_tt  # type: ignore[attr-defined]

    def cumulative(file: str, names: tuple[str, ...]) -> float:
        return sum(entry[3] for (path, _, name), entry in entries.items() if path.endswith(file) and name in names)

    form = cumulative("forms.py", ("__call__",))
    casts = sum(
        calls[3]
        for (_, _, name), entry in entries.items()
        for caller, calls in entry[4].items()
        if caller[0].endswith("forms.py") and caller[2] == "__call__" and name.startswith("<method")
    )
    shares = {
        "the network": form - casts,
        "casting and memory layout": casts,
        **{name: cumulative(*part) for name, part in PARTS.items()},
    }
    shares["everything else"] = total - sum(shares.values())
    evaluated = float(made.evaluated.mean())
    times = f"{plain:.1f} s ({total:.1f} s under the profiler)"
    yield f"{len(planes)} maps in {times}, {evaluated:.1%} of pixels evaluated:\n"
    yield "| part | share of the time |\n|---|---|"
    yield from (f"| {name} | {100 * seconds / total:.1f} % |" for name, seconds in shares.items())


def flops(module: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)
    return counter.get_total_flops()


def forms_of(clf: bg.Classifier) -> dict[str, Form]:
    probe = torch.rand(4, *CIFAR)
    plain = plain_form(frozen_copy(clf.module, clf.device), probe)
    found = {name: build_form(plain, name, probe) for name in ("float32", "bfloat16")}
    return {name: form for name, form in found.items() if form is not None}


def inputs(form: Form, batch: int) -> Tensor:
    return torch.rand(batch, *CIFAR).to(form.dtype).contiguous(memory_format=form.memory_format)


def fastest(form: Form, calls: dict[int, Callable[[Tensor], Tensor]]) -> int:
    """The batch size at which most images pass per second."""

    def images_per_second(batch: int) -> float:
        x = inputs(form, batch)
        return batch * rate(lambda: calls[batch](x), 0.5)

    return max(calls, key=images_per_second)


def peak(clf: bg.Classifier, rounds: int) -> Iterator[str]:
    """Operations per second of the network and of its layers, beside those of larger ones."""
    yield "| arithmetic | what | batch | GFLOP/s | share of the peak |\n|---|---|---|---|---|"
    for precision, form in forms_of(clf).items():
        one = torch.rand(1, *CIFAR)
        work = flops(clf.module, one)
        best = fastest(form, dict.fromkeys(BATCHES, form))
        x = inputs(form, best)
        a, b = (torch.rand(2048, 2048).to(form.dtype) for _ in range(2))
        calls: dict[str, tuple[int, Callable[[], object]]] = {
            "ResNet-20": (best * work, lambda form=form, x=x: form(x)),
            "product of matrices, 2,048²": (2 * 2048**3, lambda a=a, b=b: a @ b),
        }
        for width, side in LAYERS:
            layer = nn.Conv2d(width, width, 3, padding=1).requires_grad_(False)
            layer = layer.to(form.dtype).to(memory_format=form.memory_format)  # type: ignore[call-overload]
            batch = torch.rand(best, width, side, side).to(form.dtype).contiguous(memory_format=form.memory_format)
            calls[f"convolution, {width} channels, {side}²"] = (
                best * 18 * width * width * side * side,
                lambda layer=layer, batch=batch: layer(batch),
            )
        found = [{name: many * rate(call) / 1e9 for name, (many, call) in calls.items()} for _ in range(rounds)]
        for name in calls:
            rates, shares = [each[name] for each in found], [each[name] / max(each.values()) for each in found]
            yield f"| {precision} | {name} | {best} | {summary(rates, 0)} | {summary(shares, 2)} |"


def frozen_compilation(clf: bg.Classifier, rounds: int) -> Iterator[str]:
    """The forms through torch.compile with freezing, at the best batch size of each."""
    yield "| arithmetic | form, images/s (batch) | compiled, images/s (batch) | compiled / form | compiling, s |"
    yield "|---|---|---|---|---|"
    for precision, form in forms_of(clf).items():
        swift, seconds = {}, {}
        with inductor.patch(freezing=True), torch.no_grad():
            for batch in BATCHES[2:]:
                torch._dynamo.reset()
                began = time.perf_counter()
                swift[batch] = torch.compile(form.module, dynamic=False)
                swift[batch](inputs(form, batch))
                seconds[batch] = time.perf_counter() - began
            plain, quick = fastest(form, dict.fromkeys(BATCHES, form)), fastest(form, swift)
            slow, fast = [], []
            x, z = inputs(form, plain), inputs(form, quick)
            for _ in range(rounds):
                slow.append(plain * rate(lambda form=form, x=x: form(x)))
                fast.append(quick * rate(lambda call=swift[quick], z=z: call(z)))
        ratios = [one / other for one, other in zip(fast, slow, strict=True)]
        yield (
            f"| {precision} | {statistics.median(slow):,.0f} ({plain}) | {statistics.median(fast):,.0f} ({quick}) | "
            f"{summary(ratios, 2)} | {seconds[quick]:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--planes", type=int, default=25)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--write", help="Markdown file")
    arguments = parser.parse_args()
    lines = ["# What bounds maps on a CPU", "", "Made by `python benchmarks/cpu_limit.py`, see there.", ""]

    def tell(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    for threads in arguments.threads:
        torch.set_num_threads(threads)
        clf, x, y = resnet20_on_cifar10(arguments.planes, "cpu")
        tell(f"## {threads} thread{'s' if threads > 1 else ''}\n\n{machine(clf.device)}\n")
        for line in profile(clf, planes_of("fgsm_random", clf, x, y)):
            tell(line)
        tell("")
        for part in (peak(clf, arguments.rounds), frozen_compilation(clf, arguments.rounds)):
            for line in part:
                tell(line)
            tell("")
    if arguments.write:
        Path(arguments.write).write_text("\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
