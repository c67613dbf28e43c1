"""Copies of the caller's module: frozen, in evaluation mode, without what only wraps it."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

# Evaluated eagerly, these give what the module inside gives: they only decide how fast, or where.
_WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
"""Where a module keeps what is called around its passes."""


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside `torch.compile`, `DataParallel` or `DistributedDataParallel`, where that is all they do.

    Args:
        module: any module.

    Returns:
        The innermost module; a wrapper that carries hooks is kept, for they would be lost.
    """
    while (inner := _WRAPPERS.get(type(module).__name__)) and not has_hooks(module):
        module = getattr(module, inner)
    return module


def has_hooks(module: nn.Module) -> bool:
    """Whether anything is called around this module's passes (not those of its submodules)."""
    return any(getattr(module, hooks, None) for hooks in HOOKS)


def is_hooked(module: nn.Module) -> bool:
    """Whether anything is called around a pass of the module or a submodule, by a hook of its own or of all modules."""
    everywhere = any(getattr(nn.modules.module, f"_global{hooks}", None) for hooks in HOOKS)
    return everywhere or any(has_hooks(layer) for layer in module.modules())


def dtypes_of(module: nn.Module) -> list[torch.dtype]:
    """Dtypes of the floating parameters and buffers, in order."""
    return [tensor.dtype for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]


def frozen_copy(module: nn.Module, device: torch.device) -> nn.Module:
    """The module as it is now, in evaluation mode, its parameters frozen.

    Parameters that are on the device already are shared with the caller's module and not copied; everything else is the
    copy's own.

    Args:
        module: the caller's module; not changed.
        device: where the copy is to live.

    Returns:
        The copy; or the module itself, where it cannot be copied and is on the device already.

    Raises:
        ValueError: if it cannot be copied and is elsewhere.
    """
    module = unwrapped(module)
    shared = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=False)
        for parameter in module.parameters()
        if type(parameter) is nn.Parameter and parameter.device == device and not parameter.is_inference()
    }
    try:
        duplicate = copy.deepcopy(module, dict(shared))
    except Exception as error:  # user code may raise anything when copied
        homes = {parameter.device for parameter in module.parameters()}
        if homes - {device}:
            raise ValueError(
                f"module must be on {device} or allow copy.deepcopy, got {type(error).__name__} from copying"
            ) from error
        return module
    for parent in list(duplicate.modules()):
        for name, child in list(parent.named_children()):
            if unwrapped(child) is not child:
                setattr(parent, name, unwrapped(child))
    duplicate.to(device)
    for parameter in duplicate.parameters():
        parameter.requires_grad_(False)
    return evaluating(duplicate)


def share_buffers(duplicate: nn.Module, module: nn.Module) -> None:
    """Give a copy the buffers of its original, where they are on its device: for layers that do not write to them.

    Args:
        duplicate: what `frozen_copy` gave.
        module: what it was made from, without wrappers in it.
    """
    for copied, own in zip(duplicate.modules(), module.modules(), strict=True):
        for name, buffer in own.named_buffers(recurse=False):
            if buffer.device == copied.get_buffer(name).device and not buffer.is_inference():
                copied._buffers[name] = buffer


def evaluating(module: nn.Module) -> nn.Module:
    """Put a module into evaluation mode; one that `torch.export` made has only the mode that it was made in."""
    try:
        return module.eval()
    except NotImplementedError:
        return module


def check_weights(module: nn.Module) -> None:
    """Refuse a module whose weights do not exist yet.

    Args:
        module: any module.

    Raises:
        ValueError: if a parameter or buffer has no shape or no values.
    """
    tensors = [*module.parameters(), *module.buffers()]
    if any(is_lazy(tensor) for tensor in tensors):
        raise ValueError("module has weights without a shape (lazy layers): call it once on an input, then wrap it")
    if any(tensor.is_meta for tensor in tensors):
        raise ValueError(
            "module has weights without values (on the meta device): module.to_empty(device='cpu'), then load them"
        )


def tensors_of(module: nn.Module) -> list[tuple[int, int, int]]:
    """Which weights a module has: object, place and version of each.

    It costs nothing, and changes with most of their changes.
    """
    tensors = (*module.parameters(), *module.buffers())
    return [(id(each), _pointer(each), 0 if each.is_inference() else each._version) for each in tensors]


def pointers(module: nn.Module) -> list[int]:
    """Where the values of a module's parameters and buffers are."""
    return [pointer for _, pointer, _ in tensors_of(module)]


def _pointer(tensor: Tensor) -> int:
    """Where the values of a tensor are; 0 where they have no such place."""
    plain = type(tensor) in (Tensor, nn.Parameter, nn.Buffer) and tensor.layout is torch.strided
    return tensor.data_ptr() if plain and not tensor.is_meta else 0
