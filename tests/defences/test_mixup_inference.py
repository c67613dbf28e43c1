"""Mixup inference against a slow, written-out reference and the bare model."""

import pytest
import torch
from balanced import balanced_net
from oracles import images
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.defences.averages import log_mean_softmax
from boundarygeo.defences.mixup_inference import FLAGGED, SAMPLES, MixupInference, with_mixup_inference

MODES = list(SAMPLES)


def pool(count: int = 60) -> tuple[Tensor, Tensor]:
    return images(count, seed=7), torch.arange(count) % 5


def slowly(defence: MixupInference, x: Tensor) -> Tensor:
    """One example, one partner at a time."""
    rows = []
    lam = float(defence.lam)
    for one in x:
        bare = defence.module(one[None])[0]
        label = int(bare.argmax())
        means = {}
        for kind, chosen in (("pl", defence.same[label]), ("ol", defence.other[label])):
            mixtures = [lam * one + (1 - lam) * defence.partners[k] for k in chosen]
            if mixtures:
                means[kind] = torch.stack([defence.module(m[None])[0].softmax(0) for m in mixtures]).mean(0)
        if defence.mode == "both":
            fall = bare.softmax(0).max() - means["pl"].max()
            rows.append(means["ol"] if fall >= FLAGGED else means["pl"])
        else:
            rows.append(means[defence.mode])
    return torch.stack(rows)


@pytest.mark.parametrize("mode", MODES)
def test_it_is_the_mean_softmax_over_mixtures(mode: str) -> None:
    defence = MixupInference(balanced_net().eval(), *pool(), mode=mode, lam=0.4).eval()
    x = images(40, seed=1)
    torch.testing.assert_close(defence(x).exp(), slowly(defence, x), rtol=1e-4, atol=1e-6)
    if mode == "both":  # both branches were looked at
        fall = defence.module(x).softmax(1).amax(1) - defence._mixed(
            x, defence.same[defence.module(x).argmax(1)]
        ).exp().amax(1)
        assert 0 < int((fall >= FLAGGED).sum()) < len(x)


@pytest.mark.parametrize("mode", MODES)
def test_partners_are_of_the_predicted_class_or_of_the_others(mode: str) -> None:
    x, y = pool()
    defence = MixupInference(balanced_net().eval(), x, y, mode=mode, seed=3)
    label_of = {tuple(image.flatten().tolist()): int(label) for image, label in zip(x, y, strict=True)}
    labels = torch.tensor([label_of[tuple(partner.flatten().tolist())] for partner in defence.partners])
    assert (defence.same.shape[1], defence.other.shape[1]) == SAMPLES[mode]
    for number in range(5):
        assert (labels[defence.same[number]] == number).all()
        assert (labels[defence.other[number]] != number).all()
    another = MixupInference(balanced_net(), x, y, mode=mode, seed=4)
    for kind in ("same", "other"):
        drawn, others = (d.partners[getattr(d, kind)] for d in (defence, another))
        assert not drawn.numel() or not torch.equal(drawn, others)


def test_classes_of_the_other_partners_are_uniform_whatever_the_pool() -> None:
    y = torch.tensor([0] * 900 + [1] * 50 + [2] * 30 + [3] * 15 + [4] * 5)
    x = torch.arange(1000.0)[:, None] / 1000
    defence = MixupInference(nn.Linear(1, 5), x, y, mode="ol", samples=4000)
    labels = y[(defence.partners[:, 0] * 1000).round().long()]
    for number in range(5):
        shares = torch.bincount(labels[defence.other[number]], minlength=5) / 4000
        expected = torch.full((5,), 0.25).index_fill(0, torch.tensor(number), 0.0)
        torch.testing.assert_close(shares, expected, rtol=0, atol=0.03)  # 4 standard deviations are 0.027


@pytest.mark.parametrize("mode", MODES)
def test_with_lambda_one_it_is_the_bare_model(mode: str) -> None:
    clf = bg.Classifier(balanced_net())
    x = images(30, seed=1)
    y = clf.predict(x)
    defended = with_mixup_inference(clf, *pool(), mode=mode, lam=1.0)
    torch.testing.assert_close(defended.logits(x), clf.logits(x).log_softmax(1), rtol=1e-4, atol=1e-5)
    assert torch.equal(defended.predict(x), y)
    torch.testing.assert_close(defended.margin(x, y), clf.margin(x, y), rtol=1e-4, atol=1e-5)
    for loss in ("cross_entropy", "log_odds", "margin"):
        expected = clf.input_gradient(x, y, loss=loss)
        torch.testing.assert_close(defended.input_gradient(x, y, loss=loss), expected, rtol=1e-3, atol=1e-5)


