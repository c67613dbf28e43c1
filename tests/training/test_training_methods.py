"""Each method's arithmetic against a slow reference that is written out, example by example."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from boundarygeo.training import METHODS, BatchOut, Fgsm, Layerwise, ManifoldMixup, Method, Mixup, Pgd, Trades, train
from boundarygeo.training.batchout import draw_partners
from boundarygeo.training.layers import Network, hidden_layers, weighted_layers
from boundarygeo.training.layerwise import reach
from boundarygeo.training.mixup import draw_weight, drawn_from
from boundarygeo.zoo import Split

pytestmark = pytest.mark.usefixtures("one_thread")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 7, shape: tuple[int, ...] = (1, 2, 3), classes: int = 3) -> tuple[Tensor, Tensor]:
    return torch.rand(count, *shape, generator=generator(1)), torch.arange(count) % classes


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def mlp() -> nn.Module:
    return seeded(
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)
        ).train()
    )


def cnn() -> nn.Module:
    """With what makes hooks difficult: batch normalisation, a rectifier in place, a stride, two channels."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1),
            nn.BatchNorm2d(2),
            nn.ReLU(inplace=True),
            nn.Conv2d(2, 3, 2, stride=2),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(12, 3),
        ).train()
    )


def gradients(loss: Tensor, module: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(module.parameters()), retain_graph=True))


def assert_same(method: Method, expected: Tensor, module: nn.Module, x: Tensor, y: Tensor, *, seed: int = 0) -> None:
    """The method's loss has the expected value and the expected gradient."""
    loss, logits = method(module, x, y, generator=generator(seed))
    assert logits.shape == (len(x), 3)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(gradients(loss, module), gradients(expected, module), strict=True):
        torch.testing.assert_close(ours, theirs)


def hooks(module: nn.Module) -> int:
    return sum(
        len(part._forward_hooks) + len(part._forward_pre_hooks) + len(part._backward_hooks) for part in module.modules()
    )


# ---- mixup


@pytest.mark.parametrize("seed", range(3))
def test_mixup_by_hand(seed: int) -> None:
    module, (x, y) = mlp(), batch()
    with drawn_from(generator(seed)):
        weight = float(torch.distributions.Beta(0.7, 0.7).sample())
    total = torch.zeros(())
    for i in range(len(x)):
        j = i - 1  # the one before; Python's -1 is the last
        log_p = module(weight * x[i : i + 1] + (1 - weight) * x[j % len(x)][None])[0].log_softmax(0)
        total = total - weight * log_p[y[i]] - (1 - weight) * log_p[y[j]]
    assert_same(Mixup(alpha=0.7), total / len(x), module, x, y, seed=seed)


def test_mixup_where_the_highest_class_is_not_in_the_batch() -> None:
    module, (x, y) = mlp(), batch()
    loss, _ = Mixup()(module, x, y.clamp(max=1), generator=generator())
    assert loss.isfinite()


def test_weights_have_the_beta_distribution_and_leave_the_global_generator_alone() -> None:
    before, source = torch.get_rng_state(), generator()
    for alpha in (0.2, 1.0, 2.0):
        drawn = torch.tensor([draw_weight(alpha, source) for _ in range(2000)], dtype=torch.float64)
        # Mean ½ and variance 1 / (4 (2α + 1)); five standard errors.
        assert abs(float(drawn.mean()) - 0.5) < 5 * float(drawn.std()) / math.sqrt(2000)
        assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
    assert torch.equal(torch.get_rng_state(), before)


# ---- Manifold mixup


def test_manifold_mixup_by_hand() -> None:
    module, (x, y) = mlp(), batch()
    drawn = set()
    for seed in range(8):
        source = generator(seed)
        layer = ("input", "2", "4")[int(torch.randint(3, (), generator=source))]
        drawn.add(layer)
        weight = draw_weight(2.0, source)
        partner = torch.randperm(len(x), generator=source)
        cut = {"input": 0, "2": 3, "4": 5}[layer]  # number of children in front
        total = torch.zeros(())
        for i in range(len(x)):
            one, other = (module[:cut](x[row : row + 1]) for row in (i, int(partner[i])))
            log_p = module[cut:](weight * one + (1 - weight) * other)[0].log_softmax(0)
            total = total - weight * log_p[y[i]] - (1 - weight) * log_p[y[partner[i]]]
        assert_same(ManifoldMixup(), total / len(x), module, x, y, seed=seed)
        assert_same(ManifoldMixup(layers=("input", "2", "4")), total / len(x), module, x, y, seed=seed)
    assert drawn == {"input", "2", "4"}


