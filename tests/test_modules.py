"""The module is what it is: gradients, state and arithmetic are its own, in whatever surroundings it is called.

Oracles: plain autograd on the module, the module called by hand, arithmetic on paper, the same call in a fresh state.

Situations, beside those of public bug reports:
- gradients: a straight-through sign, gradient reversal, a scaled backward pass, a norm under `no_grad`, a full backward
  hook on a leaf, a block and the root, a full backward pre-hook, a tensor hook inside `forward`, a forward hook that
  rounds, a forward pre-hook, a branch on `torch.is_grad_enabled()`, a statistic that is detached;
- labels: a branch, a staircase and a hook that no probe shows;
- state: a list of numbers, a NumPy array, a dictionary, a method or forward replaced on the object, a hook removed, an
  attribute of a helper object, a buffer that is not saved;
- surroundings: threads, autocast, default dtype and device, deterministic algorithms, inference mode, inputs that are
  channels-last, strided, of float64 or that require a gradient, a module made in inference mode;
- kinds: mixed dtypes, tied weights, lazy, meta, compiled inside, parallel, exported, scripted, quantised.
"""

import threading
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import no_labels
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import boundarygeo as bg
from boundarygeo.evaluation import (
    build_form,
    code_digest,
    frozen_copy,
    is_standard,
    plain_form,
    state_digest,
    structure_digest,
)
from boundarygeo.evaluation.arithmetic import continuous_record

CPU = torch.device("cpu")
SHAPE = (1, 6, 6)


def inputs(count: int = 24, seed: int = 0) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


class Net(nn.Module):
    """A linear layer behind something that a subclass does to its inputs."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.act, self.last = nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 3)

    def change(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.first(self.change(x).flatten(1))))


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[override]
        return torch.sign(x - 0.5)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * gradient


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[override]
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return -gradient


class StraightThroughSign(Net):
    def change(self, x: Tensor) -> Tensor:
        return _Sign.apply(x)  # type: ignore[return-value]


class Reversal(Net):
    def change(self, x: Tensor) -> Tensor:
        return _Reverse.apply(x)  # type: ignore[return-value]


class NormUnderNoGrad(Net):
    def change(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            size = x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return x / size


class DetachedMean(Net):
    def change(self, x: Tensor) -> Tensor:
        return x - x.mean((1, 2, 3), keepdim=True).detach()


class TensorHook(Net):
    def change(self, x: Tensor) -> Tensor:
        x = x * 1.0
        if x.requires_grad:
            x.register_hook(lambda gradient: gradient * 3)
        return x


class OnlyWithGradients(Net):
    def change(self, x: Tensor) -> Tensor:
        return torch.tanh(3 * x) if torch.is_grad_enabled() else x


def with_hook(register: str, layer: str, hook) -> Net:
    net = Net()
    getattr(net.get_submodule(layer), register)(hook)
    return net


def doubled(module: nn.Module, given: tuple, out: tuple) -> tuple:
    return tuple(2 * one for one in given)


OWN_GRADIENTS = {
    "straight-through sign": StraightThroughSign,
    "gradient reversal": Reversal,
    "norm under no_grad": NormUnderNoGrad,
    "detached mean": DetachedMean,
    "tensor hook in forward": TensorHook,
    "branch on grad mode": OnlyWithGradients,
    "backward hook on a leaf": lambda: with_hook("register_full_backward_hook", "first", doubled),
    "backward hook on an activation": lambda: with_hook("register_full_backward_hook", "act", doubled),
    "backward hook on the root": lambda: with_hook("register_full_backward_hook", "", doubled),
    "backward pre-hook": lambda: with_hook(
        "register_full_backward_pre_hook", "last", lambda module, out: tuple(2 * one for one in out)
    ),
    "forward hook": lambda: with_hook("register_forward_hook", "act", lambda module, given, out: torch.tanh(out)),
    "forward pre-hook": lambda: with_hook("register_forward_pre_hook", "last", lambda module, given: given[0] ** 2),
    "hook in a sequence of standard layers": lambda: nn.Sequential(
        nn.Flatten(), hooked(nn.Linear(36, 8)), nn.ReLU(), nn.Linear(8, 3)
    ),
}


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_full_backward_hook(doubled)
    return layer


def own_gradient(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(module(leaf), y, reduction="sum"), leaf)[0]


@pytest.mark.parametrize("case", OWN_GRADIENTS)
def test_gradients_are_those_of_plain_autograd(case: str) -> None:
    module, x = OWN_GRADIENTS[case]().eval(), inputs()
    y = torch.arange(len(x)) % 3
    own = own_gradient(module, x, y)
    assert own.abs().max() > 0
    clf = bg.Classifier(module)
    torch.testing.assert_close(clf.input_gradient(x, y), own, rtol=1e-4, atol=1e-6)
    adversarial = bg.fgsm(clf, x, y, eps=0.1).x_adv
    stepped = (adversarial != x).flatten(1).any(1)  # the others were wrong before
    assert stepped.any()
    torch.testing.assert_close(adversarial[stepped], (x + 0.1 * own.sign()).clamp(0, 1)[stepped])


@pytest.mark.parametrize("case", OWN_GRADIENTS)
def test_neither_order_nor_batches_nor_threads_decide_results_of_modules_with_own_gradients(case: str) -> None:
    module, x = OWN_GRADIENTS[case]().eval(), inputs(12)
    y = torch.arange(len(x)) % 3
    clf, order = bg.Classifier(module), torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
    whole = bg.pgd(clf, x, y, eps=0.1, steps=3, seed=1).x_adv
    for size in (1, 5):
        again = bg.pgd(clf.with_batch_size(size), x[order], y[order], eps=0.1, steps=3, seed=1, index=order).x_adv
        torch.testing.assert_close(again, whole[order], rtol=0, atol=1e-5)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        torch.testing.assert_close(bg.pgd(clf, x, y, eps=0.1, steps=3, seed=1).x_adv, whole, rtol=0, atol=1e-5)
    finally:
        torch.set_num_threads(threads)


class Branch(Net):
    """Another network far from all probes."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits if bool((x < 0.9).all()) else logits.flip(1)


