"""What was found out about a module in one analysis and still holds in the next."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from boundarygeo.evaluation.arithmetic import is_standard
from boundarygeo.evaluation.batches import BatchTuner
from boundarygeo.evaluation.copies import frozen_copy, pointers, share_buffers, tensors_of, unwrapped
from boundarygeo.evaluation.forms import Form


class Memory:
    """Copies, rearranged forms and batch sizes of one module, each for as long as the module is what it was.

    Attributes:
        probes: a few normalised inputs of each shape, on which the module has been checked.
    """

    def __init__(self) -> None:
        self.probes: dict[torch.Size, Tensor] = {}
        self._checked: tuple[Any, ...] | None = None
        self._base: nn.Module | None = None
        self._known: str | None = None
        self._forms: dict[tuple[str, torch.Size], Form | None] = {}
        self._tuners: dict[tuple[str, torch.Size], BatchTuner] = {}

    def copy_of(self, module: nn.Module, structure: str, device: torch.device) -> nn.Module:
        """A frozen copy of the module; that of the last analysis, where it shares all that may have changed since.

        Args:
            module: the user's.
            structure: its `structure_digest`.
            device: where the copy is to be.
        """
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

    def keep_forms_of(self, known: str | None) -> None:
        """Drop the forms unless they are of a module with this digest; None for one whose whole state is not known."""
        if known is None or known != self._known:
            self._forms.clear()
        self._known = known

    def form(self, kind: str, shape: torch.Size, build: Callable[[Tensor], Form | None]) -> Form | None:
        """A form, built from the probe of this shape when it is first asked for."""
        if (kind, shape) not in self._forms:
            self._forms[kind, shape] = build(self.probes[shape])
        return self._forms[kind, shape]

    def tuner(self, kind: str, shape: torch.Size, device: torch.device, batch_size: int | None) -> BatchTuner:
        """The batch size of a kind of work on inputs of a shape."""
        return self._tuners.setdefault((kind, shape), BatchTuner(device, batch_size))
