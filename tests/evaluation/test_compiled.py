"""`compile=True`: full batches go through the compiler, others do not, and what it gets wrong is not used."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracles import SmallNet, images
from torch import Tensor, nn

import boundarygeo as bg

X = images(20)


def stand_in(change: Callable[[Tensor], Tensor], seen: list[int]) -> Callable[..., Any]:
    """A compiler that changes logits and notes the sizes of batches."""

    def compiler(module: nn.Module, **settings: Any) -> Callable[[Tensor], Tensor]:
        assert settings == {"dynamic": False}

        def run(x: Tensor) -> Tensor:
            seen.append(len(x))
            return change(module(x))

        return run

    return compiler


def maps_of(**settings: Any) -> bg.BoundaryMaps:
    clf = bg.Classifier(SmallNet(), **settings)
    planes = bg.random_planes(X[:2], clf.predict(X[:2]))
    return bg.boundary_maps(clf, planes, extent=0.5, resolution=9, method="dense", progress=False)


def test_full_batches_alone_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(torch, "compile", stand_in(lambda logits: logits, seen))
    found = maps_of(batch_size=50, compile=True)
    assert seen
    assert set(seen) == {50}
    assert torch.equal(found.labels, maps_of(batch_size=50).labels)


def wrong(logits: Tensor) -> Tensor:
    return logits.roll(1, dims=1)


def broken(logits: Tensor) -> Tensor:
    raise RuntimeError("no compiler")


@pytest.mark.parametrize("change", [wrong, broken])
def test_what_the_compiler_gets_wrong_is_not_used(
    change: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(torch, "compile", stand_in(change, seen))
    found = maps_of(batch_size=50, compile=True)
    assert set(seen) == {50}
    assert len(seen) <= 3  # once for each precision, to compare
    assert torch.equal(found.labels, maps_of(batch_size=50).labels)


def test_a_batch_size_is_needed_and_the_choice_is_kept() -> None:
    with pytest.raises(ValueError, match="compile=True needs a batch_size"):
        bg.Classifier(SmallNet(), compile=True)
    clf = bg.Classifier(SmallNet(), batch_size=8, compile=True)
    assert clf.with_batch_size(4).compile
    assert clf.settings()["compile"]
    assert "compile" not in bg.Classifier(SmallNet(), batch_size=8).settings()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_maps_are_those_of_the_module() -> None:
    found, expected = maps_of(batch_size=81, compile=True), maps_of(batch_size=81)
    assert torch.equal(found.labels, expected.labels)
