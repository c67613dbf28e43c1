"""Points of lines and planes, computed on the device, batch by batch."""

from collections.abc import Sequence

from torch import Tensor

from boundarygeo.classifier import Classifier
from boundarygeo.layout import FlatInputs


class AffinePoints:
    """Points `origin + Σ coefficient · axis` of many lines or planes, normalised for the module.

    Origins and axes are `[section, *input]`, with one section per line or plane.
    """

    def __init__(self, clf: Classifier, origin: Tensor, axes: Sequence[Tensor], *, clip: bool) -> None:
        self._clf = clf
        self._given = (origin, *axes)
        self._clip = clip
        self._layout = FlatInputs(clf, origin.shape[1:])
        self._origin = self._layout.points(origin)
        self._axes = [self._layout.axes(axis) for axis in axes]

    def fast(self, section: Tensor, *coefficients: Tensor) -> Tensor:
        """Normalised points in float32, `[point, *input]`, from the section and the coefficients of each, `[point]`."""
        points = self._origin.index_select(0, section)
        for coefficient, axis in zip(coefficients, self._axes, strict=True):
            points.addcmul_(coefficient.float()[:, None], axis.index_select(0, section))
        if self._clip:
            self._layout.clip_(points)
        return self._layout.inputs(points)

    def exact(self, section: Tensor, *coefficients: Tensor) -> Tensor:
        """The same points in float64, from the origin and axes before normalisation."""
        where = section.cpu()
        points, *axes = (given[where].to(self._clf.device).double() for given in self._given)
        column = (-1, *(1,) * (points.ndim - 1))
        for coefficient, axis in zip(coefficients, axes, strict=True):
            points += coefficient.double().view(column) * axis
        if self._clip:
            points.clamp_(*self._clf.bounds)
        return self._clf.normalise(points)
