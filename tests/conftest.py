"""What holds in every test."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers whichever tests ran before, on whichever worker."""
    torch.manual_seed(0)


@pytest.fixture
def short_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequential searches that start from few steps of `minimal_norm`, which would take most of their time."""
    from boundarygeo.attacks import minimal_norm

    short = partial(minimal_norm, steps=30)
    monkeypatch.setattr("boundarygeo.subspace.sequential.sequential.minimal_norm", short)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small networks train no slower on one thread, and fifty times faster where others use the same cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
