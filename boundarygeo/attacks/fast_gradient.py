"""FGSM: one step along the gradient (Goodfellow et al. 2015, arXiv 1412.6572)."""

from collections.abc import Sequence

from torch import Tensor

from boundarygeo.attacks.examples import AdversarialExamples, attack_examples
from boundarygeo.attacks.norms import steepest
from boundarygeo.checks import check_eps
from boundarygeo.choices import Norm
from boundarygeo.classifier import Classifier
from boundarygeo.evaluation import Session, analysis


@analysis
def fgsm(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    targets: Tensor | None = None,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> AdversarialExamples:
    r"""Fast gradient (sign) method: one step of length ε, then the bounds.

    .. math:: x' = \mathrm{clip}(x + \varepsilon\,\mathrm{sign}(\nabla_x J(x, y)))

    with the cross-entropy J; in L2 the unit gradient replaces its sign, and with targets the step goes downhill. An
    example that needs no change (misclassified, or on its target, to begin with) is left as it is: found, distance 0.
    At most two forward passes and one backward per example.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        eps: length of the step in `norm`, in input units.
        norm: `"linf"` or `"l2"`.
        targets: classes to be reached, int64 `[example]`; by default any other than the true one is a success.
        index: number of each example, by which the result names them; by default 0, 1, 2, ….
        progress: whether to show a progress bar after two seconds.

    Raises:
        TypeError: if `x` or `y` is not a tensor of the right kind.
        ValueError: if an argument is out of its range, or the module's output is invalid.
    """
    radius = check_eps(eps)
    targeted = targets is not None

    def search(session: Session, inputs: Tensor, classes: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, uphill = session.differentiate(inputs, classes, "log_odds")
        labels = logits.argmax(1)
        live = ((labels == classes) != targeted).nonzero()[:, 0]
        points = inputs.clone()
        if len(live):
            step = (-radius if targeted else radius) * steepest(uphill[live], norm)
            points[live] = (inputs[live] + step).clamp(*session.bounds)
            labels[live] = session.evaluate(points[live]).argmax(1)
        return points, labels, (labels == classes) == targeted

    return attack_examples(
        clf, x, y, search, attack="fgsm", norm=norm, eps=radius, targets=targets, index=index, progress=progress
    )
