"""What holds in every test."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers whichever tests ran before, on whichever worker."""
    torch.manual_seed(0)
