"""All analyses on a device whose tensors mix with none of the CPU: the same results, and few waits for the device."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from analyses import ONE, POOL, POOL_Y, QUIET, SEVERAL, X, Y, assert_same, classifier, network
from torch import Tensor
from torch.utils import backend_registration

import boundarygeo as bg
from boundarygeo.training import METHODS
from boundarygeo.training.layers import Network

if not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"):
    pytest.skip("this version of PyTorch has no devices in Python", allow_module_level=True)

from fake_device import NAME, Elsewhere, FarTensor


@pytest.mark.usefixtures("short_start")
@pytest.mark.parametrize("name", ONE)
def test_an_analysis_gives_there_what_it_gives_here(name: str) -> None:
    with Elsewhere():
        far = ONE[name](classifier(NAME))
    assert_same(far, ONE[name](classifier("cpu")))


@pytest.mark.parametrize("name", SEVERAL)
def test_several_classifiers_give_there_what_they_give_here(name: str) -> None:
    with Elsewhere():
        far = SEVERAL[name]({"a": classifier(NAME), "b": classifier(NAME, 1)})
    assert_same(far, SEVERAL[name]({"a": classifier("cpu"), "b": classifier("cpu", 1)}))


@pytest.mark.parametrize("name", METHODS)
def test_a_training_step_ends_there_where_it_ends_here(name: str) -> None:
    def stepped(device: str) -> tuple[Tensor, dict[str, Tensor]]:
        net = Network(network(), None, None).to(device).train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
        for _ in range(2):
            generator = torch.Generator().manual_seed(3)
            loss, logits = METHODS[name]()(net, POOL.to(device), POOL_Y.to(device), generator=generator)
            assert logits.device.type == torch.device(device).type
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.detach().cpu(), {name: value.cpu() for name, value in net.state_dict().items()}

    with Elsewhere():
        far = stepped(NAME)
    torch.testing.assert_close(far, stepped("cpu"), rtol=1e-3, atol=1e-5)


def test_tensors_of_two_devices_do_not_mix() -> None:
    with Elsewhere():
        far = torch.ones(3, device=NAME)
        assert isinstance(far, FarTensor)
        assert far.device.type == NAME
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            torch.add(far, torch.ones(3))
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            torch.stack([torch.ones(3), far])
        with pytest.raises(RuntimeError, match="for generator"):
            torch.rand(3, device=NAME, generator=torch.Generator())
        with pytest.raises((RuntimeError, TypeError)):
            far.numpy()
        assert (2 * far + torch.tensor(1.0)).tolist() == [3, 3, 3]


def test_copies_and_waits_are_counted() -> None:
    with Elsewhere() as device:
        far = torch.arange(4.0).to(NAME)
        assert device.counts == {"in": 1}
        view = far[1:3].mul_(10)
        assert far.tolist() == [0, 10, 20, 3]
        assert view.cpu().tolist() == [10, 20]
        assert (device.counts["in"], device.counts["out"], device.counts["wait"]) == (1, 2, 0)
        assert bool((far > 1).any())
        assert far[far > 1].numel() == 3
        assert (far > 1).nonzero().shape == (3, 1)
        assert device.counts["wait"] == 3
        far[torch.tensor([0, 1])] = torch.tensor(5.0)
        assert far.tolist()[:2] == [5, 5]
        assert device.counts["in"] == 2


def test_gradients_exist_there() -> None:
    with Elsewhere():
        net = network().to(NAME)
        x = X.to(NAME).requires_grad_()
        (far,) = torch.autograd.grad(net(x).square().sum(), x)
        far = far.cpu()
    x = X.clone().requires_grad_()
    (near,) = torch.autograd.grad(network()(x).square().sum(), x)
    torch.testing.assert_close(far, near)


def waits(work: Callable[[bg.Classifier], Any]) -> int:
    """How often the host waits for the device."""
    with Elsewhere() as device:
        work(classifier(NAME))
    return device.counts["wait"] + device.counts["out"]


def test_steps_of_pgd_wait_once_and_without_an_early_stop_never() -> None:
    def pgd(steps: int, *, early_stop: bool) -> Callable[[bg.Classifier], Any]:
        return lambda clf: bg.pgd(clf, X, Y, eps=1e-6, steps=steps, early_stop=early_stop, **QUIET)

    batches = 2
    assert waits(pgd(20, early_stop=False)) == waits(pgd(10, early_stop=False))
    assert waits(pgd(20, early_stop=True)) - waits(pgd(10, early_stop=True)) == 10 * batches


def test_steps_of_the_other_searches_hardly_wait() -> None:
    def more(work: Callable[[bg.Classifier, int], Any], few: int, many: int) -> float:
        return (waits(lambda clf: work(clf, many)) - waits(lambda clf: work(clf, few))) / (many - few)

    assert more(lambda clf, steps: bg.minimal_norm(clf, X, Y, steps=steps, **QUIET), 32, 132) < 0.05
    assert more(lambda clf, steps: bg.apgd(clf, X, Y, eps=1e-6, steps=steps, **QUIET), 10, 50) <= 2
    assert more(lambda clf, queries: bg.square(clf, X, Y, eps=1e-6, queries=queries, **QUIET), 10, 50) <= 2


def test_larger_maps_wait_hardly_more() -> None:
    def maps_of(resolution: int) -> Callable[[bg.Classifier], Any]:
        def work(clf: bg.Classifier) -> Any:
            planes = bg.fgsm_random_planes(clf, X, Y)
            return bg.boundary_maps(clf.with_batch_size(5000), planes, extent=0.5, resolution=resolution, **QUIET)

        return work

    assert waits(maps_of(33)) - waits(maps_of(17)) <= 12
