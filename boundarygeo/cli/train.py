"""`boundarygeo train`: zoo models trained by one of the methods, as checkpoints."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from boundarygeo.choices import TrainingMethod, TrainingPrecision
from boundarygeo.cli.outputs import check_new
from boundarygeo.cli.words import at_least, positive_number
from boundarygeo.results.overwriting import foreign

if TYPE_CHECKING:
    from boundarygeo.training import Checkpoint, Method, Selection, TrainingResult
    from boundarygeo.zoo import Dataset


def train(
    out: Annotated[Path, typer.Option(help="Checkpoint to write; with --seeds, -seed0, -seed1, … are inserted.")],
    method: Annotated[TrainingMethod, typer.Option(help="Training method.")] = "standard",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Setting of the method, e.g. alpha=2; repeat it for several.")
    ] = None,
    arch: Annotated[str, typer.Option(help="Model of the zoo.")] = "small_cnn",
    data: Annotated[str, typer.Option(help="mnist5k, digits, mnist, cifar10, folder:PATH or npz:PATH.")] = "mnist5k",
    resize: Annotated[
        int | None, typer.Option(help="Pixels of the shorter side, to which images of a folder are resized first.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Rows and columns after the crop.")] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training split.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Examples per step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate of the cycle.")] = 5e-3,
    augment: Annotated[
        Literal["auto", "none", "crop_flip"], typer.Option(help="auto is crop_flip for cifar10, else none.")
    ] = "auto",
    validation: Annotated[
        int, typer.Option(help="Training examples held out to choose the best epoch by robust accuracy; 0 for none.")
    ] = 0,
    validation_eps: Annotated[str, typer.Option(help="ε (L∞) of PGD-10 on them; 0 for clean accuracy.")] = "8/255",
    patience: Annotated[int | None, typer.Option(help="Stop after this many epochs without a new best.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of initial weights, data order and everything random.")] = 0,
    seeds: Annotated[int, typer.Option(help="Number of models, with consecutive seeds from --seed.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    precision: Annotated[TrainingPrecision, typer.Option(help="auto is bfloat16 on GPUs that have it.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Resume an unfinished training.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")] = False,
) -> None:
    """Train models and save them as tensors and JSON."""
    for value, least, option in (
        (seeds, 1, "--seeds"),
        (epochs, 1, "--epochs"),
        (batch_size, 1, "--batch-size"),
        (validation, 0, "--validation"),
        (resize, 1, "--resize"),
        (size, 1, "--size"),
    ):
        at_least(value, least, option)
    if resume and overwrite:
        raise ValueError("--resume keeps what exists and --overwrite replaces it: give one of them")
    if patience is not None and not validation:
        raise ValueError("--patience needs --validation: epochs are compared on held-out examples")
    eps = 0.0 if validation_eps == "0" else positive_number(validation_eps, "--validation-eps")
    files = {seed + number: numbered(out, seed + number, seeds) for number in range(seeds)}
    for file in files.values():
        check_files(file, resume=resume, overwrite=overwrite)

    from boundarygeo.cli.settings import method_of
    from boundarygeo.training import Selection, load_checkpoint
    from boundarygeo.training.result import seed_spread
    from boundarygeo.zoo import crop_and_flip, load_data

    chosen = method_of(method, settings or ())
    _check_arch(arch)
    dataset = load_data(data, resize=resize, size=size)
    if augment != "auto":
        dataset = replace(dataset, augment=crop_and_flip if augment == "crop_flip" else None)
    results = []
    for number, file in files.items():
        if resume and file.exists():
            checkpoint = load_checkpoint(file)[1]
            print(f"{file} is there")
        else:
            checkpoint = train_checkpoint(
                file,
                dataset,
                arch=arch,
                method=chosen,
                epochs=epochs,
                batch_size=batch_size,
                learning_rate=learning_rate,
                validation=validation,
                selection=Selection(eps=eps, patience=patience),
                seed=number,
                device=device,
                precision=precision,
                resume=resume,
                overwrite=overwrite,
            )
        result = checkpoint.training
        assert result is not None
        results.append(result)
        print(f"{arch} on {data}, {method}: {_told(result)}")
        print(f"saved {file}" + (f" and {best_file(file)}" if result.best_epoch else ""))
    if seeds > 1:
        middle, deviation = seed_spread(results)
        print(f"test accuracy {100 * middle:.2f} ± {100 * deviation:.2f} % (mean ± sd over {seeds} seeds)")


def train_checkpoint(
    out: Path,
    data: "Dataset",
    *,
    arch: str,
    method: "Method | None" = None,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 5e-3,
    validation: int = 0,
    selection: "Selection | None" = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
) -> "Checkpoint":
    """Train a zoo model on a data set and write the checkpoints of its last and best epochs.

    During training, the file `NAME.state.pt` next to the checkpoint holds the state to resume from. If the loss stops
    being finite, the checkpoint has the weights after the last complete epoch, and says so.
    """
    from boundarygeo.training import METHODS, Checkpoint, NonFiniteLossError, Selection, save_checkpoint
    from boundarygeo.training import train as train_module
    from boundarygeo.zoo import build_model, hold_out

    method, selection = method or METHODS["standard"](), selection or Selection()
    names = {kind: name for name, kind in METHODS.items()}
    if type(method) not in names:
        raise ValueError(f"method must be of a class in METHODS, got {type(method).__name__}")
    name = names[type(method)]
    check_files(out, resume=resume, overwrite=overwrite)
    if overwrite:
        state_file(out).unlink(missing_ok=True)
        best_file(out).unlink(missing_ok=True)
    module = build_model(arch, num_classes=data.num_classes, input_shape=data.input_shape, seed=seed)
    split, held_out = hold_out(data.train, validation) if validation else (data.train, None)

    def save(file: Path, result: "TrainingResult", *, overwrite: bool) -> "Checkpoint":
        checkpoint = Checkpoint(
            architecture=arch,
            num_classes=data.num_classes,
            input_shape=data.input_shape,
            mean=data.mean,
            std=data.std,
            class_names=data.class_names,
            data=data.name,
            method=name,
            training=result,
        )
        save_checkpoint(file, module, checkpoint, overwrite=overwrite)
        return checkpoint

    try:
        result = train_module(
            module,
            split,
            method=method,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            mean=data.mean,
            std=data.std,
            augment=data.augment,
            seed=seed,
            device=device,
            precision=precision,
            test=data.test.load(),
            validation=held_out,
            selection=selection,
            on_best=lambda result: save(best_file(out), result, overwrite=True),
            state=state_file(out),
        )
    except NonFiniteLossError as error:
        state_file(out).unlink(missing_ok=True)  # resuming from it would end here again
        if not error.result.loss:
            raise
        save(out, error.result, overwrite=overwrite)
        raise NonFiniteLossError(f"{error}, which are saved as {out}", error.result) from error
    checkpoint = save(out, result, overwrite=overwrite)
    state_file(out).unlink(missing_ok=True)
    return checkpoint


def state_file(out: Path) -> Path:
    """Path of the state of an unfinished training."""
    return out.with_name(f"{out.stem}.state{out.suffix}")


def best_file(out: Path) -> Path:
    """Path of the checkpoint of the best epoch."""
    return out.with_name(f"{out.stem}.best{out.suffix}")


def numbered(out: Path, seed: int, seeds: int) -> Path:
    """The file for one of several seeds.

    Examples:
        >>> numbered(Path("mlp.pt"), 3, 2).name, numbered(Path("mlp.pt"), 3, 1).name
        ('mlp-seed3.pt', 'mlp.pt')
    """
    return out if seeds == 1 else out.with_name(f"{out.stem}-seed{seed}{out.suffix}")


def check_files(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Check existing files before any work."""
    state = state_file(out)
    if state.exists() and not (resume or overwrite) and foreign(state, "training state") is None:
        raise ValueError(f"an unfinished training left {state}: pass --resume or --overwrite")
    check_new(out, "--out", overwrite=resume or overwrite, kind="checkpoint")
    check_new(state, "--out", overwrite=resume or overwrite, kind="training state")
    check_new(best_file(out), "--out", overwrite=resume or overwrite, kind="checkpoint")


def _check_arch(arch: str) -> None:
    from boundarygeo.zoo import MODELS, find_model

    try:
        find_model(arch)
    except ValueError as error:
        raise ValueError(
            f"--arch is one of {', '.join(sorted(MODELS))}, or wrn<depth>_<width>, not {arch!r}"
        ) from error


def _told(result: "TrainingResult") -> str:
    """The result in one line."""
    parts = [
        f"test accuracy {100 * result.test_accuracy[-1]:.2f} %",
        f"loss {result.loss[-1]:.4f}",
        f"{result.seconds:.1f} s",
    ]
    if result.best_epoch is not None:
        robust = 100 * result.validation_accuracy[result.best_epoch - 1]
        parts.append(f"best epoch {result.best_epoch} ({robust:.2f} % in validation)")
    if result.stopped:
        parts.append(f"stopped early: {result.stopped}")
    return ", ".join(parts)