class Staircase(Net):
    def change(self, x: Tensor) -> Tensor:
        return torch.where(x > 0.9, x + 5.0, x)


def far_hook() -> Net:
    net = Net()
    net.act.register_forward_hook(lambda module, given, out: torch.where(out > 0.8, 10.0 - out, out))
    return net


@pytest.mark.parametrize("make", [Staircase, far_hook], ids=["staircase", "hook"])
def test_label_maps_show_what_no_probe_shows(make) -> None:
    module, x = make().eval(), torch.full((1, *SHAPE), 0.5)
    clf = bg.Classifier(module)
    planes = bg.random_planes(x, clf.predict(x), seed=0)
    maps = bg.boundary_maps(clf, planes, extent=0.5, resolution=33, method="dense")
    rows, cols = torch.meshgrid(maps.v, maps.u, indexing="ij")
    points = x + cols[..., None, None, None] * planes.u[0] + rows[..., None, None, None] * planes.v[0]
    with torch.no_grad():
        logits = module(points.reshape(-1, *SHAPE).clamp(0, 1).float())
    top = logits.topk(2, 1).values
    clear = (top[:, 0] - top[:, 1]).view(33, 33) > 1e-3
    labels = logits.argmax(1).view(33, 33)
    assert bool((maps.labels[0].long() == labels)[clear].all())
    assert not is_standard(module)
    assert continuous_record(frozen_copy(module, CPU), x) is None


def test_a_module_that_looks_at_values_has_one_form_only() -> None:
    module, x = Branch().eval(), inputs(4) * 0.5
    plain = plain_form(frozen_copy(module, CPU), x)
    with torch.no_grad():
        assert build_form(plain, "float32", x) is plain
        bfloat16 = build_form(plain, "bfloat16", x)
    assert bfloat16 is None or not bfloat16.certain


def test_modules_of_continuous_layers_are_known_to_be_and_get_faster_forms() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(64, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.norm(self.conv(x))).flatten(1))

    module, x = Block().eval(), inputs(4)
    with torch.no_grad():
        form = build_form(plain_form(frozen_copy(module, CPU), x), "float32", x)
    assert form.rearranged
    assert form.certain


