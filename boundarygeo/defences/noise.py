"""Gaussian noise that belongs to an example, and the classes predicted under it."""

import numpy as np
import torch
from torch import Tensor

from boundarygeo.directions import generator_of
from boundarygeo.evaluation import Session

_BLOCK = 64
"""Noise vectors drawn by one generator: a fixed number, so that the noise does not depend on the batch size."""


class Noise:
    """Standard normal vectors, `count` per example, each determined by key, number of the example and draw alone.

    The key is the seed, and a number for the purpose of the noise.
    """

    def __init__(self, shape: torch.Size, index: Tensor, count: int, key: tuple[int, int]) -> None:
        self.count = count
        self._shape, self._numbers, self._key = shape, index.tolist(), key
        self._last: tuple[tuple[int, int], Tensor] | None = None

    def vectors(self, start: int, stop: int) -> Tensor:
        """Vectors start to stop, grouped by example, float32 `[vector, *input]`."""
        rows = []
        while start < stop:
            example, draw = divmod(start, self.count)
            block, first = divmod(draw, _BLOCK)
            taken = min(_BLOCK - first, self.count - draw, stop - start)
            rows.append(self._block(example, block)[first : first + taken])
            start += taken
        return torch.cat(rows)

    def _block(self, example: int, block: int) -> Tensor:
        if self._last is None or self._last[0] != (example, block):
            seed, purpose = self._key
            generator = generator_of(seed, self._numbers[example], purpose, block)
            drawn = generator.standard_normal((_BLOCK, *self._shape), dtype=np.float32)
            self._last = (example, block), torch.from_numpy(drawn)
        return self._last[1]


def count_labels(session: Session, x: Tensor, noise: Noise, sigma: float, *, progress: bool) -> Tensor:
    """How often each class is predicted under noise of standard deviation sigma, int64 `[example, class]`."""
    inputs = x.detach().float().cpu()
    # Stays on the device: the noise of the next batch is drawn while the current batch is computed.
    counts = torch.zeros(len(x) * session.num_classes, dtype=torch.int64, device=session.device)
    done = 0

    def points(start: int, stop: int) -> Tensor:
        noisy = inputs[torch.arange(start, stop) // noise.count] + sigma * noise.vectors(start, stop)
        return session.normalise(noisy.to(session.device))

    def consume(logits: Tensor) -> None:
        nonlocal done
        example = torch.arange(done, done + len(logits), device=session.device) // noise.count
        labels = example * logits.shape[1] + logits.argmax(1)
        counts.index_add_(0, labels, torch.ones_like(labels))
        done += len(logits)

    session.run(points, len(x) * noise.count, consume, precision="float32", progress=progress)
    return counts.view(len(x), -1).cpu()
