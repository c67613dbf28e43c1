"""Inputs as flat, normalised rows, from which points of lines, planes and frames are computed."""

import torch
from torch import Tensor

from boundarygeo.classifier import Classifier


class FlatInputs:
    """Inputs of one shape as rows of a matrix, in the memory layout of a module's fast forms."""

    def __init__(self, clf: Classifier, shape: torch.Size) -> None:
        self._clf, self._shape = clf, shape
        low, high = (torch.full((1, *shape), bound, device=clf.device) for bound in clf.bounds)
        self._bounds = self.points(low), self.points(high)

    def points(self, x: Tensor) -> Tensor:
        """Inputs `[row, *input]` as flat, normalised rows on the classifier's device."""
        return self.rearranged(self._clf.normalise(x.to(self._clf.device)))

    def axes(self, v: Tensor) -> Tensor:
        """Differences of inputs `[row, *input]` as flat rows, divided by std."""
        return self.rearranged(self._clf.normalise_direction(v.to(self._clf.device)))

    def clip_(self, rows: Tensor) -> Tensor:
        """Clip flat rows to the bounds, in place."""
        return rows.clamp_(*self._bounds)

    def inputs(self, rows: Tensor) -> Tensor:
        """Flat rows viewed as inputs of the module, `[row, *input]`."""
        if len(self._shape) == 3:
            return rows.view(-1, *self._shape[1:], self._shape[0]).movedim(-1, 1)
        return rows.view(-1, *self._shape)

    def rearranged(self, x: Tensor) -> Tensor:
        """Values `[row, *input]` as flat rows on the classifier's device, not normalised."""
        x = x.to(self._clf.device)
        return (x.movedim(1, -1) if x.ndim == 4 else x).flatten(1).contiguous()
