"""Mixup inference as a module: predictions on mixtures with training examples, averaged."""

import numpy as np
import torch
from torch import Tensor, nn

from boundarygeo.checks import check_choice, check_count
from boundarygeo.classifier import Classifier
from boundarygeo.defences.averages import log_mean_softmax
from boundarygeo.evaluation import analysis, frozen_copy, own_world

SAMPLES = {"pl": (10, 0), "ol": (0, 30), "both": (5, 15)}
"""The modes, and their numbers of partners from the predicted class and from others, as in the authors' code."""

FLAGGED = 0.2
"""In mode `"both"`, a drop in confidence this large when mixing with the predicted class marks an input as attacked."""


class MixupInference(nn.Module):
    r"""Log of a module's mean softmax over mixtures of the input with training examples (Pang et al. 2020).

    :math:`\log\frac1K\sum_k\mathrm{softmax}\,f(\lambda x+(1-\lambda)x_k)`, arXiv 1909.11515. The partners
    :math:`x_k` depend on the class that the bare module predicts at x: in mode `"pl"` they are drawn from that class,
    in mode `"ol"` from a class drawn uniformly among the others. Mode `"both"` uses the first as a detector: where the
    largest probability falls by 0.2 or more from the bare module's, the prediction is that of `"ol"`, else of `"pl"`.

    The paper draws new partners for every input. Here they are drawn once, when the module is created, one list per
    predicted class. The output for an input is then a function of that input alone, attacks differentiate through all
    mixtures, and attacks know the partners. To evaluate an attack that does not know the partners, predict its examples
    (of `pgd(..., early_stop=False)`) with another seed.

    The choice of the list is not differentiable. At boundaries of the bare module the output jumps, which the gradient
    of the mixtures does not show: an attack through them can be weaker than one on the bare module (`"pl"` almost
    always follows the bare label). So attack both, and count the worse of the two for each example. For the same reason
    the module rejects bfloat16, whose rounding would decide on which side of such a boundary an input lies.

    Args:
        module: maps inputs `[batch, *input]` to logits `[batch, class]`.
        pool_x: *training* examples in the units of the module's input, i.e. normalised if the module is trained on
            normalised inputs, `[candidate, *input]`. `with_mixup_inference` takes them in input units. (The authors'
            code draws its pool from the test set.)
        pool_y: their true classes, int64 `[candidate]`.
        mode: `"pl"`, `"ol"` or `"both"`.
        lam: weight λ of the input, in (0, 1]; at 1 the output is the bare module's log-softmax.
        samples: number K of partners of each kind that the mode uses; by default 10 for `"pl"`, 30 for `"ol"`, and 5
            and 15 for `"both"`.
        seed: seed of the partners.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if an argument is out of range, or the pool lacks classes that the mode needs.
    """

    partners: Tensor
    lam: Tensor
    same: Tensor
    other: Tensor

    def __init__(
        self,
        module: nn.Module,
        pool_x: Tensor,
        pool_y: Tensor,
        *,
        mode: str = "ol",
        lam: float = 0.5,
        samples: int | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
        check_choice(mode, "mode", SAMPLES)
        if not 0 < lam <= 1:
            raise ValueError(f"lam must be in (0, 1], got {lam}")
        if samples is not None:
            check_count(samples, "samples")
        _check_pool(pool_x, pool_y)
        super().__init__()
        self.module = module
        self.mode = mode
        counts = [count if samples is None else count and samples for count in SAMPLES[mode]]
        home = next((p.device for p in module.parameters()), pool_x.device)
        classes = _number_of_classes(module, pool_x[:1].detach().to(home, torch.float32))
        labels = pool_y.detach().cpu().numpy().astype(np.int64)
        if labels.max() >= classes:
            raise ValueError(f"pool_y must be in [0, {classes}), got values up to {labels.max()}")
        same = _of_the_class(labels, classes, counts[0], seed)
        other = _of_other_classes(labels, classes, counts[1], seed)
        used, places = np.unique(np.concatenate([same, other], 1), return_inverse=True)
        places = torch.from_numpy(places.reshape(classes, -1))
        partners = pool_x.detach().cpu()[torch.from_numpy(used)].float().contiguous()
        # Buffers, so that other partners or another λ change the module's hash.
        self.register_buffer("partners", partners.to(home))
        self.register_buffer("same", places[:, : counts[0]].contiguous().to(home))
        self.register_buffer("other", places[:, counts[0] :].contiguous().to(home))
        self.register_buffer("lam", torch.tensor(float(lam), device=home))

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities `[batch, class]` of inputs `[batch, *input]`."""
        if x.dtype == torch.bfloat16:
            raise TypeError("mixup inference needs float32 or float64, got bfloat16")
        if x.shape[1:] != self.partners.shape[1:]:
            wanted, got = list(self.partners.shape[1:]), list(x.shape[1:])
            raise ValueError(f"inputs must have the shape {wanted} of the pool, got {got}")
        logits = self.module(x)
        predicted = logits.argmax(1)
        if self.mode == "ol":
            return self._mixed(x, self.other[predicted])
        mixed = self._mixed(x, self.same[predicted])
        if self.mode == "pl":
            return mixed
        fall = logits.softmax(1).amax(1) - mixed.amax(1).exp()
        flagged = (fall >= FLAGGED).nonzero()[:, 0]
        if not len(flagged):
            return mixed
        return mixed.index_copy(0, flagged, self._mixed(x[flagged], self.other[predicted[flagged]]))

    def _mixed(self, x: Tensor, chosen: Tensor) -> Tensor:
        """Log of the mean softmax over mixtures with the chosen partners, int64 `[batch, sample]`."""
        mixtures = self.lam * x.unsqueeze(1) + (1 - self.lam) * self.partners[chosen]
        return log_mean_softmax(self.module(mixtures.flatten(0, 1)), chosen.shape[1])


@analysis
def with_mixup_inference(
    clf: Classifier,
    pool_x: Tensor,
    pool_y: Tensor,
    *,
    mode: str = "ol",
    lam: float = 0.5,
    samples: int | None = None,
    seed: int = 0,
) -> Classifier:
    """A classifier with mixup inference around its module.

    Args:
        clf: the bare classifier; not changed.
        pool_x: *training* examples within the bounds, before normalisation, `[candidate, *input]`.
        pool_y: their true classes, int64 `[candidate]`.
        mode: this and the following as in `MixupInference`.
        lam: weight λ of the input, in (0, 1].
        samples: number of partners; by default the paper's.
        seed: seed of the partners.

    Returns:
        The defended classifier.

    Raises:
        TypeError: as `MixupInference`.
        ValueError: as `MixupInference`, or if the pool leaves the bounds.
    """
    clf.check_inputs(pool_x, "pool_x")
    clf.check_labels(pool_y, len(pool_x), "pool_y")
    pool = clf.normalise(pool_x.detach().float())
    return clf.with_module(MixupInference(clf.module, pool, pool_y, mode=mode, lam=lam, samples=samples, seed=seed))


def _of_the_class(labels: np.ndarray, classes: int, count: int, seed: int) -> np.ndarray:
    """For each class, positions of candidates of that class, `[class, count]`."""
    chosen = np.empty((classes, count), dtype=np.int64)
    if not count:
        return chosen
    missing = sorted(set(range(classes)) - set(labels.tolist()))
    if missing:
        raise ValueError(f"pool_y must hold examples of every class of the module, got none of {missing}")
    for number, row in enumerate(chosen):
        members = np.flatnonzero(labels == number)
        row[:] = members[np.random.default_rng((seed, 0, number)).integers(len(members), size=count)]
    return chosen


def _of_other_classes(labels: np.ndarray, classes: int, count: int, seed: int) -> np.ndarray:
    """For each class, positions of candidates of classes drawn uniformly among the others, `[class, count]`.

    All classes share one sequence of draws: each takes the first ones of other classes.
    """
    chosen = np.empty((classes, count), dtype=np.int64)
    if not count:
        return chosen
    present = np.unique(labels)
    if len(present) < 2:
        raise ValueError(f"pool_y must hold at least two classes, got only {present.tolist()}")
    rng = np.random.default_rng((seed, 1))
    drawn = np.empty(0, dtype=np.int64)
    kept = labels[drawn]
    while min(int((kept != number).sum()) for number in present) < count:
        more = [np.flatnonzero(labels == present[rng.integers(len(present))]) for _ in range(count)]
        drawn = np.append(drawn, [members[rng.integers(len(members))] for members in more])
        kept = labels[drawn]
    for number, row in enumerate(chosen):
        row[:] = drawn[kept != number][:count]
    return chosen


def _number_of_classes(module: nn.Module, x: Tensor) -> int:
    with own_world():
        return frozen_copy(module, x.device)(x.clone()).shape[1]


def _check_pool(pool_x: Tensor, pool_y: Tensor) -> None:
    if not isinstance(pool_x, Tensor) or not pool_x.dtype.is_floating_point:
        raise TypeError(f"pool_x must be a float tensor [candidate, *input], got {type(pool_x).__name__}")
    if not isinstance(pool_y, Tensor) or pool_y.dtype.is_floating_point or pool_y.dtype == torch.bool:
        raise TypeError(f"pool_y must be an integer tensor of classes, got {type(pool_y).__name__}")
    if pool_x.ndim < 2 or not len(pool_x) or pool_y.shape != pool_x.shape[:1]:
        raise ValueError(
            f"pool_x and pool_y must have one class per example, got {list(pool_x.shape)} and {list(pool_y.shape)}"
        )
    if int(pool_y.min()) < 0:
        raise ValueError(f"pool_y must hold classes >= 0, got {int(pool_y.min())}")