# ---- BatchOut


def batchout_by_hand(
    module: nn.Sequential, x: Tensor, y: Tensor, partner: list[int], etas: dict[int, list[float]]
) -> Tensor:
    """All examples in step, layer by layer: `etas` has the values of η of the moved examples after each child."""
    rows = [x[i : i + 1] for i in range(len(x))]
    for number, child in enumerate(module):
        rows = [child(row) for row in rows]
        if number in etas:
            values = [row.detach().clone() for row in rows]
            rows = [
                row + etas[number][i] * (values[partner[i]] - values[i]) if i < len(etas[number]) else row
                for i, row in enumerate(rows)
            ]
    return -torch.stack([row[0].log_softmax(0)[label] for row, label in zip(rows, y, strict=True)]).mean()


@pytest.mark.parametrize("partners", ["any", "same_class"])
@pytest.mark.parametrize(("share", "moved"), [(0.5, 4), (1.0, 8)])
def test_batchout_by_hand(partners: str, share: float, moved: int) -> None:
    module, (x, y) = mlp(), batch(8)
    assert isinstance(module, nn.Sequential)
    partner = draw_partners(y, partners, generator()).tolist()
    etas = {1: [0.05] * moved, 3: [-0.2] * moved}
    method = BatchOut(eta=(0.05, -0.2), partners=partners, share=share)
    assert_same(method, batchout_by_hand(module, x, y, partner, etas), module, x, y)
    assert_same(
        BatchOut(eta=(0.3,), layers=("3",), partners=partners, share=share),
        batchout_by_hand(module, x, y, partner, {3: [0.3] * moved}),
        module, x, y,
    )  # fmt: skip


def test_batchout_draws_eta_per_example() -> None:
    module, (x, y) = mlp(), batch(8)
    assert isinstance(module, nn.Sequential)
    source = generator()
    partner = draw_partners(y, "any", source).tolist()
    state = source.get_state()
    uniform = {
        1: (0.1 * torch.rand(4, generator=source)).tolist(),
        3: (0.15 * torch.rand(4, generator=source)).tolist(),
    }
    method = BatchOut(eta=(0.1, 0.15), draw="uniform")
    assert_same(method, batchout_by_hand(module, x, y, partner, uniform), module, x, y)
    source.set_state(state)
    mixed = torch.tensor([0.3, -0.2])[torch.randint(2, (4,), generator=source)].tolist()
    method = BatchOut(eta=(0.3, -0.2), draw="choice")
    assert_same(method, batchout_by_hand(module, x, y, partner, {1: mixed, 3: mixed}), module, x, y)
    assert len(set(mixed)) == 2


def test_partners_are_others_uniformly_and_of_the_same_class_on_request() -> None:
    y = torch.tensor([0, 0, 0, 1, 2, 2])
    drawn = torch.stack([draw_partners(y, "any", generator(seed)) for seed in range(600)])
    for row in range(6):
        counts = drawn[:, row].bincount(minlength=6)
        assert counts[row] == 0
        assert (counts[torch.arange(6) != row] - 120).abs().max() < 50  # five standard deviations
    same = torch.stack([draw_partners(y, "same_class", generator(seed)) for seed in range(50)])
    assert [sorted(set(same[:, row].tolist())) for row in range(6)] == [[1, 2], [0, 2], [0, 1], [3], [5], [4]]


def test_no_gradient_flows_through_what_batchout_adds() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    x, y = torch.rand(2, 1, 1, 2), torch.tensor([0, 1])
    leaf = x.clone().requires_grad_()
    loss, _ = BatchOut(eta=(0.5,), share=0.5)(module, leaf, y, generator=generator())
    (gradient,) = torch.autograd.grad(loss, leaf)
    # Example 1 is only a partner: its gradient is that of its own loss, which was not moved.
    own = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(F.cross_entropy(module(own), y, reduction="sum") / 2, own)
    torch.testing.assert_close(gradient[1], expected[1])
    assert not torch.allclose(gradient[0], expected[0])


