"""The caller's surroundings: set aside while an analysis runs, and given back as they were."""

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

# Default dtype, random state and matmul precision belong to the process: two analyses at a time would see, and give
# back, each other's.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def own_world() -> Iterator[None]:
    """Run code as in a fresh process, whatever modes the caller is in; one thread at a time.

    Inside: no gradients and no inference mode; no autocast; float32 and the CPU are the defaults; float32 means float32
    (no TF32, no bfloat16 inside matrix products); random numbers that a module draws from the global generators are not
    missed by the caller. All of it is restored at the end, whatever happens. `torch.use_deterministic_algorithms` and
    the number of threads are left as the caller has them.
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
    """Decorate a function that a user calls: it runs in its `own_world`, on ordinary tensors.

    Tensors among the arguments are detached, copied where they are of inference mode, which autograd refuses, and cast
    to float32 where they are of half precision, in which bounds and lines cannot be resolved. Results are recorded with
    the call (`calls`).
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            function(*args, **kwargs)  # says it as Python does
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
