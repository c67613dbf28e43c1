"""A device that is not there: its tensors hold their data on the CPU, but mix with no tensor of the CPU.

What works on a CPU may fail on a GPU, or be slow there, for reasons that no test on the CPU sees: a tensor that was
forgotten there, a generator of the other device, `.numpy()` without `.cpu()`, a wait for the device in a loop. Under
`Elsewhere` such a mistake raises as it does on a GPU, and copies and waits are counted.
"""

import functools
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Self

import torch
from torch import Tensor
from torch.autograd.graph import _engine_run_backward
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "imaginary"

_WAITS = {
    "_local_scalar_dense",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "repeat_interleave",
    "unique_consecutive",
    "_unique2",
    "unique_dim",
}
"""Operations whose result the host must wait for: a number, or a tensor whose size is in the data."""
_BETWEEN = {"_to_copy", "copy_"}
"""Operations that take a tensor from one device to the other."""
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
"""Operations that copy indices to the device by themselves."""


class FarTensor(Tensor):
    """A tensor of the device.

    Attributes:
        inner: its data, on the CPU.
    """

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    def __new__(cls, inner: Tensor) -> Self:
        return Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=f"{NAME}:0",
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def __repr__(self) -> str:  # type: ignore[override]
        return f"far {self.inner!r}"

    def tolist(self) -> list[Any]:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, Counter())


class Elsewhere(TorchDispatchMode):
    """Inside, there is the device.

    Attributes:
        counts: how often data was copied `"in"` and `"out"`, and the host had to `"wait"` for a result.
        where: lines of the package that made it wait, and how often.
    """

    def __init__(self) -> None:
        super().__init__()
        _register()
        self.counts: Counter[str] = Counter()
        self.where: Counter[str] = Counter()

    def __enter__(self) -> Self:
        torch._C._set_only_lift_cpu_tensors(True)  # so that this mode sees what `torch.tensor(data, device=…)` copies
        torch.__future__.set_overwrite_module_params_on_conversion(True)  # `.data` cannot be of another class
        torch.autograd._engine_run_backward = _backward_on_this_thread
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        torch.autograd._engine_run_backward = _engine_run_backward
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        torch._C._set_only_lift_cpu_tensors(False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made_there = kwargs.get("device") is not None and torch.device(kwargs["device"]).type == NAME
        if made_there or any(isinstance(tensor, FarTensor) for tensor in _tensors(args, kwargs)):
            waited = self.counts["wait"]
            result = _run(func, args, kwargs, self.counts)
            if self.counts["wait"] > waited:
                self.where[_line()] += 1
            return result
        return func(*args, **kwargs)


def _backward_on_this_thread(*args: Any, **kwargs: Any) -> Any:
    """Backward passes as on a CPU: devices that are registered late have no thread of their own."""
    with torch.autograd.set_multithreading_enabled(False):
        return _engine_run_backward(*args, **kwargs)


def _line() -> str:
    """The innermost line of the package that is being run."""
    frame = inspect.currentframe()
    while frame is not None:
        _, package, file = frame.f_code.co_filename.rpartition("/boundarygeo/")
        if package:
            return f"{file}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def _run(func: Any, args: Any, kwargs: dict[str, Any], counts: Counter[str]) -> Any:
    name = func.overloadpacket.__name__
    tensors = list(_tensors(args, kwargs))
    far = [tensor for tensor in tensors if isinstance(tensor, FarTensor)]
    near = [tensor for tensor in tensors if not isinstance(tensor, FarTensor)]
    asked = kwargs.get("device")
    there = bool(far) if asked is None else torch.device(asked).type == NAME
    _refuse_what_a_gpu_refuses(name, far, near, there=there, generator=kwargs.get("generator"))
    _count(name, args, far, near, there=there, counts=counts)
    inside = {key: _mapped(_inner, value) for key, value in kwargs.items() if key not in ("device", "pin_memory")}
    if asked is not None:
        inside["device"] = torch.device("cpu")
    if name == "_efficientzerotensor":  # zeros without memory, which only PyTorch itself may unpack
        func = torch.ops.aten.zeros.default
    result = func(*(_mapped(_inner, value) for value in args), **inside)
    if name == "_to_copy" and not there and far and result is far[0].inner:
        result = result.clone()
    if not there or (name == "copy_" and not isinstance(args[0], FarTensor)):
        return result
    result = _mapped(_outer, result)
    return return_and_correct_aliasing(func, args, kwargs, result) if _aliases(func) else result


def _tensors(args: Any, kwargs: dict[str, Any]) -> Iterator[Tensor]:
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from (part for part in value if isinstance(part, Tensor))


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    return type(value)(map(function, value)) if isinstance(value, list | tuple) else function(value)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, FarTensor) else value


def _outer(value: Any) -> Any:
    return FarTensor(value) if isinstance(value, Tensor) and not isinstance(value, FarTensor) else value


@functools.cache
def _aliases(func: Any) -> bool:
    """Whether an operation returns one of its arguments, or a view of it."""
    return any(returned.alias_info is not None for returned in func._schema.returns)


def _refuse_what_a_gpu_refuses(
    name: str, far: list[FarTensor], near: list[Tensor], *, there: bool, generator: torch.Generator | None
) -> None:
    if generator is not None and there:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found '{generator.device.type}'")
    if name in _BETWEEN or name in _INDEXING or not far:
        return
    mixed = [tensor for tensor in near if tensor.ndim]
    if mixed:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in mixed)
        raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got some of {shapes} on the CPU")


def _count(
    name: str, args: Any, far: list[FarTensor], near: list[Tensor], *, there: bool, counts: Counter[str]
) -> None:
    if name == "_to_copy" and there != bool(far):
        counts["in" if there else "out"] += 1
    if name == "copy_" and far and near:
        counts["in" if isinstance(args[0], FarTensor) else "out"] += 1
    waits = name in _WAITS
    if name in _INDEXING:
        indices = [index for index in args[1] if index is not None]
        counts["in"] += sum(not isinstance(index, FarTensor) for index in indices)
        waits = any(index.dtype in (torch.bool, torch.uint8) for index in indices)
    if waits:
        counts["wait"] += 1


class _Module:
    """What PyTorch asks of `torch.imaginary`."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        pass

    def device_count(self) -> int:
        return 1

    def get_rng_state(self, device: object = None) -> Tensor:
        return torch.zeros(8, dtype=torch.uint8)

    def set_rng_state(self, state: Tensor, device: object = None) -> None:
        pass


@functools.cache
def _register() -> None:
    _setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
