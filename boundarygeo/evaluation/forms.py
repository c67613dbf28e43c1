"""Forms of a module: frozen copies of it in an arithmetic and memory layout that the hardware is fast at.

A form is made from the caller's module, which is never changed. Batch norms are folded into the convolutions and
linear layers before them where the module can be traced; where it cannot, where the copy fails or where a copy does
not agree with the module, the next plainer form is used without a word: forms are about speed, never about meaning.
"""

import contextlib
import copy
import operator
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
"""Names of the arithmetics, fastest first."""

# A fold is a rearrangement of the same arithmetic: logits may differ by rounding only.
_FOLD_TOLERANCE = 1e-3
# bfloat16 keeps 8 bits: a copy that is further off than this (relative to the spread of the logits) is broken.
_BFLOAT16_TOLERANCE = 0.5


@dataclass(frozen=True)
class Form:
    """A module ready to run.

    Attributes:
        module: frozen copy in eval mode (or the caller's own module where no copy could be made).
        dtype: dtype it computes in.
        memory_format: layout it wants 4-D inputs in.
        rearranged: whether batch norms were folded and rectifiers work in place.
    """

    module: nn.Module
    dtype: torch.dtype
    memory_format: torch.memory_format
    rearranged: bool

    def __call__(self, x: Tensor) -> Tensor:
        """Logits of a batch of normalised inputs of any float dtype, in the form's dtype."""
        x = x.to(self.dtype)
        if x.ndim == 4:
            x = x.contiguous(memory_format=self.memory_format)
        return self.module(x)


def frozen_copy(module: nn.Module, device: torch.device) -> nn.Module:
    """A copy in eval mode on the device, its parameters frozen.

    Args:
        module: the caller's module; not changed.
        device: where the copy is to live.

    Returns:
        The copy; or the module itself, where it cannot be copied and is on the device already.

    Raises:
        ValueError: if it cannot be copied and is elsewhere.
    """
    try:
        duplicate = copy.deepcopy(module)
    except Exception as error:  # user code may raise anything when copied
        homes = {parameter.device for parameter in module.parameters()}
        if homes - {device}:
            raise ValueError(
                f"module must be on {device} or allow copy.deepcopy, got {type(error).__name__} from copying"
            ) from error
        return module
    return duplicate.to(device).eval().requires_grad_(False)


def build_form(module: nn.Module, precision: str, probe: Tensor) -> Form | None:
    """The fastest form of a module in an arithmetic that agrees with the module itself.

    Args:
        module: what `frozen_copy` gave.
        precision: a name in `PRECISIONS`.
        probe: normalised float32 inputs `[batch, *input]` on the module's device, to compare form and module on.

    Returns:
        The form, or None if the module does not run in that arithmetic. In float32 there is always one.
    """
    dtype = PRECISIONS[precision]
    plain = torch.contiguous_format
    reference = module(probe).float()
    if precision == "float64":  # the judge of ties: as written, nothing rearranged
        candidates = [(module, plain, False)]
    else:
        layout = _fast_layout(module, probe)
        candidates = [(_rearranged(module), layout, True), (module, layout, False), (module, plain, False)]
    tolerance = _BFLOAT16_TOLERANCE if precision == "bfloat16" else _FOLD_TOLERANCE
    for candidate, memory_format, rearranged in candidates:
        form = _convert(candidate, dtype, memory_format, rearranged=rearranged)
        if form is not None and _agrees(form, probe, reference, tolerance):
            return form
    return Form(module, dtype, plain, rearranged=False) if precision == "float32" else None


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware computes in bfloat16 natively (a property of the machine, not a timing)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        # oneDNN also accepts CPUs that emulate bfloat16 (plain AVX-512); only native instructions are faster.
        # The op is private, so its absence means "no".
        native = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
        return _cpu_has_native_bfloat16() and bool(native and native())
    return False


def precision_ladder(precision: str, device: torch.device) -> tuple[str, ...]:
    """The arithmetics in which labels are decided, fastest first.

    Labels whose margin a rung cannot be trusted with are decided on the next one. float64 is the last rung, so
    that ties are decided by the network and not by the batch size or by the order of summation on a device.

    Args:
        precision: `"auto"` or a name in `PRECISIONS`. `"bfloat16"` is not re-checked by anything.
        device: device the work runs on.

    Returns:
        Names in `PRECISIONS`.

    Raises:
        ValueError: if the precision is unknown.
    """
    exact = ("float32", "float64") if device.type != "mps" else ("float32",)
    if precision == "auto":
        return ("bfloat16", *exact) if fast_bfloat16(device) else exact
    if precision == "float32":
        return exact
    if precision in PRECISIONS:
        return (precision,)
    raise ValueError(f"precision must be 'auto' or one of {list(PRECISIONS)}, got {precision!r}")