# ---- Layer-wise


def test_reach_is_the_largest_change_of_a_first_layer_and_fgsm_attains_it() -> None:
    module = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 4)))
    network = Network(module, (0.3,), (0.25,))
    x, _ = batch(1)
    for product in ("layer", "path"):
        room = reach(network, x, ("input", "1"), 0.1, product)
        assert torch.equal(room["input"], torch.full_like(x, 0.1))
        for unit in range(4):
            step = 0.1 * module[1].weight[unit].sign().view_as(x)
            moved = network(x + step) - network(x)
            torch.testing.assert_close(moved[0, unit], room["1"][0, unit])


def test_reach_of_deep_layers_is_the_product_of_absolute_weights() -> None:
    module = mlp()
    first, second, third = (module[number].weight.abs() for number in (1, 3, 5))
    room = reach(Network(module, (0.3,), (0.25,)), batch(1)[0], ("5", "3", "1"), 0.1, "path")
    start = torch.full((6,), 0.1 / 0.25)
    torch.testing.assert_close(room["1"][0], first @ start)
    torch.testing.assert_close(room["3"][0], second @ (first @ start))
    torch.testing.assert_close(room["5"][0], third @ (second @ (first @ start)))
    # Or of one layer alone, whichever others are asked for; the normalisation belongs to the first.
    for names in (("1", "3", "5"), ("5", "3"), ("5",)):
        room = reach(Network(module, (0.3,), (0.25,)), batch(1)[0], names, 0.1, "layer")
        for name, expected in {"1": first @ start, "3": 0.1 * second.sum(1), "5": 0.1 * third.sum(1)}.items():
            if name in names:
                torch.testing.assert_close(room[name][0], expected)
    assert hooks(module) == 0


def test_reach_of_convolutions_is_the_convolution_with_absolute_kernels() -> None:
    module, x = cnn(), torch.rand(1, 1, 4, 4)
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([-2.0, 0.5]))
        module[1].bias.fill_(7.0)
        module[1].running_mean.fill_(3.0)
        module[1].running_var.copy_(torch.tensor([4.0, 0.25]))
    before = copy.deepcopy(module.state_dict())
    room = reach(module, x, ("0", "3", "6"), 0.1, "path")
    first = F.conv2d(torch.full_like(x, 0.1), module[0].weight.abs(), padding=1)
    scaled = first * (torch.tensor([2.0, 0.5]) / (torch.tensor([4.0, 0.25]) + 1e-5).sqrt()).view(1, 2, 1, 1)
    second = F.conv2d(scaled, module[3].weight.abs(), stride=2)
    torch.testing.assert_close(room["0"], first)
    torch.testing.assert_close(room["3"], second)
    torch.testing.assert_close(room["6"], F.linear(second.flatten(1), module[6].weight.abs()))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(part.training for part in module.modules())


