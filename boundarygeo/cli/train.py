"""`boundarygeo train`: models of the zoo, trained by one of the methods, as checkpoints."""

import dataclasses
import enum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from boundarygeo.cli.settings import method_of
from boundarygeo.cli.words import at_least, positive_number
from boundarygeo.results.overwriting import check_free, foreign
from boundarygeo.training import (
    METHODS,
    Checkpoint,
    Method,
    NonFiniteLossError,
    Selection,
    Standard,
    TrainingResult,
    load_checkpoint,
    save_checkpoint,
)
from boundarygeo.training import train as train_module
from boundarygeo.zoo import MODELS, Dataset, build_model, crop_and_flip, find_model, hold_out, load_data


class Augment(enum.StrEnum):
    """Random changes of the training images."""

    AUTO = "auto"
    NONE = "none"
    CROP_FLIP = "crop_flip"


def train(
    out: Annotated[Path, typer.Option(help="Checkpoint to write; with --seeds, -seed0, -seed1, … are put in.")],
    method: Annotated[str, typer.Option(help="Training method.")] = "standard",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Setting of the method, e.g. alpha=2; repeat it for several.")
    ] = None,
    arch: Annotated[str, typer.Option(help="Model of the zoo.")] = "small_cnn",
    data: Annotated[str, typer.Option(help="mnist5k, digits, mnist, cifar10, folder:PATH or npz:PATH.")] = "mnist5k",
    epochs: Annotated[int, typer.Option(help="Passes over the training split.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Examples per step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate of the cycle.")] = 5e-3,
    augment: Annotated[Augment, typer.Option(help="auto is crop_flip for cifar10, else none.")] = Augment.AUTO,
    validation: Annotated[
        int, typer.Option(help="Training examples held out to choose the best epoch by robust accuracy; 0 for none.")
    ] = 0,
    validation_eps: Annotated[str, typer.Option(help="ε (L∞) of PGD-10 on them; 0 for clean accuracy.")] = "8/255",
    patience: Annotated[int | None, typer.Option(help="Stop after as many epochs without a new best.")] = None,
    seed: Annotated[int, typer.Option(help="Decides initial weights, data order and everything random.")] = 0,
    seeds: Annotated[int, typer.Option(help="Number of models, of seeds counted from --seed.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto (bfloat16 on GPUs that have it), float32 or bfloat16.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what a killed command left.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False,
) -> None:
    """Train models and save them as tensors and JSON."""
    chosen = method_of(method, settings or ())
    _check_arch(arch)
    at_least(seeds, 1, "--seeds")
    at_least(validation, 0, "--validation")
    if resume and overwrite:
        raise ValueError("--resume must be given without --overwrite: it keeps what exists")
    if patience is not None and not validation:
        raise ValueError("--patience must be given with --validation, which counts the epochs")
    eps = 0.0 if validation_eps == "0" else positive_number(validation_eps, "--validation-eps")
    files = {seed + number: numbered(out, seed + number, seeds) for number in range(seeds)}
    for file in files.values():
        check_files(file, resume=resume, overwrite=overwrite)
    dataset = load_data(data)
    if augment is not Augment.AUTO:
        dataset = dataclasses.replace(dataset, augment=crop_and_flip if augment is Augment.CROP_FLIP else None)
    accuracies = []
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
        accuracies.append(100 * result.test_accuracy[-1])
        print(f"{arch} on {data}, {method}: {_told(result)}")
        print(f"saved {file}" + (f" and {best_file(file)}" if result.best_epoch else ""))
    if seeds > 1:
        spread = f"{np.mean(accuracies):.2f} ± {np.std(accuracies, ddof=1):.2f} %"
        print(f"test accuracy {spread} (mean ± sd over {seeds} seeds)")


def train_checkpoint(
    out: Path,
    data: Dataset,
    *,
    arch: str,
    method: Method = Standard(),
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 5e-3,
    validation: int = 0,
    selection: Selection = Selection(),
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
) -> Checkpoint:
    """Train a model of the zoo on a data set and write the checkpoint of its last epoch, and of its best.

    While it trains, the file `NAME.state.pt` beside the checkpoint keeps the state to resume from. Where the loss stops
    being finite, the checkpoint has the weights after the last whole epoch, and says so.

    Args:
        out: file to write; `best_file` says where the best epoch goes.
        data: what to train on.
        arch: name of the model.
        method: the training method, of a class in `METHODS`.
        epochs: passes over the training split.
        batch_size: examples per step.
        learning_rate: highest learning rate of the cycle.
        validation: number of training examples to hold out, by a fixed seed, to choose the best epoch by; 0 for none.
        selection: which epoch is the best, and when to stop.
        seed: decides everything random.
        device: where to train.
        precision: as in `boundarygeo.training.train`.
        resume: whether to go on with what a killed training left.
        overwrite: whether files may be replaced.

    Returns:
        What the checkpoint of the last epoch says.

    Raises:
        ValueError: if a file is in the way, or an argument is not usable.
        NonFiniteLossError: if the loss stops being finite.
    """
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

    def save(file: Path, result: TrainingResult, *, overwrite: bool) -> Checkpoint:
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
        state_file(out).unlink(missing_ok=True)  # going on from it would end here again
        if not error.result.loss:
            raise
        save(out, error.result, overwrite=overwrite)
        raise NonFiniteLossError(f"{error}, which are saved as {out}", error.result) from error
    checkpoint = save(out, result, overwrite=overwrite)
    state_file(out).unlink(missing_ok=True)
    return checkpoint


def state_file(out: Path) -> Path:
    """Where the state of an unfinished training is kept."""
    return out.with_name(f"{out.stem}.state{out.suffix}")


def best_file(out: Path) -> Path:
    """Where the checkpoint of the best epoch goes."""
    return out.with_name(f"{out.stem}.best{out.suffix}")


def numbered(out: Path, seed: int, seeds: int) -> Path:
    """The file of one of several seeds.

    Args:
        out: value of `--out`.
        seed: the seed.
        seeds: how many there are.

    Returns:
        The path.

    Examples:
        >>> numbered(Path("mlp.pt"), 3, 2).name, numbered(Path("mlp.pt"), 3, 1).name
        ('mlp-seed3.pt', 'mlp.pt')
    """
    return out if seeds == 1 else out.with_name(f"{out.stem}-seed{seed}{out.suffix}")


def check_files(out: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse files that are in the way, before any work.

    Args:
        out: checkpoint to write.
        resume: whether what a killed training left is wanted.
        overwrite: whether files may be replaced.

    Raises:
        ValueError: if one is in the way: one that cannot be told to be of `train` always is.
    """
    state = state_file(out)
    if state.exists() and not (resume or overwrite) and foreign(state, "training state") is None:
        raise ValueError(f"{str(state)!r} is there, of an unfinished training: pass resume or overwrite")
    check_free(out, overwrite=resume or overwrite, kind="checkpoint")
    check_free(state, overwrite=resume or overwrite, kind="training state")
    check_free(best_file(out), overwrite=resume or overwrite, kind="checkpoint")


def _check_arch(arch: str) -> None:
    try:
        find_model(arch)
    except ValueError as error:
        raise ValueError(f"--arch must be one of {sorted(MODELS)} or wrn<depth>_<width>, got {arch!r}") from error


def _told(result: TrainingResult) -> str:
    """The result in a line."""
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
