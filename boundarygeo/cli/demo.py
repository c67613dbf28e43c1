"""`boundarygeo demo`: two small networks on real digits: maps, lines, accuracy, dimension, and what transfers."""

from pathlib import Path
from typing import Annotated

import typer

from boundarygeo import plots
from boundarygeo.attacks.accuracy import accuracy_curve
from boundarygeo.classifier import Classifier
from boundarygeo.cli import measures
from boundarygeo.cli.maps import PlaneKind, axis_table, cost_line
from boundarygeo.cli.measures import Comparison
from boundarygeo.cli.options import StudyOptions
from boundarygeo.cli.sources import draw_examples
from boundarygeo.cli.train import train_checkpoint
from boundarygeo.lines.lines import logit_lines
from boundarygeo.maps.example_maps import example_maps
from boundarygeo.subspace.dimension import adversarial_dimension
from boundarygeo.subspace.summary import dimension_summary
from boundarygeo.training import load_checkpoint
from boundarygeo.zoo import Dataset, load_data

LINE_EXTENT = 0.5
CURVE_EXTENT = 0.2
DIMENSION_EPS = 2.0
EXTENT = 0.3  # in ε: digits are black and white, and take far larger steps than photographs
COMPARED = 100  # examples for what compares two networks
TRANSFER_EPS = 0.2  # in L∞
OVERLAP_DIMENSION, OVERLAP_EPS, OVERLAP_RESTARTS = 5, 3.0, 12
REACH = 10.0  # how far boundaries are looked for, in L2
TITLES = {
    PlaneKind.FGSM_RANDOM: "FGSM × random",
    PlaneKind.FGSM_ADVERSARIAL: "FGSM × second adversarial direction",
    PlaneKind.RANDOM: "random × random",
}


def demo(
    out: Annotated[Path, typer.Option(help="Folder for checkpoint, maps and figures.")] = Path("figures/demo"),
    seed: Annotated[int, typer.Option(help="Decides everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Train two small networks on 5,000 real digits, draw maps, lines, dimension and transfer; overwrites its files."""
    data = load_data("mnist5k")
    clf, mlp = (_trained(arch, data, out, seed=seed, device=device) for arch in ("small_cnn", "mlp"))
    examples = draw_examples(clf, data, 100, correct_only=True, seed=seed)
    for kind, title in TITLES.items():
        x, y, index = examples.x, examples.y, examples.index
        maps = example_maps(clf, x, y, planes=kind.value, extent=EXTENT, seed=seed, index=index)
        stem = out / f"maps-{kind.value}"
        maps.save(stem.with_suffix(".zarr"), overwrite=True)
        drawing = plots.map_grid(maps, class_names=data.class_names, title=f"small CNN on MNIST: {title}")
        plots.save_figure(drawing, stem.with_suffix(".png"))
        print(f"\n{title}: {stem}.png\n{axis_table([maps])}\n{cost_line([maps])}")
    line = logit_lines(clf, examples.x[:6], examples.y[:6], extent=LINE_EXTENT, index=examples.index[:6])
    line.save(out / "lines-fgsm.zarr", overwrite=True)
    plots.save_figure(plots.lines(line, cells=range(6), class_names=data.class_names), out / "lines-fgsm.png")
    print(f"\nlogits along the FGSM direction of 6 examples: {out / 'lines-fgsm.png'}")
    sizes = [step * CURVE_EXTENT / 8 for step in range(9)]
    curves = [
        accuracy_curve(clf, data.test.x[:200], data.test.y[:200], attack=attack, eps=sizes, seed=seed)
        for attack in ("fgsm", "pgd")
    ]
    plots.save_figure(plots.accuracy_curves(curves), out / "accuracy.png")
    fgsm, pgd = (f"{100 * float(curve.accuracy[-1]):.1f} %" for curve in curves)
    print(f"accuracy at ε = {CURVE_EXTENT} in L∞ (n = 200): FGSM {fgsm}, PGD {pgd}: {out / 'accuracy.png'}")
    counts = adversarial_dimension(clf, examples.x, examples.y, eps=DIMENSION_EPS, seed=seed, index=examples.index)
    counts.save(out / "dimension.zarr", overwrite=True)
    plots.save_figure(plots.dimension(counts, names=["small CNN"]), out / "dimension.png")
    found, claimed = (dimension_summary(counts, counts=which) for which in (counts.verified, counts.claimed))
    print(
        f"orthogonal directions within ε = {DIMENSION_EPS:g} in L2 (n = {found.mean.n}): on average "
        f"{found.mean.plain(1)} fool the network, {claimed.mean.plain(1)} claimed: {out / 'dimension.png'}"
    )
    _compare({"small CNN": clf, "MLP": mlp}, data, out, seed=seed)
    print(f"\nfigures and data are in {out}/")


def _trained(arch: str, data: Dataset, out: Path, *, seed: int, device: str) -> Classifier:
    """A network of the zoo, from its checkpoint where there is one."""
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
    return Classifier(module, mean=checkpoint.mean, std=checkpoint.std, device=device)


def _compare(classifiers: dict[str, Classifier], data: Dataset, out: Path, *, seed: int) -> None:
    """What transfers between the networks, and how far their subspaces and boundaries coincide."""
    drawn = draw_examples(next(iter(classifiers.values())), data, COMPARED, correct_only=False, seed=seed)
    these = Comparison(
        classifiers, drawn, (data.test.x[:], data.test.y), StudyOptions(model=list(classifiers), seed=seed)
    )
    overlap = {"dimension": OVERLAP_DIMENSION, "eps": OVERLAP_EPS, "restarts": OVERLAP_RESTARTS}
    for title, report, stems in (
        ("transfer", measures.matrix(these, attack="pgd", norm="linf", eps=TRANSFER_EPS), ("transfer", "mistakes")),
        ("overlap of adversarial subspaces", measures.overlap(these, **overlap), ("overlap",)),
        ("distances", measures.distances(these, max_distance=REACH), ("boundary_distances",)),
    ):
        report.results[0].save(out / f"{stems[0]}.zarr", overwrite=True)
        figures = [out / f"{stem}.png" for stem in stems]
        for draw, figure in zip(report.drawings, figures, strict=False):  # of distances, with the CNN as the source
            plots.save_figure(draw(), figure)
        print(f"\n{title} (n = {COMPARED}): {', '.join(map(str, figures))}\n{report.text}")
