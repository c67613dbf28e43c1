"""A module together with what its inputs mean: bounds, normalisation, device."""

import contextlib
import copy
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from boundarygeo.adapters import Pipeline, adapt
from boundarygeo.checks import check_choice
from boundarygeo.evaluation import (
    Counts,
    Memory,
    Session,
    analysis,
    current_call,
    dtypes_of,
    open_session,
    own_world,
    state_digest,
    steady_size,
    structure_digest,
)
from boundarygeo.losses import LOSSES, true_margin
from boundarygeo.results import Provenance

BOUNDS_TOLERANCE = 1e-5
"""How far inputs may leave the bounds, as a share of their width: enough for float rounding."""

_NOT_PICKLED = frozenset({"_session", "_memory", "prepare"})


class Classifier:
    """A PyTorch module as a classifier of inputs within stated bounds.

    The module is never changed: each analysis runs on a copy of its current state, in eval mode and in the dtype of its
    weights. Gradients are the module's own, including custom backward passes and hooks. A process runs one analysis at
    a time.

    Args:
        module: maps normalised inputs `[batch, *input]` to logits `[batch, classes]`, each sample independently.
        bounds: lowest and highest value of an input, before normalisation.
        mean: subtracted from the inputs: one number, or one per channel.
        std: divides the inputs after that: one number, or one per channel.
        device: where to compute; `"auto"` is the module's device if it is an accelerator, else the best available one.
        num_classes: number of classes, checked against the logits if given.
        batch_size: number of examples per batch, or None to find the fastest. Runs with a fixed size are bit-identical;
            with tuned sizes, logits may differ in their last digits.
        compile: whether full batches without gradients (of maps, frames, noise) go through `torch.compile`, which takes
            half a minute: once for standard layers, once per analysis for others. Modules that cannot be rearranged or
            compiled run unchanged. Requires a `batch_size`, because each batch size is compiled separately.
        class_names: name of each output.

    Attributes:
        source: where normalisation and names were found; see `wrap`.
        prepare: from a photo (a PIL image) to an input, by the model's own resizing and crop; None if unknown.

    Raises:
        TypeError: if the module is not an `nn.Module`.
        ValueError: if bounds, mean, std, device, num_classes, batch_size or compile are invalid.

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
        class_names: Sequence[str] | None = None,
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
            raise ValueError("compile=True needs a batch_size, because each size is compiled separately")
        self.class_names = None if class_names is None else tuple(class_names)
        if self.class_names is not None:
            if num_classes not in (None, len(self.class_names)):
                raise ValueError(f"class_names must be {num_classes}, like num_classes, got {len(self.class_names)}")
            num_classes = len(self.class_names)
        self.source = ""
        self.prepare: Pipeline | None = None
        self.module = module
        self.bounds = (low, high)
        self.device = _resolve_device(device, module)
        self.num_classes = None if num_classes is None else int(num_classes)
        self.batch_size = None if batch_size is None else int(batch_size)
        self.compile = bool(compile)
        self.counts = Counts()
        with own_world():  # tensors made in inference mode could not be differentiated
            self._mean = _channels(mean, "mean")
            self._std = _channels(std, "std")
        if self._std is not None and not bool((self._std > 0).all()):
            raise ValueError(f"std must be positive, got {self._std.tolist()}")
        means, stds = (1 if values is None else len(values) for values in (self._mean, self._std))
        if min(means, stds) > 1 and means != stds:
            raise ValueError(f"number of values in std must match that in mean ({means}), got {stds}")
        self._clear_cache()

    @classmethod
    def wrap(
        cls,
        model: nn.Module,
        *,
        weights: Any = None,
        image_processor: Any = None,
        transform: Pipeline | None = None,
        output: str | int | None = None,
        **settings: Any,
    ) -> "Classifier":
        """A classifier with the normalisation and class names that come with a model.

        Those of timm are in the model; RobustBench's models normalise inside. A layer of the module that normalises
        wins over everything that is found outside, with a warning.

        Args:
            model: a module of torchvision, timm, Hugging Face or RobustBench, or any other.
            weights: torchvision's weights, such as `ResNet50_Weights.DEFAULT`.
            image_processor: Hugging Face's image processor of the model.
            transform: for any other model: what turns a photo (a PIL image) into its normalised input. Mean and
                standard deviation are measured on plain images.
            output: which of several outputs is the logits: a position, key or name; for Hugging Face `"logits"`.
            **settings: as in `Classifier(...)`; `mean`, `std` and `class_names` take precedence over what is found.

        Returns:
            The classifier; its `prepare` turns photos into inputs in [0, 1].

        Raises:
            TypeError: if `weights` or `image_processor` is of another kind.
            ValueError: if the normalisation is not known, or not one by fixed numbers.

        Examples:
            >>> from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1
            >>> clf = Classifier.wrap(squeezenet1_1(), weights=SqueezeNet1_1_Weights.DEFAULT)
            >>> clf.class_names[1], clf.source
            ('goldfish', "torchvision's SqueezeNet1_1_Weights.IMAGENET1K_V1")
        """
        found = adapt(
            model,
            weights=weights,
            image_processor=image_processor,
            transform=transform,
            output=output,
            stated="mean" in settings or "std" in settings,
        )
        known = {"mean": found.mean, "std": found.std, "class_names": found.class_names or None}
        clf = cls(found.module, **known | settings)
        clf.source, clf.prepare = found.source, found.prepare
        return clf

    def _clear_cache(self) -> None:
        self._session: Session | None = None
        self._memory = Memory()

    def __getstate__(self) -> dict[str, Any]:
        """State without compiled forms and batch sizes, which another process finds itself."""
        return {name: value for name, value in vars(self).items() if name not in _NOT_PICKLED}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.prepare = None
        self._clear_cache()

    def __repr__(self) -> str:
        mean = None if self._mean is None else [round(value, 4) for value in self._mean.tolist()]
        std = None if self._std is None else [round(value, 4) for value in self._std.tolist()]
        return (
            f"Classifier({type(self.module).__name__}, bounds={self.bounds}, mean={mean}, std={std}, "
            f"device={str(self.device)!r}, num_classes={self.num_classes}{f', from {self.source}' * bool(self.source)})"
        )

    def with_module(self, module: nn.Module) -> "Classifier":
        """A classifier for another module, often a wrapper around this one, with the same bounds and normalisation."""
        return self._like(module, device=self.device, batch_size=self.batch_size)

    def with_batch_size(self, batch_size: int | None) -> "Classifier":
        """The same classifier with another batch size (fewer if memory runs out), or None to find the fastest."""
        return self._like(self.module, device=self.device, batch_size=batch_size)

    def on(self, device: str | torch.device) -> "Classifier":
        """The same classifier on another device, with a copy of the module in that device's memory."""
        moved = self._like(self.module, device=device, batch_size=self.batch_size)
        moved.module = copy.deepcopy(self.module).to(moved.device)
        return moved

    def settings(self) -> dict[str, Any]:
        """What besides the module decides its logits, as plain values by their names in `Classifier(...)`."""
        mean, std = (None if values is None else values.tolist() for values in (self._mean, self._std))
        settings = {"bounds": list(self.bounds), "mean": mean, "std": std, "batch_size": self.batch_size}
        return settings | ({"compile": True} if self.compile else {})

    def steady_batch_size(self, x: Tensor, *, device: str | None = None) -> int:
        """A good batch size for such inputs, a power of two, by the cost of a batch in operations and not by timing.

        It is for the kind of device, `"cpu"` or `"cuda"`; by default the classifier's.
        """
        self.check_inputs(x)
        with self.session(x) as session:
            return steady_size(session.plain, session.probe(x.shape[1:])[:1], device or self.device.type)

    def _like(self, module: nn.Module, *, device: str | torch.device, batch_size: int | None) -> "Classifier":
        settings = self.settings() | {"bounds": self.bounds, "batch_size": batch_size}
        other = Classifier(module, device=device, class_names=self.class_names, **settings)
        other.source, other.prepare = self.source, self.prepare
        return other

    @analysis
    def logits(self, x: Tensor, *, precision: str = "float32", progress: bool = False) -> Tensor:
        """Logits of a batch of any size, `[example, class]` on the CPU: float64 in that precision, else float32.

        Args:
            x: inputs `[example, *input]` within the bounds.
            precision: `"bfloat16"`, `"float32"` or `"float64"`.
            progress: whether to show a progress bar after two seconds.

        Raises:
            TypeError: if `x` is not a float tensor, or the module does not return a tensor.
            ValueError: if `x` is out of bounds, or the module's output is invalid.
        """
        self.check_inputs(x)
        with self.session(x) as session:
            return session.logits(x, precision=precision, progress=progress)

    @analysis
    def predict(self, x: Tensor) -> Tensor:
        """Classes with the largest logit, int64 `[example]`. Arguments and errors as in `logits`."""
        return self.logits(x).argmax(1)

    @analysis
    def margin(self, x: Tensor, y: Tensor) -> Tensor:
        """Logit of the true class minus the largest other logit, float32 `[example]`: positive where it is right.

        Arguments and errors as in `logits`, with true classes `y`, int64 `[example]`.
        """
        self.check_inputs(x)
        self.check_labels(y, len(x))
        logits = self.logits(x)
        self.check_labels(y, len(x))  # again: now the number of classes is known
        return true_margin(logits, y.cpu())

    @analysis
    def input_gradient(self, x: Tensor, y: Tensor, *, loss: str = "cross_entropy") -> Tensor:
        r"""Gradient of a loss with respect to each input, in loss per input unit (before normalisation).

        Losses are computed without the cancellation that makes the textbook cross-entropy gradient vanish on
        confidently classified inputs: with :math:`z = \log\sum_{c\ne y} e^{l_c} - l_y`, the cross-entropy is
        :math:`\log(1 + e^z)`, and its gradient :math:`\sigma(z)\nabla z` points along :math:`\nabla z` at any
        confidence.

        Args:
            x: inputs `[example, *input]` within the bounds.
            y: true classes, int64 `[example]`.
            loss: `"cross_entropy"`; `"log_odds"`, the z above, whose gradient has the same direction without the
                vanishing factor; or `"margin"`, the largest other logit minus the true one.

        Returns:
            Gradients, float32 `[example, *input]` on the CPU.

        Raises:
            TypeError: as in `logits`, or if `y` is not an integer tensor.
            ValueError: as in `logits`, or if `y` or `loss` is invalid.
        """
        check_choice(loss, "loss", LOSSES)
        self.check_inputs(x)
        self.check_labels(y, len(x))
        rows: list[Tensor] = []

        def work(start: int, stop: int) -> None:
            rows.append(session.differentiate(x[start:stop], y[start:stop], loss)[1].cpu())

        with self.session(x, y) as session:
            session.in_batches(work, len(x), x.shape[1:], kind="gradient")
        return torch.cat(rows)

    def normalise(self, x: Tensor) -> Tensor:
        """Normalised inputs: minus mean, divided by std, per channel (dimension 1)."""
        for values, apply in ((self._mean, torch.sub), (self._std, torch.div)):
            if values is not None:
                shape = (1, -1) + (1,) * (x.ndim - 2)
                x = apply(x, values.to(x.device, x.dtype).view(shape))
        return x

    def normalise_direction(self, v: Tensor) -> Tensor:
        """Normalised differences of inputs: divided by std, per channel (dimension 1)."""
        return self.normalise(v) - self.normalise(torch.zeros_like(v))

    def record(self) -> Callable[..., Provenance]:
        """Start recording the time and cost of an analysis; returns a function that ends it and gives the provenance.

        It takes the `seed`, the `precision`, and arguments of the analysis whose value was worked out (such as defaults
        that depend on the inputs).
        """
        began, forwards, backwards = time.perf_counter(), self.counts.forwards, self.counts.backwards
        call = current_call()

        def provenance(*, seed: int | None = None, precision: str = "float32", **resolved: Any) -> Provenance:
            own = self.dtype
            return Provenance(
                command=call.command(**resolved),
                seed=seed,
                model=self.digest(),
                source=self.source,
                device=str(self.device),
                precision=precision if own == torch.float32 else f"{precision} (module in {str(own).split('.')[-1]})",
                seconds=time.perf_counter() - began,
                forwards=self.counts.forwards - forwards,
                backwards=self.counts.backwards - backwards,
            )

        return provenance

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the module's first weights."""
        return next(iter(dtypes_of(self.module)), torch.float32)

    def identity(self) -> dict[str, str]:
        """Digests of what decides the module's output, as far as it can be identified.

        `"weights"` is that of parameters and buffers; `"module"`, of the layers, their attributes and hooks, and the
        code of classes outside installed packages.
        """
        return {"weights": state_digest(self.module), "module": structure_digest(self.module)}

    def digest(self) -> str:
        """The `identity` in 16 hex digits."""
        return hashlib.sha256("".join(self.identity().values()).encode()).hexdigest()[:16]

    def check_inputs(self, x: Tensor, name: str = "x") -> None:
        """Raise unless inputs are finite floats `[example, *input]` within the bounds, with the expected channels."""
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
                f"{name} must lie in [{low:g}, {high:g}] before normalisation, got values in "
                f"[{least:.9g}, {most:.9g}]: pass bounds=, or undo the normalisation and pass mean= and std="
            )

    def check_labels(self, y: Tensor, count: int, name: str = "y") -> None:
        """Raise unless labels are integers, one for each of `count` inputs, within the known number of classes."""
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
    def session(self, x: Tensor, y: Tensor | None = None) -> Iterator[Session]:
        """Compute with the module as it is now, with the caller's global state set aside.

        The module is checked on the first few inputs, and classes `y` against the number of logits. Nested analyses
        share one session, and so see one state of the module. Logits that are not finite raise: at once if seen in the
        check of the module, else at the end of the analysis.
        """
        with own_world(), contextlib.ExitStack() as stack:
            if self._session is None:
                self._session = stack.enter_context(open_session(self, self._memory, x))
                stack.callback(setattr, self, "_session", None)
            else:
                self._session.check(x)
            if y is not None:
                self.check_labels(y, len(x))
            yield self._session


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
