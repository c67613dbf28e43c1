"""Training of the zoo's models (or of any module), one short file per method, and checkpoints."""

from boundarygeo.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from boundarygeo.training.loop import Method, TrainingResult, train
from boundarygeo.training.standard import standard_loss

METHODS: dict[str, Method] = {"standard": standard_loss}
"""Name of each training method and its loss."""

__all__ = [
    "METHODS",
    "Checkpoint",
    "Method",
    "TrainingResult",
    "load_checkpoint",
    "save_checkpoint",
    "standard_loss",
    "train",
]
