"""Attacks of others: run on the network itself, and judged from outside."""

import pytest
import torch
from torch import Tensor, nn

import boundarygeo as bg

EPS = 0.05


def problem(**settings) -> tuple[bg.Classifier, Tensor, Tensor]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(27, 16), nn.Tanh(), nn.Linear(16, 3))
    module[1].weight.data *= 4
    clf = bg.Classifier(module, mean=[0.4, 0.5, 0.6], std=0.5, **settings)
    x = 0.1 + 0.8 * torch.rand(12, 3, 3, 3)
    y = clf.predict(x)
    y[0] = (y[0] + 1) % 3  # misclassified to begin with
    return clf, x, y


def sign_step(module: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    x = x.clone().requires_grad_()
    nn.functional.cross_entropy(module(x), y, reduction="sum").backward()
    return (x + eps * x.grad.sign()).clamp(0, 1).detach()


def by_hand(clf: bg.Classifier) -> nn.Module:
    """The network with inputs in [0, 1]."""

    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = clf.module

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(clf.normalise(x))

    return Normalised().eval()


def test_a_function_does_what_our_fgsm_does() -> None:
    clf, x, y = problem()
    own, theirs = bg.fgsm(clf, x, y, eps=EPS), bg.external_attack(clf, x, y, attack=sign_step, eps=EPS)
    assert 0 < own.found[1:].sum() < 11
    assert torch.equal(own.found, theirs.found)
    torch.testing.assert_close(own.x_adv, theirs.x_adv)
    assert (theirs.attack, theirs.distance[0]) == ("sign_step", 0)
    assert torch.equal(theirs.x_adv[0], x[0])
    live = 11  # one forward for labels before and after, one in the attack; FGSM alone differentiates everything
    assert (theirs.provenance.forwards, theirs.provenance.backwards) == (12 + live + live, live)


def test_foolbox_attacks() -> None:
    foolbox = pytest.importorskip("foolbox")
    clf, x, y = problem()
    attack = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    found = bg.external_attack(clf, x, y, attack=attack, eps=EPS)
    assert found.attack == "foolbox.LinfFastGradientAttack"
    model = foolbox.PyTorchModel(by_hand(clf), bounds=(0, 1), device="cpu")
    _, points, success = attack(model, x[1:], y[1:], epsilons=EPS)
    assert torch.equal(found.found[1:], success)
    torch.testing.assert_close(found.x_adv[1:], points)


def test_torchattacks_attacks_get_the_module() -> None:
    torchattacks = pytest.importorskip("torchattacks")
    clf, x, y = problem()
    model = by_hand(clf)
    made_for = nn.Sequential(nn.Flatten(), nn.Linear(27, 3))
    attack = torchattacks.PGD(made_for, eps=EPS, alpha=0.02, steps=4, random_start=False)
    found = bg.external_attack(clf, x, y, attack=attack, eps=EPS)
    assert attack.model is made_for
    points = torchattacks.PGD(model, eps=EPS, alpha=0.02, steps=4, random_start=False)(x[1:], y[1:])
    torch.testing.assert_close(found.x_adv[1:], points)
    with pytest.raises(ValueError, match=r"attack PGD was made with eps=0.05, eps is 0.1"):
        bg.external_attack(clf, x, y, attack=attack, eps=0.1)
    with pytest.raises(ValueError, match=r"torchattacks needs inputs in \[0, 1\]"):
        bg.external_attack(problem(bounds=(-1, 1))[0], x, y, attack=attack, eps=EPS)


def test_autoattack_has_its_own_model_which_must_be_the_same() -> None:
    clf, x, y = problem()

    class AutoAttack:
        def __init__(self, model: nn.Module, epsilon: float) -> None:
            self.model, self.epsilon = model, epsilon

        def run_standard_evaluation(self, x: Tensor, y: Tensor, bs: int) -> Tensor:
            assert bs == len(x)
            return sign_step(self.model, x, y, self.epsilon)

    found = bg.external_attack(clf, x, y, attack=AutoAttack(by_hand(clf), EPS), eps=EPS)
    assert torch.equal(found.found, bg.fgsm(clf, x, y, eps=EPS).found)
    with pytest.raises(ValueError, match="made with a model that predicts other labels"):
        bg.external_attack(clf, x, y, attack=AutoAttack(lambda x: -by_hand(clf)(x), EPS), eps=EPS)
    with pytest.raises(ValueError, match="labels or logits for the same inputs"):  # right where it matters, and another
        bg.external_attack(clf, x, y, attack=AutoAttack(lambda x: by_hand(clf)(x) ** 3, EPS), eps=EPS)
    with pytest.raises(ValueError, match="AutoAttack was made with epsilon=0.1, eps is 0.05"):
        bg.external_attack(clf, x, y, attack=AutoAttack(by_hand(clf), 0.1), eps=EPS)


def test_pyautoattack_is_called_in_its_own_way() -> None:
    pyautoattack = pytest.importorskip("pyautoattack")
    clf, x, y = problem()
    attack = pyautoattack.AutoAttack(by_hand(clf), norm="Linf", eps=EPS, version="custom", attacks=["apgd-ce"], seed=0)
    found = bg.external_attack(clf, x, y, attack=attack, eps=EPS)
    points, _ = attack.run_standard_evaluation(x[1:], y[1:])
    assert found.attack == "AutoAttack"
    torch.testing.assert_close(found.x_adv[1:], points)


def outside(module: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    return sign_step(module, x, y, 1.01 * eps)


@pytest.mark.parametrize(
    ("attack", "error", "match"),
    [
        (outside, ValueError, r"attack outside left the ball: linf distance up to 0.0505, eps is 0.05"),
        (lambda m, x, y, eps: x - 0.2, ValueError, r"left the bounds \(0.0, 1.0\): its inputs lie in \[-0.0"),
        (lambda m, x, y, eps: x[:1], ValueError, r"must return inputs of shape \[11, 3, 3, 3\], got \[1, 3, 3, 3\]"),
        (lambda m, x, y, eps: None, TypeError, "must return a tensor, got NoneType"),
        ("pgd", TypeError, "attack must be a function .* or ART, got str"),
    ],
)
def test_what_is_not_allowed_is_refused(attack, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        bg.external_attack(*problem(), attack=attack, eps=EPS)


def test_a_random_attack_repeats_and_leaves_the_generator_alone() -> None:
    clf, x, y = problem()

    def noise(module: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        return (x + eps * (2 * torch.rand_like(x) - 1)).clamp(0, 1)

    before = torch.get_rng_state()
    first, again, other = (bg.external_attack(clf, x, y, attack=noise, eps=EPS, seed=s).x_adv for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_saved_and_loaded(tmp_path) -> None:
    clf, x, y = problem()
    result = bg.external_attack(clf, x, y, attack=sign_step, eps=EPS)
    again = bg.load(result.save(tmp_path / "found.zarr"))
    assert again.attack == "sign_step"
    assert torch.equal(again.x_adv, result.x_adv)
