"""`boundarygeo demo`: two small networks on real digits: maps, lines, accuracy, dimension and transfer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import boundarygeo as bg
from boundarygeo.choices import PlaneKind
from boundarygeo.cli.maps import axis_table, cost_line
from boundarygeo.cli.transfer.distances import distances_text
from boundarygeo.cli.transfer.matrix import matrix_text
from boundarygeo.cli.transfer.overlap import overlap_text

if TYPE_CHECKING:
    from boundarygeo.zoo import Dataset

LINE_EXTENT = 0.5
CURVE_EXTENT = 0.2
DIMENSION_EPS = 2.0
EXTENT = 0.3  # in ε: digits are black and white, and take far larger steps than photographs
COMPARED = 100  # examples for comparisons of the two networks
TRANSFER_EPS = 0.2  # in L∞
OVERLAP_DIMENSION, OVERLAP_EPS, OVERLAP_RESTARTS = 5, 3.0, 12
REACH = 10.0  # largest distance searched for boundaries, in L2
TITLES: dict[PlaneKind, str] = {
    "fgsm_random": "FGSM × random",
    "fgsm_adversarial": "FGSM × second adversarial direction",
    "random": "random × random",
}


def demo(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, maps and figures.")] = Path("figures/demo"),
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Train two small networks on 5,000 real digits, draw maps, lines, dimension and transfer; overwrites its files."""
    from boundarygeo.cli.sources import draw_examples
    from boundarygeo.maps.summary import map_summary
    from boundarygeo.zoo import load_data

    data = load_data("mnist5k")
    clf, mlp = (_trained(arch, data, out, seed=seed, device=device) for arch in ("small_cnn", "mlp"))
    examples = draw_examples(clf, data, 100, correct_only=True, seed=seed)
    x, y, index = examples.x, examples.y, examples.index
    for kind, title in TITLES.items():
        maps = bg.example_maps(clf, x, y, planes=kind, extent=EXTENT, seed=seed, index=index)
        stem = out / f"maps-{kind}"
        maps.save(stem.with_suffix(".zarr"), overwrite=True)
        drawing = bg.plots.map_grid(maps, class_names=data.class_names, title=f"small CNN on MNIST: {title}")
        bg.plots.save_figure(drawing, stem.with_suffix(".png"))
        summary = map_summary([maps])
        print(f"\n{title}: {stem}.png\n{axis_table(summary, maps)}\n{cost_line(summary, maps)}")
    line = bg.logit_lines(clf, x[:6], y[:6], direction="fgsm", extent=LINE_EXTENT, index=index[:6])
    line.save(out / "lines-fgsm.zarr", overwrite=True)
    bg.plots.save_figure(bg.plots.lines(line, cells=range(6), class_names=data.class_names), out / "lines-fgsm.png")
    print(f"\nlogits along the FGSM direction of 6 examples: {out / 'lines-fgsm.png'}")
    sizes = [step * CURVE_EXTENT / 8 for step in range(9)]
    curves = [
        bg.accuracy_curve(clf, data.test.x[:200], data.test.y[:200], attack=attack, eps=sizes, seed=seed)
        for attack in ("fgsm", "pgd")
    ]
    bg.plots.save_figure(bg.plots.accuracy_curves(curves), out / "accuracy.png")
    fgsm, pgd = (f"{100 * float(curve.accuracy[-1]):.1f} %" for curve in curves)
    print(f"accuracy at ε = {CURVE_EXTENT} in L∞ (n = 200): FGSM {fgsm}, PGD {pgd}: {out / 'accuracy.png'}")
    counts = bg.adversarial_dimension(clf, x, y, eps=DIMENSION_EPS, seed=seed, index=index)
    counts.save(out / "dimension.zarr", overwrite=True)
    bg.plots.save_figure(bg.plots.dimension(counts, names=["small CNN"]), out / "dimension.png")
    found, claimed = (bg.dimension_summary(counts, counts=which) for which in (counts.verified, counts.claimed))
    print(
        f"orthogonal directions within ε = {DIMENSION_EPS:g} in L2 (n = {found.mean.n}): on average "
        f"{found.mean.plain(1)} fool the network, {claimed.mean.plain(1)} claimed: {out / 'dimension.png'}"
    )
    _compare({"small CNN": clf, "MLP": mlp}, data, out, seed=seed)
    print(f"\nfigures and data are in {out}/")


def _trained(arch: str, data: "Dataset", out: Path, *, seed: int, device: str) -> "bg.Classifier":
    """A network of the zoo, from its checkpoint if there is one."""
    from boundarygeo.cli.train import train_checkpoint
    from boundarygeo.training import load_checkpoint

    path = out / f"{arch}-mnist5k-seed{seed}.pt"
    if path.is_file():
        print(f"using {path}")
    else:
        out.mkdir(parents=True, exist_ok=True)
        train_checkpoint(path, data, arch=arch, epochs=10, seed=seed)
    module, checkpoint = load_checkpoint(path)
    result = checkpoint.training
    assert result is not None
    accuracy, seconds = 100 * result.test_accuracy[-1], result.seconds
    print(f"{arch} on mnist5k: test accuracy {accuracy:.1f} % (trained in {seconds:.0f} s)")
    return bg.Classifier(module, mean=checkpoint.mean, std=checkpoint.std, device=device)


def _compare(classifiers: "dict[str, bg.Classifier]", data: "Dataset", out: Path, *, seed: int) -> None:
    """Transfer between the networks, and overlap of their subspaces and boundaries."""
    from boundarygeo.cli.sources import draw_examples

    drawn = draw_examples(next(iter(classifiers.values())), data, COMPARED, correct_only=False, seed=seed)
    these, common = (classifiers, drawn.x, drawn.y), {"seed": seed, "index": drawn.index}
    overlap = {"dimension": OVERLAP_DIMENSION, "eps": OVERLAP_EPS, "restarts": OVERLAP_RESTARTS}
    pool = (data.test.x[:], data.test.y)
    matrix = bg.transfer_matrix(*these, eps=TRANSFER_EPS, **common)
    subspaces = bg.subspace_overlap(*these, **overlap, **common)
    boundaries = bg.inter_boundary_distance(*these, max_distance=REACH, pool=pool, **common)
    for title, result, text, drawings in (
        (
            "transfer",
            matrix,
            matrix_text(matrix),
            {"transfer": bg.plots.transfer_matrix(matrix), "mistakes": bg.plots.mistakes(bg.transfer_mistakes(matrix))},
        ),
        (
            "overlap of adversarial subspaces",
            subspaces,
            overlap_text(subspaces),
            {"overlap": bg.plots.overlap(subspaces)},
        ),
        (
            "distances",
            boundaries,
            distances_text(boundaries),
            {"boundary_distances": bg.plots.boundary_distances(boundaries, source="small CNN")},
        ),
    ):
        result.save(out / f"{next(iter(drawings))}.zarr", overwrite=True)
        files = [bg.plots.save_figure(drawing, out / f"{stem}.png") for stem, drawing in drawings.items()]
        print(f"\n{title} (n = {COMPARED}): {', '.join(map(str, files))}\n{text}")
