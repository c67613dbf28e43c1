"""A module together with what its inputs mean: bounds, normalisation, device. Nothing downstream knows about them."""

import contextlib
import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from boundarygeo.evaluation import (
    PRECISIONS,
    BatchTuner,
    Counts,
    Form,
    Session,
    analysis,
    build_form,
    check_finite,
    check_module,
    check_weights,
    compiled,
    current_call,
    dtypes_of,
    evaluating,
    few_inputs,
    frozen_copy,
    in_batches,
    is_standard,
    own_world,
    pointers,
    precision_ladder,
    progress_bar,
    share_buffers,
    state_digest,
    steady_size,
    structure_digest,
    tensors_of,
    unwrapped,
)
from boundarygeo.losses import LOSSES, Loss, loss_of, true_margin
from boundarygeo.results import Provenance

BOUNDS_TOLERANCE = 1e-5
"""How far inputs may lie outside the bounds, as a share of their width: float rounding, not another scale."""

_FOUND = frozenset({"_tuners", "_session", "_checked", "_base", "_probes", "_known", "_forms"})


class Classifier:
    """A classifier of inputs that live in stated bounds, before normalisation.

    The module is any `nn.Module` that maps a batch of inputs to logits `[batch, classes]`. It is never changed: each
    analysis runs on a copy of it as it is then, in eval mode, in the dtype of its weights. Gradients are the module's
    own, custom backward passes and hooks included. Analyses of one process run one at a time.

    Args:
        module: maps normalised inputs `[batch, *input]` to logits `[batch, classes]`, sample by sample.
        bounds: lowest and highest value of an input, before normalisation.
        mean: per channel (or one number), subtracted from the inputs in front of the module.
        std: per channel (or one number), by which they are divided then.
        device: where to compute; `"auto"` is the module's own device if that is an accelerator, else the best
            device there is.
        num_classes: number of classes, checked against the logits if given.
        batch_size: number of examples per batch, or None to find the fastest. Two runs with a fixed size are equal to
            the last bit; with sizes found by the clock, logits may differ in their last digits.
        compile: whether full batches without gradients (of maps, frames, noise) go through `torch.compile`, which takes
            half a minute: once for standard layers, in each analysis for others. Modules that cannot be rearranged or
            compiled run unchanged. Requires a `batch_size`, because each batch size is compiled separately.

    Raises:
        TypeError: if the module is not an `nn.Module`.
        ValueError: if bounds, mean, std, device, num_classes, batch_size or compile make no sense.

    Examples:
        >>> clf = Classifier(nn.Linear(2, 3))
        >>> clf.predict(torch.rand(5, 2)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        bounds: tuple[float, float] = (0.0, 1.0),
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        device: str | torch.device = "auto",
        num_classes: int | None = None,
        batch_size: int | None = None,
        compile: bool = False,
    ) -> None:
        if not isinstance(module, nn.Module):
            hint = ": pass its .module()" if isinstance(module, torch.export.ExportedProgram) else ""
            raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}{hint}")
        low, high = (float(bound) for bound in bounds)
        if not low < high:
            raise ValueError(f"bounds must be (low, high) with low < high, got {tuple(bounds)}")
        if num_classes is not None and num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        if batch_size is not None and (not isinstance(batch_size, Integral) or batch_size < 1):
            raise ValueError(f"batch_size must be a positive whole number, or None, got {batch_size!r}")
        if compile and batch_size is None:
            raise ValueError(
                "batch_size must be given with compile=True, as each size is compiled separately, got None"
            )
        self.module = module
        self.bounds = (low, high)
        self.device = _resolve_device(device, module)
        self.num_classes = None if num_classes is None else int(num_classes)
        self.batch_size = None if batch_size is None else int(batch_size)
        self.compile = bool(compile)
        self.counts = Counts()
        with own_world():  # tensors that were made in inference mode could not be differentiated through
            self._mean = _channels(mean, "mean")
            self._std = _channels(std, "std")
        if self._std is not None and not bool((self._std > 0).all()):
            raise ValueError(f"std must be positive, got {self._std.tolist()}")
        if self._mean is not None and self._std is not None and min(len(self._mean), len(self._std)) > 1:
            _match(len(self._std), len(self._mean), "number of values in std", "that in mean")
        self._forget()

    def _forget(self) -> None:
        """Nothing is known of the module yet."""
        self._tuners: dict[tuple[str, torch.Size], BatchTuner] = {}
        self._session: Session | None = None
        # Inputs that the module has been checked on, while it is what it was then.
        self._checked: tuple[Any, ...] | None = None
        self._base: nn.Module | None = None
        self._probes: dict[torch.Size, Tensor] = {}
        # Rearranged forms of standard layers, whose whole state is known: kept while it is what it was.
        self._known: str | None = None
        self._forms: dict[tuple[str, torch.Size], Form | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs: compiled forms and batch sizes are found again there."""
        return {name: value for name, value in vars(self).items() if name not in _FOUND}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def __repr__(self) -> str:
        mean = None if self._mean is None else [round(value, 4) for value in self._mean.tolist()]
        std = None if self._std is None else [round(value, 4) for value in self._std.tolist()]
        return (
            f"Classifier({type(self.module).__name__}, bounds={self.bounds}, mean={mean}, std={std}, "
            f"device={str(self.device)!r}, num_classes={self.num_classes})"
        )

    def with_module(self, module: nn.Module) -> "Classifier":
        """A classifier of the same inputs by another module: with these bounds, normalisation and device.

        Args:
            module: maps normalised inputs to logits; often one that wraps this classifier's own.

        Returns:
            The new classifier; this one is not changed.

        Raises:
            TypeError: if the module is not an `nn.Module`.
        """
        return self._like(module, device=self.device, batch_size=self.batch_size)

    def with_batch_size(self, batch_size: int | None) -> "Classifier":
        """The same classifier, with batches of a fixed size, or of the fastest one for None.

        Args:
            batch_size: examples per batch; fewer where memory runs out.

        Returns:
            The new classifier; this one is not changed.

        Raises:
            ValueError: if the size is not positive.
        """
        return self._like(self.module, device=self.device, batch_size=batch_size)

    def on(self, device: str | torch.device) -> "Classifier":
        """The same classifier on another device, with a copy of the module in that device's memory.

        Args:
            device: where to compute.

        Returns:
            The new classifier; this one is not changed.

        Raises:
            ValueError: if there is no such device.
        """
        moved = self._like(self.module, device=device, batch_size=self.batch_size)
        moved.module = copy.deepcopy(self.module).to(moved.device)
        return moved

    def settings(self) -> dict[str, Any]:
        """What decides logits besides the module's weights: bounds, normalisation, batch size; plain values.

        Returns:
            The values by their names in `Classifier(...)`.
        """
        mean, std = (None if values is None else values.tolist() for values in (self._mean, self._std))
        settings = {"bounds": list(self.bounds), "mean": mean, "std": std, "batch_size": self.batch_size}
        return settings | ({"compile": True} if self.compile else {})

    def steady_batch_size(self, x: Tensor, *, device: str | None = None) -> int:
        """A good batch size that no clock decides: so many examples that a batch costs a fixed number of operations.

        Args:
            x: a few inputs `[example, *input]` within the bounds.
            device: kind of device it is for, `"cpu"` or `"cuda"`; by default the classifier's.

        Returns:
            A power of two.

        Raises:
            TypeError: as in `logits`.
            ValueError: as in `logits`.
        """
        self.check_inputs(x)
        with self.running(x):
            return steady_size(self._now.plain, self._probes[x.shape[1:]][:1], device or self.device.type)

    def _like(self, module: nn.Module, *, device: str | torch.device, batch_size: int | None) -> "Classifier":
        settings = self.settings() | {"bounds": self.bounds, "batch_size": batch_size}
        return Classifier(module, device=device, **settings)

    @analysis
    def logits(self, x: Tensor, *, precision: str = "float32", progress: bool = False) -> Tensor:
        """Logits of a batch of any size.

        Args:
            x: inputs `[example, *input]` within the bounds.
            precision: `"bfloat16"`, `"float32"` or `"float64"`.
            progress: whether to show a bar when it takes more than two seconds.

        Returns:
            Logits `[example, class]` on the CPU: float64 for `"float64"`, else float32.

        Raises:
            TypeError: if `x` is not a float tensor, or the module does not return a tensor.
            ValueError: if `x` is out of bounds, or the module's output is not usable.
        """
        self.check_inputs(x)
        rows: list[Tensor] = []
        with self.running(x):
            # As it is: to rearrange a module costs more than a few forward passes.
            form = self._now.plain if precision == "float32" else self._form(precision, x.shape[1:])
            dtype = torch.float64 if precision == "float64" else torch.float32

            def work(start: int, stop: int) -> None:
                logits = form(self.normalise(x[start:stop].detach().to(self.device, dtype)))
                self._now.look(logits)
                rows.append(logits if precision == "float64" else logits.float())
                self.counts.forwards += stop - start

            self.in_batches(work, len(x), x.shape[1:], kind=f"logits {precision}", progress=progress)
        return torch.cat([row.cpu() for row in rows])

    @analysis
    def predict(self, x: Tensor) -> Tensor:
        """Classes with the largest logit, int64 `[example]`. Arguments and errors as in `logits`."""
        return self.logits(x).argmax(1)

    @analysis
    def margin(self, x: Tensor, y: Tensor) -> Tensor:
        """Logit of the true class minus the largest other logit: positive where the classifier is right.

        Args:
            x: inputs `[example, *input]` within the bounds.
            y: true classes, int64 `[example]`.

        Returns:
            Margins in logits, float32 `[example]`.

        Raises:
            TypeError: as in `logits`, or if `y` is not an integer tensor.
            ValueError: as in `logits`, or if `y` has the wrong shape or range.
        """
        self.check_inputs(x)
        self.check_labels(y, len(x))
        logits = self.logits(x)
        self.check_labels(y, len(x))  # again: now the number of classes is known
        return true_margin(logits, y.cpu())

    @analysis
    def input_gradient(self, x: Tensor, y: Tensor, *, loss: str = "cross_entropy") -> Tensor:
        r"""Gradient of a loss with respect to each input.

        All three losses are computed without the cancellation that makes the textbook form of the cross-entropy's
        gradient vanish on confidently classified inputs: with :math:`z = \log\sum_{c\ne y} e^{l_c} - l_y`, the
        cross-entropy is :math:`\log(1 + e^z)`, and its gradient :math:`\sigma(z)\nabla z` points along
        :math:`\nabla z` whatever the confidence.

        Args:
            x: inputs `[example, *input]` within the bounds.
            y: true classes, int64 `[example]`.
            loss: `"cross_entropy"`; `"log_odds"`, the z above, with the same direction and no vanishing factor; or
                `"margin"`, the largest other logit minus the true one.

        Returns:
            Gradients, float32 `[example, *input]` on the CPU, in loss per input unit (before normalisation).

        Raises:
            TypeError: as in `logits`, or if `y` is not an integer tensor.
            ValueError: as in `logits`, or if `y` or `loss` is not usable.
        """
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {list(LOSSES)}, got {loss!r}")
        self.check_inputs(x)
        self.check_labels(y, len(x))
        rows: list[Tensor] = []

        def work(start: int, stop: int) -> None:
            rows.append(self.differentiate(x[start:stop], y[start:stop], loss)[1].cpu())

        with self.running(x, y):
            self.in_batches(work, len(x), x.shape[1:], kind="gradient")
        return torch.cat(rows)

    def differentiate(self, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Logits and input gradients of one batch, on the device. To be called inside `running` and `in_batches`.

        Args:
            x: inputs `[batch, *input]`, unchecked.
            y: classes, int64 `[batch]`.
            loss: as in `input_gradient`, or a function of logits and classes that gives each example's loss.

        Returns:
            Logits `[batch, class]` and gradients `[batch, *input]`, float32, detached, on the classifier's device.
        """
        with torch.enable_grad():
            inputs = x.detach().to(self.device, torch.float32).clone().requires_grad_()
            logits = self._differentiable(inputs)
            classes = y.to(self.device).clone()  # autograd keeps no tensor of inference mode
            (gradient,) = torch.autograd.grad(loss_of(logits, classes, loss).sum(), inputs)
        self.counts.forwards += len(x)
        self.counts.backwards += len(x)
        self._now.note(gradient)
        self._now.look(logits)
        return logits.detach(), gradient

    def hessian_vector(self, x: Tensor, y: Tensor, v: Tensor, loss: str) -> tuple[Tensor, Tensor]:
        """Input gradients, and Hessians times vectors by a second backward pass, of one batch, on the device.

        To be called inside `running` and `in_batches`. Costs one forward and two backward passes, the second of which
        goes through the graphs of both others.

        Args:
            x: inputs `[batch, *input]`, unchecked.
            y: classes, int64 `[batch]`.
            v: vectors `[batch, *input]`.
            loss: as in `input_gradient`.

        Returns:
            Gradients `[batch, *input]`, and the Hessian of each example's loss with respect to its input times its
            vector `[batch, *input]`; float32, detached, on the classifier's device. Where the loss is piecewise linear
            in the input the product is zero.
        """
        # The fused kernels of attention have no second derivative.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            inputs = x.detach().to(self.device, torch.float32).clone().requires_grad_()
            logits = self._differentiable(inputs)
            classes = y.to(self.device).clone()  # autograd keeps no tensor of inference mode
            (gradient,) = torch.autograd.grad(loss_of(logits, classes, loss).sum(), inputs, create_graph=True)
            vectors = v.detach().to(self.device, torch.float32).clone()
            if gradient.requires_grad:
                (product,) = torch.autograd.grad(gradient, inputs, vectors, materialize_grads=True)
            else:  # no operation on the way bends
                product = torch.zeros_like(inputs)
        self.counts.forwards += len(x)
        self.counts.backwards += 2 * len(x)
        return gradient.detach(), product.detach()

    def evaluate(self, x: Tensor) -> Tensor:
        """Logits of one batch, on the device. To be called inside `running` and `in_batches`.

        Args:
            x: inputs `[batch, *input]`, unchecked.

        Returns:
            Logits, float32 `[batch, class]`, on the classifier's device.
        """
        logits = self._gradient_form(x.shape[1:])(self.normalise(x.to(self.device, torch.float32))).float()
        self.counts.forwards += len(x)
        self._now.look(logits)
        return logits

    def differentiate_top(self, x: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Input gradients of the largest logits, from one forward pass. To be called inside `running`, `in_batches`.

        Args:
            x: inputs `[batch, *input]`, unchecked.
            count: how many logits of each input, at most the number of classes.

        Returns:
            Logits `[batch, class]`; the classes of the `count` largest, largest first, `[batch, count]`; the gradients
            of their logits `[batch, count, *input]`. Detached, on the classifier's device.
        """
        gradients = []
        with torch.enable_grad():
            inputs = x.detach().to(self.device, torch.float32).clone().requires_grad_()
            logits = self._differentiable(inputs)
            top = logits.detach().topk(count, dim=1).indices
            for rank in range(count):
                chosen = logits.gather(1, top[:, rank : rank + 1]).sum()
                gradients += torch.autograd.grad(chosen, inputs, retain_graph=rank + 1 < count)
        self.counts.forwards += len(x)
        self.counts.backwards += count * len(x)
        self._now.look(logits)
        return logits.detach(), top, torch.stack(gradients, 1)

    def in_batches(
        self, work: Callable[[int, int], None], total: int, shape: torch.Size, *, kind: str, progress: bool = False
    ) -> None:
        """Do work on ranges of examples in batches whose size is tuned for this kind of work.

        Args:
            work: called with `(start, stop)`, in order; called again with less when memory ran out.
            total: number of examples.
            shape: shape of one input.
            kind: name of the work: each has its own batch size, found by throughput.
            progress: whether to show a bar when it takes more than two seconds.
        """
        with progress_bar(total, description=kind, unit="examples", progress=progress) as bar:
            in_batches(work, total, tuner=self._tuner(kind, shape), device=self.device, bar=bar)

    def _differentiable(self, inputs: Tensor) -> Tensor:
        """Float32 logits of a batch that autograd can go back from."""
        logits = self._gradient_form(inputs.shape[1:])(self.normalise(inputs)).float()
        if not logits.requires_grad:
            raise ValueError(
                "module cannot be differentiated with respect to its inputs (it detaches, quantises or decodes them): "
                "instruments without gradients still work, such as random directions and planes"
            )
        return logits

    def normalise(self, x: Tensor) -> Tensor:
        """Inputs as the module wants them: minus mean, divided by std, channel by channel (dimension 1)."""
        for values, apply in ((self._mean, torch.sub), (self._std, torch.div)):
            if values is not None:
                shape = (1, -1) + (1,) * (x.ndim - 2)
                x = apply(x, values.to(x.device, x.dtype).view(shape))
        return x

    def normalise_direction(self, v: Tensor) -> Tensor:
        """Differences of inputs as the module sees them: divided by std, channel by channel (dimension 1)."""
        return self.normalise(v) - self.normalise(torch.zeros_like(v))

    def record(self) -> Callable[..., Provenance]:
        """Start the record of an analysis: its time and cost run from here.

        Returns:
            A function of the provenance's `seed` and `precision`, and of arguments of the analysis whose value was
            worked out, that ends the record and gives it.
        """
        began, forwards, backwards = time.perf_counter(), self.counts.forwards, self.counts.backwards
        call = current_call()

        def provenance(*, seed: int | None = None, precision: str = "float32", **resolved: Any) -> Provenance:
            own = self.dtype
            return Provenance(
                command=call.command(**resolved),
                seed=seed,
                model=self.digest(),
                device=str(self.device),
                precision=precision if own == torch.float32 else f"{precision} (module in {str(own).split('.')[-1]})",
                seconds=time.perf_counter() - began,
                forwards=self.counts.forwards - forwards,
                backwards=self.counts.backwards - backwards,
            )

        return provenance

    @property
    def dtype(self) -> torch.dtype:
        """What the module computes in: the dtype of its first weights."""
        return next(iter(dtypes_of(self.module)), torch.float32)

    def identity(self) -> dict[str, str]:
        """What decides the module's output, as far as it can be identified.

        Returns:
            Digests: of `"weights"`, its parameters and buffers; and of `"module"`, its layers, their attributes, hooks,
            and the code of classes that belong to no installed package.
        """
        return {"weights": state_digest(self.module), "module": structure_digest(self.module)}

    def digest(self) -> str:
        """The `identity` in 16 hex digits."""
        return hashlib.sha256("".join(self.identity().values()).encode()).hexdigest()[:16]

    def check_inputs(self, x: Tensor, name: str = "x") -> None:
        """Refuse inputs that the classifier cannot mean.

        Args:
            x: inputs `[example, *input]`.
            name: what to call them in the message.

        Raises:
            TypeError: if they are not a tensor of floats.
            ValueError: if there are none, they are not finite, or they leave the bounds.
        """
        low, high = self.bounds
        if not isinstance(x, Tensor) or not x.dtype.is_floating_point:
            got = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"{name} must be a float tensor with values in [{low:g}, {high:g}], got {got}")
        if x.ndim < 2 or x.numel() == 0:
            raise ValueError(f"{name} must have shape [example, *input], got {list(x.shape)}")
        channels = max((len(v) for v in (self._mean, self._std) if v is not None), default=1)
        if channels > 1 and x.shape[1] != channels:
            raise ValueError(f"{name} must have {channels} channels in dimension 1 (as mean and std), got {x.shape[1]}")
        least, most = (float(value) for value in x.detach().aminmax())
        slack = BOUNDS_TOLERANCE * (high - low)
        if not (least >= low - slack and most <= high + slack):
            raise ValueError(
                f"{name} must lie in the bounds [{low:g}, {high:g}] before normalisation, got values in "
                f"[{least:.9g}, {most:.9g}]: pass bounds=, or undo the normalisation and pass mean= and std="
            )

    def check_labels(self, y: Tensor, count: int, name: str = "y") -> None:
        """Refuse labels that do not fit the inputs.

        Args:
            y: labels `[example]`.
            count: number of inputs.
            name: what to call them in the message.

        Raises:
            TypeError: if they are not a tensor of integers.
            ValueError: if their shape or range is wrong.
        """
        if not isinstance(y, Tensor) or y.dtype == torch.bool or y.is_floating_point() or y.is_complex():
            got = f"a tensor of {y.dtype}" if isinstance(y, Tensor) else type(y).__name__
            raise TypeError(f"{name} must be an integer tensor of classes, got {got}")
        if y.shape != (count,):
            raise ValueError(f"{name} must have shape [{count}], one class per example, got {list(y.shape)}")
        top = self.num_classes
        if count and (int(y.min()) < 0 or (top is not None and int(y.max()) >= top)):
            limit = f"[0, {top})" if top is not None else "[0, number of classes)"
            raise ValueError(f"{name} must be in {limit}, got values from {int(y.min())} to {int(y.max())}")

    @contextlib.contextmanager
    def running(self, x: Tensor, y: Tensor | None = None) -> Iterator[None]:
        """The state in which `run` may be called: module checked on a few of the inputs, caller's state kept for later.

        Logits that are not finite are an error: at once among those of the few inputs, else when the analysis ends.

        Args:
            x: inputs `[example, *input]`, from which a few are taken to check the module.
            y: their classes `[example]`, checked against the number of classes, which is known only here.

        Yields:
            Nothing.

        Raises:
            TypeError: if the module does not return a tensor.
            ValueError: if its output has the wrong shape, is not finite, or mixes the samples of a batch.
        """
        with own_world():
            if self._session is not None:  # an analysis inside another: one state of the module for both
                self._probe(x)
                if y is not None:
                    self.check_labels(y, len(x))
                yield
                return
            check_weights(self.module)
            structure = structure_digest(self.module)
            base = self._copy_of_now(structure)
            own = unwrapped(self.module)
            modes = [(layer, layer.training) for layer in own.modules()] if base is own else []
            try:
                probe = few_inputs(self.normalise, x, self.device)
                self._session = Session(evaluating(base), structure, is_standard(base), probe)
                self._probe(x)
                if y is not None:
                    self.check_labels(y, len(x))
                yield
                self._session.refuse_unusable()
                self._session.warn_of_masked_gradients()
            except Exception:
                if self._session is not None:
                    self._session.refuse_unusable()  # rather than what came of it
                raise
            finally:
                self._session = None
                for layer, training in modes:
                    layer.training = training

    def _copy_of_now(self, structure: str) -> nn.Module:
        """A frozen copy of the module; that of the last analysis, where it shares all that may have changed since."""
        now = (structure, *tensors_of(self.module))
        if now != self._checked:
            self._probes.clear()
            self._base = None
            self._checked = now
        if self._base is not None:
            return self._base
        base, own = frozen_copy(self.module, self.device), unwrapped(self.module)
        if base is not own and is_standard(own):
            share_buffers(base, own)
            if pointers(base) == pointers(own):
                self._base = base
        return base

    def _probe(self, x: Tensor) -> None:
        """Check the module on a few of the inputs, unless it was checked on such as it is."""
        shape = x.shape[1:]
        if shape in self._probes:
            check_finite(self._now.plain, self._probes[shape])
            return
        probe = few_inputs(self.normalise, x, self.device)
        classes = check_module(self._now.plain, probe)
        if self.num_classes is not None:
            _match(classes, self.num_classes, "module's number of logits", "num_classes")
        self.num_classes = classes
        self._probes[shape] = probe

    def run(
        self,
        points: Callable[[int, int], Tensor],
        total: int,
        consume: Callable[[Tensor], None],
        *,
        precision: str,
        progress: bool = False,
    ) -> None:
        """Send points through the module in tuned batches. To be called inside `running`.

        Args:
            points: gives the inputs `[stop - start, *input]` number start to stop, normalised, on `device`.
            total: number of points.
            consume: called with the logits `[batch, class]` (float32, or float64) of each batch, in order.
            precision: `"bfloat16"`, `"float32"` or `"float64"`.
            progress: whether to show a bar when it takes more than two seconds.
        """
        if not total:
            return
        shape = points(0, 1).shape[1:]
        form = self._form(precision, shape)
        full = self._compiled(form, precision, shape) if self.compile else None

        def work(start: int, stop: int) -> None:
            batch = points(start, stop)
            logits = form(batch) if full is None or len(batch) != self.batch_size else full(batch)
            self._now.look(logits)
            consume(logits if precision == "float64" else logits.float())
            self.counts.forwards += stop - start

        self.in_batches(work, total, shape, kind=precision, progress=progress)

    def ladder(self, precision: str, shape: torch.Size) -> tuple[str, ...]:
        """The arithmetics in which labels are decided, without those the module does not run in.

        Args:
            precision: `"auto"`, `"bfloat16"`, `"float32"` or `"float64"`.
            shape: shape of one input. To be called inside `running` with inputs of this shape.

        Returns:
            Names of precisions, fastest first.

        Raises:
            ValueError: if the precision is unknown, or was asked for by name and the module does not run in it.
        """
        rungs = precision_ladder(precision, self.device)
        if self._now.plain.dtype != torch.float32 and rungs[-1] == "float64" and len(rungs) > 1:
            rungs = ("float32",)  # which is the module's own arithmetic: it decides
        forms = {rung: self._find_form(rung, shape) for rung in rungs}
        # What bfloat16 decides first, float32 corrects as far as the two differ by rounding: not across jumps.
        usable = tuple(
            rung
            for rung, form in forms.items()
            if form is not None and (form.certain or rung != "bfloat16" or precision == "bfloat16")
        )
        if not usable:
            raise ValueError(f"precision must be one that the module runs in, got {precision!r}")
        return usable

    def _form(self, precision: str, shape: torch.Size) -> Form:
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {list(PRECISIONS)}, got {precision!r}")
        form = self._find_form(precision, shape)
        if form is None:
            raise ValueError(f"precision must be one that the module runs in, got {precision!r}")
        return form

    def _find_form(self, precision: str, shape: torch.Size) -> Form | None:
        return self._built(precision, shape, lambda probe: build_form(self._now.plain, precision, probe))

    def _compiled(self, form: Form, precision: str, shape: torch.Size) -> Form | None:
        """The form for full batches; None where it is not known to be the module for every input."""
        if not form.certain:
            return None

        def build(probe: Tensor) -> Form | None:
            assert self.batch_size is not None
            rows = torch.arange(self.batch_size, device=probe.device) % len(probe)
            return compiled(form, probe[rows])

        return self._built(f"{precision}, compiled", shape, build)

    def _gradient_form(self, shape: torch.Size) -> Form:
        """What gradients go through: rearranged layers only where the gradient is known to stay the module's own."""
        return self._form("float32", shape) if self._now.standard else self._now.plain

    def _built(self, kind: str, shape: torch.Size, build: Callable[[Tensor], Form | None]) -> Form | None:
        """A form, made when it is first asked for, and again when the module is another."""
        if not self._now.sure:
            known = f"{self._now.structure} {state_digest(self.module)}" if self._now.standard else None
            if known is None or known != self._known:
                self._forms.clear()
            self._known, self._now.sure = known, True
        if (kind, shape) not in self._forms:
            self._forms[kind, shape] = build(self._probes[shape])
        return self._forms[kind, shape]

    @property
    def _now(self) -> Session:
        if self._session is None:
            raise RuntimeError("this may only be called inside `with classifier.running(...)`")
        return self._session

    def _tuner(self, kind: str, shape: torch.Size) -> BatchTuner:
        return self._tuners.setdefault((kind, shape), BatchTuner(self.device, self.batch_size))


def _resolve_device(device: str | torch.device, module: nn.Module) -> torch.device:
    if device != "auto":
        try:
            resolved = torch.device(device)
            torch.empty(0, device=resolved)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"device must be 'auto' or a device of this machine, got {device!r}: {reason}") from error
        return resolved
    home = next((p.device for p in module.parameters()), torch.device("cpu"))
    if home.type != "cpu":
        return home
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _channels(values: float | Sequence[float] | None, name: str) -> Tensor | None:
    if values is None:
        return None
    tensor = torch.as_tensor(values, dtype=torch.float64).reshape(-1)
    if not len(tensor) or not bool(tensor.isfinite().all()):
        raise ValueError(f"{name} must be one finite number per channel, got {values!r}")
    return tensor


def _match(got: int, expected: int, name: str, other: str) -> None:
    if got != expected:
        raise ValueError(f"{name} must match {other} ({expected}), got {got}")
