"""One run that was not interrupted, for all tests of a worker."""

import shutil
from pathlib import Path

import pytest
from long_runs import contents, whole_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, to be read only."""
    return whole_run(tmp_path_factory.mktemp("finished") / "run.zarr")


@pytest.fixture(scope="session")
def expected(finished: Path) -> dict[str, bytes]:
    """What the store of every run holds in the end."""
    return contents(finished)


@pytest.fixture
def whole(finished: Path, tmp_path: Path) -> Path:
    """The same run, to be overwritten or damaged."""
    return shutil.copytree(finished, tmp_path / "run.zarr")