def layerwise_by_hand(
    module: nn.Sequential, x: Tensor, y: Tensor, room: dict[str, Tensor], signs: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss with perturbed outputs, and the signs of the gradient with respect to each of them."""
    h = (x + room["input"] * signs.get("input", torch.zeros(()))).clamp(0, 1).requires_grad_()
    outputs = {"input": h}
    for name, child in module.named_children():
        h = child(h)
        if name in room:
            h = h + room[name] * signs.get(name, torch.zeros(()))
            outputs[name] = h
            h = h.clone()
    loss = F.cross_entropy(h, y)
    found = torch.autograd.grad(loss, list(outputs.values()), retain_graph=True)
    return loss, {name: gradient.sign() for name, gradient in zip(outputs, found, strict=True)}


@pytest.mark.parametrize(("replays", "product"), [(1, "layer"), (1, "path"), (2, "layer")])
@pytest.mark.parametrize(("make", "shape"), [(mlp, (1, 2, 3)), (cnn, (1, 4, 4))])
def test_layerwise_by_hand(
    make: Callable[[], nn.Sequential], shape: tuple[int, ...], replays: int, product: str
) -> None:
    module, (x, y) = make(), batch(6, shape)
    names = ("input", *weighted_layers(module))
    room = reach(module, x[:1], names, 0.02, product)
    signs: dict[str, Tensor] = {}
    module.eval()
    for _ in range(replays):
        _, signs = layerwise_by_hand(module, x, y, room, signs)
    module.train()
    twin = copy.deepcopy(module)
    loss, _ = Layerwise(eps=0.02, replays=replays, product=product)(twin, x, y, generator=generator())
    expected, _ = layerwise_by_hand(module, x, y, room, signs)
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(gradients(loss, twin), gradients(expected, module), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_layerwise_at_the_input_alone_is_fgsm_from_the_image() -> None:
    module, (x, y) = mlp(), batch()
    ours = Layerwise(eps=0.1, layers=("input",))(module, x, y, generator=generator())
    theirs = Fgsm(eps=0.1, step_size=0.1, random_start=False)(module, x, y, generator=generator())
    torch.testing.assert_close(ours, theirs)


def test_layerwise_without_replays_carries_the_signs_of_the_previous_batch() -> None:
    module, (x, y) = mlp(), batch(6)
    method = Layerwise(eps=0.02, replays=0)
    room = reach(module, x[:1], ("input", *weighted_layers(module)), 0.02, "layer")
    signs: dict[str, Tensor] = {}
    for start, stop in ((0, 3), (3, 6), (2, 4), (0, 6)):  # a shorter and a longer batch, too
        part, labels = x[start:stop], y[start:stop]
        rows = torch.arange(len(part)) % 3 if len(part) != 6 else torch.arange(6) % 2
        loss, _ = method(module, part, labels, generator=generator())
        used = {name: sign[rows] for name, sign in signs.items()}
        expected, signs = layerwise_by_hand(module, part, labels, room, used)
        torch.testing.assert_close(loss, expected)
        loss.backward()
        assert set(method.memory) == set(signs)
        assert all(torch.equal(method.memory[name], sign) for name, sign in signs.items())


# ---- Adversarial training


def adversarial_by_hand(
    module: nn.Module, x: Tensor, y: Tensor, start: Tensor, eps: float, step: float, steps: int, norm: str
) -> Tensor:
    """One example at a time, with the textbook's gradient of the cross-entropy."""
    found = []
    module.eval()
    for i in range(len(x)):
        point = start[i : i + 1]
        for _ in range(steps):
            leaf = point.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(F.cross_entropy(module(leaf), y[i : i + 1]), leaf)
            direction = gradient.sign() if norm == "linf" else gradient / gradient.norm().clamp_min(1e-12)
            delta = point + step * direction - x[i : i + 1]
            delta = delta.clamp(-eps, eps) if norm == "linf" else delta * min(1.0, eps / float(delta.norm()))
            point = (x[i : i + 1] + delta).clamp(0, 1)
        found.append(point)
    module.train()
    return F.cross_entropy(module(torch.cat(found)), y)


@pytest.mark.parametrize(
    ("method", "step", "steps"),
    [(Fgsm(eps=0.2), 0.25, 1), (Pgd(eps=0.2, steps=4), 0.125, 4), (Pgd(eps=0.2, steps=3, step_size=0.05), 0.05, 3)],
)
def test_adversarial_training_from_a_random_start_by_hand(method: Method, step: float, steps: int) -> None:
    for make, shape in ((mlp, (1, 2, 3)), (cnn, (1, 4, 4))):
        module, (x, y) = make(), batch(shape=shape)
        start = (x + 0.2 * (2 * torch.rand(x.shape, generator=generator()) - 1)).clamp(0, 1)
        expected = adversarial_by_hand(copy.deepcopy(module), x, y, start, 0.2, step, steps, "linf")
        loss, _ = method(module, x, y, generator=generator())
        torch.testing.assert_close(loss, expected)


def test_adversarial_training_in_l2_by_hand() -> None:
    module, (x, y) = mlp(), batch()
    source = generator()
    normal, radius = torch.randn(x.shape, generator=source), torch.rand(len(x), generator=source) ** (1 / 6)
    start = torch.stack([v * r / v.norm() for v, r in zip(normal, radius, strict=True)])
    start = (x + 0.5 * start).clamp(0, 1)
    expected = adversarial_by_hand(module, x, y, start, 0.5, 0.25, 5, "l2")
    assert_same(Pgd(eps=0.5, steps=5, norm="l2"), expected, module, x, y)


def test_trades_by_hand() -> None:
    module, (x, y) = mlp(), batch()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3)  # where predictions differ a lot, so does the divergence in the other direction
    start = x + 0.001 * torch.randn(x.shape, generator=generator())
    worst = []
    for i in range(len(x)):
        p = module(x[i : i + 1]).softmax(1).detach()
        point = start[i : i + 1]
        for _ in range(3):
            leaf = point.clone().requires_grad_()
            q = module(leaf).softmax(1)
            (gradient,) = torch.autograd.grad((p * (p.log() - q.log())).sum(), leaf)
            delta = (point + 0.2 * gradient.sign() - x[i : i + 1]).clamp(-0.4, 0.4)
            point = (x[i : i + 1] + delta).clamp(0, 1)
        worst.append(point)
    p, q = module(x).softmax(1), module(torch.cat(worst)).softmax(1)
    expected = F.cross_entropy(module(x), y) + 6 * (p * (p.log() - q.log())).sum(1).mean()
    assert_same(Trades(eps=0.4, steps=3, step_size=0.2), expected, module, x, y)


