"""Settings of the instruments of a comparison, the same for all classifiers."""

from dataclasses import dataclass

from boundarygeo.checks import check_count, check_positive

_EPS = {1: 0.1, 3: 8 / 255}


def default_eps(channels: int) -> float:
    """The usual L∞ ε for images in [0, 1]: 0.1 for one channel (digits), 8/255 for colour images.

    Raises a `ValueError` for other numbers of channels.
    """
    if channels not in _EPS:
        raise ValueError(f"pass eps: there is no usual value for images with {channels} channels, only for 1 and 3")
    return _EPS[channels]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of all instruments.

    Attributes:
        eps: L∞ ε of the attacks, in input units; also the range of straightness along the FGSM direction.
        radius: L2 ε of the dimensions, in input units; by default the L2 length ε √d of an FGSM step.
        restarts: restarts of PGD-100.
        queries: forward passes per example of the Square attack, alone and as part of the strongest attack.
        few: number of examples of the expensive instruments: pieces, optimised frames, certified radii.
        max_dimension: largest dimension to search for, or None for that of `adversarial_dimension`.
        frame: whether to count dimensions by optimised frames as well.
        pairs: number of pairs of examples of each kind for segments.
        sigma: standard deviation of the noise for certified radii, in input units; None for no certificates.
        votes: number of noise vectors per certificate.
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
