"""What a store costs, and what a second worker brings: maps of the ResNet-20 on CIFAR-10, in chunks.

    python benchmarks/runs_speed.py                 # the store's overhead, and two Ray workers against one process
    python benchmarks/runs_speed.py --rounds 1 --examples 64    # shorter; workers need seconds to start

Needs BOUNDARYGEO_DATA; the part about workers needs Ray (`pip install 'boundarygeo[ray]'`) and two idle cores. Every
process computes with one thread. Overhead: time of the whole run less that of computing its chunks, as a share of the
latter, both from one run. Workers: rounds in which both are measured in turn, and whether their stores are equal.
"""

import argparse
import importlib.util
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from real import machine, resnet20_on_cifar10

import boundarygeo as bg

SETTINGS = {"extent": 16 / 255, "keep": ("margin", "planes"), "progress": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--examples", type=int, default=256, help="an even number of chunks of 32")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clf, x, y = resnet20_on_cifar10(arguments.examples, arguments.device)
    folder = Path(tempfile.mkdtemp())
    try:
        measure(clf, x, y, folder, arguments)
    finally:
        shutil.rmtree(folder)
    print(machine(clf.device))


def measure(clf: bg.Classifier, x: torch.Tensor, y: torch.Tensor, folder: Path, arguments: argparse.Namespace) -> None:
    def timed(name: str, engine: object) -> tuple[float, Path]:
        began = time.perf_counter()
        path = bg.run(
            bg.example_maps, clf, x, y, out=folder / f"{name}.zarr", engine=engine, overwrite=True, **SETTINGS
        )
        return time.perf_counter() - began, path

    engine = None
    if importlib.util.find_spec("ray") is not None:
        import ray

        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        engine = bg.RayEngine(workers=2, device=clf.device.type)
    for name, each in (("alone", bg.LocalEngine()), ("shared", engine)):  # first use of everything
        if each is not None:
            bg.run(bg.example_maps, clf, x[:4], y[:4], out=folder / f"first-{name}.zarr", engine=each, **SETTINGS)
    overheads, seconds, ratios = [], [], []
    for _ in range(arguments.rounds):
        alone, one = timed("alone", bg.LocalEngine())
        computed = sum(json.loads(line)["seconds"] for line in (one / "chunks/log.jsonl").read_text().splitlines())
        overheads.append(100 * (alone - computed) / computed)
        seconds.append(alone)
        if engine is not None:
            shared, two = timed("shared", engine)
            ratios.append(alone / shared)
    size = sum(file.stat().st_size for file in one.rglob("*") if file.is_file())
    print(
        f"store: overhead {spread(overheads)} % of computing ({spread(seconds)} s, {len(x)} maps of 129² with margins "
        f"and planes, {bg.run_status(one).parts} chunks, {size / 1e6 / len(x):.2f} MB per example)"
    )
    if engine is None:
        print("workers: nothing measured, Ray is not installed")
        return
    ray.shutdown()
    names = [path.relative_to(one) for path in one.rglob("*") if path.is_file() and path.name != "log.jsonl"]
    equal = all((one / name).read_bytes() == (two / name).read_bytes() for name in names)
    print(f"workers: two of Ray against one process {spread(ratios)} times as fast; stores equal: {equal}")


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{np.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


if __name__ == "__main__":
    main()
