"""The average prediction over several inputs, as logits."""

import math

from torch import Tensor


def log_mean_softmax(logits: Tensor, samples: int) -> Tensor:
    r"""Logarithm of the mean softmax of consecutive rows: `[example * sample, class]` to `[example, class]`.

    :math:`\log\bar p_c` with :math:`\bar p = \frac1K\sum_k \mathrm{softmax}(l_k)`, through log-sum-exp. As logits,
    they have the usual meaning: their softmax is :math:`\bar p` itself, their argmax is the class of largest average
    probability, their differences are log-odds, and their cross-entropy is :math:`-\log\bar p_y`.

    Examples:
        >>> import torch
        >>> log_mean_softmax(torch.tensor([[0.0, 0.0], [0.0, 100.0]]), 2).exp()
        tensor([[0.2500, 0.7500]])
    """
    return logits.log_softmax(1).unflatten(0, (-1, samples)).logsumexp(1) - math.log(samples)
