"""Randomised smoothing as a module: the average prediction under Gaussian noise."""

import numpy as np
import torch
from torch import Tensor, fx, nn

from boundarygeo.checks import check_count, check_positive
from boundarygeo.classifier import Classifier
from boundarygeo.defences.averages import log_mean_softmax
from boundarygeo.evaluation import analysis


class RandomisedSmoothing(nn.Module):
    r"""Log of a module's mean softmax under Gaussian noise, :math:`\log E\,\mathrm{softmax}(f(x+\eta))`.

    The expectation is the soft smoothed classifier of Salman et al. 2019 (arXiv 1906.04584), estimated from K noise
    vectors that are drawn once, when the module is created, and added to every input. The output for an input is then a
    function of that input alone, attacks differentiate through all samples, and attacks know the noise. To evaluate an
    attack that does not know the noise, predict its examples (of `pgd(..., early_stop=False)`) with another seed. The
    smoothed classifier of Cohen et al. 2019 takes the most frequent *label* instead, which has no gradient:
    `predict_smoothed` and `certify` count labels.

    Every sample is one pass of the wrapped module. Noisy inputs leave the bounds, as the certificate requires.

    Args:
        module: maps inputs `[batch, *input]` to logits `[batch, class]`.
        sigma: standard deviation of the noise, in units of the module's input: after a normalisation that divides by
            std, σ/std. A number, or a tensor that broadcasts to one input. `with_smoothing` takes it in input units.
        input_shape: shape of one input.
        samples: number K of noise vectors.
        seed: seed of the noise.

    Raises:
        TypeError: if the module is not an `nn.Module`.
        ValueError: if `sigma` is not positive, the shape is empty, or `samples` is not a positive whole number.

    Examples:
        >>> smooth = RandomisedSmoothing(nn.Linear(2, 3), sigma=0.1, input_shape=(2,))
        >>> bool(torch.allclose(smooth(torch.rand(5, 2)).exp().sum(1), torch.ones(5)))
        True
    """

    noise: Tensor

    def __init__(
        self,
        module: nn.Module,
        *,
        sigma: float | Tensor,
        input_shape: tuple[int, ...],
        samples: int = 64,
        seed: int = 0,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
        check_count(samples, "samples")
        scale = torch.as_tensor(sigma, dtype=torch.float32).detach().cpu()
        if not bool((scale > 0).all() and scale.isfinite().all()):
            raise ValueError(f"sigma must be positive and finite, got {sigma}")
        if not input_shape or min(input_shape) < 1:
            raise ValueError(f"input_shape must be the shape of one input, got {tuple(input_shape)}")
        super().__init__()
        self.module = module
        self.samples = samples
        drawn = np.random.default_rng(seed).standard_normal((samples, *input_shape), dtype=np.float32)
        home = next((p.device for p in module.parameters()), torch.device("cpu"))
        # A buffer, so that other noise changes the module's hash.
        self.register_buffer("noise", (torch.from_numpy(drawn) * scale).to(home))

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities `[batch, class]` of inputs `[batch, *input]`."""
        return log_mean_softmax(self.module(_noisy(x, self.noise)), self.samples)


@fx.wrap  # a single node in a trace, because the check inside cannot be traced
def _noisy(x: Tensor, noise: Tensor) -> Tensor:
    """Each input with each noise vector, `[example * sample, *input]`."""
    if x.shape[1:] != noise.shape[1:]:
        raise ValueError(f"inputs must have the shape {list(noise.shape[1:])} of the noise, got {list(x.shape[1:])}")
    return (x.unsqueeze(1) + noise).flatten(0, 1)


@analysis
def with_smoothing(
    clf: Classifier, *, sigma: float, input_shape: tuple[int, ...], samples: int = 64, seed: int = 0
) -> Classifier:
    """A classifier with randomised smoothing around its module.

    Args:
        clf: the bare classifier; not changed.
        sigma: standard deviation of the noise, in input units, before normalisation.
        input_shape: shape of one input.
        samples: number of noise vectors.
        seed: seed of the noise.

    Returns:
        The smoothed classifier.

    Raises:
        ValueError: as `RandomisedSmoothing`, or if the shape does not fit the classifier's channels.
    """
    check_positive(sigma, "sigma")
    clf.check_inputs(torch.full((1, *input_shape), clf.bounds[0]), "input_shape")
    scale = sigma * clf.normalise_direction(torch.ones(1, *input_shape))[0]
    module = RandomisedSmoothing(clf.module, sigma=scale, input_shape=input_shape, samples=samples, seed=seed)
    return clf.with_module(module)
