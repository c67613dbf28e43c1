"""Training of zoo models (or any module), one short file per method, and checkpoints."""

from boundarygeo.training.batchout import BatchOut
from boundarygeo.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from boundarygeo.training.fgsm import Fgsm
from boundarygeo.training.layerwise import Layerwise
from boundarygeo.training.manifold_mixup import ManifoldMixup
from boundarygeo.training.method import Method
from boundarygeo.training.mixup import Mixup
from boundarygeo.training.nonrobust import NonRobustSplit, non_robust_dataset
from boundarygeo.training.pgd import Pgd
from boundarygeo.training.result import NonFiniteLossError, TrainingResult
from boundarygeo.training.selection import Selection
from boundarygeo.training.standard import Standard
from boundarygeo.training.start import train
from boundarygeo.training.trades import Trades

METHODS: dict[str, type[Method]] = {
    "standard": Standard,
    "mixup": Mixup,
    "manifold_mixup": ManifoldMixup,
    "batchout": BatchOut,
    "layerwise": Layerwise,
    "fgsm": Fgsm,
    "pgd": Pgd,
    "trades": Trades,
}
"""Name of each training method and its class, a frozen dataclass: `METHODS["mixup"](alpha=0.2)`."""

__all__ = [
    "METHODS",
    "BatchOut",
    "Checkpoint",
    "Fgsm",
    "Layerwise",
    "ManifoldMixup",
    "Method",
    "Mixup",
    "NonFiniteLossError",
    "NonRobustSplit",
    "Pgd",
    "Selection",
    "Standard",
    "Trades",
    "TrainingResult",
    "load_checkpoint",
    "non_robust_dataset",
    "save_checkpoint",
    "train",
]
