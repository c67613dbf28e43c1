"""Forms of a module: frozen copies of it in an arithmetic and memory layout that the hardware is fast at.

A form is made from a copy of the caller's module. Batch norms are folded into the convolutions and linear layers before
them where that provably changes nothing but rounding (`arithmetic`); elsewhere the next plainer form is used without a
word: forms are about speed, never about meaning. Gradients are those of the module as it is, but for standard layers.
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
        certain: whether it gives the module's logits up to rounding for every input, and not just for the probes.
    """

    module: nn.Module
    dtype: torch.dtype
    memory_format: torch.memory_format
    rearranged: bool = False
    certain: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Logits of a batch of normalised inputs of any float dtype, in the form's dtype.

        The module gets tensors of its own: one that works in place would overwrite the caller's.
        """
        own = x.to(self.dtype)
        own = own.contiguous(memory_format=self.memory_format) if x.ndim == 4 else own.contiguous()
        return self.module(own.clone() if own.data_ptr() == x.data_ptr() else own)


def plain_form(module: nn.Module, probe: Tensor) -> Form:
    """The module as it is, in its own arithmetic: what all other forms must agree with, and what gradients go through.

    Args:
        module: what `frozen_copy` gave.
        probe: normalised float32 inputs `[batch, *input]`, tried where layers have different dtypes.

    Returns:
        The form. Its inputs are cast to the dtype of the first layer, or to float32 where that does not run.
    """
    layers = dtypes_of(module)
    forms = [Form(module, dtype, torch.contiguous_format) for dtype in dict.fromkeys([*layers[:1], torch.float32])]
    return next((form for form in forms if len(set(layers)) == 1 or _runs(form, probe)), forms[-1])


def build_form(plain: Form, precision: str, probe: Tensor) -> Form | None:
    """The fastest form in an arithmetic that gives the module's own logits up to rounding.

    Its gradients are the module's own for standard layers (`is_standard`) only; others go through the plain form.

    Args:
        plain: what `plain_form` gave.
        precision: a name in `PRECISIONS`; `"float32"` is the module's own arithmetic, if that is another.
        probe: normalised float32 inputs `[batch, *input]` on the module's device, to compare form and module on.

    Returns:
        The form, or None if the module does not run in that arithmetic. In float32 there is always one.
    """
    dtype = PRECISIONS[precision]
    if precision == "float32" and plain.dtype != dtype:
        return plain
    reference = plain(probe).float()
    candidates: list[Form | None] = []
    if precision != "float64" and plain.dtype == torch.float32:  # the judge of ties runs as written, as others do
        standard = is_standard(plain.module)
        record = None if standard else continuous_record(plain.module, probe)
        if standard or record is not None:
            layout = _fast_layout(plain.module, probe)
            candidates.append(_convert(_rearranged(plain.module, probe, record), dtype, layout, rearranged=True))
            candidates.append(_convert(_another(plain, probe.device), dtype, layout))
    tolerance = _BFLOAT16_TOLERANCE if precision == "bfloat16" else _FOLD_TOLERANCE
    form = next((form for form in candidates if form is not None and _agrees(form, probe, reference, tolerance)), None)
    if form is not None:
        return dataclasses.replace(form, certain=True)
    if dtype == plain.dtype:
        return plain
    other = converted(plain, dtype, probe.device)
    return other if other is not None and _agrees(other, probe, reference, tolerance) else None


def converted(plain: Form, dtype: torch.dtype, device: torch.device) -> Form | None:
    """The module as it is, in another arithmetic; None where it cannot be converted.

    Args:
        plain: what `plain_form` gave; not changed.
        dtype: of the new form.
        device: where it is.
    """
    return _convert(_another(plain, device), dtype, torch.contiguous_format)


def compiled(form: Form, batch: Tensor) -> Form | None:
    """A form through `torch.compile`, for batches of one size; None where it cannot be compiled or gives other logits.

    Args:
        form: what `build_form` gave; not changed.
        batch: normalised inputs of that size, to compile for and to compare on.
    """
    another = dataclasses.replace(form, module=torch.compile(form.module, dynamic=False))
    tolerance = _BFLOAT16_TOLERANCE if form.dtype == torch.bfloat16 else _FOLD_TOLERANCE
    return another if _agrees(another, batch, form(batch).float(), tolerance) else None


def _another(plain: Form, device: torch.device) -> nn.Module | None:
    """A copy that may be changed; None where there is none, and the caller's own module is run."""
    duplicate = frozen_copy(plain.module, device)
    return None if duplicate is plain.module else duplicate


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


def _convert(
    module: nn.Module | None, dtype: torch.dtype, memory_format: torch.memory_format, *, rearranged: bool = False
) -> Form | None:
    """A copy, which is changed, as a form."""
    if module is None:
        return None
    try:
        # Module.to takes a memory format, too, but only 4-D parameters have one: torch skips the others itself.
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
    """A traced copy with batch norms folded and rectifiers in place; None where tracing would change the module.

    Args:
        module: it is not changed.
        probe: as in `build_form`.
        record: of the module, which that of its trace must equal; None for standard layers.
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
    except Exception:  # layers that torch's own folding cannot digest: without affine weights, parametrized, ...
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
