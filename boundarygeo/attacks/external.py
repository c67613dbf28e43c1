"""Attacks of other libraries and of users: run as they are, and judged from outside."""

import copy
import functools
import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from boundarygeo.attacks.examples import AdversarialExamples
from boundarygeo.attacks.norms import NORMS, length
from boundarygeo.checks import check_choice, check_eps
from boundarygeo.choices import Norm
from boundarygeo.classifier import Classifier
from boundarygeo.directions import numbers_of
from boundarygeo.evaluation import Session, analysis

External = Any
"""A callable `(module, x, y, eps) → x_adv`, or an attack object of foolbox, torchattacks, AutoAttack or ART."""

_ROUNDING = 1e-4
"""How far an attack may leave the ball, as a share of ε: float32 sums are not exact."""

_OTHER_LOGITS = 0.01
"""How far the logits of an attack's own model may differ, as a share of the largest: it may run in lower precision."""


class _Module(nn.Module):
    """The classifier as attacks expect it: inputs within the bounds to differentiable logits; counts its passes."""

    def __init__(self, clf: Classifier, session: Session) -> None:
        super().__init__()
        self.inner = session.plain.module
        self._clf, self._session = clf, session

    def forward(self, x: Tensor) -> Tensor:
        self._clf.counts.forwards += len(x)
        if x.requires_grad:
            x.register_hook(self._count)
        return self._session.plain(self._clf.normalise(x)).float()

    def _count(self, gradient: Tensor) -> None:
        self._clf.counts.backwards += len(gradient)


@analysis
def external_attack(
    clf: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    attack: External,
    eps: float,
    norm: Norm = "linf",
    seed: int = 0,
    index: Sequence[int] | Tensor | None = None,
    progress: bool = True,
) -> AdversarialExamples:
    """Run an attack that was not made here, and count its successes.

    What the attack returns is checked from outside: inside the ball and the bounds, and another label on the network
    itself. Examples that are misclassified without an attack count as found at distance 0. The attack gets all other
    examples at once, so that what it draws may depend on which examples are attacked together.

    Args:
        clf: the classifier.
        x: inputs `[example, *input]` within the bounds.
        y: true classes, int64 `[example]`.
        attack: a function `(module, x, y, eps) → x_adv`, whose module takes inputs within the bounds; an attack of
            foolbox, called with `epsilons=eps`; an attack of torchattacks with this `eps`, which is given the module;
            or an `AutoAttack` or an attack of ART, made with this `eps` and a model of its own.
        eps: radius of the ball in `norm`, in input units.
        norm: `"linf"` or `"l2"`.
        seed: seed of torch's generators while the attack runs.
        index: number of each example, by which the result names them; by default 0, 1, 2, ….
        progress: unused: attacks show what they show.

    Returns:
        The adversarial examples; where the attack failed, what it returned.

    Raises:
        TypeError: if `attack` is of another kind, or returns no tensor.
        ValueError: if it was made for another `eps` or another model, leaves the ball or the bounds, or returns inputs
            of another shape.
    """
    radius = check_eps(eps)
    check_choice(norm, "norm", NORMS)
    clf.check_inputs(x)
    clf.check_labels(y, len(x))
    name = name_of(attack)
    check_made_for(attack, radius)
    numbers = numbers_of(index, len(x))
    provenance = clf.record()
    inputs, classes = x.detach().float().clamp(*clf.bounds).cpu(), y.detach().cpu().long()
    x_adv = inputs.clone()
    with clf.session(x, y) as session:
        predicted = clf.predict(x_adv)
        live = (predicted == classes).nonzero()[:, 0]
        if len(live):
            module = _Module(clf, session).eval().requires_grad_(False)
            torch.manual_seed(seed)
            with torch.enable_grad():
                given = inputs[live].to(clf.device), classes[live].to(clf.device)
                moved = _CALLS[_library(attack)](attack, module, *given, radius, clf.bounds)
            x_adv[live] = _checked(moved, inputs[live], name, radius, norm, clf.bounds)
            predicted[live] = clf.predict(x_adv[live])
    found = predicted != classes
    distance = length(x_adv.double() - inputs.double(), norm)
    return AdversarialExamples(
        provenance=provenance(seed=seed),
        x_adv=x_adv,
        found=found,
        predicted=predicted,
        distance=torch.where(found, distance, torch.inf),
        true_labels=classes,
        targets=None,
        index=numbers,
        attack=name,
        norm=norm,
        eps=radius,
    )


def _checked(moved: Any, x: Tensor, name: str, eps: float, norm: Norm, bounds: tuple[float, float]) -> Tensor:
    """What an attack returned, within the bounds; raises if it is not what it should be."""
    if not isinstance(moved, Tensor):
        raise TypeError(f"attack {name} must return a tensor, got {type(moved).__name__}")
    moved = moved.detach().cpu().float()
    if moved.shape != x.shape:
        raise ValueError(f"attack {name} must return inputs of shape {list(x.shape)}, got {list(moved.shape)}")
    low, high = bounds
    slack = _ROUNDING * (high - low)
    if not bool(moved.isfinite().all()) or bool((moved < low - slack).any() | (moved > high + slack).any()):
        raise ValueError(
            f"attack {name} left the bounds {bounds}: its inputs lie in [{float(moved.min()):.4g}, "
            f"{float(moved.max()):.4g}]"
        )
    reached = length(moved.double() - x.double(), norm)
    if bool((reached > eps * (1 + _ROUNDING) + slack).any()):
        raise ValueError(
            f"attack {name} left the ball: {norm} distance up to {float(reached.max()):.4g}, eps is {eps:g}"
        )
    return moved.clamp(low, high)


