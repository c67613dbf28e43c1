"""Is a module nothing but fixed, continuous arithmetic? Only then may another form of it decide labels.

A form in another precision or layout, or with batch norms folded, equals the module up to rounding if every input goes
through the same continuous operations. Logits on a few probes cannot show that: a branch, a hook or a step function may
not be triggered. Instead the module's classes decide, or a record of the operations of one forward pass on fake
tensors, on which code that reads values fails.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from boundarygeo.evaluation.copies import is_hooked

Record = list[tuple[Any, ...]]
"""Operations in order: name, and each argument's value or the number of the earlier tensor that it is."""

_STANDARD = ("torch.nn.modules.", "torchvision.models.", "torchvision.ops.", "boundarygeo.zoo.")

_WITHOUT_JUMPS = """
    convolution _convolution addmm mm bmm baddbmm mv dot linear native_batch_norm
    _native_batch_norm_legit_no_training cudnn_batch_norm native_layer_norm native_group_norm relu relu_
    leaky_relu leaky_relu_ elu elu_ gelu silu silu_ mish mish_ hardtanh hardtanh_ hardswish hardswish_ hardsigmoid
    hardsigmoid_ softplus sigmoid sigmoid_ tanh tanh_ _prelu_kernel celu celu_ erf log_sigmoid_forward
    max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d max_pool3d_with_indices avg_pool3d mean sum add add_
    sub sub_ mul mul_ div div_ neg rsub exp log sqrt rsqrt abs clamp clamp_ clamp_min clamp_max pow maximum
    minimum amax amin addcmul _softmax _log_softmax logsumexp _scaled_dot_product_flash_attention_for_cpu
    _scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention _scaled_dot_product_attention_math
    view _unsafe_view reshape expand permute transpose t clone cat stack slice select unsqueeze squeeze flatten
    constant_pad_nd reflection_pad2d replication_pad2d detach alias split split_with_sizes unbind chunk narrow
    roll flip upsample_nearest2d upsample_bilinear2d pixel_shuffle im2col _reshape_alias unfold zeros ones full
    new_zeros new_ones zeros_like ones_like arange empty device
"""
_CONTINUOUS = frozenset(_WITHOUT_JUMPS.split())


def is_standard(module: nn.Module) -> bool:
    """Whether a module consists of unmodified layers of torch, torchvision and our zoo alone, without hooks.

    Its gradients are then known to be those of its operations.
    """
    return not is_hooked(module) and all(
        f"{type(layer).__module__}.".startswith(_STANDARD)
        and str(getattr(type(layer).forward, "__module__", "")).startswith(tuple(name[:-1] for name in _STANDARD))
        and "forward" not in vars(layer)
        for layer in module.modules()
    )


def continuous_record(module: nn.Module, probe: Tensor) -> Record | None:
    """The operations of a forward pass, if they are continuous and the same for every input of the probe's shape.

    None if the module has hooks, reads values, or uses operations not listed here.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode  # slow to import

    if is_hooked(module):
        return None
    recorder = _Recorder()
    try:
        with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True) as fakes:
            inputs = fakes.from_tensor(probe)
            recorder.number(inputs)
            with recorder:
                module(inputs)
    except Exception:  # the module reads values, leaves torch, or does not support fake tensors
        return None
    return recorder.record if recorder.continuous else None


def trace(module: nn.Module) -> fx.GraphModule | None:
    """The module's operations as a graph, or None if it cannot be traced."""
    try:
        return fx.symbolic_trace(module)
    except Exception:  # control flow that depends on data, or anything else that tracing does not support
        return None


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.record: Record = []
        self.continuous = True
        self._numbers: dict[int, int] = {}
        self._alive: list[Tensor] = []

    def number(self, tensor: Tensor) -> None:
        self._numbers[id(tensor)] = len(self._alive)
        self._alive.append(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given, _ = tree_flatten((args, kwargs or {}))
        entry = tuple(self._shown(value) for value in given)
        outputs = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.record.append((name, *entry))
        self.continuous &= name in _CONTINUOUS  # precisions could fall on different sides of a jump
        for output in tree_flatten(outputs)[0]:
            if isinstance(output, Tensor) and id(output) not in self._numbers:
                self.number(output)
        return outputs

    def _shown(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return repr(value)
        number = self._numbers.get(id(value))
        return ("result", number) if number is not None else ("constant", id(value))
