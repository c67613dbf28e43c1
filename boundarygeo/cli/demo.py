"""`boundarygeo demo`: a small CNN on real digits, the three grids of the church-window plot, lines, and more."""

from pathlib import Path
from typing import Annotated

import typer

from boundarygeo import plots
from boundarygeo.classifier import Classifier
from boundarygeo.cli.maps import PlaneKind, axis_table, cost_line, make_planes
from boundarygeo.cli.sources import draw_examples
from boundarygeo.cli.train import train_checkpoint
from boundarygeo.sections.accuracy import accuracy_curve
from boundarygeo.sections.lines import logit_lines
from boundarygeo.sections.maps import boundary_maps
from boundarygeo.sections.regions import region_summary
from boundarygeo.subspace.dimension import adversarial_dimension
from boundarygeo.subspace.summary import dimension_summary
from boundarygeo.training import load_checkpoint
from boundarygeo.zoo import load_data

LINE_EXTENT = 0.5
CURVE_EXTENT = 0.2
DIMENSION_EPS = 2.0
EXTENT = 0.3  # in ε: digits are black and white, and take far larger steps than photographs
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
    """Train a small CNN on 5,000 real digits and draw its maps, lines, accuracy and dimension; overwrites its files."""
    data = load_data("mnist5k")
    path = out / f"small_cnn-mnist5k-seed{seed}.pt"
    if path.is_file():
        print(f"using {path}")
    else:
        out.mkdir(parents=True, exist_ok=True)
        train_checkpoint(path, data, arch="small_cnn", epochs=10, seed=seed)
    module, checkpoint = load_checkpoint(path)
    result = checkpoint.training
    assert result is not None
    accuracy, seconds = 100 * result.test_accuracy[-1], result.seconds
    print(f"small_cnn on mnist5k: test accuracy {accuracy:.1f} % (trained in {seconds:.0f} s)")
    clf = Classifier(module, mean=checkpoint.mean, std=checkpoint.std, device=device)
    examples = draw_examples(clf, data, 100, correct_only=True, seed=seed)
    for kind, title in TITLES.items():
        maps = boundary_maps(clf, make_planes(kind, clf, examples, seed=seed), extent=EXTENT)
        stem = out / f"maps-{kind.value}"
        maps.save(stem.with_suffix(".zarr"), overwrite=True)
        drawing = plots.map_grid(maps, class_names=data.class_names, title=f"small CNN on MNIST: {title}")
        plots.save_figure(drawing, stem.with_suffix(".png"))
        print(f"\n{title}: {stem}.png\n{axis_table(maps, region_summary(maps))}\n{cost_line(maps)}")
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
    print(f"\nfigures and data are in {out}/")
