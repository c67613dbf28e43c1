"""Frozen copies of the caller's module, in eval mode, without wrappers."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

# Wrappers that compute what the module inside does: they only decide how fast, or where.
_WRAPPERS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Attributes that hold a module's hooks."""


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside `torch.compile`, `DataParallel` or `DistributedDataParallel`; wrappers with hooks stay."""
    while (inner := _WRAPPERS.get(type(module).__name__)) and not has_hooks(module):
        module = getattr(module, inner)
    return module


def has_hooks(module: nn.Module) -> bool:
    """Whether this module itself has hooks."""
    return any(getattr(module, hooks, None) for hooks in HOOKS)


def is_hooked(module: nn.Module) -> bool:
    """Whether the module or a submodule has hooks, or a global hook of torch is registered."""
    everywhere = any(getattr(nn.modules.module, f"_global{hooks}", None) for hooks in HOOKS)
    return everywhere or any(has_hooks(layer) for layer in module.modules())


def dtypes_of(module: nn.Module) -> list[torch.dtype]:
    """Dtypes of the floating parameters and buffers, in order."""
    return [tensor.dtype for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]


def frozen_copy(module: nn.Module, device: torch.device) -> nn.Module:
    """A copy of the module in eval mode on a device, with frozen parameters.

    Parameters that are there already share memory with the caller's module; everything else is copied. A module that
    cannot be copied stands for itself where it is on the device, and is refused elsewhere.
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
                f"module cannot be copied ({type(error).__name__} in copy.deepcopy): move it to {device} first"
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
    """Let a copy share the buffers of its original on the same device; only for layers that do not write to them."""
    for copied, own in zip(duplicate.modules(), module.modules(), strict=True):
        for name, buffer in own.named_buffers(recurse=False):
            if buffer.device == copied.get_buffer(name).device and not buffer.is_inference():
                copied._buffers[name] = buffer


def evaluating(module: nn.Module) -> nn.Module:
    """Put a module into eval mode; exported programs cannot change theirs."""
    try:
        return module.eval()
    except NotImplementedError:
        return module


def check_weights(module: nn.Module) -> None:
    """Raise if a parameter or buffer of a module has no shape or no values yet."""
    tensors = [*module.parameters(), *module.buffers()]
    if any(is_lazy(tensor) for tensor in tensors):
        raise ValueError("module has weights without a shape (lazy layers): call it once on an input first")
    if any(tensor.is_meta for tensor in tensors):
        raise ValueError(
            "module has weights without values (on the meta device): call module.to_empty(device='cpu'), then load them"
        )


def tensors_of(module: nn.Module) -> list[tuple[int, int, int]]:
    """Object id, memory address and version of each weight: cheap, and changes with most changes of the weights."""
    tensors = (*module.parameters(), *module.buffers())
    return [(id(each), _pointer(each), 0 if each.is_inference() else each._version) for each in tensors]


def pointers(module: nn.Module) -> list[int]:
    """Memory addresses of a module's parameters and buffers."""
    return [pointer for _, pointer, _ in tensors_of(module)]


def _pointer(tensor: Tensor) -> int:
    """Memory address of a tensor's values; 0 if it has none."""
    plain = type(tensor) in (Tensor, nn.Parameter, nn.Buffer) and tensor.layout is torch.strided
    return tensor.data_ptr() if plain and not tensor.is_meta else 0
