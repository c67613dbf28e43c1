"""Independent streams of random numbers of a training."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

STREAMS = ("order", "method", "global", "augmentation")
"""Streams for the data order, the method, the global generators (dropout) and augmentation."""


class Randomness:
    """Generators of the data order, the method and the augmentation, seeded from one seed."""

    def __init__(self, seed: int, device: torch.device) -> None:
        seeds = torch.randint(2**62, (len(STREAMS),), generator=torch.Generator().manual_seed(seed)).tolist()
        self.seeds = dict(zip(STREAMS, seeds, strict=True))
        self.order, self.method, self.augmentation = (
            torch.Generator().manual_seed(self.seeds[name]) for name in ("order", "method", "augmentation")
        )
        on_gpu = device.type == "cuda"
        self.gpu = (torch.cuda.current_device() if device.index is None else device.index) if on_gpu else None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Seed the global generators and use deterministic convolutions; restore both afterwards."""
        deterministic = torch.backends.cudnn.deterministic
        with torch.random.fork_rng(devices=[] if self.gpu is None else [self.gpu]):
            # Not torch.manual_seed, which would also reseed devices whose state is not restored here.
            torch.default_generator.manual_seed(self.seeds["global"])
            if self.gpu is not None:
                torch.cuda.default_generators[self.gpu].manual_seed(self.seeds["global"])
            torch.backends.cudnn.deterministic = True
            try:
                yield
            finally:
                torch.backends.cudnn.deterministic = deterministic

    def states(self) -> dict[str, Tensor]:
        """State of each generator; call it within `running`."""
        states = {name: getattr(self, name).get_state() for name in ("order", "method", "augmentation")}
        states["global"] = torch.default_generator.get_state()
        if self.gpu is not None:
            states["gpu"] = torch.cuda.get_rng_state(self.gpu)
        return states

    def restore(self, states: Mapping[str, Tensor]) -> None:
        """Restore each generator from `states`; call it within `running`."""
        for name in ("order", "method", "augmentation"):
            getattr(self, name).set_state(states[name])
        torch.default_generator.set_state(states["global"])
        if self.gpu is not None:
            torch.cuda.set_rng_state(states["gpu"], self.gpu)
