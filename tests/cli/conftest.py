"""One data set and two checkpoints trained on it, for all tests of a worker."""

from pathlib import Path

import pytest
from command_line import make_folder, train


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data.npz`, `model.pt` (softmax regression) and `other.pt` (an MLP), to be read only."""
    folder = make_folder(tmp_path_factory.mktemp("cli"))
    train(folder / "other.pt", folder / "data.npz", "mlp", "--seed", 1)
    return folder
