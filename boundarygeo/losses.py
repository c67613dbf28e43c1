"""Losses of logits, without the cancellations of their textbook forms."""

import torch
import torch.nn.functional as F
from torch import Tensor

LOSSES = ("cross_entropy", "log_odds", "margin")


def true_margin(logits: Tensor, y: Tensor) -> Tensor:
    """Logit of class `y` minus the largest other logit.

    Args:
        logits: `[example, class]`.
        y: int64 `[example]`.

    Returns:
        Margins `[example]`.

    Examples:
        >>> true_margin(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([1]))
        tensor([1.])
    """
    column = y.long()[:, None]
    others = logits.scatter(1, column, -torch.inf).amax(1)
    return logits.gather(1, column)[:, 0] - others


def loss_of(logits: Tensor, y: Tensor, name: str) -> Tensor:
    r"""A loss of each example.

    With :math:`z = \log\sum_{c\ne y} e^{l_c} - l_y`, the cross-entropy is :math:`\log(1 + e^z)`. Computed so, its
    gradient keeps the direction of :math:`\nabla z` where softmax has rounded to 1.

    Args:
        logits: `[example, class]`.
        y: classes, int64 `[example]`.
        name: `"cross_entropy"`; `"log_odds"`, the z above; or `"margin"`, the largest other logit minus the true one.

    Returns:
        Losses `[example]`.
    """
    if name == "margin":
        return -true_margin(logits, y)
    column = y.long()[:, None]
    log_odds = logits.scatter(1, column, -torch.inf).logsumexp(1) - logits.gather(1, column)[:, 0]
    return log_odds if name == "log_odds" else F.softplus(log_odds)
