"""Signs of masked gradients: attacks that should be stronger but are not (Athalye, Carlini, Wagner 2018, §3.1).

All attacks see the same examples, so they are compared in pairs by McNemar's exact test, one-sided, on the examples
that withstand one attack and not the other. With informative gradients, iterated attacks, more steps and restarts, and
white-box attacks are stronger, up to a few examples by chance; p says how likely that is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from scipy import stats
from torch import Tensor

from boundarygeo.results.statistics import Estimate, paired_difference

LEVEL = 0.01
"""A check with a smaller p-value is flagged."""


@dataclass(frozen=True)
class PairedCheck:
    """Whether an attack that should be stronger leaves more accuracy than another.

    Attributes:
        stronger: name of the attack that should be stronger.
        weaker: name of the other attack.
        difference: accuracy under `stronger` minus accuracy under `weaker`, with its 95 % interval over the examples
            (`boundarygeo.results.statistics.paired_difference`); positive values suggest masked gradients.
        against: number of examples that withstand `stronger` and not `weaker`.
        with_it: number of examples that withstand `weaker` and not `stronger`.
        p: probability of at least this many `against` by chance, if both outcomes were equally likely; multiplied by
            the number of attacks among which `weaker` was chosen.
    """

    stronger: str
    weaker: str
    difference: Estimate
    against: int
    with_it: int
    p: float

    @property
    def flagged(self) -> bool:
        """Whether the difference is too large for chance."""
        return self.p < LEVEL

    @property
    def reason(self) -> str:
        """The numbers in words."""
        return (
            f"{self.stronger} leaves {100 * self.difference.value:+.1f} points of accuracy more than {self.weaker}: "
            f"{self.against} of {self.difference.n} examples withstand the former alone, {self.with_it} the latter "
            f"alone (p = {self.p:.2g})"
        )


def masking_checks(
    fgsm: Tensor,
    pgd: Tensor,
    longer: Tensor,
    transferred: Mapping[str, Tensor],
    *,
    square: Tensor | None = None,
    names: tuple[str, str, str, str] = ("FGSM", "PGD-20", "PGD-100", "Square"),
) -> list[PairedCheck]:
    """The checks, from the correctness under each attack.

    Args:
        fgsm: whether the classifier is right under FGSM, bool `[example]`.
        pgd: likewise under PGD, bool `[example]`.
        longer: likewise under PGD with more steps and restarts, bool `[example]`.
        transferred: likewise under adversarial examples made for other classifiers, by their name. The one that leaves
            the fewest correct is compared with `pgd`.
        square: likewise under an attack without gradients, bool `[example]`.
        names: names of the four attacks.

    Returns:
        PGD against FGSM, longer against shorter PGD; then, if given, longer PGD against the attack without gradients,
        and PGD against the strongest transferred attack.

    Examples:
        >>> import torch
        >>> right = torch.ones(20, dtype=torch.bool)
        >>> [check.flagged for check in masking_checks(~right, right, right, {})]
        [True, False]
    """
    blind = {} if square is None else {names[3]: square}
    for outcome in (pgd, longer, *blind.values(), *transferred.values()):
        if outcome.shape != fgsm.shape:
            raise ValueError(
                f"every attack must have one value for each of the {len(fgsm)} examples, got {list(outcome.shape)}"
            )
    checks = [_compare(names[1], pgd, names[0], fgsm), _compare(names[2], longer, names[1], pgd)]
    checks += [_compare(names[2], longer, name, outcome) for name, outcome in blind.items()]
    if transferred:
        source = min(transferred, key=lambda name: int(transferred[name].sum()))
        sent = f"{names[1]} sent from {source}"
        checks.append(_compare(names[1], pgd, sent, transferred[source], choices=len(transferred)))
    return checks


def _compare(stronger: str, here: Tensor, weaker: str, there: Tensor, *, choices: int = 1) -> PairedCheck:
    against, with_it = int((here & ~there).sum()), int((there & ~here).sum())
    differing = against + with_it
    p = float(stats.binomtest(against, differing, 0.5, alternative="greater").pvalue) if differing else 1.0
    difference = paired_difference(against, with_it, len(here))
    return PairedCheck(stronger, weaker, difference, against, with_it, min(1.0, p * choices))
