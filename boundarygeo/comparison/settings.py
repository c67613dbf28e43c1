"""What the instruments of a comparison are set to: the same for all classifiers."""

from dataclasses import dataclass

from boundarygeo.checks import check_count, check_positive

_EPS = {1: 0.1, 3: 8 / 255}


def default_eps(channels: int) -> float:
    """The usual ε in L∞ for images in [0, 1]: 0.1 for one channel (digits), 8/255 for colours.

    Args:
        channels: number of channels.

    Returns:
        ε, in input units.

    Raises:
        ValueError: if neither 1 nor 3.
    """
    if channels not in _EPS:
        raise ValueError(f"eps must be given for images of {channels} channels: there is a usual one for 1 and 3 alone")
    return _EPS[channels]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of all instruments.

    Attributes:
        eps: ε of the attacks in L∞, in input units; and how far straightness is looked at along the FGSM direction.
        radius: ε of the dimensions in L2, in input units; by default the L2 length ε √d of an FGSM step.
        restarts: restarts of PGD-100.
        queries: forward passes per example of the Square attack, by itself and as a part of the strongest attack.
        few: number of examples of the expensive instruments: pieces, optimised frames, certified radii.
        max_dimension: largest dimension to look for, or None for that of `adversarial_dimension`.
        frame: whether dimensions by optimised frames are counted, too.
        pairs: number of pairs of examples of each kind whose segments are looked at.
        sigma: standard deviation of the noise that radii are certified for, in input units; None for no certificates.
        votes: number of noise vectors that a certificate is made by.

    Raises:
        ValueError: if one is out of its range.
    """

    eps: float
    radius: float | None = None
    restarts: int = 5
    queries: int = 1000
    few: int = 20
    max_dimension: int | None = None
    frame: bool = False
    pairs: int = 500
    sigma: float | None = None
    votes: int = 1000

    def __post_init__(self) -> None:
        for name in ("eps", "radius", "sigma"):
            if getattr(self, name) is not None:
                check_positive(getattr(self, name), name)
        for name in ("restarts", "queries", "few", "pairs", "votes", "max_dimension"):
            if getattr(self, name) is not None:
                check_count(getattr(self, name), name)
