"""`boundarygeo train`: a model of the zoo, trained by one of the methods, as a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer

from boundarygeo.results import check_free
from boundarygeo.training import METHODS, Checkpoint, save_checkpoint
from boundarygeo.training import train as train_module
from boundarygeo.zoo import MODELS, Dataset, build_model, load_data


def train(
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")],
    method: Annotated[str, typer.Option(help="Training method.")] = "standard",
    arch: Annotated[str, typer.Option(help="Model of the zoo.")] = "small_cnn",
    data: Annotated[str, typer.Option(help="mnist5k, digits, mnist, cifar10, folder:PATH or npz:PATH.")] = "mnist5k",
    epochs: Annotated[int, typer.Option(help="Passes over the training split.")] = 10,
    batch_size: Annotated[int, typer.Option(help="Examples per step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate of the cycle.")] = 5e-3,
    seed: Annotated[int, typer.Option(help="Decides initial weights, data order and dropout.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what exists.")] = False,
) -> None:
    """Train a model and save it as tensors and JSON."""
    check_free(out, overwrite=overwrite)
    if method not in METHODS:
        raise ValueError(f"--method must be one of {sorted(METHODS)}, got {method!r}")
    if arch not in MODELS:
        raise ValueError(f"--arch must be one of {sorted(MODELS)}, got {arch!r}")
    checkpoint = train_checkpoint(
        out,
        load_data(data),
        arch=arch,
        method=method,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        device=device,
        overwrite=overwrite,
    )
    result = checkpoint.training
    assert result is not None
    print(
        f"{arch} on {data}, {method}: test accuracy {100 * result.test_accuracy[-1]:.2f} %, "
        f"loss {result.loss[-1]:.4f}, {result.seconds:.1f} s"
    )
    print(f"saved {out}")


def train_checkpoint(
    out: Path,
    data: Dataset,
    *,
    arch: str,
    method: str = "standard",
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 5e-3,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
) -> Checkpoint:
    """Train a model of the zoo on a data set and write the checkpoint.

    Args:
        out: file to write.
        data: what to train on.
        arch: name of the model.
        method: name of the training method.
        epochs: passes over the training split.
        batch_size: examples per step.
        learning_rate: highest learning rate of the cycle.
        seed: decides everything random.
        device: where to train.
        overwrite: whether a file may be replaced.

    Returns:
        What the checkpoint says.
    """
    module = build_model(arch, num_classes=data.num_classes, input_shape=data.input_shape, seed=seed)
    result = train_module(
        module,
        data.train,
        method=METHODS[method],
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        mean=data.mean,
        std=data.std,
        seed=seed,
        device=device,
        test=data.test,
    )
    checkpoint = Checkpoint(
        architecture=arch,
        num_classes=data.num_classes,
        input_shape=data.input_shape,
        mean=data.mean,
        std=data.std,
        class_names=data.class_names,
        data=data.name,
        method=method,
        training=result,
    )
    save_checkpoint(out, module, checkpoint, overwrite=overwrite)
    return checkpoint
