"""Batch sizes from a module's number of operations: good ones, and the same at every run."""

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from boundarygeo.evaluation.batches import FIRST_SIZE, LARGEST_SIZE
from boundarygeo.evaluation.forms import Form

# Where throughput stops growing: on CPUs a ResNet-20 (82 million operations) is fastest at 64, and a GPU wants about
# a thousand times as much work at once.
OPERATIONS_AT_ONCE = {"cpu": 6e9, "cuda": 1e12}


def steady_size(module: Form, probe: Tensor, device: str) -> int:
    """The power of two below which a batch costs less than `OPERATIONS_AT_ONCE`, within the limits of tuned sizes.

    For bit-identical results: a tuned size is better, but differs from run to run.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(probe)
    kind = device if device in OPERATIONS_AT_ONCE else "cuda"
    fitting = int(OPERATIONS_AT_ONCE[kind] / max(counter.get_total_flops(), 1))
    least, most = FIRST_SIZE[kind], LARGEST_SIZE[kind]
    return 1 << (min(max(fitting, least), most).bit_length() - 1)
