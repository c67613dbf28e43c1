"""The caller's global state: set aside while an analysis runs, and restored at its end."""

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from boundarygeo.evaluation.calls import recorded

F = TypeVar("F", bound=Callable[..., Any])

# Default dtype, random state and matmul precision are global: concurrent analyses would see and restore each other's.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def own_world() -> Iterator[None]:
    """Run code as in a fresh process, whatever the caller's modes; one thread at a time.

    Inside: no gradients, inference mode or autocast; float32 and the CPU are the defaults; float32 means float32 (no
    TF32, no bfloat16 inside matrix products); random numbers that a module draws do not advance the caller's
    generators. `torch.use_deterministic_algorithms` and the number of threads are left alone.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ONE_AT_A_TIME)
        cuda = torch.cuda.is_available()
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for kind in ("cpu", *(["cuda"] if cuda else [])):
            stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_set(torch.get_default_dtype, torch.set_default_dtype, torch.float32))
        stack.enter_context(_set(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"))
        initialised = range(torch.cuda.device_count()) if cuda and torch.cuda.is_initialized() else ()
        stack.enter_context(torch.random.fork_rng(devices=initialised))
        stack.enter_context(
            torch.backends.cudnn.flags(
                enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
            )
        )
        yield


def analysis(function: F) -> F:
    """Decorate a public function: it runs in its `own_world`, on ordinary tensors, and its call is recorded (`calls`).

    Tensor arguments are detached, copied if they are inference tensors (autograd refuses those), and cast from half
    precision to float32 (half precision cannot resolve bounds and lines).
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            function(*args, **kwargs)  # raises Python's own error
            raise
        with own_world(), recorded(function, bound):
            return function(*map(_ordinary, args), **{name: _ordinary(value) for name, value in kwargs.items()})

    return cast(F, call)


def _ordinary(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    value = value.detach()
    if value.is_inference():
        value = value.clone()
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


@contextlib.contextmanager
def _set(read: Callable[[], Any], write: Callable[[Any], None], value: Any) -> Iterator[None]:
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)
