"""Data sets of non-robust features (Ilyas et al. 2019, arXiv 1905.02175, section 3.2)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from boundarygeo.attacks import pgd
from boundarygeo.checks import check_choice
from boundarygeo.choices import Norm
from boundarygeo.classifier import Classifier
from boundarygeo.zoo.data import Split

TARGETS = ("random", "next")


@dataclass(frozen=True, eq=False, repr=False)
class NonRobustSplit(Split):
    """Adversarial examples labelled as their targets; a split like any other.

    Attributes:
        true: true labels, int64 `[example]`.
        found: whether the classifier predicts the target, bool `[example]`.
    """

    true: Tensor
    found: Tensor


def non_robust_dataset(
    clf: Classifier,
    split: Split,
    *,
    targets: str = "random",
    eps: float,
    norm: Norm = "l2",
    steps: int = 100,
    step_size: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> NonRobustSplit:
    """Images moved towards a target class until the classifier predicts it, labelled as that target.

    To a person almost all of them look mislabelled: what a network learns from them that transfers to the true test
    images are features of the target class that a small perturbation can add.

    Args:
        clf: a classifier after standard training.
        split: images and true labels within the bounds of the classifier.
        targets: `"random"`: uniform among all classes, including the true one, so that robust features carry no
            information on the label (the paper's D_rand); `"next"`: y + 1 modulo the number of classes, so that robust
            features point to another class (D_det).
        eps: radius of the ball in `norm`, in input units; the paper uses 0.5 in L2 for CIFAR-10.
        norm: `"l2"` or `"linf"`.
        steps: number of PGD steps, which start at the image and do not stop at success.
        step_size: length of a step in `norm`; by default 2.5 ε / steps. The paper uses 0.1.
        seed: seed of the random targets.
        progress: whether to show a progress bar after two seconds.

    Returns:
        The images, in the order of the split, all labelled as their targets, even where the attack failed (`found`).
        Images that the classifier already assigns to their target are unchanged.

    Raises:
        TypeError: as `boundarygeo.attacks.pgd`.
        ValueError: as `boundarygeo.attacks.pgd`, or if `targets` is unknown.
    """
    check_choice(targets, "targets", TARGETS)
    classes = clf.logits(split.x[:2]).shape[1]
    clf.check_labels(split.y, len(split))
    if targets == "next":
        wanted = (split.y + 1) % classes
    else:
        wanted = torch.randint(classes, (len(split),), generator=torch.Generator().manual_seed(seed))
    moved = pgd(
        clf,
        split.x,
        split.y,
        eps=eps,
        norm=norm,
        steps=steps,
        step_size=step_size,
        random_start=False,
        early_stop=False,
        targets=wanted,
        seed=seed,
        progress=progress,
    )
    return NonRobustSplit(x=moved.x_adv, y=wanted, true=split.y, found=moved.found)
