"""`boundarygeo compare`: checkpoints under every instrument, in one table grouped by training method."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import boundarygeo as bg
from boundarygeo.choices import INSTRUMENT_NAMES
from boundarygeo.cli.outputs import check_new, draw, table
from boundarygeo.cli.study import StudyFile, StudyOption, check_alone
from boundarygeo.cli.words import at_least, positive_number, read_class_names, short_names, some_of

if TYPE_CHECKING:
    from boundarygeo.comparison import Comparison, Subject
    from boundarygeo.training import Checkpoint
    from boundarygeo.zoo import Dataset


def compare(
    checkpoints: Annotated[list[Path], typer.Argument(metavar="CHECKPOINT", help="Checkpoint written by `train`.")],
    study: StudyOption = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for table.csv, table.md and all results as Zarr stores; or a .csv file, the table."),
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for one figure per instrument.")] = None,
    data: Annotated[str | None, typer.Option(help="As in train; by default as recorded in the checkpoints.")] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Text file that names the checkpoints' outputs, one a line.")
    ] = None,
    resize: Annotated[
        int | None, typer.Option(help="Pixels of the shorter side, to which images of a folder are resized first.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Rows and columns after the crop.")] = None,
    examples: Annotated[int, typer.Option(help="Number of test examples, drawn by the seed.")] = 200,
    instruments: Annotated[
        str | None, typer.Option(help=f"Some of {','.join(INSTRUMENT_NAMES)}; by default all that apply.")
    ] = None,
    eps: Annotated[str | None, typer.Option(help="ε in L∞; by default 0.1 (one channel) or 8/255 (three).")] = None,
    radius: Annotated[str | None, typer.Option(help="ε of dimensions in L2; by default an FGSM step's length.")] = None,
    restarts: Annotated[int, typer.Option(help="Restarts of PGD-100.")] = 5,
    queries: Annotated[int, typer.Option(help="Forward passes per example of the Square attack.")] = 1000,
    few: Annotated[int, typer.Option(help="Examples for pieces, optimised frames and certified radii.")] = 20,
    max_dimension: Annotated[int | None, typer.Option(help="Largest dimension to look for.")] = None,
    frame: Annotated[bool, typer.Option("--frame", help="Dimensions by optimised frames, too.")] = False,
    pairs: Annotated[int, typer.Option(help="Pairs of examples of each kind for segments.")] = 500,
    smoothing: Annotated[str | None, typer.Option(help="σ of the noise for certified radii.")] = None,
    votes: Annotated[int, typer.Option(help="Noise vectors per certificate.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the examples and everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")] = False,
) -> None:
    """Compare models with every instrument: accuracy under attack, signs of masked gradients, geometry.

    They are checkpoints, or any models that the file of --study lists. Checkpoints that differ only in their seed share
    a row, as do models of one group in the file: mean ± standard deviation over the seeds. With --out, each
    instrument's result on each checkpoint is saved as it finishes, and re-running the command resumes.
    """
    counts: dict[str, Any] = {"restarts": restarts, "queries": queries, "few": few, "pairs": pairs, "votes": votes}
    counts |= {"max_dimension": max_dimension}
    for name, value in (counts | {"examples": examples, "resize": resize, "size": size}).items():
        at_least(value, 1, f"--{name.replace('_', '-')}")
    at_least(seed, 0, "--seed")
    sizes = {"--eps": eps, "--radius": radius, "--smoothing": smoothing}
    given = {option: None if text is None else positive_number(text, option) for option, text in sizes.items()}
    chosen = None if instruments is None else some_of(instruments, INSTRUMENT_NAMES, "--instruments")
    if out is not None and out == figures:
        raise ValueError(f"--out and --figures are the same folder, {out}")
    check_alone(study, [str(file) for file in checkpoints], "CHECKPOINT")

    from boundarygeo.cli.sources import draw_examples
    from boundarygeo.comparison import Settings, default_eps
    from boundarygeo.comparison import compare as measure
    from boundarygeo.comparison.compare import check_instruments
    from boundarygeo.comparison.journal import check_out

    if out is not None:
        check_out(out, overwrite=overwrite)
    sizes: dict[str, Any] = {"resize": resize, "size": size}
    if study is None:
        subjects, dataset = _of_checkpoints(checkpoints, data, classes, device, **sizes)
    else:
        subjects, dataset = _of_study(study, data, classes, device, **sizes)
    usual = given["--eps"] or default_eps(dataset.input_shape[0])
    settings = Settings(eps=usual, radius=given["--radius"], frame=frame, sigma=given["--smoothing"], **counts)
    used = check_instruments(subjects, settings, chosen)
    drawings = {} if figures is None else {name: figures / f"{name}.png" for name in used}
    for file in drawings.values():
        check_new(file, "--figures", overwrite=overwrite, kind="figure")
    drawn = draw_examples(subjects[0].classifier, dataset, examples, correct_only=False, seed=seed)
    try:
        found = measure(
            subjects, drawn.x, drawn.y, settings=settings, instruments=used, seed=seed, index=drawn.index, out=out,
            overwrite=overwrite,
        )  # fmt: skip
    except KeyboardInterrupt:
        if out is not None:
            said = "boundarygeo: finished measurements are safe; re-running the command resumes from there"
            print(said, file=sys.stderr)
        raise
    _print(found)
    if out is not None:
        print(f"saved {out}")
    for name, file in drawings.items():
        if found.quantities(name):
            draw(file, partial(bg.plots.measurements, found, name))


def _of_checkpoints(
    files: list[Path], data: str | None, classes: Path | None, device: str, **sizes: int | None
) -> "tuple[list[Subject], Dataset]":
    """Checkpoints, and the data they were trained on or another."""
    names = _names(short_names([str(file) for file in files]))
    class_names = () if classes is None else read_class_names(classes)

    from boundarygeo.cli.checkpoints import check_alike, data_of, group_names, load_matching, with_class_names
    from boundarygeo.training import load_checkpoint

    loaded = [load_checkpoint(file) for file in files]
    described = [checkpoint for _, checkpoint in loaded]
    check_alike(names, described)
    if class_names:
        described = with_class_names(described, class_names)
        check_alike(names, described)
    dataset = load_matching(data_of(names, described) if data is None else data, names, described, **sizes)
    subjects = []
    for name, group, (module, checkpoint) in zip(names, group_names(described, names), loaded, strict=True):
        clf = bg.Classifier(module, bounds=checkpoint.bounds, mean=checkpoint.mean, std=checkpoint.std, device=device)
        subjects.append(_subject(name, group, clf, checkpoint))
    return subjects, dataset


def _of_study(
    study: StudyFile, data: str | None, classes: Path | None, device: str, **sizes: int | None
) -> "tuple[list[Subject], Dataset]":
    """The models and data of a study file."""
    if data is None:
        raise ValueError(f'give --data, or write data = "…" into {study.file}')
    names = _names([entry.name for entry in study.models])

    from boundarygeo.cli.models import load_models
    from boundarygeo.cli.sources import load_images, make_classifier, with_classes

    models = load_models(study.models, classes=[] if classes is None else [classes])
    dataset = load_images(data, models, **sizes)
    bounds = study.settings.get("bounds", "0,1")
    classifiers = [make_classifier(model, mean=None, std=None, bounds=bounds, device=device) for model in models]
    subjects = [
        _subject(name, entry.group or name, clf, model.checkpoint)
        for name, entry, clf, model in zip(names, study.models, classifiers, models, strict=True)
    ]
    return subjects, with_classes(dataset, models, classifiers)


def _subject(name: str, group: str, clf: "bg.Classifier", checkpoint: "Checkpoint | None") -> "Subject":
    """A model of the comparison, with what a checkpoint says of its training."""
    from boundarygeo.comparison import Subject
    from boundarygeo.training.layers import hidden_layers

    subject = Subject(name=name, group=group, classifier=clf, layers=hidden_layers(clf.module))
    if checkpoint is None:
        return subject
    seed = None if checkpoint.training is None else checkpoint.training.seed
    return replace(subject, seed=seed, family=checkpoint.architecture, standard=checkpoint.method == "standard")


def _names(names: list[str]) -> list[str]:
    """Names that can be part of a file name."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"checkpoint {twice!r} is given twice")
    return [name.replace("/", "_").replace("\\", "_") for name in names]


def _print(found: "Comparison") -> None:
    from boundarygeo.comparison.tables import instrument_table, overview, remarks

    for instrument in found.instruments:
        notes = "\n".join(remarks(found, instrument))
        print(f"{instrument}\n{table(instrument_table(found, instrument))}\n{notes}\n")
    # Groups as columns, because there are more quantities than fit side by side.
    print(f"overview\n{table(list(zip(*overview(found), strict=True)))}")
    print(f"{found.forwards:,} forwards, {found.backwards:,} backwards, {found.seconds:.1f} s")