class Helper:
    def __init__(self) -> None:
        self.scale = 1.0


class Stateful(Net):
    """Reads all sorts of things that are neither parameters nor buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.powers = [1.0, 2.0]
        self.shift = np.zeros(36, np.float32)
        self.options = {"flip": False}
        self.helper = Helper()
        self.register_buffer("gain", torch.ones(()), persistent=False)

    def change(self, x: Tensor) -> Tensor:
        x = x * self.helper.scale * self.gain + torch.from_numpy(self.shift).view(SHAPE)
        x = x ** self.powers[0] + 0.1 * x ** self.powers[1]
        return x.flip(-1) if self.options["flip"] else x


def no_change(net: Stateful) -> None:
    pass


CHANGES = {
    "list": lambda net: net.powers.__setitem__(0, 3.0),
    "NumPy array": lambda net: net.shift.__iadd__(0.3),
    "dictionary": lambda net: net.options.update(flip=True),
    "helper object": lambda net: setattr(net.helper, "scale", 2.5),
    "unsaved buffer": lambda net: net.gain.mul_(3),
    "replaced method": lambda net: setattr(net, "change", lambda x: 1 - x),
    "replaced forward of a layer": lambda net: setattr(net.act, "forward", torch.tanh),
    "weights by data": lambda net: net.first.weight.data.mul_(-1),
    "hook on the root": lambda net: net.register_forward_hook(lambda module, given, out: out.flip(1)),
}


@pytest.mark.parametrize("case", CHANGES)
def test_changes_of_any_state_are_seen_and_named(case: str) -> None:
    net, x = Stateful().eval(), inputs()
    clf = bg.Classifier(net)
    before, old = clf.logits(x), clf.digest()
    y = clf.predict(x)
    planes = bg.random_planes(x[:2], y[:2])
    maps = bg.boundary_maps(clf, planes, extent=0.3, resolution=9)
    CHANGES[case](net)
    right = net(x).detach()
    assert not torch.allclose(right, before, atol=1e-3)
    torch.testing.assert_close(clf.logits(x), right)
    torch.testing.assert_close(clf.input_gradient(x, y), own_gradient(net, x, y), rtol=1e-4, atol=1e-6)
    assert clf.digest() != old
    fresh = bg.boundary_maps(bg.Classifier(net), planes, extent=0.3, resolution=9)
    again = bg.boundary_maps(clf, planes, extent=0.3, resolution=9)
    assert torch.equal(again.labels, fresh.labels)
    assert again.provenance.model == fresh.provenance.model != maps.provenance.model


def test_a_removed_hook_and_a_standard_layers_attribute_are_seen() -> None:
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.LeakyReLU(0.01), nn.Linear(8, 3)).eval(), inputs()
    clf, own = bg.Classifier(net), net(x).detach()
    y = clf.predict(x)
    handle = net[1].register_forward_hook(lambda module, given, out: out.abs())
    torch.testing.assert_close(clf.logits(x), net(x).detach())
    clf.input_gradient(x, y)
    handle.remove()
    torch.testing.assert_close(clf.logits(x), own)
    clf.input_gradient(x, y)  # forms are kept from here on
    net[2].negative_slope = 0.9
    torch.testing.assert_close(clf.input_gradient(x, y), own_gradient(net, x, y), rtol=1e-4, atol=1e-6)
    torch.nn.init.zeros_(net[3].bias.data)
    torch.testing.assert_close(clf.input_gradient(x, y), own_gradient(net, x, y), rtol=1e-4, atol=1e-6)


def test_equal_modules_have_equal_digests_and_code_is_part_of_them() -> None:
    def make(factor: float):
        class Scaled(nn.Linear):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x) * factor

        torch.manual_seed(0)
        return Scaled(4, 3)

    assert bg.Classifier(make(2.0)).digest() == bg.Classifier(make(2.0)).digest()
    assert structure_digest(make(2.0)) != structure_digest(make(3.0))
    assert code_digest(lambda x: x + 1) == code_digest(lambda x: x + 1)
    assert code_digest(lambda x: x + 1) != code_digest(lambda x: x + 2)


def all_results(clf: bg.Classifier, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    lines = bg.logit_lines(clf, x, y, extent=0.1, points=5, progress=False)
    return {
        "logits": clf.logits(x),
        "gradient": clf.input_gradient(x, y),
        "pgd": bg.pgd(clf, x, y, eps=0.1, steps=2).x_adv,
        "minimal_norm": bg.minimal_norm(clf, x, y, steps=5).x_adv,
        "maps": bg.boundary_maps(clf, bg.fgsm_random_planes(clf, x, y), extent=0.3, resolution=9).labels,
        "lines": lines.logits,
        "distance": bg.boundary_distance(clf, x, y, direction="fgsm", max_distance=1.0).distance,
        "noise": bg.noise_success(clf, x, y, eps=1.0, draws=20).share,
        "pieces": bg.linear_pieces(clf, x, no_labels(x), direction=x.float() - 0.5, extent=0.1).breakpoints,
        "matrix": bg.transfer_matrix([clf, clf], x, y, eps=0.1).predicted,
        "certify": bg.defences.certify(clf, x, y, sigma=0.1, n=100).radius,
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], atol: float = 0.0) -> None:
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert not found[name].requires_grad, name
        assert not found[name].is_inference(), name
        torch.testing.assert_close(found[name], value, rtol=0, atol=atol, equal_nan=True, msg=name)


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    net, x = Net(), inputs(6)
    clf = bg.Classifier(net, batch_size=4)
    return all_results(clf, x, torch.arange(6) % 3)


SURROUNDINGS = {
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("case", SURROUNDINGS)
def test_results_are_the_same_inside_any_mode(case: str, expected: dict[str, Tensor]) -> None:
    net, x, y = Net(), inputs(6), torch.arange(6) % 3
    clf = bg.Classifier(net, batch_size=4)
    with SURROUNDINGS[case]():
        found = all_results(clf, x, y)
    assert_same(found, expected)


def test_modules_and_inputs_that_were_made_in_inference_mode(expected: dict[str, Tensor]) -> None:
    with torch.inference_mode():
        clf = bg.Classifier(Net(), mean=0.0, std=1.0, batch_size=4)
        found = all_results(clf, inputs(6), torch.arange(6) % 3)
    assert_same(found, expected, atol=1e-6)


def test_results_are_the_same_whatever_the_defaults(expected: dict[str, Tensor]) -> None:
    net, x, y = Net(), inputs(6), torch.arange(6) % 3
    clf = bg.Classifier(net, batch_size=4)
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    try:
        found = all_results(clf, x, y)
        assert torch.get_default_dtype() == torch.float64
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
    assert_same(found, expected)


LAYOUTS = {
    "channels-last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "strided": lambda x: torch.stack([x, 1 - x], -1)[..., 0],
    "expanded": lambda x: x[:, :1].expand_as(x),
    "float64": lambda x: x.double(),
    "requires a gradient": lambda x: x.clone().requires_grad_(),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_inputs_of_any_layout_give_the_same_and_stay_as_they_are(case: str, expected: dict[str, Tensor]) -> None:
    x = LAYOUTS[case](inputs(6))
    before = x.detach().clone()
    found = all_results(bg.Classifier(Net(), batch_size=4), x, torch.arange(6) % 3)
    found = {name: value.to(expected[name].dtype) if case == "float64" else value for name, value in found.items()}
    assert_same(found, expected, atol=1e-6)
    assert torch.equal(x.detach(), before)
    assert x.requires_grad == (case == "requires a gradient")
    assert x.grad is None


def test_half_precision_inputs_are_the_numbers_that_they_are() -> None:
    x, y, clf = inputs(6), torch.arange(6) % 3, bg.Classifier(Net(), batch_size=4)
    assert_same(all_results(clf, x.half(), y), all_results(clf, x.half().float(), y))


def test_several_threads_give_what_one_gives_and_leave_the_module_as_it_was(expected: dict[str, Tensor]) -> None:
    net, x, y = Net().train(), inputs(6), torch.arange(6) % 3
    clf, found, state = bg.Classifier(net, batch_size=4), {}, torch.get_rng_state()

    def job(number: int) -> None:
        found[number] = all_results(clf if number % 2 else bg.Classifier(net, batch_size=4), x, y)

    threads = [threading.Thread(target=job, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 2, 3]
    for results in found.values():
        assert_same(results, expected)
    assert net.training
    assert torch.equal(torch.get_rng_state(), state)


def test_modules_that_cannot_be_copied_keep_their_mode_and_are_not_trained_by_accident() -> None:
    class Single(Net):
        def __deepcopy__(self, memo: dict) -> nn.Module:
            raise RuntimeError("there is only one")

    net, x = Single().train(), inputs()
    net.act.eval()
    clf = bg.Classifier(net)
    y = clf.predict(x)
    clf.input_gradient(x, y)
    bg.boundary_maps(clf, bg.random_planes(x[:2], y[:2]), extent=0.3, resolution=9)  # in several arithmetics
    assert net.training
    assert not net.act.training
    assert net.first.weight.dtype == torch.float32
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_modules_run_in_their_own_dtype(dtype: torch.dtype) -> None:
    net, x = Net().eval().to(dtype), inputs()
    clf = bg.Classifier(net)
    right = net(x.to(dtype)).detach()
    assert torch.equal(clf.predict(x), right.argmax(1))
    torch.testing.assert_close(clf.logits(x), right.float())
    y = (clf.predict(x) + 1) % 3
    torch.testing.assert_close(
        clf.input_gradient(x, y),
        own_gradient(Net().eval(), x, y),
        rtol=0.1,
        atol=1e-5 if dtype == torch.float64 else 0.02,
    )
    maps = bg.boundary_maps(clf, bg.random_planes(x[:2], y[:2]), extent=0.1, resolution=5, method="dense")
    assert torch.equal(maps.center_labels.long(), clf.predict(x[:2]))
    assert str(dtype).split(".")[1] in maps.provenance.precision


def test_modules_of_several_dtypes() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(36, 8).double(), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x.flatten(1).double()).float())

    module, x = Mixed().eval(), inputs()
    torch.testing.assert_close(bg.Classifier(module).logits(x), module(x).detach())


def test_probabilities_are_warned_of_and_logits_that_are_positive_are_not() -> None:
    x = inputs()
    with pytest.warns(UserWarning, match="seems to return probabilities"):
        bg.Classifier(nn.Sequential(Net(), nn.Softmax(1))).predict(x)
    bg.Classifier(nn.Sequential(Net(), nn.LogSoftmax(1))).predict(x)
    bg.Classifier(nn.Sequential(Net(), nn.Sigmoid())).predict(x)


def test_the_share_of_gradients_that_are_zero_is_warned_of() -> None:
    class Rounded(Net):
        def change(self, x: Tensor) -> Tensor:
            return (x * 8).round() / 8

    x = inputs(6)
    clf = bg.Classifier(Rounded())
    with pytest.warns(UserWarning, match=r"6 of 6 input gradients \(100%\) are exactly zero"):
        bg.fgsm(clf, x, clf.predict(x), eps=0.1)


def test_modules_without_gradients_are_refused_where_one_is_needed() -> None:
    class Detached(Net):
        def change(self, x: Tensor) -> Tensor:
            return x.detach()

    x = inputs(6)
    clf = bg.Classifier(Detached())
    y = clf.predict(x)
    for job in (
        lambda: bg.pgd(clf, x, y, eps=0.1),
        lambda: clf.input_gradient(x, y),
        lambda: bg.fgsm_random_planes(clf, x, y),
    ):
        with pytest.raises(ValueError, match="has no gradient with respect to its inputs"):
            job()
    assert bg.boundary_maps(clf, bg.random_planes(x, y), extent=0.1, resolution=5).labels.shape == (6, 5, 5)


def tied() -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 36), nn.ReLU(), nn.Linear(36, 36), nn.Linear(36, 3))
    net[3].weight = net[1].weight
    return net


def exported() -> nn.Module:
    batch = torch.export.Dim("batch", min=1, max=4096)
    return torch.export.export(Net().eval(), (inputs(4),), dynamic_shapes=({0: batch},)).module()


def quantised(static: bool) -> nn.Module:
    quantization = torch.ao.quantization
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not static:
            return quantization.quantize_dynamic(Net().eval(), {nn.Linear}, dtype=torch.qint8)
        module = nn.Sequential(
            quantization.QuantStub(), nn.Flatten(), nn.Linear(36, 3), quantization.DeQuantStub()
        ).eval()
        module.qconfig = quantization.get_default_qconfig("x86")  # type: ignore[assignment]
        prepared = quantization.prepare(module)
        prepared(inputs())
        return quantization.convert(prepared)


def compiled_inside() -> nn.Module:
    net = Net()
    net.first = torch.compile(net.first, backend="eager")  # type: ignore[assignment]
    return net


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(Net().eval())


KINDS = {
    "tied": tied,
    "spectral norm": lambda: nn.Sequential(nn.Flatten(), parametrizations.spectral_norm(nn.Linear(36, 3))),
    "compiled": lambda: torch.compile(Net(), backend="eager"),
    "compiled inside": compiled_inside,
    "parallel": lambda: nn.DataParallel(Net()),
    "compiled parallel": lambda: torch.compile(nn.DataParallel(Net()), backend="eager"),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(Net()),
    "scripted": scripted,
    "exported": exported,
}


@pytest.mark.parametrize("case", KINDS)
def test_kinds_of_modules_work_like_any_other(case: str) -> None:
    module, x = KINDS[case](), inputs(8)
    plain = module if case in ("tied", "spectral norm") else Net()  # what the others wrap
    right = plain.eval()(x).detach()
    clf = bg.Classifier(module)
    torch.testing.assert_close(clf.logits(x), right)
    y = (clf.predict(x) + 1) % 3
    torch.testing.assert_close(clf.input_gradient(x, y), own_gradient(plain, x, y), rtol=1e-4, atol=1e-6)
    assert bg.pgd(clf, x, y, eps=0.1, steps=2).x_adv.shape == x.shape
    assert bg.boundary_maps(clf, bg.fgsm_random_planes(clf, x, y), extent=0.1, resolution=5).labels.shape == (8, 5, 5)


def test_a_quantised_module_is_run_as_it_is() -> None:
    module, x = quantised(static=True), inputs(8)
    clf = bg.Classifier(module)
    assert torch.equal(clf.logits(x), module(x))
    with pytest.raises(ValueError, match="has no gradient with respect to its inputs"):
        clf.input_gradient(x, clf.predict(x))
    with pytest.raises(ValueError, match="each sample of a batch independently.*dynamic quantisation"):
        bg.Classifier(quantised(static=False)).predict(x)  # its scale is that of the largest activation of the batch


def test_modules_that_are_not_ready_are_refused_in_one_line() -> None:
    x = inputs()
    with pytest.raises(ValueError, match="lazy layers.*call it once"):
        bg.Classifier(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), device="cpu").predict(x)
    with torch.device("meta"):
        net = Net()
    with pytest.raises(ValueError, match="meta device.*to_empty"):
        bg.Classifier(net, device="cpu").predict(x)
    with pytest.raises(TypeError, match=r"got ExportedProgram: pass its .module\(\)"):
        bg.Classifier(torch.export.export(Net().eval(), (x,)))  # type: ignore[arg-type]


def test_an_exported_module_keeps_its_digest_and_another_has_another() -> None:
    assert structure_digest(scripted()) == structure_digest(scripted())


@pytest.mark.parametrize("case", ["hook", "custom backward"])
def test_exact_pieces_are_those_of_the_module_or_refused(case: str) -> None:
    x = inputs(2)
    if case == "hook":
        module = nn.Sequential(nn.Flatten(), hooked(nn.Linear(36, 4)), nn.ReLU(), nn.Linear(4, 3))
        with pytest.raises(ValueError, match="exact pieces ignore hooks"):
            bg.linear_pieces(bg.Classifier(module), x, no_labels(x), direction=x - 0.5, extent=0.1)
    else:
        with pytest.raises(ValueError, match="module"):
            bg.linear_pieces(bg.Classifier(StraightThroughSign()), x, no_labels(x), direction=x - 0.5, extent=0.1)


def test_large_weights_exist_once() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 1000), nn.ReLU(), nn.Linear(1000, 3)).eval()
    clf = bg.Classifier(net)
    with clf.session(inputs()) as session:
        (first, *_) = session.plain.module.parameters()
        assert first.data_ptr() == net[1].weight.data_ptr()


def test_the_digest_of_weights_follows_them() -> None:
    def module() -> nn.Sequential:
        made = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        for parameter in made.parameters():
            parameter.data.fill_(0.5)
        return made

    same = state_digest(module())
    assert state_digest(module().eval().requires_grad_(False)) == same
    assert len(same) == 16
    weight, buffer, dtype, names = module(), module(), module(), nn.Sequential(nn.Identity(), *module())
    weight[0].weight.data[2, 1] += 1e-6
    buffer[1].running_mean[0] = 1e-6
    dtype[0].double()
    digests = {state_digest(changed) for changed in (weight, buffer, dtype, names)}
    assert len(digests | {same}) == 5


def test_the_digest_of_weights_sees_shapes() -> None:
    flat, tall = nn.Linear(6, 1, bias=False), nn.Linear(1, 6, bias=False)
    tall.weight.data.copy_(flat.weight.data.view(6, 1))
    assert state_digest(flat) != state_digest(tall)


def test_layers_that_are_compiled_inside_standard_ones_work() -> None:
    net, x = (
        nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval(),
        inputs(8),
    )
    right = net(x).detach()
    net[2] = torch.compile(net[2], backend="eager")  # type: ignore[assignment]
    clf = bg.Classifier(net)
    torch.testing.assert_close(clf.logits(x), right)
    clf.input_gradient(x, clf.predict(x))
    net[2].running_mean.add_(1.0)
    net[2] = net[2]._orig_mod
    right = net(x).detach()
    torch.testing.assert_close(bg.Classifier(net).logits(x), right)
    torch.testing.assert_close(clf.logits(x), right)


def test_a_wrapped_module_that_cannot_be_copied_keeps_its_mode_and_dtype() -> None:
    class Single(Net):
        def __deepcopy__(self, memo: dict) -> nn.Module:
            raise RuntimeError("there is only one")

    net, x = nn.DataParallel(Single()).train(), inputs()
    clf = bg.Classifier(net, device="cpu")
    y = clf.predict(x)
    bg.boundary_maps(clf, bg.random_planes(x[:2], y[:2]), extent=0.3, resolution=9)
    assert all(layer.training for layer in net.modules())
    assert net.module.first.weight.dtype == torch.float32


def test_hooks_of_all_modules_are_no_standard() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval()
    assert is_standard(net)
    for register in (
        nn.modules.module.register_module_forward_hook,
        nn.modules.module.register_module_forward_pre_hook,
        nn.modules.module.register_module_full_backward_hook,
        nn.modules.module.register_module_full_backward_pre_hook,
    ):
        handle = register(lambda *_: None)
        assert not is_standard(net)
        assert continuous_record(net, inputs(2)) is None
        handle.remove()
    assert is_standard(net)


def test_arrays_of_objects_have_digests_of_what_is_in_them() -> None:
    def holding(*things: object) -> nn.Module:
        net = nn.Identity()
        net.things = np.array(things, dtype=object)
        return net

    assert structure_digest(holding("one", (2.0, 3))) == structure_digest(holding("on" + "e", (2.0, 3)))
    assert structure_digest(holding("one", 2.0)) != structure_digest(holding("one", 3.0))


def test_exact_pieces_say_that_a_module_was_converted() -> None:
    x = inputs(1)
    pieces = bg.linear_pieces(bg.Classifier(Net().half()), x, no_labels(x), direction=x - 0.5, extent=0.1)
    assert pieces.provenance.precision == "float64 (module in float16)"
    assert pieces.provenance.forwards > 0
