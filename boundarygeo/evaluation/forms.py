"""Forms of a module: frozen copies in a precision and memory layout that run fast on the hardware.

Batch norms are folded into the convolutions and linear layers before them where that provably changes nothing but
rounding (`arithmetic`); elsewhere a plainer form is used silently, because forms affect speed only. Gradients come from
the unmodified module, except for standard layers.
"""

import copy
import dataclasses
import operator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from boundarygeo.evaluation.arithmetic import Record, continuous_record, is_standard, trace
from boundarygeo.evaluation.copies import dtypes_of, frozen_copy

PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
"""Names of the precisions, fastest first."""

# Both relative to the spread of the logits. Folding changes logits by rounding only.
_FOLD_TOLERANCE = 1e-3
# bfloat16 has 8 significant bits: a copy that is further off than this is broken.
_BFLOAT16_TOLERANCE = 0.5


@dataclass(frozen=True)
class Form:
    """A module ready to run, in one dtype and memory format.

    Attributes:
        rearranged: whether batch norms were folded and ReLUs work in place.
        certain: whether its logits equal the module's up to rounding on every input, not just on the probes.
    """

    module: nn.Module
    dtype: torch.dtype
    memory_format: torch.memory_format
    rearranged: bool = False
    certain: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Logits of a copy of a batch of normalised inputs of any float dtype, in the form's dtype."""
        own = x.to(self.dtype)
        own = own.contiguous(memory_format=self.memory_format) if x.ndim == 4 else own.contiguous()
        return self.module(own.clone() if own.data_ptr() == x.data_ptr() else own)


def plain_form(module: nn.Module, probe: Tensor) -> Form:
    """The unmodified module in its own precision: the reference for all other forms, and the form for gradients.

    Its inputs are cast to the dtype of the first layer, or to float32 if that does not run on the probe.
    """
    layers = dtypes_of(module)
    forms = [Form(module, dtype, torch.contiguous_format) for dtype in dict.fromkeys([*layers[:1], torch.float32])]
    return next((form for form in forms if len(set(layers)) == 1 or _runs(form, probe)), forms[-1])


def build_form(plain: Form, precision: str, probe: Tensor) -> Form | None:
    """The fastest form in a precision whose logits on the probe equal the module's up to rounding, or None.

    Never None for `"float32"`, which stands for the module's own dtype. Its gradients are the module's own for standard
    layers (`is_standard`) only.
    """
    dtype = PRECISIONS[precision]
    if precision == "float32" and plain.dtype != dtype:
        return plain
    reference = plain(probe).float()
    candidates: list[Form | None] = []
    if precision != "float64" and plain.dtype == torch.float32:  # float64 decides ties, and so is never rearranged
        standard = is_standard(plain.module)
        record = None if standard else continuous_record(plain.module, probe)
        if standard or record is not None:
            layout = _fast_layout(plain.module, probe)
            candidates.append(_convert(_rearranged(plain.module, probe, record), dtype, layout, rearranged=True))
            candidates.append(_convert(_second_copy(plain, probe.device), dtype, layout))
    tolerance = _BFLOAT16_TOLERANCE if precision == "bfloat16" else _FOLD_TOLERANCE
    form = next((form for form in candidates if form is not None and _agrees(form, probe, reference, tolerance)), None)
    if form is not None:
        return dataclasses.replace(form, certain=True)
    if dtype == plain.dtype:
        return plain
    other = converted(plain, dtype, probe.device)
    return other if other is not None and _agrees(other, probe, reference, tolerance) else None


def converted(plain: Form, dtype: torch.dtype, device: torch.device) -> Form | None:
    """The unmodified module in another precision, or None if it cannot be converted."""
    return _convert(_second_copy(plain, device), dtype, torch.contiguous_format)


def compiled(form: Form, batch: Tensor) -> Form | None:
    """A form through `torch.compile` for batches like this one, or None if that fails or changes logits."""
    another = dataclasses.replace(form, module=torch.compile(form.module, dynamic=False))
    tolerance = _BFLOAT16_TOLERANCE if form.dtype == torch.bfloat16 else _FOLD_TOLERANCE
    return another if _agrees(another, batch, form(batch).float(), tolerance) else None


def _second_copy(plain: Form, device: torch.device) -> nn.Module | None:
    """A copy that may be changed, or None if the module cannot be copied."""
    duplicate = frozen_copy(plain.module, device)
    return None if duplicate is plain.module else duplicate


def fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware computes in bfloat16 natively; not timed, so the same at every run."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        # oneDNN also accepts CPUs that emulate bfloat16 (plain AVX-512), which gains nothing. The op is private: if it
        # is missing, the answer is no.
        native = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
        return _cpu_has_native_bfloat16() and bool(native and native())
    return False


def precision_ladder(precision: str, device: torch.device) -> tuple[str, ...]:
    """The precisions in which labels are decided, fastest first.

    Labels with too small a margin for one precision are decided in the next. Float64 comes last, so that ties depend on
    the network, not on the batch size or a device's order of summation. Labels in `"bfloat16"` are not re-checked.
    """
    exact = ("float32", "float64") if device.type != "mps" else ("float32",)
    if precision == "auto":
        return ("bfloat16", *exact) if fast_bfloat16(device) else exact
    if precision == "float32":
        return exact
    if precision in PRECISIONS:
        return (precision,)
    raise ValueError(f"precision must be 'auto' or one of {list(PRECISIONS)}, got {precision!r}")


def _convert(
    module: nn.Module | None, dtype: torch.dtype, memory_format: torch.memory_format, *, rearranged: bool = False
) -> Form | None:
    """The form of a module that is ours to change, in another dtype and layout; None if it cannot be converted."""
    if module is None:
        return None
    try:
        # torch ignores the memory format for parameters that are not 4-D.
        converted = module.to(dtype=dtype).to(memory_format=memory_format)  # type: ignore[call-overload]
    except Exception:  # not every module can be converted
        return None
    return Form(converted, dtype, memory_format, rearranged)


def _runs(form: Form, probe: Tensor) -> bool:
    try:
        form(probe)
    except Exception:  # whatever a module raises for inputs of another dtype
        return False
    return True


def _fast_layout(module: nn.Module, probe: Tensor) -> torch.memory_format:
    has_convolution = any(isinstance(m, nn.Conv2d) for m in module.modules())
    return torch.channels_last if has_convolution and probe.ndim == 4 else torch.contiguous_format


def _rearranged(module: nn.Module, probe: Tensor, record: Record | None) -> nn.Module | None:
    """A traced copy with batch norms folded and ReLUs in place, or None if tracing changes what is computed.

    The trace must reproduce the module's record, which is None for standard layers.
    """
    traced = trace(module)
    if traced is None or (record is not None and continuous_record(traced, probe) != record):
        return None
    try:
        traced = copy.deepcopy(traced)
        _fold_norms(traced)
        _rectify_in_place(traced)
        traced.graph.lint()
        traced.recompile()
    except Exception:  # layers that torch cannot fold: without affine weights, parametrized, ...
        return None
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
        # A layer that is called twice has one set of weights and cannot absorb a norm.
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
    """Let ReLUs overwrite inputs that nothing else reads, to save memory.

    Only after operations whose gradient does not need their output, so that the form stays differentiable.
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
    """Whether a form's logits equal the reference up to a share of the logits' spread."""
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
