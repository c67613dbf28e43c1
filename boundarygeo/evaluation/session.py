"""One analysis of a module: what it is while the analysis runs, and what its gradients gave away."""

import warnings

from torch import Tensor, nn

from boundarygeo.evaluation.forms import plain_form

MASKED = 0.1
"""Share of gradients that are exactly zero, above which an analysis says so."""


class Session:
    """A module as it is during one analysis.

    Args:
        base: a frozen copy of it.
        structure: its `structure_digest`.
        standard: whether its whole state is known (`is_standard`).
        probe: a few normalised inputs.

    Attributes:
        plain: the module as it is.
        sure: whether the forms that were kept have been compared with it.
    """

    def __init__(self, base: nn.Module, structure: str, standard: bool, probe: Tensor) -> None:
        self.structure, self.standard, self.sure = structure, standard, False
        self.plain = plain_form(base, probe)
        # On the device until the end: to read them earlier would wait for it.
        self._zeros: int | Tensor = 0
        self._unusable: int | Tensor = 0
        self._gradients = 0

    def look(self, logits: Tensor) -> None:
        """Count batches with a logit that is not finite, whose argmax would pass for an adversarial label."""
        self._unusable = self._unusable + ~logits.detach().isfinite().all()

    def refuse_unusable(self) -> None:
        """Refuse what was computed from a NaN or an infinity.

        Raises:
            ValueError: if there was one.
        """
        if int(self._unusable):
            raise ValueError("module must return finite logits, got NaN or infinity at a point that was evaluated")

    def note(self, gradient: Tensor) -> None:
        """Count gradients that are exactly zero."""
        self._zeros = self._zeros + (gradient.flatten(1) == 0).all(1).sum()
        self._gradients += len(gradient)

    def warn_of_masked_gradients(self) -> None:
        """Say so where the module gives many inputs no gradient at all."""
        zeros = int(self._zeros)
        if zeros > MASKED * self._gradients:
            warnings.warn(
                f"{zeros} of {self._gradients} input gradients ({zeros / self._gradients:.0%}) are exactly zero "
                "(rounding, saturation?): attacks and directions that follow them find nothing, which is no robustness",
                stacklevel=5,
            )