def test_attacks_leave_modes_statistics_and_gradients_alone() -> None:
    module, (x, y) = cnn(), batch(shape=(1, 4, 4))
    module[3].eval()  # a part that the user froze
    for name in ("fgsm", "pgd", "trades", "layerwise"):
        twin = copy.deepcopy(module)
        METHODS[name]()(twin, x, y, generator=generator())
        passes = 2 if name == "trades" else 1  # in training mode
        assert int(twin[1].num_batches_tracked) == passes, name
        assert [part.training for part in twin.modules()] == [part.training for part in module.modules()]
        assert all(parameter.grad is None for parameter in twin.parameters())


# ---- All methods


@pytest.mark.parametrize("name", METHODS)
def test_methods_draw_from_their_generator_alone_and_leave_the_images_as_they_are(name: str) -> None:
    x, y = batch(shape=(1, 4, 4))
    kept = x.clone(), y.clone()
    losses = []
    for seed, noise in ((3, 0), (3, 5), (4, 0)):
        torch.rand(noise)
        losses.append(METHODS[name]()(cnn(), x, y, generator=generator(seed))[0].item())
    assert losses[0] == losses[1]
    assert (losses[0] == losses[2]) == (name in ("standard", "layerwise"))
    assert torch.equal(x, kept[0])
    assert torch.equal(y, kept[1])


@pytest.mark.parametrize("name", METHODS)
def test_a_single_example_is_enough(name: str) -> None:
    loss, logits = METHODS[name]()(mlp(), *batch(1), generator=generator())
    assert loss.isfinite()
    assert logits.shape == (1, 3)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains(name: str) -> None:
    y = torch.arange(60) % 3
    x = 0.5 * torch.rand(60, 1, 4, 4, generator=generator())
    x[torch.arange(60), 0, y] += 0.5  # a bright row says the class
    settings: dict[str, Any] = {"eps": 0.02} if name in ("fgsm", "pgd", "trades", "layerwise") else {}
    module = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3)))
    result = train(
        module, Split(x, y), method=METHODS[name](**settings), epochs=15, batch_size=10, learning_rate=0.02,
        test=Split(x, y), mean=(0.5,), std=(0.3,), device="cpu", progress=False,
    )  # fmt: skip
    assert result.test_accuracy[-1] > 0.9
    assert result.config["settings"].items() >= settings.items()


@pytest.mark.parametrize(
    "method",
    [
        ManifoldMixup(),
        ManifoldMixup(layers=("layer1.0.conv1",)),
        BatchOut(),
        BatchOut(layers=("input", "bn1", "layer3")),
        Layerwise(eps=1e-4),
        Layerwise(eps=1e-4, product="path"),
        Layerwise(eps=1e-4, replays=0, layers=("conv1", "fc")),
    ],
    ids=repr,
)
def test_hooks_work_on_torchvision_models_and_are_gone_afterwards(method: Method) -> None:
    module = seeded(lambda: torchvision.models.resnet18(num_classes=3)).train()
    x, y = batch(4, (3, 32, 32))
    for seed in range(3):
        loss, _ = method(module, x, y, generator=generator(seed))
        loss.backward()
        assert loss.isfinite()
        assert hooks(module) == 0
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_hidden_layers_of_known_families() -> None:
    assert hidden_layers(mlp()) == ("2", "4")
    assert hidden_layers(Network(cnn())) == ("2", "4")
    assert hidden_layers(torchvision.models.resnet18()) == ("layer1", "layer2", "layer3", "layer4")
    assert hidden_layers(torchvision.models.vgg11()) == ("features",)


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("broken")


