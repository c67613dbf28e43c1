"""Exact affine pieces against networks known on paper, dense evaluation, forward hooks and forward-mode derivatives."""

import copy
import operator
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
import torchvision
from oracles import SmallNet, images, no_labels
from torch import Tensor, nn
from torchvision.transforms import v2

import boundarygeo as bg
from boundarygeo.directions import Directions
from boundarygeo.lines.pieces import build_program, envelope_vertices
from boundarygeo.lines.pieces.pieces import LinearPieces, linear_pieces
from boundarygeo.lines.pieces.rows import Refinement
from boundarygeo.zoo.models import build_model

WIDE = (-10.0, 10.0)


class Function(nn.Module):
    """A function of an input as a module."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


class Block(nn.Module):
    """Body and shortcut, added or concatenated."""

    def __init__(self, body: nn.Module, *, join: str) -> None:
        super().__init__()
        self.body, self.join = body, join

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + x if self.join == "add" else torch.cat([self.body(x), x], 1)


def scalar_pieces(module: nn.Module, *, extent: float | tuple[float, float], **settings) -> LinearPieces:
    """Pieces of a network of one number x, at x = t."""
    clf = bg.Classifier(module, bounds=settings.pop("bounds", WIDE), device="cpu")
    return linear_pieces(
        clf, torch.zeros(1, 1), no_labels(torch.zeros(1, 1)), direction=torch.ones(1, 1), extent=extent, **settings
    )


def assert_close(got: Tensor, expected: list) -> None:
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)


def breakpoints_of(pieces: LinearPieces, example: int = 0) -> Tensor:
    t = pieces.breakpoints[example]
    return t[t.isfinite()]


def both_signs(value: Tensor) -> Tensor:
    return torch.cat([value, -value], 1)


def conv(channels: int, out: int, size: int = 3, **settings) -> nn.Module:
    return nn.Conv2d(channels, out, size, padding=size // 2, **settings)


def norm(channels: int) -> nn.Module:
    layer = nn.BatchNorm2d(channels)
    layer.running_mean.uniform_(-0.3, 0.3)
    layer.running_var.uniform_(0.3, 2.0)
    return layer


# Networks of 3x8x8 inputs with five logits, one for each kind of layer, all nonlinearities as modules.
NETS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU()),
    "leaky": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 30), nn.LeakyReLU(0.2), nn.Linear(30, 20), nn.ReLU()),
    "prelu": lambda: nn.Sequential(conv(3, 6), nn.PReLU(6, init=0.3), conv(6, 4), nn.PReLU(), nn.Flatten()),
    "relu6": lambda: nn.Sequential(Scale(40.0), conv(3, 5), nn.ReLU6(), conv(5, 3), nn.ReLU6(), nn.Flatten()),
    "hardtanh": lambda: nn.Sequential(Scale(4.0), conv(3, 4), nn.Hardtanh(-0.5, 0.8), nn.Flatten()),
    "norm": lambda: nn.Sequential(conv(3, 8, bias=False), norm(8), nn.ReLU(), conv(8, 4), norm(4), nn.ReLU()),
    "inplace": lambda: nn.Sequential(conv(3, 8), nn.ReLU(inplace=True), nn.Dropout(), conv(8, 4), nn.ReLU6(True)),
    "residual": lambda: nn.Sequential(
        conv(3, 6), nn.ReLU(), Block(nn.Sequential(conv(6, 6), norm(6), nn.ReLU(), conv(6, 6)), join="add"), nn.ReLU()
    ),
    "dense": lambda: nn.Sequential(
        Block(nn.Sequential(conv(3, 4), nn.ReLU()), join="cat"), Block(nn.Sequential(conv(7, 4), nn.ReLU()), join="cat")
    ),
    "max_pool": lambda: nn.Sequential(conv(3, 6), nn.MaxPool2d(2), conv(6, 6), nn.ReLU(), nn.MaxPool2d(2)),
    "overlap": lambda: nn.Sequential(conv(3, 4), nn.MaxPool2d(3, stride=2, padding=1), conv(4, 4), nn.ReLU()),
    "ceil": lambda: nn.Sequential(conv(3, 4), nn.MaxPool2d((3, 2), stride=(3, 2), ceil_mode=True), nn.ReLU()),
    "dilated": lambda: nn.Sequential(conv(3, 4), nn.MaxPool2d(2, stride=1, dilation=(3, 2)), nn.ReLU()),
    "adaptive": lambda: nn.Sequential(conv(3, 4), nn.ReLU(), nn.AdaptiveMaxPool2d((3, 5)), nn.Flatten()),
    "relu_pool": lambda: nn.Sequential(conv(3, 6), nn.ReLU(), nn.MaxPool2d(3, 1), conv(6, 4), nn.ReLU()),
    "average": lambda: nn.Sequential(conv(3, 6), nn.ReLU(), nn.AvgPool2d(2), conv(6, 6), nn.ReLU()),
    "signal": lambda: nn.Sequential(
        nn.Flatten(2), nn.Conv1d(3, 6, 5, stride=2), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(4, 3), nn.PReLU()
    ),
    "adaptive_average": lambda: nn.Sequential(
        conv(3, 6), nn.ReLU(), nn.ZeroPad2d(1), nn.AdaptiveAvgPool2d(3), conv(6, 6), nn.ReLU(), nn.Identity()
    ),
    "transposed": lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, stride=2), nn.ReLU(), nn.Upsample(scale_factor=2)),
}


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def net(kind: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(sum(map(ord, kind)))
        features = NETS[kind]().eval()
        width = features(torch.zeros(2, 3, 8, 8)).flatten(1).shape[1]
        return nn.Sequential(features, nn.Flatten(), nn.Linear(width, 5)).eval()


def two_segments() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return images(2, seed=5), torch.randn(2, 3, 8, 8, generator=generator)


def points_of(
    pieces: LinearPieces, x: Tensor, d: Tensor, t: Tensor, bounds: tuple[float, float] = (0.0, 1.0)
) -> Tensor:
    """Points of one segment in float64, `[point, *input]`."""
    points = x.double() + t.view(-1, *(1,) * x.ndim) * d.double()
    return points.clamp(*bounds) if pieces.clip else points


def assert_reproduces(pieces: LinearPieces, clf: bg.Classifier, x: Tensor, d: Tensor, count: int = 200) -> None:
    module = copy.deepcopy(clf.module).eval().double()
    low, high = pieces.extent
    t = low + (high - low) * torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for example in range(len(x)):
        with torch.no_grad():
            expected = module(clf.normalise(points_of(pieces, x[example], d[example], t, clf.bounds)))
        got = pieces.at(t)[example]
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-9 * max(1.0, float(expected.abs().max())))


def patterns_at(module: nn.Module, inputs: Tensor) -> Tensor:
    """Which side of its kinks each unit is on and which element each window takes, through hooks; `[point, unit]`."""
    seen: list[Tensor] = []

    def record(layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict) -> None:
        z = args[0]
        if isinstance(layer, nn.Hardtanh):  # ReLU6 is one
            seen.append(((z > layer.min_val).int() + (z > layer.max_val).int()).flatten(1))
        elif isinstance(layer, nn.ReLU | nn.LeakyReLU | nn.PReLU):
            seen.append((z > 0).int().flatten(1))
        else:
            twin = copy.copy(layer)
            twin.return_indices = True
            seen.append(type(layer).forward(twin, z)[1].int().flatten(1))

    kinds = (nn.Hardtanh, nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.MaxPool2d, nn.MaxPool1d, nn.AdaptiveMaxPool2d)
    handles = [
        layer.register_forward_pre_hook(record, with_kwargs=True)
        for layer in module.modules()
        if isinstance(layer, kinds)
    ]
    with torch.no_grad():
        module(inputs)
    for handle in handles:
        handle.remove()
    return torch.cat(seen, 1)


# ---- On paper


def test_absolute_value() -> None:
    pieces = scalar_pieces(Function(lambda x: both_signs(x.abs())), extent=(-1, 2))
    assert_close(pieces.breakpoints, [[-1, 0, 2]])
    assert_close(pieces.logits[0, :, 0], [1, 0, 2])
    assert pieces.bends.tolist() == [[False, True, False]]
    assert pieces.count.tolist() == [2]
    assert pieces.layers == ("bounds", "abs")
    assert pieces.layer.tolist() == [[-1, 1, -1]]


def test_sum_of_rectifiers() -> None:
    offsets = torch.tensor([-0.75, 0.125, 0.5])
    pieces = scalar_pieces(Function(lambda x: both_signs((x - offsets).relu().sum(1, keepdim=True))), extent=1)
    assert_close(pieces.breakpoints, [[-1, -0.75, 0.125, 0.5, 1]])
    assert_close(pieces.logits[0, :, 0].diff() / pieces.breakpoints[0].diff(), [0, 1, 2, 3])


def test_maximum_of_lines_has_no_breakpoint_where_lines_cross_below_it() -> None:
    # max(-x - 1, -x/2 - 1, 0, 2x - 1): the first two cross each other at 0, under the others.
    slopes, offsets = torch.tensor([-1.0, -0.5, 0.0, 2.0]), torch.tensor([-1.0, -1.0, 0.0, -1.0])
    module = Function(lambda x: both_signs((x * slopes + offsets).amax(1, keepdim=True)))
    pieces = scalar_pieces(module, extent=3)
    assert_close(pieces.breakpoints, [[-3, -1, 0.5, 3]])
    assert pieces.count.tolist() == [3]


def test_clamp_to_the_bounds() -> None:
    module = nn.Sequential(nn.Linear(2, 2))
    clf = bg.Classifier(module, device="cpu")
    x, d = torch.tensor([[0.25, 0.5]]), torch.tensor([[1.0, -0.25]])
    pieces = linear_pieces(clf, x, no_labels(x), direction=d, extent=3)
    # x₀ + t reaches 0 at -1/4 and 1 at 3/4; x₁ - t/4 reaches 1 at -2 and 0 at 2.
    assert_close(pieces.breakpoints, [[-3, -2, -0.25, 0.75, 2, 3]])
    assert pieces.layers == ("bounds",)
    assert pieces.layer.tolist() == [[-1, 0, 0, 0, 0, -1]]
    assert linear_pieces(clf, x, no_labels(x), direction=d, extent=3, clip=False).breakpoints.tolist() == [[-3, 3]]


def test_two_layers() -> None:
    # |1 - |x|| as rectifiers: kinks at -1, 0 and 1.
    first, second = nn.Linear(1, 2, bias=False), nn.Linear(2, 2)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        second.weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]))
        second.bias.copy_(torch.tensor([-1.0, 1.0]))
    module = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
    pieces = scalar_pieces(module, extent=2)
    assert_close(pieces.breakpoints, [[-2, -1, 0, 1, 2]])
    assert pieces.layers == ("bounds", "1", "3")
    assert pieces.layer.tolist() == [[-1, 2, 1, 2, -1]]


def test_a_masked_change_of_pattern_is_a_breakpoint_but_no_bend() -> None:
    # relu(x - 0.5) reaches the logits only through max(relu(x - 0.5), 2), which it does not exceed.
    module = Function(lambda x: both_signs((x - 0.5).relu().clamp(min=2.0) + x))
    pieces = scalar_pieces(module, extent=1)
    assert pieces.breakpoints.tolist() == [[-1, 0.5, 1]]
    assert pieces.bends.tolist() == [[False, False, False]]
    assert pieces.count.tolist() == [1]
    assert pieces.patterns.tolist() == [2]


def test_units_that_are_zero_on_a_stretch_make_no_breakpoint() -> None:
    module = Function(lambda x: both_signs((x.relu() - x.relu()).relu() + (x * 0).abs() + (0.1 * x - 0.1 * x).abs()))
    assert scalar_pieces(module, extent=(0.5, 1)).breakpoints.tolist() == [[0.5, 1]]
    assert scalar_pieces(module, extent=1).breakpoints.tolist() == [[-1, 0, 1]]


def test_rounding_around_zero_makes_no_breakpoint() -> None:
    def nothing(x: Tensor) -> Tensor:
        return (0.1 * x + 0.2 * x) - 0.3 * x

    t = torch.linspace(0.1, 2, 400, dtype=torch.float64)
    positive, negative = t[nothing(t) > 0], t[nothing(t) < 0]
    ends = sorted((float(positive[0]), float(negative[-1])))
    module = Function(lambda x: both_signs(torch.cat([nothing(x), x + 3], 1).relu().sum(1, True)))
    pieces = scalar_pieces(module, extent=(ends[0], ends[1]))
    assert pieces.breakpoints.tolist() == [ends]


@pytest.mark.parametrize("copies", [2, 5])
def test_units_that_switch_together_make_one_breakpoint(copies: int) -> None:
    factors = torch.linspace(0.3, 3, copies)
    module = Function(lambda x: both_signs(((x - 1 / 3) * factors).relu().sum(1, True) + (x - 1 / 3).abs()))
    pieces = scalar_pieces(module, extent=1)
    assert pieces.breakpoints.shape == (1, 3)
    assert pieces.breakpoints[0, 1] == pytest.approx(1 / 3, abs=1e-7)


def test_pixels_on_the_bounds_bend_at_the_example_and_nowhere_near_it() -> None:
    clf = bg.Classifier(net("relu"), device="cpu")
    x, d = two_segments()
    x = (x > 0.5).float()
    pieces = linear_pieces(clf, x, no_labels(x), direction=d, extent=0.05)
    for example in range(2):
        t = breakpoints_of(pieces, example)
        assert (t.diff() > 1e-9).all()
        assert float(t.abs().min()) < 1e-13
    assert_reproduces(pieces, clf, x, d)


def test_upper_envelope_takes_the_steepest_of_lines_that_meet() -> None:
    start = torch.tensor([[0.0, -1.0, -2.0, -3.0], [0.0, 0.0, -1.0, -torch.inf], [1.0, 1.0, 1.0, 1.0]]).double()
    end = torch.tensor([[0.0, 1.0, 2.0, 1.0], [0.0, 1.0, 0.5, -torch.inf], [1.0, 1.0, 1.0, 1.0]]).double()
    found = envelope_vertices(start, end, torch.ones(3).double())
    assert found.first.tolist() == [0, 1, 0]
    assert (found.item.tolist(), found.fraction.tolist()) == ([0], [0.5])
    assert (found.before.tolist(), found.after.tolist()) == ([0], [2])


def test_upper_envelope_against_dense_evaluation() -> None:
    generator = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 500, 7, generator=generator, dtype=torch.float64)
    found = envelope_vertices(start, end, torch.ones(500).double())
    at = torch.lerp(start[found.item], end[found.item], found.fraction[:, None])
    highest = at.amax(1)
    for line in (found.before, found.after):
        torch.testing.assert_close(at.gather(1, line[:, None])[:, 0], highest, rtol=0, atol=1e-12)
    fractions = torch.linspace(0, 1, 2001, dtype=torch.float64)
    dense = torch.lerp(start[:, :, None], end[:, :, None], fractions).argmax(1)
    changes = (dense.diff(dim=1) != 0).sum(1)
    vertices = torch.bincount(found.item, minlength=500)
    assert (vertices >= changes).all()  # a line may be highest on less than a two-thousandth
    assert (vertices == changes).double().mean() > 0.98


# ---- In fractions, without rounding

Line = tuple[Fraction, list[Fraction]]
"""A point of a segment and the units there."""


def pieces_in_fractions(layers: nn.Sequential, low: float, high: float) -> tuple[int, int]:
    """Numbers of activation patterns and of pieces of the logits of a network of one number: all in fractions."""
    knots: list[Line] = [(Fraction(t), [Fraction(t)]) for t in (low, high)]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            rows = [[Fraction(w) for w in row] for row in layer.weight.tolist()]
            shifts = [Fraction(b) for b in layer.bias.tolist()]
            knots = [
                (
                    t,
                    [
                        sum((w * v for w, v in zip(row, units, strict=True)), b)
                        for row, b in zip(rows, shifts, strict=True)
                    ],
                )
                for t, units in knots
            ]
        elif isinstance(layer, nn.ReLU):
            knots = cut(knots, lambda units: units)
            knots = [(t, [max(v, Fraction(0)) for v in units]) for t, units in knots]
        elif isinstance(layer, nn.MaxPool1d):  # of two neighbours
            knots = cut(knots, lambda units: [a - b for a, b in zip(units[::2], units[1::2], strict=True)])
            knots = [(t, [max(a, b) for a, b in zip(units[::2], units[1::2], strict=True)]) for t, units in knots]
    slopes = [[(b - a) / (t - s) for a, b in zip(f, g, strict=True)] for (s, f), (t, g) in pairwise(knots)]
    return len(slopes), 1 + sum(a != b for a, b in pairwise(slopes))


def cut(knots: list[Line], gaps: Callable[[list[Fraction]], list[Fraction]]) -> list[Line]:
    """Put a knot wherever one of the gaps changes sign."""
    finer = [knots[0]]
    for (s, f), (t, g) in pairwise(knots):
        places = {a / (a - b) for a, b in zip(gaps(f), gaps(g), strict=True) if a * b < 0}
        finer += [
            (s + share * (t - s), [a + share * (b - a) for a, b in zip(f, g, strict=True)]) for share in sorted(places)
        ]
        finer.append((t, g))
    return finer


def narrow_net(seed: int, *, pool: bool, tiny: bool, sparse: bool) -> nn.Sequential:
    """A network of one number; weights may be absent, or so small that no tolerance on logits or slopes sees them."""
    generator = torch.Generator().manual_seed(seed)
    widths = (1, 8, 8, 8, 3)
    neighbours = [nn.Unflatten(1, (1, -1)), nn.MaxPool1d(2), nn.Flatten()]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        reads = inputs // 2 if pool and inputs > 1 else inputs
        layer = nn.Linear(reads, outputs)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(outputs, reads, generator=generator))
            layer.bias.copy_(torch.randn(outputs, generator=generator))
            if sparse and inputs > 1:
                layer.weight *= torch.rand(outputs, reads, generator=generator) < 0.4
            if tiny:
                layer.weight *= torch.where(torch.rand(outputs, reads, generator=generator) < 0.3, 2.0**-45, 1.0)
        layers += [layer, nn.ReLU(), *(neighbours if pool else [])]
    return nn.Sequential(*layers[: -4 if pool else -1])


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("tiny", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_counts_are_those_of_fractions(pool: bool, tiny: bool, sparse: bool) -> None:
    counts = set()
    for seed in range(6):
        module = narrow_net(seed, pool=pool, tiny=tiny, sparse=sparse)
        pieces = scalar_pieces(module, extent=(-2.5, 3), clip=False)
        expected = pieces_in_fractions(module, -2.5, 3)
        assert (int(pieces.patterns[0]), int(pieces.count[0])) == expected, seed
        counts.add(expected)
    assert len(counts) > 3
    if sparse or pool:
        assert any(patterns > count for patterns, count in counts)


def test_bends_that_no_tolerance_sees() -> None:
    # A kink of 1e-20 of the other slope, and two kinks 1e-9 apart, between which the logits move by 1e-9.
    faint = scalar_pieces(Function(lambda x: both_signs(x + 1e-20 * (x - 0.25).relu())), extent=1)
    assert faint.bends.tolist() == [[False, True, False]]
    near = torch.tensor([0.5, 0.5 + 1e-9], dtype=torch.float64)
    close = scalar_pieces(Function(lambda x: both_signs(x + 1e-4 * (x - near).relu().sum(1, True))), extent=1)
    assert close.bends.tolist() == [[False, True, True, False]]
    assert close.count.tolist() == [3]


def test_switches_that_cancel_are_no_bend() -> None:
    pieces = scalar_pieces(Function(lambda x: both_signs(x.relu() - (-x).relu() + (x - 0.5).abs())), extent=1)
    assert pieces.breakpoints.tolist() == [[-1, 0, 0.5, 1]]
    assert pieces.bends.tolist() == [[False, False, True, False]]
    assert (pieces.patterns.tolist(), pieces.count.tolist()) == ([3], [2])


# ---- Random networks


@pytest.mark.parametrize("kind", NETS)
def test_exact_on_random_networks(kind: str) -> None:
    clf = bg.Classifier(net(kind), mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.25], device="cpu")
    x, d = two_segments()
    pieces = linear_pieces(clf, x, no_labels(x), direction=d, extent=0.2)
    assert_reproduces(pieces, clf, x, d)
    module = copy.deepcopy(clf.module).double()
    for example in range(2):
        t = breakpoints_of(pieces, example)
        assert len(t) > 10
        inside = torch.lerp(t[:-1, None], t[1:, None], torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64))
        inputs = points_of(pieces, x[example], d[example], inside.flatten())
        clamped = ((inputs <= 0).int() + 2 * (inputs >= 1).int()).flatten(1)
        seen = torch.cat([clamped, patterns_at(module, clf.normalise(inputs))], 1).view(len(inside), 3, -1)
        assert (seen == seen[:, :1]).all(), "a breakpoint is missing"
        assert (seen[1:, 0] != seen[:-1, 0]).any(1).all(), "a breakpoint is no change of pattern"


@pytest.mark.parametrize("kind", NETS)
def test_bends_are_where_the_slope_changes(kind: str) -> None:
    clf = bg.Classifier(net(kind), device="cpu")
    x, d = two_segments()
    pieces = linear_pieces(clf, x, no_labels(x), direction=d, extent=0.2)
    module = copy.deepcopy(clf.module).double()
    for example in range(2):
        t = breakpoints_of(pieces, example)
        middles = ((t[1:] + t[:-1]) / 2).requires_grad_()
        logits = module(points_of(pieces, x[example], d[example], middles))
        slopes = torch.stack(
            [torch.autograd.grad(logit.sum(), middles, retain_graph=True)[0] for logit in logits.unbind(1)], 1
        )
        jump = slopes.diff(dim=0).abs().amax(1) / slopes.abs().max()
        bends = pieces.bends[example, 1 : len(t) - 1]
        assert (jump[bends] > 1e-9).all()
        assert (jump[~bends] < 1e-7).all()
        assert int(pieces.count[example]) == 1 + int(bends.sum())


def test_examples_do_not_influence_each_other() -> None:
    clf = bg.Classifier(SmallNet(), device="cpu")
    x, d = two_segments()
    together = linear_pieces(clf, x, no_labels(x), direction=d, extent=0.3)
    for example in range(2):
        alone = linear_pieces(
            clf,
            x[example : example + 1],
            no_labels(x[example : example + 1]),
            direction=d[example : example + 1],
            extent=0.3,
        )
        assert alone.count[0] == together.count[example]
        torch.testing.assert_close(alone.breakpoints[0], breakpoints_of(together, example), rtol=0, atol=1e-12)


def test_directions_by_name_and_a_zero_one_among_them() -> None:
    clf = bg.Classifier(net("relu"), device="cpu")
    x, d = two_segments()
    d[1] = 0
    pieces = linear_pieces(clf, x, no_labels(x), direction=Directions(d, "L2", "by hand"), extent=0.2)
    assert (pieces.unit, pieces.name) == ("L2", "by hand")
    assert pieces.count[0] > 1
    assert pieces.count[1] == 1
    assert pieces.length[1] == 0


@pytest.mark.parametrize("kind", ["residual", "dense", "overlap", "relu"])
@pytest.mark.parametrize("max_bytes", [1, 50_000, 1_000_000])
def test_parts_give_what_the_whole_gives(kind: str, max_bytes: int) -> None:
    clf = bg.Classifier(net(kind), device="cpu")
    x, d = two_segments()
    whole, parts = (
        linear_pieces(clf, x, no_labels(x), direction=d, extent=0.1, max_bytes=size) for size in (1 << 33, max_bytes)
    )
    assert torch.equal(whole.layer, parts.layer)
    assert torch.equal(whole.bends, parts.bends)
    torch.testing.assert_close(whole.breakpoints, parts.breakpoints, rtol=0, atol=1e-12, equal_nan=True)
    torch.testing.assert_close(whole.logits, parts.logits, rtol=0, atol=1e-12, equal_nan=True)


def test_no_more_rows_than_the_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    linear = F.linear

    def counting(input: Tensor, *args: Tensor) -> Tensor:
        rows.append(len(input))
        return linear(input, *args)

    monkeypatch.setattr(F, "linear", counting)
    clf = bg.Classifier(net("relu"), device="cpu")
    x, d = two_segments()
    found = linear_pieces(clf, x, no_labels(x), direction=d, extent=1.0, max_bytes=1)
    assert max(rows) <= 5  # the probes; the walk carries two
    assert found.patterns.min() > 20


@pytest.mark.parametrize(("kind", "live"), [("relu", 1), ("residual", 2)])
def test_only_what_is_needed_later_is_carried(kind: str, live: int, monkeypatch: pytest.MonkeyPatch) -> None:
    carried: dict[Refinement, int] = {}
    apply = Refinement.apply

    def counting(self: Refinement, value: Tensor) -> Tensor:
        carried[self] = carried.get(self, 0) + 1
        return apply(self, value)

    monkeypatch.setattr(Refinement, "apply", counting)
    x, d = two_segments()
    linear_pieces(bg.Classifier(net(kind), device="cpu"), x, no_labels(x), direction=d, extent=0.2)
    assert max(carried.values()) == live


def test_memory_of_a_row() -> None:
    module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU()).double()
    program = build_program(module, lambda x: x, None, lambda rows: torch.ones(rows, 6).double())
    # Waiting before the first ReLU and before the second: 5 and 3 numbers. In work, twice: the points before and after
    # their normalisation.
    assert program.bytes_per_row == 8 * (5 + 3 + 2 * (6 + 6))


# ---- Every form of an operation


def _linears(count: int = 2) -> list[nn.Module]:
    return [nn.Linear(6, 6) for _ in range(count)]


def _use_after_in_place(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    z = a(x)
    z.relu_()
    return b(z) + z


def _unpacked_shape(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    n, c = x.shape
    grid = a(x).relu().view(n, c // 2, 2)
    return b(grid.permute(0, 2, 1).reshape(n, -1))


def _maximum_across_a_kink(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    largest = torch.stack([a(x), b(x)], 2).max(2)
    return (a(x) + 0.3).relu() + largest.values


def _result_that_nothing_reads(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    (b(x) - 0.1).relu()
    return a(x).relu()


def _pieces_of_a_split(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    first, second = a(x).chunk(2, dim=1)
    third, fourth = torch.split(b(x), [3, 3], 1)
    return torch.cat([first.relu() + third, second - fourth.relu()], 1)


def _pieces_across_a_kink(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    halves = a(x).chunk(2, dim=1)
    return b(x).relu() + torch.cat([halves[1].relu(), halves[0]], 1)


FORMS: dict[str, Callable[..., Tensor]] = {
    "torch.relu": lambda x, a, b: b(torch.relu(a(x))),
    "F.relu": lambda x, a, b: b(F.relu(a(x))),
    "F.relu in place": lambda x, a, b: b(F.relu(a(x), inplace=True)),
    "torch.relu_": lambda x, a, b: b(torch.relu_(a(x))),
    "Tensor.relu_": lambda x, a, b: b(a(x).relu_()),
    "used after in place": _use_after_in_place,
    "F.leaky_relu": lambda x, a, b: b(F.leaky_relu(a(x), 0.1, True)),
    "F.leaky_relu_": lambda x, a, b: b(F.leaky_relu_(a(x), 0.1)),
    "F.prelu": lambda x, a, b: b(F.prelu(a(x), torch.full((6,), 0.2).to(x))),
    "F.hardtanh": lambda x, a, b: b(F.hardtanh(3 * a(x), -0.5, 0.25)),
    "F.relu6": lambda x, a, b: b(F.relu6(30 * a(x))),
    "clamp": lambda x, a, b: b(a(x).clamp(-0.2, 0.3)),
    "clamp min": lambda x, a, b: b(torch.clamp(a(x), min=0.1)),
    "clamp_": lambda x, a, b: b(a(x).clamp_(max=0.1)),
    "clamp_min": lambda x, a, b: b(a(x).clamp_min(0.1)),
    "clamp_max": lambda x, a, b: b(torch.clamp_max(a(x), 0.1)),
    "abs": lambda x, a, b: b(abs(a(x))) - b(torch.abs(a(x) + 0.1)),
    "maximum": lambda x, a, b: torch.maximum(a(x), b(x)),
    "minimum": lambda x, a, b: a(x).minimum(b(x)),
    "max of two": lambda x, a, b: torch.max(a(x), b(x)),
    "maxout": lambda x, a, b: torch.cat([a(x), b(x)], 1).view(-1, 6, 2).max(2)[0],
    "max over a dimension": lambda x, a, b: torch.max(torch.stack([a(x), b(x), x], 2), dim=2).values,
    "min": lambda x, a, b: torch.stack([a(x), b(x)], 1).min(dim=1).values,
    "amax": lambda x, a, b: b(x) + a(x).view(-1, 2, 3, 1).amax((1, 2)),
    "amin": lambda x, a, b: b(x) - a(x).amin(-1, keepdim=True),
    "matmul": lambda x, a, b: b((x @ a.weight.t()).relu()),
    "F.linear": lambda x, a, b: F.linear(a(x).relu(), b.weight, b.bias),
    "F.max_pool1d": lambda x, a, b: b(F.max_pool1d(a(x)[:, None], 3, 1, padding=1).squeeze(1)),
    "F.max_pool2d": lambda x, a, b: b(F.max_pool2d(a(x).view(-1, 1, 2, 3), 2, 1, 1)[:, 0, :2, :3].flatten(1)),
    "F.adaptive_max_pool1d": lambda x, a, b: a(x) + F.adaptive_max_pool1d(b(x).unsqueeze(1), 4).mean(2),
    "F.avg_pool1d": lambda x, a, b: b(F.avg_pool1d(a(x).relu().unsqueeze(1), 3, 1, 1).squeeze(1)),
    "arithmetic": lambda x, a, b: 2 - (-b(3 * (a(x) - 1.0).relu() / 4 + x * 0.5)),
    "operator": lambda x, a, b: operator.add(a(x).relu(), operator.mul(b(x), 2.0)),
    "add_ and mul_": lambda x, a, b: b(a(x).mul_(2.0).relu()).add_(x),
    "maximum across a kink": _maximum_across_a_kink,
    "result that nothing reads": _result_that_nothing_reads,
    "split": _pieces_of_a_split,
    "carried split": _pieces_across_a_kink,
    "transpose": lambda x, a, b: b(a(x).relu().view(-1, 2, 3).transpose(1, 2).flatten(start_dim=1)),
    "F.pad": lambda x, a, b: b(F.pad(a(x).relu()[:, ::2], (1, 2))),
    "shape": _unpacked_shape,
    "zeros_like": lambda x, a, b: torch.maximum(a(x), torch.zeros_like(x)) + x.new_zeros(x.shape[0], 6),
    "to": lambda x, a, b: b(a(x.to(x.device)).relu().to(x.dtype).contiguous() + torch.ones(6).type_as(x)),
    "dropout": lambda x, a, b: b(F.dropout(a(x), 0.5, training=False).relu()),
    "twice": lambda x, a, b: a(a(x).relu()).relu() + b(x),
    "index": lambda x, a, b: b(a(x).relu()[:, [5, 0, 1, 2, 3, 3]]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_operation(form: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(len(form))
        module = Function(FORMS[form], *_linears()).eval()
    clf = bg.Classifier(module, bounds=WIDE, device="cpu")
    generator = torch.Generator().manual_seed(1)
    x, d = torch.randn(2, 3, 6, generator=generator)
    pieces = linear_pieces(clf, x, no_labels(x), direction=d, extent=2.0)
    assert pieces.count.max() > 1
    assert_reproduces(pieces, clf, x, d)


def test_a_result_that_nothing_reads_makes_no_breakpoint() -> None:
    module = Function(_result_that_nothing_reads, nn.Linear(1, 3), nn.Linear(1, 3))
    assert scalar_pieces(module, extent=3, clip=False).layers == ("relu",)


def test_layers_are_named_by_their_place() -> None:
    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.act(self.act(x) - 0.5) - 0.1)

    pieces = scalar_pieces(nn.Sequential(nn.Linear(1, 3), Inner()), extent=1, clip=False)
    assert pieces.layers == ("1.act", "1.act (2)", "1.relu")


# ---- Whole architectures


@pytest.mark.parametrize("name", ["softmax_regression", "mlp", "small_cnn"])
def test_small_zoo_models(name: str) -> None:
    clf = bg.Classifier(build_model(name, num_classes=10, input_shape=(1, 12, 12)), mean=0.1, std=0.3, device="cpu")
    x, d = images(2, shape=(1, 12, 12)), torch.randn(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    pieces = linear_pieces(clf, x, no_labels(x), direction=d, extent=0.05)
    assert_reproduces(pieces, clf, x, d)
    assert (pieces.count > 10).all() or name == "softmax_regression"


@pytest.mark.parametrize(
    ("name", "extent"),
    [
        ("resnet20", 1e-3),
        ("resnet18", 3e-4),
        pytest.param("densenet121", 3e-4, marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", 3e-3, marks=pytest.mark.slow),
        ("shufflenet_v2_x0_5", 3e-3),
        ("squeezenet1_1", 3e-3),
        pytest.param("vgg11", 3e-5, marks=pytest.mark.slow),
    ],
)
def test_published_architectures_work_unchanged(name: str, extent: float) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "resnet20":
            module: nn.Module = build_model(name, num_classes=10, input_shape=(3, 32, 32))
        else:
            module = getattr(torchvision.models, name)(weights=None, num_classes=10)
    clf = bg.Classifier(module, device="cpu")
    x = images(1, shape=(3, 32, 32))
    d = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pieces = linear_pieces(clf, x, no_labels(x), direction=d, extent=extent)
    assert pieces.count[0] > 5
    assert_reproduces(pieces, clf, x, d, count=5)


# ---- What the result gives


def pieces_of_small_net(**settings) -> tuple[LinearPieces, bg.Classifier, Tensor, Tensor]:
    module, x = SmallNet().eval(), images(4)
    with torch.no_grad():
        module.head.bias -= module(x).mean(0)  # several classes on each segment
    clf = bg.Classifier(module, device="cpu")
    d = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    return linear_pieces(clf, x, no_labels(x), direction=d, extent=settings.pop("extent", 2.0), **settings), clf, x, d


def test_decision_boundaries_against_a_dense_scan() -> None:
    pieces, clf, x, d = pieces_of_small_net()
    found = pieces.boundaries()
    assert len(found.t) > 5
    t = torch.linspace(-2, 2, 4001, dtype=torch.float64)
    module = copy.deepcopy(clf.module).double()
    for example in range(4):
        with torch.no_grad():
            labels = module(points_of(pieces, x[example], d[example], t)).argmax(1)
        change = labels.diff().nonzero()[:, 0]
        own = found.example == example
        # A region narrower than the spacing of the scan would be seen by the pieces only; here there is none.
        assert own.sum() == len(change)
        assert ((found.t[own] >= t[change]) & (found.t[own] <= t[change + 1])).all()
        assert torch.equal(found.before[own], labels[change])
        assert torch.equal(found.after[own], labels[change + 1])


def test_both_classes_are_equal_on_a_boundary() -> None:
    pieces, clf, x, d = pieces_of_small_net()
    found = pieces.boundaries()
    module = copy.deepcopy(clf.module).double()
    points = (x.double()[found.example] + found.t.view(-1, 1, 1, 1) * d.double()[found.example]).clamp(0, 1)
    with torch.no_grad():
        logits = module(points)
    row = torch.arange(len(points))
    torch.testing.assert_close(logits[row, found.before], logits[row, found.after], rtol=0, atol=1e-11)
    torch.testing.assert_close(logits[row, found.before], logits.amax(1), rtol=0, atol=1e-11)


def test_a_boundary_at_a_breakpoint_and_a_touch() -> None:
    # |x| against 0: they touch at 0. x + |x| against x: the first takes over at 0, where it bends.
    touch = Function(lambda x: torch.cat([x.abs(), x * 0], 1))
    assert scalar_pieces(touch, extent=1).boundaries().t.tolist() == []
    meet = Function(lambda x: torch.cat([x + x.relu(), x + (-x).relu()], 1))
    found = scalar_pieces(meet, extent=1).boundaries()
    assert (found.t.tolist(), found.before.tolist(), found.after.tolist()) == ([0.0], [1], [0])


def test_integral_and_extrema_on_paper() -> None:
    pieces = scalar_pieces(Function(lambda x: both_signs((x - 0.5).abs())), extent=(-1, 1))
    assert_close(pieces.integral(), [[1.25, -1.25]])  # (1.5² + 0.5²) / 2
    least, where_least, most, where_most = pieces.extrema()
    assert (least.tolist(), where_least.tolist()) == ([[0.0, -1.5]], [[0.5, -1.0]])
    assert (most.tolist(), where_most.tolist()) == ([[1.5, 0.0]], [[-1.0, 0.5]])


def test_integral_and_extrema_of_examples_with_different_numbers_of_pieces() -> None:
    pieces, *_ = pieces_of_small_net()
    assert len(set(pieces.patterns.tolist())) > 1
    t = torch.linspace(-2, 2, 40_001, dtype=torch.float64)
    dense = pieces.at(t)
    torch.testing.assert_close(pieces.integral(), torch.trapezoid(dense, t, dim=1), rtol=0, atol=1e-5)
    least, _, most, where = pieces.extrema()
    torch.testing.assert_close(least, dense.amin(1), rtol=0, atol=2e-2)
    torch.testing.assert_close(most, dense.amax(1), rtol=0, atol=2e-2)
    torch.testing.assert_close(pieces.at(where)[:, torch.arange(5), torch.arange(5)], most)


def test_logits_outside_the_extent_are_refused() -> None:
    pieces = scalar_pieces(Function(lambda x: both_signs(x.abs())), extent=1)
    with pytest.raises(ValueError, match=r"t must be within the extent \[-1, 1\], got 0 to 1.5"):
        pieces.at(torch.tensor([0.0, 1.5]))


def test_save_and_load(tmp_path) -> None:
    pieces, *_ = pieces_of_small_net(extent=0.1)
    loaded = bg.load(pieces.save(tmp_path / "pieces.zarr"))
    assert isinstance(loaded, LinearPieces)
    assert torch.equal(loaded.breakpoints.nan_to_num(), pieces.breakpoints.nan_to_num())
    assert (loaded.layers, loaded.extent, loaded.clip) == (pieces.layers, pieces.extent, True)
    assert loaded.provenance.forwards > int(pieces.patterns.sum())


def test_the_module_is_left_as_it_was() -> None:
    module = net("inplace").train()
    before = copy.deepcopy(module.state_dict())
    clf = bg.Classifier(module, device="cpu")
    x, d = two_segments()
    linear_pieces(clf, x, no_labels(x), direction=d, extent=0.01)
    assert all(m.training for m in module.modules())
    assert [m.inplace for m in module.modules() if isinstance(m, nn.ReLU | nn.ReLU6)] == [True, True]
    for name, value in module.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name])


# ---- Errors


def _branches(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    if x.abs().max() > 100:
        return a(x)
    return b(x)


def _aliased(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
    z = a(x)
    view = z.view(-1, 6)
    view.relu_()
    return b(z)


def _aliased_by_a_layer(x: Tensor, a: nn.Module, relu: nn.Module) -> Tensor:
    z = a(x)
    return relu(F.dropout(z, training=False)) + z


SMOOTH: dict[str, tuple[nn.Module, str]] = {
    "module": (nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.GELU())), "got GELU in layer '1.0'"),
    "function": (Function(lambda x, a: torch.sigmoid(a(x)), nn.Linear(6, 6)), "got sigmoid in the module itself"),
    "method": (Function(lambda x, a: a(x).tanh(), nn.Linear(6, 6)), "got tanh in the module itself"),
    "square": (Function(lambda x: x**2), "got pow in"),
    "product": (Function(lambda x: x * x), "got mul by a tensor that depends on the input in"),
    "quotient": (Function(lambda x: 1 / (x + 30)), "got truediv by a tensor that depends on the input in"),
    "softmax": (nn.Sequential(nn.Linear(6, 6), nn.Softmax(1)), "got Softmax in layer '1'"),
    "layer norm": (nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6)), "got LayerNorm in layer '1'"),
    "where": (Function(lambda x: torch.where(x > 0, x, 0.1 * x)), "got gt in the module itself"),
    "indices": (
        Function(lambda x: F.max_pool1d(x[:, None], 2, return_indices=True)[0].flatten(1)),
        "got max_pool1d_with_indices in",
    ),
    "indices of a layer": (
        Function(lambda x, pool: pool(x[:, None])[0].flatten(1), nn.MaxPool1d(2, return_indices=True)),
        "got MaxPool1d with return_indices in layer 'layers.0'",
    ),
    "float32": (Function(lambda x, a: a(x.float()), nn.Linear(6, 6)), "module must run in float64, got 'mat1 and mat2"),
    "aliased": (
        Function(_aliased, *_linears()),
        "the operations that torch.fx traced do not reproduce the module's logits",
    ),
    "aliased by a layer": (
        Function(_aliased_by_a_layer, nn.Linear(6, 6), nn.ReLU(inplace=True)),
        "the operations that torch.fx traced do not reproduce the module's logits",
    ),
    "batch dimension": (
        Function(lambda x, a: a(x).t().contiguous().relu().t(), nn.Linear(6, 6)),
        "got t in the module itself",
    ),
    "transposed batch": (
        Function(lambda x, a: a(x).transpose(0, 1).relu().transpose(0, 1), nn.Linear(6, 6)),
        "got transpose over the batch dimension in the module itself",
    ),
    "batch index": (Function(lambda x: torch.cat([x[:100], x], 1).abs()), "got getitem into the batch dimension in"),
    "batch size": (Function(lambda x: x.abs() + 0 * (2 * x.shape[0])), "got mul of the batch size in"),
    "untraceable": (
        Function(_branches, *_linears()),
        r"torch.fx cannot trace the module, error in the module itself at test_pieces.py:\d+, "
        r"`if x.abs\(\).max\(\) > 100:`: symbolically traced variables cannot be used as inputs to control flow",
    ),
}


@pytest.mark.filterwarnings("ignore:.*seems to return probabilities")
@pytest.mark.parametrize("case", SMOOTH)
def test_modules_that_are_not_piecewise_affine_are_refused_by_name(case: str) -> None:
    module, message = SMOOTH[case]
    clf = bg.Classifier(module, bounds=WIDE, device="cpu")
    x = torch.linspace(-1, 1, 12).view(2, 6)
    with pytest.raises(ValueError, match=message):
        linear_pieces(clf, x, no_labels(x), direction=torch.ones(2, 6), extent=0.1)


def test_an_untraceable_layer_is_named() -> None:
    module = nn.Sequential(nn.Linear(6, 6), nn.Sequential(Function(_branches, *_linears())))
    with pytest.raises(ValueError, match=r"error in layer '1.0' at test_pieces.py"):
        linear_pieces(
            bg.Classifier(module, bounds=WIDE),
            torch.ones(1, 6),
            no_labels(torch.ones(1, 6)),
            direction=torch.ones(1, 6),
            extent=0.1,
        )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"direction": torch.zeros(2, 6)}, ValueError, "direction must not be zero, got 2 vectors of length zero"),
        ({"direction": torch.full((2, 6), torch.nan)}, ValueError, "direction must be finite, got NaN"),
        ({"direction": torch.ones(1, 6)}, ValueError, r"direction must have the shape of x, \[2, 6\], got \[1, 6\]"),
        (
            {"direction": torch.ones(2, 6).int()},
            TypeError,
            "direction must be a float tensor or Directions, got a tensor of torch.int",
        ),
        ({"direction": [1.0]}, TypeError, "direction must be a float tensor or Directions, got list"),
        ({"x": torch.full((2, 6), 20.0)}, ValueError, "x must lie in"),
        ({"extent": 0.0}, ValueError, r"extent must be a positive number or \(low, high\) with low < high, got 0.0"),
        ({"extent": (1.0, 1.0)}, ValueError, "extent must be a positive number"),
        ({"extent": float("nan")}, ValueError, "extent must be a positive number"),
        ({"extent": float("inf")}, ValueError, "extent must be a positive number"),
        ({"max_bytes": 0}, ValueError, "max_bytes must be a positive number of bytes, got 0"),
    ],
)
def test_bad_arguments(change: dict, error: type[Exception], message: str) -> None:
    clf = bg.Classifier(nn.Linear(6, 2), bounds=WIDE, device="cpu")
    arguments = {"x": torch.zeros(2, 6), "direction": torch.ones(2, 6), "extent": 1.0} | change
    x, direction = arguments.pop("x"), arguments.pop("direction")
    with pytest.raises(error, match=message):
        linear_pieces(clf, x, no_labels(x), direction=direction, **arguments)


def test_normalising_transforms_inside_a_module_are_named() -> None:
    module = nn.Sequential(v2.Normalize((0.5,), (0.2,)), nn.Flatten(), nn.Linear(16, 3)).eval()
    with pytest.raises(ValueError, match=r"tracing skips Normalize in '0': pass mean= and std= to Classifier instead"):
        linear_pieces(
            bg.Classifier(module),
            torch.rand(2, 1, 4, 4),
            no_labels(torch.rand(2, 1, 4, 4)),
            direction=torch.ones(2, 1, 4, 4),
            extent=0.1,
        )