_Bounds = tuple[float, float]

_MADE_FOR = {"torchattacks": "eps", "AutoAttack": "epsilon", "art": "eps"}
"""Libraries whose attacks are made for one ε, and the attribute that holds it."""

_OWN_MODEL = ("AutoAttack", "art")
"""Libraries whose attacks are made with a model."""

_FUNCTION = "lambda module, x, y, eps: torchattacks.PGD(module, eps=eps)(x, y)"


def name_of(attack: External) -> str:
    """The name of an attack in results; raises if it is no attack."""
    library = _library(attack)
    name = _own_name(attack)
    return f"{library}.{name}" if library in ("foolbox", "torchattacks", "art") else name


def check_made_for(attack: External, eps: float) -> None:
    """Raise if an attack was made for another ε."""
    field = _MADE_FOR.get(_library(attack))
    own = getattr(attack, field, None) if field else None
    if own is not None and abs(float(own) - eps) > _ROUNDING * eps:
        raise ValueError(f"attack {_own_name(attack)} was made with {field}={float(own):g}, eps is {eps:g}")


def check_any_eps(attack: External) -> None:
    """Raise if an attack is made for one ε."""
    if _library(attack) in _MADE_FOR:
        raise TypeError(
            f"a curve needs a function of eps, and {name_of(attack)} is made for one eps: pass e.g. {_FUNCTION}"
        )


def check_any_model(attack: External) -> None:
    """Raise if an attack is made for one model."""
    if _library(attack) in _OWN_MODEL:
        raise TypeError(
            f"several models need a function of the module, and {name_of(attack)} is made for one: pass e.g. "
            f"{_FUNCTION}"
        )


def _own_name(attack: External) -> str:
    inner = attack.func if isinstance(attack, functools.partial) else attack
    return getattr(inner, "__name__", type(inner).__name__)


def _library(attack: External) -> str:
    """The library that an attack comes from, a key of `_CALLS`; raises if it is no attack."""
    packages = {each.__module__.partition(".")[0] for each in type(attack).__mro__}
    for library in ("foolbox", "torchattacks", "art"):
        if library in packages:
            return library
    if hasattr(attack, "run_standard_evaluation"):
        return "AutoAttack"
    if not callable(attack):
        raise TypeError(
            "attack must be a function (module, x, y, eps) → x_adv, or an attack of foolbox, torchattacks, AutoAttack "
            f"or ART, got {type(attack).__name__}"
        )
    return "function"


def _function(attack: Any, module: nn.Module, x: Tensor, y: Tensor, eps: float, bounds: _Bounds) -> Any:
    return attack(module, x, y, eps)


def _foolbox(attack: Any, module: nn.Module, x: Tensor, y: Tensor, eps: float, bounds: _Bounds) -> Any:
    foolbox: Any = importlib.import_module("foolbox")
    return attack(foolbox.PyTorchModel(module, bounds=bounds, device=x.device), x, y, epsilons=eps)[1]


def _torchattacks(attack: Any, module: nn.Module, x: Tensor, y: Tensor, eps: float, bounds: _Bounds) -> Any:
    if bounds != (0.0, 1.0):
        raise ValueError(f"torchattacks needs inputs in [0, 1], the classifier's bounds are {bounds}")
    own = copy.copy(attack)
    own.__dict__["_attacks"] = dict(attack.__dict__.get("_attacks", {}))
    own.set_model(module)
    own.device = x.device
    return own(x, y)


def _autoattack(attack: Any, module: nn.Module, x: Tensor, y: Tensor, eps: float, bounds: _Bounds) -> Any:
    _check_model_of(attack.model, module, x)
    evaluate = attack.run_standard_evaluation
    if "bs" in inspect.signature(evaluate).parameters:
        return evaluate(x, y, bs=len(x))
    return evaluate(x, y, batch_size=len(x))[0]  # pyautoattack


def _art(attack: Any, module: nn.Module, x: Tensor, y: Tensor, eps: float, bounds: _Bounds) -> Any:
    _check_model_of(lambda v: torch.as_tensor(attack.estimator.predict(v.cpu().numpy())), module, x)
    return torch.as_tensor(attack.generate(x=x.cpu().numpy(), y=y.cpu().numpy()))


_CALLS: dict[str, Callable[[Any, nn.Module, Tensor, Tensor, float, _Bounds], Any]] = {
    "foolbox": _foolbox,
    "torchattacks": _torchattacks,
    "art": _art,
    "AutoAttack": _autoattack,
    "function": _function,
}


def _check_model_of(own: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> None:
    """Refuse an attack whose own model gives other logits on the first few inputs.

    Labels are not enough: all examples that are attacked are right, so that any good model predicts the same ones.
    """
    with torch.no_grad():
        theirs, ours = own(x[:8]).cpu().float(), module(x[:8]).cpu()
    if theirs.shape != ours.shape or (theirs - ours).abs().max() > _OTHER_LOGITS * ours.abs().max():
        raise ValueError("the attack was made with a model that predicts other labels or logits for the same inputs")
