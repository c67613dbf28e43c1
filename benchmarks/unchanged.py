"""Whether a change of the code leaves every number as it is.

    python benchmarks/unchanged.py record before.npz      # with the old code, from its own folder
    python benchmarks/unchanged.py compare before.npz     # with the new code; --write benchmarks/unchanged.md

Every analysis of tests/analyses.py (in the version that belongs to the code), small and on fixed inputs: all
fields of all results. Booleans and whole numbers must be equal, others to 1e-6 (relative, or of the largest value).
"""

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from analyses import ONE, SEVERAL, classifier

from boundarygeo.results.provenance import software_versions

TOLERANCE = 1e-6
RENAMED: dict[str, str] = {
    "met": "adversarial_label",
    "sequential/found": "sequential/count",
    "lines/eps": "lines/t",
    **{
        f"{attack}/classes": f"{attack}/true_labels"
        for attack in ("fgsm", "pgd", "apgd", "apgd_targeted", "square", "minimal_norm")
    },
    **{
        f"{attack}/labels": f"{attack}/predicted"
        for attack in ("fgsm", "pgd", "apgd", "apgd_targeted", "square", "minimal_norm", "matrix", "segments")
    },
    **{f"{name}/labels": f"{name}/true_labels" for name in ("gaas", "gaas in L∞", "frame", "shared")},
    "label": "predicted",
    "votes": "hits",
}
"""Names of fields, or of `analysis/field`, that were others before: the new one of each old one."""


def record() -> dict[str, np.ndarray]:
    """All fields of all results, by `analysis/field`."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    results = {name: work(classifier("cpu")) for name, work in ONE.items()}
    for name, work in SEVERAL.items():
        results[name] = work({"a": classifier("cpu", 0), "b": classifier("cpu", 1)})
    found = {}
    for name, result in results.items():
        if isinstance(result, Tensor):
            found[name] = result.numpy()
        for field, value in vars(result).items() if not isinstance(result, Tensor) else ():
            if isinstance(value, Tensor):
                found[f"{name}/{field}"] = value.numpy()
    return found


def renamed(name: str) -> str:
    analysis, _, field = name.partition("/")
    return RENAMED.get(name, f"{analysis}/{RENAMED.get(field, field)}" if field else name)


def difference(before: np.ndarray, now: np.ndarray) -> float:
    """How far two arrays are apart: 0 for equal ones, infinity where they may not differ at all."""
    if before.shape != now.shape or before.dtype.kind != now.dtype.kind:
        return np.inf
    if before.dtype.kind != "f":
        return 0.0 if np.array_equal(before, now) else np.inf
    usual = np.isfinite(before)
    if not np.array_equal(before[~usual], now[~usual], equal_nan=True) or not np.isfinite(now[usual]).all():
        return np.inf
    largest = np.abs(before[usual]).max(initial=0.0)
    apart = np.abs(before[usual] - now[usual]).max(initial=0.0)
    return float(apart / largest) if largest else float(apart)


def report(before: dict[str, np.ndarray], now: dict[str, np.ndarray]) -> tuple[list[str], list[str]]:
    """A table, and what is not as it was."""
    before = {renamed(name): value for name, value in before.items()}
    apart = {name: difference(value, now[name]) for name, value in before.items() if name in now}
    wrong = [f"{name} is gone" for name in before if name not in now]
    wrong += [f"{name} differs by {value:.1e}" for name, value in apart.items() if value > TOLERANCE]
    lines = ["| analysis | fields | largest difference |", "|---|---|---|"]
    for analysis in dict.fromkeys(name.partition("/")[0] for name in before):
        own = [value for name, value in apart.items() if name.partition("/")[0] == analysis]
        lines.append(f"| {analysis} | {len(own)} | {max(own, default=np.inf):.1e} |")
    return lines, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "compare"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--write", type=Path, help="Markdown file for the report")
    arguments = parser.parse_args()
    now = record()
    if arguments.what == "record":
        np.savez(arguments.file, **now)  # type: ignore[arg-type]  # its stub takes names for flags
        print(f"{len(now)} fields in {arguments.file}")
        return
    with np.load(arguments.file, allow_pickle=False) as kept:
        lines, wrong = report({name: kept[name] for name in kept.files}, now)
    said = [*lines, "", *(wrong or ["Nothing else has changed."])]
    print("\n".join(said))
    if arguments.write:
        versions = ", ".join(f"{name} {version}" for name, version in software_versions().items())
        head = "# Every analysis before and after\n\nMade by `python benchmarks/unchanged.py`, see there.\n\n"
        arguments.write.write_text(f"{head}{versions}\n\n" + "\n".join(said) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