@contextlib.contextmanager
def analysis(module: nn.Module, device: torch.device) -> Iterator[None]:
    """The state in which modules are run, and the caller's own state restored after, whatever happens.

    Inside: eval mode; autograd as an ordinary thread has it, even under a caller's `torch.inference_mode()`; float32
    that means float32 (no TF32, no bfloat16 inside matrix products); random numbers that a module draws from the
    global generators are not missed by the caller.
    """
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    matmul = torch.get_float32_matmul_precision()
    with (
        torch.inference_mode(False),
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.backends.cudnn.flags(
            enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
        ),
    ):
        torch.set_float32_matmul_precision("highest")
        module.eval()
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(matmul)
            for submodule, training in modes:
                submodule.training = training


def _convert(
    module: nn.Module | None, dtype: torch.dtype, memory_format: torch.memory_format, *, rearranged: bool
) -> Form | None:
    if module is None:
        return None
    try:
        converted = copy.deepcopy(module).to(dtype=dtype)
        # Module.to takes a memory format, too, but only 4-D parameters have one: torch skips the others itself.
        converted = converted.to(memory_format=memory_format)  # type: ignore[call-overload]
    except Exception:  # not every module can be copied or converted
        return None
    return Form(converted, dtype, memory_format, rearranged)


def _fast_layout(module: nn.Module, probe: Tensor) -> torch.memory_format:
    has_convolution = any(isinstance(m, nn.Conv2d) for m in module.modules())
    return torch.channels_last if has_convolution and probe.ndim == 4 else torch.contiguous_format


def _rearranged(module: nn.Module) -> nn.Module | None:
    """A traced copy with batch norms folded and rectifiers in place; None where the module cannot be traced."""
    try:
        traced = fx.symbolic_trace(copy.deepcopy(module))
    except Exception:  # control flow that depends on data, or anything else tracing trips over
        return None
    _fold_norms(traced)
    _rectify_in_place(traced)
    traced.graph.lint()
    traced.recompile()
    return traced.requires_grad_(False)


def _fold_norms(traced: fx.GraphModule) -> None:
    """Fold each batch norm into the convolution or linear layer before it."""
    layers = dict(traced.named_modules())
    users = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not node.args or not isinstance(node.args[0], fx.Node):
            continue
        before, norm = node.args[0], layers[node.target]
        if before.op != "call_module" or len(before.users) > 1:
            continue
        # A layer that is called twice has one set of weights and cannot take up one norm.
        if users.count(before.target) > 1 or users.count(node.target) > 1:
            continue
        layer = layers[before.target]
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or norm.running_mean is None:
            continue
        if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            fused: nn.Module = fuse_conv_bn_eval(layer, norm)
        elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
            fused = fuse_linear_bn_eval(layer, norm)
        else:
            continue
        parent, _, name = str(before.target).rpartition(".")
        setattr(traced.get_submodule(parent), name, fused)
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()


def _rectify_in_place(traced: fx.GraphModule) -> None:
    """Let ReLUs overwrite the output of a layer that nothing else reads: activations are what memory is spent on.

    Only behind operations whose gradient does not need their own output, so that the form can be differentiated.
    """
    layers = dict(traced.named_modules())
    for node in traced.graph.nodes:
        is_relu = (node.op == "call_function" and node.target in (F.relu, torch.relu)) or (
            node.op == "call_module" and isinstance(layers[node.target], nn.ReLU)
        )
        if not is_relu or not node.args or not isinstance(node.args[0], fx.Node):
            continue
        before = node.args[0]
        overwritable = (before.op == "call_function" and before.target in (operator.add, torch.add)) or (
            before.op == "call_module"
            and isinstance(layers[str(before.target)], nn.Conv2d | nn.Linear | nn.BatchNorm2d)
        )
        if overwritable and len(before.users) == 1:
            node.op, node.target, node.args, node.kwargs = "call_function", torch.relu_, (before,), {}


def _agrees(form: Form, probe: Tensor, reference: Tensor, tolerance: float) -> bool:
    """Whether a form's logits are the module's, up to a share of the logits' spread."""
    try:
        logits = form(probe)
    except Exception:  # an operation without a kernel in this dtype, a buffer that was not converted, ...
        return False
    if logits.dtype != form.dtype or logits.shape != reference.shape:
        return False
    spread = (reference.amax() - reference.amin()).clamp_min(1e-12)
    return bool((logits.float() - reference).abs().amax() <= tolerance * spread)


def _cpu_has_native_bfloat16() -> bool:
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
