"""Checks of a module before it is used: does it return logits, each sample independently of its batch?

At most three inputs are tried, so behaviour that these do not trigger goes unnoticed.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from boundarygeo.evaluation.forms import Form, converted

# Rounding of one sample in batches of different sizes, as a share of the spread of the logits.
_SAME_LOGITS = {torch.float32: 1e-3, torch.float64: 1e-3, torch.bfloat16: 0.1, torch.float16: 2e-2}
_SUMS_TO_ONE = 1e-3
_PROBES = 3


def check_module(module: Form, probe: Tensor) -> int:
    """Number of classes of a module; raises if it does not return logits, each sample independently.

    Warns of probabilities. Randomness and mixing of samples are noticed if they change the logits of the probe by more
    than rounding; mixing goes unnoticed if its inputs are equal.
    """
    together = _checked_logits(module, probe)
    alone = torch.cat([_checked_logits(module, probe[i : i + 1]) for i in range(len(probe))])
    if not _close(together, alone, module.dtype) and not _same_in_float64(module, probe):
        if not _close(together, _checked_logits(module, probe), module.dtype):
            raise ValueError("module must be deterministic, got two different outputs for the same input")
        raise ValueError(
            "module must treat each sample of a batch independently, got an output that depends on the "
            "rest of the batch (batch norm without running statistics, dynamic quantisation?)"
        )
    if _are_probabilities(together) and _are_probabilities(_checked_logits(module, probe / 2)):
        warnings.warn(
            "module seems to return probabilities (rows are >= 0 and sum to 1), not logits: remove its softmax, which "
            "flattens gradients and so weakens attacks, lengthens distances and lowers dimensions",
            stacklevel=2,
        )
    return together.shape[1]


def _same_in_float64(module: Form, probe: Tensor) -> bool:
    """Whether batches and single samples agree in float64: logits can be small differences of large sums."""
    precise = converted(module, torch.float64, probe.device)
    if precise is None:
        return False
    try:
        alone = torch.cat([precise(probe[i : i + 1]) for i in range(len(probe))])
        return _close(precise(probe), alone, torch.float64)
    except RuntimeError:  # layers without float64
        return False


def _are_probabilities(rows: Tensor) -> bool:
    between = (rows > 0) & (rows < 1)
    return bool((rows >= 0).all() and ((rows.sum(1) - 1).abs() <= _SUMS_TO_ONE).all() and between.any())


def check_finite(module: Form, probe: Tensor) -> None:
    """Raise if the logits of a module that was checked before are no longer finite."""
    _checked_logits(module, probe[:1])


def _checked_logits(module: Form, x: Tensor) -> Tensor:
    logits = module(x)
    if not isinstance(logits, Tensor):
        there = hasattr(logits, "logits") or (isinstance(logits, dict) and "logits" in logits)
        output = '"logits"' if there else "…"
        raise TypeError(
            f"module must return a tensor of logits [batch, class], got {type(logits).__name__}: say which output it "
            f"is with Classifier.wrap(module, output={output})"
        )
    if logits.shape in ((len(x),), (len(x), 1)):
        join = "cat" if logits.ndim == 2 else "stack"
        raise ValueError(
            f"module must return at least two logits, got one per input ({list(logits.shape)}): for a logit z of the "
            f"second class, return torch.{join}([-z / 2, z / 2], 1), whose softmax is the sigmoid of z"
        )
    if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        raise ValueError(
            f"module must return logits of shape [{len(x)}, classes >= 2] for {len(x)} inputs, got {list(logits.shape)}"
        )
    if not bool(logits.isfinite().all()):
        raise ValueError("module must return finite logits, got NaN or infinity")
    return logits.float()


def _close(a: Tensor, b: Tensor, dtype: torch.dtype) -> bool:
    spread = (a.amax() - a.amin()).clamp_min(1e-6)
    return bool((a - b).abs().amax() <= _SAME_LOGITS[dtype] * spread)


def few_inputs(normalise: Callable[[Tensor], Tensor], x: Tensor, device: torch.device) -> Tensor:
    """The first three inputs, normalised, in float32; of fewer than three, all and the first one mirrored."""
    few = x[:_PROBES].detach().to(device, torch.float32)
    return normalise(torch.cat([few] + [few[:1].flip(-1)] * (len(few) < _PROBES)))
