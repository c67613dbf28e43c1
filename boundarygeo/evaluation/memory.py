"""Copies, forms and batch sizes of a module, reused by the next analysis while the module is unchanged."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from boundarygeo.evaluation.arithmetic import is_standard
from boundarygeo.evaluation.batches import BatchTuner
from boundarygeo.evaluation.copies import frozen_copy, pointers, share_buffers, tensors_of, unwrapped
from boundarygeo.evaluation.forms import Form


class Memory:
    """Copies, rearranged forms and batch sizes of one module, each dropped when the module changes.

    `probes` holds a few normalised inputs of each shape, on which the module has been checked.
    """

    def __init__(self) -> None:
        self.probes: dict[torch.Size, Tensor] = {}
        self._checked: tuple[Any, ...] | None = None
        self._base: nn.Module | None = None
        self._digest: str | None = None
        self._forms: dict[tuple[str, torch.Size], Form | None] = {}
        self._tuners: dict[tuple[str, torch.Size], BatchTuner] = {}

    def copy_of(self, module: nn.Module, structure: str, device: torch.device) -> nn.Module:
        """A frozen copy of the module; the previous copy if the module is unchanged and all weights are shared."""
        now = (structure, *tensors_of(module))
        if now != self._checked:
            self.probes.clear()
            self._base = None
            self._checked = now
        if self._base is not None:
            return self._base
        base, own = frozen_copy(module, device), unwrapped(module)
        if base is not own and is_standard(own):
            share_buffers(base, own)
            if pointers(base) == pointers(own):
                self._base = base
        return base

    def keep_forms_of(self, digest: str | None) -> None:
        """Drop the forms unless they were built for this digest; None always drops them."""
        if digest is None or digest != self._digest:
            self._forms.clear()
        self._digest = digest

    def form(self, kind: str, shape: torch.Size, build: Callable[[Tensor], Form | None]) -> Form | None:
        """A form, built on first use from the probe of this shape."""
        if (kind, shape) not in self._forms:
            self._forms[kind, shape] = build(self.probes[shape])
        return self._forms[kind, shape]

    def tuner(self, kind: str, shape: torch.Size, device: torch.device, batch_size: int | None) -> BatchTuner:
        """The batch size of a kind of work on inputs of a shape."""
        return self._tuners.setdefault((kind, shape), BatchTuner(device, batch_size))
