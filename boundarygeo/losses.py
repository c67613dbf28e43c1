"""Losses of logits, computed without the cancellation of the textbook formulas."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

LOSSES = ("cross_entropy", "log_odds", "margin")
Loss = str | Callable[[Tensor, Tensor], Tensor]
"""One of `LOSSES`, or a function of logits `[example, class]` and classes `[example]` to losses `[example]`."""


def true_margin(logits: Tensor, y: Tensor) -> Tensor:
    """Logit of class `y` minus the largest other logit.

    >>> true_margin(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1]))
    tensor([1.])
    """
    column = y.long()[:, None]
    others = logits.scatter(1, column, -torch.inf).amax(1)
    return logits.gather(1, column)[:, 0] - others


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    r"""Difference of logits ratio (Croce & Hein 2020, arXiv 2003.01690, eq. 6), invariant to the scale of the logits.

    With the logits in descending order :math:`l_{\pi_1} \ge l_{\pi_2} \ge \dots`, it is :math:`(\max_{c\ne y} l_c -
    l_y) / (l_{\pi_1} - l_{\pi_3})`: positive where the classifier is wrong. For two classes there is no third logit,
    and the loss is the numerator.

    >>> dlr(torch.tensor([[4.0, 3.0, 2.0, 0.0]]), torch.tensor([0]))
    tensor([-0.5000])
    """
    return -true_margin(logits, y) / _spread(logits, (2,))


def targeted_dlr(logits: Tensor, y: Tensor, targets: Tensor) -> Tensor:
    r"""Targeted difference of logits ratio (Croce & Hein 2020, arXiv 2003.01690, eq. 7): from a class to a target.

    It is :math:`(l_t - l_y) / (l_{\pi_1} - \tfrac12(l_{\pi_3} + l_{\pi_4}))`. For fewer than four classes it is the
    numerator: without a fourth logit, the ratio of the most and the least likely of three classes is always -1.

    >>> targeted_dlr(torch.tensor([[4.0, 3.0, 2.0, 0.0]]), torch.tensor([0]), torch.tensor([3]))
    tensor([-1.3333])
    """
    gain = logits.gather(1, targets.long()[:, None]) - logits.gather(1, y.long()[:, None])
    return gain[:, 0] / _spread(logits, (2, 3)) if logits.shape[1] > 3 else gain[:, 0]


def _spread(logits: Tensor, ranks: tuple[int, ...]) -> Tensor:
    """Largest logit minus the mean of those at other ranks, `[example]`; 1 if that is zero or the ranks are missing."""
    present = [rank for rank in ranks if rank < logits.shape[1]]
    if not present:
        return torch.ones_like(logits[:, 0])
    top = logits.topk(present[-1] + 1, dim=1).values
    spread = top[:, 0] - top[:, present].mean(1)
    return torch.where(spread > 0, spread, 1.0)


def loss_of(logits: Tensor, y: Tensor, loss: Loss) -> Tensor:
    r"""Loss of each example: one of `LOSSES`, or a function of `logits` and `y`.

    With :math:`z = \log\sum_{c\ne y} e^{l_c} - l_y`, the "log_odds", the cross-entropy is :math:`\log(1 + e^z)`. In
    this form its gradient points along :math:`\nabla z` even where softmax rounds to 1. The "margin" is the largest
    other logit minus the true one.
    """
    if callable(loss):
        return loss(logits, y)
    if loss == "margin":
        return -true_margin(logits, y)
    column = y.long()[:, None]
    log_odds = logits.scatter(1, column, -torch.inf).logsumexp(1) - logits.gather(1, column)[:, 0]
    return log_odds if loss == "log_odds" else F.softplus(log_odds)
