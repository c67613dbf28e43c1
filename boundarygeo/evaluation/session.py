"""A session: one frozen state of a module, and everything that is computed with it."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from boundarygeo.checks import check_choice
from boundarygeo.evaluation.arithmetic import is_standard
from boundarygeo.evaluation.batches import Counts, in_batches, progress_bar
from boundarygeo.evaluation.copies import check_weights, evaluating, unwrapped
from boundarygeo.evaluation.forms import PRECISIONS, Form, build_form, compiled, plain_form, precision_ladder
from boundarygeo.evaluation.identity import state_digest, structure_digest
from boundarygeo.evaluation.inspection import check_finite, check_module, few_inputs
from boundarygeo.evaluation.memory import Memory
from boundarygeo.losses import Loss, loss_of

MASKED = 0.1
"""An analysis warns when more than this share of its gradients is exactly zero."""


class Owner(Protocol):
    """The part of a classifier that a session uses."""

    module: nn.Module
    bounds: tuple[float, float]
    device: torch.device
    num_classes: int | None
    batch_size: int | None
    compile: bool
    counts: Counts

    def normalise(self, x: Tensor) -> Tensor:
        """Normalised inputs."""
        ...


class Session:
    """A classifier during one analysis: a checked copy of its module, in forms that run fast.

    Made by `Classifier.session`, which documents the errors. `plain` is the unmodified module.
    """

    def __init__(self, owner: Owner, memory: Memory, base: nn.Module, structure: str, x: Tensor) -> None:
        self.owner = owner
        self._memory = memory
        self._structure, self._standard, self._forms_checked = structure, is_standard(base), False
        self.plain = plain_form(evaluating(base), few_inputs(owner.normalise, x, owner.device))
        # These stay on the device until the end: reading them earlier would synchronise.
        self._zeros: int | Tensor = 0
        self._not_finite: int | Tensor = 0
        self._gradients = 0
        self.check(x)

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest value of an input, before normalisation."""
        return self.owner.bounds

    @property
    def device(self) -> torch.device:
        """Where the module computes."""
        return self.owner.device

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        assert self.owner.num_classes is not None
        return self.owner.num_classes

    def normalise(self, x: Tensor) -> Tensor:
        """Normalised inputs."""
        return self.owner.normalise(x)

    def probe(self, shape: torch.Size) -> Tensor:
        """The normalised inputs of this shape on which the module was checked."""
        return self._memory.probes[shape]

    def check(self, x: Tensor) -> None:
        """Check the module on a few inputs, or only for finite logits where this shape has been checked before."""
        shape = x.shape[1:]
        if shape in self._memory.probes:
            check_finite(self.plain, self._memory.probes[shape])
            return
        probe = few_inputs(self.normalise, x, self.device)
        classes = check_module(self.plain, probe)
        if self.owner.num_classes not in (None, classes):
            raise ValueError(f"the module returns {classes} logits, but num_classes is {self.owner.num_classes}")
        self.owner.num_classes = classes
        self._memory.probes[shape] = probe

    def logits(self, x: Tensor, *, precision: str, progress: bool) -> Tensor:
        """Logits of inputs `[example, *input]`, on the CPU; in float32 from the unmodified module."""
        # Rearranging a module costs more than a few forward passes.
        form = self.plain if precision == "float32" else self._form(precision, x.shape[1:])
        dtype = torch.float64 if precision == "float64" else torch.float32
        rows: list[Tensor] = []

        def work(start: int, stop: int) -> None:
            logits = form(self.normalise(x[start:stop].detach().to(self.device, dtype)))
            self._count_not_finite(logits)
            rows.append(logits if precision == "float64" else logits.float())
            self.owner.counts.forwards += stop - start

        self.in_batches(work, len(x), x.shape[1:], kind=f"logits {precision}", progress=progress)
        return torch.cat([row.cpu() for row in rows])

    def run(
        self,
        points: Callable[[int, int], Tensor],
        total: int,
        consume: Callable[[Tensor], None],
        *,
        precision: str,
        progress: bool = False,
    ) -> None:
        """Send points through the module in tuned batches.

        `points(start, stop)` gives those inputs `[stop - start, *input]`, normalised, on `device`; `consume` is called
        with the logits `[batch, class]` (float32, or float64) of each batch, in order.
        """
        if not total:
            return
        shape = points(0, 1).shape[1:]
        form = self._form(precision, shape)
        full = self._compiled(form, precision, shape) if self.owner.compile else None

        def work(start: int, stop: int) -> None:
            batch = points(start, stop)
            logits = form(batch) if full is None or len(batch) != self.owner.batch_size else full(batch)
            self._count_not_finite(logits)
            consume(logits if precision == "float64" else logits.float())
            self.owner.counts.forwards += stop - start

        self.in_batches(work, total, shape, kind=precision, progress=progress)

    def ladder(self, precision: str, shape: torch.Size) -> tuple[str, ...]:
        """The precisions in which labels are decided, fastest first, of those that the module runs in."""
        rungs = precision_ladder(precision, self.device)
        if self.plain.dtype != torch.float32 and rungs[-1] == "float64" and len(rungs) > 1:
            rungs = ("float32",)  # stands for the module's own dtype, which decides
        forms = {rung: self._find_form(rung, shape) for rung in rungs}
        # Float32 can correct bfloat16 only where the two differ by rounding, not across jumps of the module.
        usable = tuple(
            rung
            for rung, form in forms.items()
            if form is not None and (form.certain or rung != "bfloat16" or precision == "bfloat16")
        )
        if not usable:
            raise ValueError(f"the module does not run in precision {precision!r}: choose another, or 'auto'")
        return usable

    def evaluate(self, x: Tensor) -> Tensor:
        """Logits of one batch of unchecked inputs, float32, on the device."""
        logits = self._gradient_form(x.shape[1:])(self.normalise(x.to(self.device, torch.float32))).float()
        self.owner.counts.forwards += len(x)
        self._count_not_finite(logits)
        return logits

    def differentiate(self, x: Tensor, y: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Logits and input gradients of one batch of unchecked inputs: float32, detached, on the device."""
        with torch.enable_grad():
            inputs = x.detach().to(self.device, torch.float32).clone().requires_grad_()
            logits = self._differentiable(inputs)
            classes = y.to(self.device).clone()  # autograd cannot save inference tensors
            (gradient,) = torch.autograd.grad(loss_of(logits, classes, loss).sum(), inputs)
        self.owner.counts.forwards += len(x)
        self.owner.counts.backwards += len(x)
        self._count_zero_gradients(gradient)
        self._count_not_finite(logits)
        return logits.detach(), gradient

    def differentiate_top(self, x: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Input gradients of the largest logits, from one forward pass; detached, on the device.

        Returns:
            Logits `[batch, class]`; the classes of the `count` largest, in descending order, `[batch, count]`; the
            gradients of these logits `[batch, count, *input]`.
        """
        gradients = []
        with torch.enable_grad():
            inputs = x.detach().to(self.device, torch.float32).clone().requires_grad_()
            logits = self._differentiable(inputs)
            top = logits.detach().topk(count, dim=1).indices
            for rank in range(count):
                chosen = logits.gather(1, top[:, rank : rank + 1]).sum()
                gradients += torch.autograd.grad(chosen, inputs, retain_graph=rank + 1 < count)
        self.owner.counts.forwards += len(x)
        self.owner.counts.backwards += count * len(x)
        self._count_not_finite(logits)
        return logits.detach(), top, torch.stack(gradients, 1)

    def hessian_vector(self, x: Tensor, y: Tensor, v: Tensor, loss: str) -> tuple[Tensor, Tensor]:
        """Input gradients of the loss of one batch, and its Hessian times the vectors `v`: all `[batch, *input]`.

        Costs one forward and two backward passes; the second goes through the graphs of the other two. The product is
        zero where the loss is piecewise linear in the input.
        """
        # Fused attention kernels have no second derivative.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            inputs = x.detach().to(self.device, torch.float32).clone().requires_grad_()
            logits = self._differentiable(inputs)
            classes = y.to(self.device).clone()  # autograd cannot save inference tensors
            (gradient,) = torch.autograd.grad(loss_of(logits, classes, loss).sum(), inputs, create_graph=True)
            vectors = v.detach().to(self.device, torch.float32).clone()
            if gradient.requires_grad:
                (product,) = torch.autograd.grad(gradient, inputs, vectors, materialize_grads=True)
            else:  # the loss is linear in the input
                product = torch.zeros_like(inputs)
        self.owner.counts.forwards += len(x)
        self.owner.counts.backwards += 2 * len(x)
        return gradient.detach(), product.detach()

    def in_batches(
        self, work: Callable[[int, int], None], total: int, shape: torch.Size, *, kind: str, progress: bool = False
    ) -> None:
        """Work through examples by calls `work(start, stop)`, in order; a range is halved when memory runs out.

        Each `kind` of work has its own batch size, found by throughput.
        """
        with progress_bar(total, description=kind, unit="examples", progress=progress) as bar:
            in_batches(
                work,
                total,
                tuner=self._memory.tuner(kind, shape, self.device, self.owner.batch_size),
                device=self.device,
                bar=bar,
            )

    def _differentiable(self, inputs: Tensor) -> Tensor:
        """Differentiable float32 logits of a batch."""
        logits = self._gradient_form(inputs.shape[1:])(self.normalise(inputs)).float()
        if not logits.requires_grad:
            raise ValueError(
                "the module has no gradient with respect to its inputs (it detaches, quantises or decodes them): use "
                "analyses without gradients, such as random directions and planes"
            )
        return logits

    def _form(self, precision: str, shape: torch.Size) -> Form:
        check_choice(precision, "precision", PRECISIONS)
        form = self._find_form(precision, shape)
        if form is None:
            raise ValueError(f"the module does not run in precision {precision!r}: choose another, or 'auto'")
        return form

    def _find_form(self, precision: str, shape: torch.Size) -> Form | None:
        return self._built(precision, shape, lambda probe: build_form(self.plain, precision, probe))

    def _compiled(self, form: Form, precision: str, shape: torch.Size) -> Form | None:
        """The form for full batches; None unless it is known to equal the module on every input."""
        if not form.certain:
            return None

        def build(probe: Tensor) -> Form | None:
            assert self.owner.batch_size is not None
            rows = torch.arange(self.owner.batch_size, device=probe.device) % len(probe)
            return compiled(form, probe[rows])

        return self._built(f"{precision}, compiled", shape, build)

    def _gradient_form(self, shape: torch.Size) -> Form:
        """The form for gradients: rearranged layers only where the gradient is known to stay the module's own."""
        return self._form("float32", shape) if self._standard else self.plain

    def _built(self, kind: str, shape: torch.Size, build: Callable[[Tensor], Form | None]) -> Form | None:
        """A form, built on first use and after the module has changed."""
        if not self._forms_checked:
            digest = f"{self._structure} {state_digest(self.owner.module)}" if self._standard else None
            self._memory.keep_forms_of(digest)
            self._forms_checked = True
        return self._memory.form(kind, shape, build)

    def _count_not_finite(self, logits: Tensor) -> None:
        """Count batches with NaN or infinite logits, whose argmax would pass for an adversarial label."""
        self._not_finite = self._not_finite + ~logits.detach().isfinite().all()

    def _count_zero_gradients(self, gradient: Tensor) -> None:
        self._zeros = self._zeros + (gradient.flatten(1) == 0).all(1).sum()
        self._gradients += len(gradient)

    def check_finite_logits(self) -> None:
        """Raise if any logit of this session was NaN or infinite."""
        if int(self._not_finite):
            raise ValueError("module must return finite logits, got NaN or infinity at a point that was evaluated")

    def warn_of_masked_gradients(self) -> None:
        """Warn if many input gradients were exactly zero."""
        zeros = int(self._zeros)
        if zeros > MASKED * self._gradients:
            warnings.warn(
                f"{zeros} of {self._gradients} input gradients ({zeros / self._gradients:.0%}) are exactly zero "
                "(rounding, saturation?): attacks and directions that follow them find nothing, but that is not "
                "robustness",
                stacklevel=7,
            )


@contextlib.contextmanager
def open_session(owner: Owner, memory: Memory, x: Tensor) -> Iterator[Session]:
    """Open a session; logits that were not finite raise when it ends."""
    check_weights(owner.module)
    structure = structure_digest(owner.module)
    base, own = memory.copy_of(owner.module, structure, owner.device), unwrapped(owner.module)
    modes = [(layer, layer.training) for layer in own.modules()] if base is own else []
    try:
        session = Session(owner, memory, base, structure, x)
        try:
            yield session
        except Exception:
            session.check_finite_logits()  # the cause, rather than its consequence
            raise
        session.check_finite_logits()
        session.warn_of_masked_gradients()
    finally:
        for layer, training in modes:
            layer.training = training