def test_gradients_go_through_the_samples() -> None:
    defence = MixupInference(balanced_net().eval(), *pool(), samples=5).double().eval().requires_grad_(False)
    x = images(1, seed=1).double().requires_grad_()
    assert torch.autograd.gradcheck(defence, x, eps=1e-7, atol=1e-4)


def test_a_result_depends_neither_on_the_batch_nor_on_the_order() -> None:
    defence = MixupInference(balanced_net().eval(), *pool(), mode="both").eval()
    x = images(30, seed=1)
    together = defence(x)
    torch.testing.assert_close(torch.cat([defence(one[None]) for one in x]), together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(defence(x.flip(0)).flip(0), together, rtol=1e-4, atol=1e-5)
    again = MixupInference(balanced_net().eval(), *pool(), mode="both").eval()
    assert torch.equal(again(x), together)
    assert not torch.equal(MixupInference(balanced_net().eval(), *pool(), mode="both", seed=1).eval()(x), together)


def test_the_pool_is_in_input_units() -> None:
    mean, std = (0.1, 0.4, 0.7), (0.2, 0.3, 0.6)
    clf = bg.Classifier(balanced_net(), mean=mean, std=std)
    (pool_x, pool_y), x = pool(), images(20, seed=1)
    defended = with_mixup_inference(clf, pool_x, pool_y, mode="pl", lam=0.3, samples=4)
    inner = defended.module
    assert isinstance(inner, MixupInference)
    raw = MixupInference(balanced_net(), pool_x, pool_y, mode="pl", lam=0.3, samples=4)
    raw.eval()
    expected = []
    for one in x:
        label = clf.predict(one[None])
        # The same draws, mixed before the normalisation.
        same = raw.same[label][0]
        mixtures = torch.stack([0.3 * one + 0.7 * raw.partners[k] for k in same])
        expected.append(log_mean_softmax(clf.logits(mixtures), 4)[0])
    torch.testing.assert_close(defended.logits(x), torch.stack(expected), rtol=1e-3, atol=1e-4)


def test_another_seed_lambda_or_mode_is_another_model() -> None:
    clf = bg.Classifier(balanced_net())
    x, y = pool()
    made = [{}, {"seed": 1}, {"lam": 0.6}, {"mode": "pl"}, {"mode": "both"}, {"samples": 7}]
    hashes = {with_mixup_inference(clf, x, y, **settings).digest() for settings in made}
    assert len(hashes) == len(made)


def test_the_callers_module_is_left_alone() -> None:
    net = balanced_net().train()
    clf = bg.Classifier(net)
    defended = with_mixup_inference(clf, *pool())
    defended.predict(images(3))
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert defended.module is not net


def test_it_never_runs_in_bfloat16() -> None:
    defended = with_mixup_inference(bg.Classifier(balanced_net()), *pool())
    x = images(2)
    with pytest.raises(ValueError, match="the module does not run in precision"):
        defended.logits(x, precision="bfloat16")
    maps = bg.boundary_maps(defended, bg.random_planes(x, defended.predict(x)), extent=0.05, resolution=9)
    assert maps.provenance.precision == "float32, float64"


X, Y = pool()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"mode": "pi"}, ValueError, "mode must be one of"),
        ({"lam": 0.0}, ValueError, r"lam must be in \(0, 1\]"),
        ({"lam": float("nan")}, ValueError, r"lam must be in \(0, 1\]"),
        ({"samples": 0}, ValueError, "samples must be a whole number, at least 1"),
        ({"pool_x": X[Y < 3], "pool_y": Y[Y < 3], "mode": "pl"}, ValueError, r"every class .*, got none of \[3, 4\]"),
        ({"pool_x": X[Y == 2], "pool_y": Y[Y == 2]}, ValueError, r"at least two classes, got only \[2\]"),
        ({"pool_y": Y + 1}, ValueError, r"pool_y must be in \[0, 5\), got values up to 5"),
        ({"pool_y": Y[:3]}, ValueError, "one class per example"),
        ({"pool_y": Y.float()}, TypeError, "pool_y must be an integer tensor"),
        ({"pool_x": Y}, TypeError, "pool_x must be a float tensor"),
        ({"module": lambda x: x}, TypeError, "module must be a torch"),
    ],
)
def test_arguments_that_make_no_sense(changes: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        MixupInference(**({"module": balanced_net(), "pool_x": X, "pool_y": Y} | changes))


def test_inputs_unlike_the_pool_and_pools_outside_the_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"inputs must have the shape \[3, 8, 8\] of the pool, got \[1, 8, 8\]"):
        MixupInference(balanced_net(), X, Y)(images(2, shape=(1, 8, 8)))
    with pytest.raises(ValueError, match="pool_x must lie in"):
        with_mixup_inference(bg.Classifier(balanced_net()), X * 255, Y)
