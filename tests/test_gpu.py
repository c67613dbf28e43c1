"""All analyses on a real GPU, where there is one: `pytest -m gpu`."""

import pytest
import torch
from analyses import ONE, SEVERAL, X, assert_same, classifier

import boundarygeo as bg

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("name", ONE)
def test_an_analysis_gives_there_what_it_gives_here(name: str) -> None:
    assert_same(ONE[name](classifier("cuda")), ONE[name](classifier("cpu")))


@pytest.mark.parametrize("name", SEVERAL)
def test_several_classifiers_give_there_what_they_give_here(name: str) -> None:
    far = SEVERAL[name]({"a": classifier("cuda"), "b": classifier("cuda", 1)})
    assert_same(far, SEVERAL[name]({"a": classifier("cpu"), "b": classifier("cpu", 1)}))


def test_the_module_stays_where_it_is() -> None:
    clf = classifier("cuda")
    bg.logit_lines(clf, X, clf.predict(X), extent=(-0.1, 0.1), progress=False)
    assert {value.device.type for value in clf.module.state_dict().values()} == {"cpu"}


def test_batches_that_do_not_fit_are_halved() -> None:
    width = 1 << 15  # activations of 128 KiB per input
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, width), torch.nn.ReLU())
    net = torch.nn.Sequential(net, torch.nn.Linear(width, 3)).eval()
    x = torch.rand(1 << 14, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    clf = bg.Classifier(net, device="cuda", batch_size=1 << 14)
    expected = bg.Classifier(net, device="cuda", batch_size=256).logits(x)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + (1 << 30)) / total)
        found = clf.logits(x)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
