"""Looking at a module before it is run: are these logits, one sample at a time, and are the weights still the same?"""

import torch
from torch import Tensor, nn

_SAME_LOGITS = 1e-3  # of the spread of the logits: rounding of one sample in batches of different sizes
_PROBES = 3


def check_module(module: nn.Module, probe: Tensor) -> int:
    """Refuse a module whose output is not logits, sample by sample, of what goes in.

    Args:
        module: a module in eval mode.
        probe: a few normalised inputs `[batch, *input]`.

    Returns:
        Its number of classes.

    Raises:
        TypeError: if it does not return a tensor.
        ValueError: if its output has the wrong shape, is not finite, is random, or mixes the samples of a batch.
    """
    together = _checked_logits(module, probe)
    alone = torch.cat([_checked_logits(module, probe[i : i + 1]) for i in range(len(probe))])
    if not _close(together, alone):
        if not _close(together, _checked_logits(module, probe)):
            raise ValueError("module must be deterministic, got two different outputs for one input")
        raise ValueError(
            "module must treat each sample of a batch by itself, got an output that depends on the "
            "rest of the batch (batch norm without running statistics?)"
        )
    return together.shape[1]


def _checked_logits(module: nn.Module, x: Tensor) -> Tensor:
    logits = module(x)
    if not isinstance(logits, Tensor):
        raise TypeError(f"module must return a tensor of logits [batch, class], got {type(logits).__name__}: wrap it")
    if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        raise ValueError(
            f"module must return logits of shape [{len(x)}, classes >= 2] for {len(x)} inputs, got {list(logits.shape)}"
        )
    if not bool(logits.isfinite().all()):
        raise ValueError("module must return finite logits, got NaN or infinity")
    return logits.float()


def _close(a: Tensor, b: Tensor) -> bool:
    spread = (a.amax() - a.amin()).clamp_min(1e-6)
    return bool((a - b).abs().amax() <= _SAME_LOGITS * spread)


def few_inputs(x: Tensor) -> Tensor:
    """A few different inputs like the given ones, however few were given.

    Args:
        x: inputs `[example, *input]`.

    Returns:
        At least two inputs, float32.
    """
    few = x[:_PROBES].detach().float()
    return torch.cat([few] + [few[:1].flip(-1)] * (len(few) < _PROBES))


def fingerprint(module: nn.Module) -> tuple[float, ...]:
    """Numbers that change when the module's weights do: by an optimiser, `load_state_dict` or by hand.

    Args:
        module: any module; it is only read.

    Returns:
        Weighted sums, version counters and addresses of its parameters and buffers.
    """
    tensors = [t.detach() for t in (*module.parameters(), *module.buffers()) if t.numel()]
    # Weighted by position, so that values that change places are noticed, too.
    sums = [
        t.flatten().double() @ torch.linspace(1, 2, t.numel(), dtype=torch.float64, device=t.device) for t in tensors
    ]
    versions = [float(number) for t in tensors for number in (t._version, t.data_ptr() % 2**48)]
    return (*torch.stack(sums).tolist(), *versions) if sums else ()


def _weighted_sum(values: Tensor) -> Tensor:
    return values @ torch.linspace(1, 2, len(values), dtype=values.dtype, device=values.device)