@pytest.mark.parametrize("method", [ManifoldMixup(layers=("0",)), BatchOut(layers=("0",)), Layerwise(layers=("0",))])
def test_hooks_are_removed_after_an_exception(method: Method) -> None:
    module = nn.Sequential(nn.Linear(3, 3), Broken())
    with pytest.raises(RuntimeError, match="broken"):
        method(module, *batch(), generator=generator())
    assert hooks(module) == 0
    assert all(part.training for part in module.modules())


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.act, self.unused = nn.Linear(3, 3), nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.linear(self.act(x))).mean((1, 2))


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("module", "method", "message"),
    [
        (
            mlp(),
            ManifoldMixup(layers=("1", "magic")),
            "module has no layer 'magic': use any of input, 0, 1, 2, 3, 4, 5",
        ),
        (mlp(), BatchOut(layers=("magic",)), "module has no layer 'magic': use any of input, 0, 1, 2, 3, 4, 5"),
        (mlp(), Layerwise(layers=("2",)), "layer '2' must be linear or a convolution, got ReLU"),
        (Twice(), ManifoldMixup(layers=("act",)), "layer 'act' must be used once in a forward pass, got 2 times"),
        (Twice(), ManifoldMixup(layers=("unused",)), "layer 'unused' must be used once in a forward pass, got 0 times"),
        (nn.Sequential(Pair()), BatchOut(layers=("0",)), "layer '0' must return a tensor, got tuple"),
        (mlp(), BatchOut(eta=(0.1, 0.2, 0.3)), r"eta must have 1 value or one per layer \(2\), got 3"),
        (nn.Sequential(nn.Linear(3, 3)), BatchOut(), "the module has a single linear or convolution layer"),
    ],
)
def test_layers_that_cannot_be_meant(module: nn.Module, method: Method, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        method(module, *batch(), generator=generator())
    assert hooks(module) == 0


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mixup", {"alpha": 0}, "alpha must be a finite number > 0, got 0"),
        ("manifold_mixup", {"alpha": math.nan}, "alpha must be a finite number > 0, got nan"),
        ("manifold_mixup", {"layers": ("1", "1")}, "layers must be a tuple of distinct names"),
        ("manifold_mixup", {"layers": "1"}, r"layers must be a tuple of distinct names, e.g. \('conv1',\), got '1'"),
        ("batchout", {"eta": ()}, "eta must be a tuple of numbers"),
        ("batchout", {"eta": (math.inf,)}, "eta must be a finite number, got inf"),
        ("batchout", {"draw": "normal"}, r"draw must be one of \['fixed', 'uniform', 'choice'\], got 'normal'"),
        ("batchout", {"partners": "none"}, "partners must be one of"),
        ("batchout", {"share": 0}, "share must be a finite number > 0, got 0"),
        ("batchout", {"share": 1.5}, "share must be at most 1, got 1.5"),
        ("layerwise", {"eps": -1}, "eps must be a finite number >= 0, got -1"),
        ("layerwise", {"product": "sum"}, r"product must be one of \['layer', 'path'\], got 'sum'"),
        ("layerwise", {"replays": -1}, "replays must be a whole number, at least 0, got -1"),
        ("fgsm", {"eps": "8/255"}, "eps must be a finite number >= 0, got '8/255'"),
        ("fgsm", {"norm": "l1"}, r"norm must be one of \['l2', 'linf'\], got 'l1'"),
        ("pgd", {"steps": 0}, "steps must be a whole number, at least 1, got 0"),
        ("pgd", {"step_size": 0.0}, "step_size must be a finite number > 0, got 0.0"),
        ("trades", {"beta": -1}, "beta must be a finite number >= 0, got -1"),
        ("trades", {"noise": 0}, "noise must be a finite number > 0, got 0"),
    ],
)
def test_settings_out_of_range(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        METHODS[name](**settings)
