"""Parts on Ray's workers: the same store, also when workers die."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import base, make_folder, run
from long_runs import PARTS, SETTINGS, contents, network, problem
from torch import Tensor

import boundarygeo as bg
from boundarygeo.runs import LocalEngine

pytest.importorskip("ray", reason="the extra 'ray' is not installed")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),  # Ray's own, of changes to come
    pytest.mark.filterwarnings("ignore:.*:ResourceWarning"),
]


def shot_once(clf: bg.Classifier, x: Tensor, y: Tensor, *, index: Tensor, fatal: int, note: str) -> bg.Result:
    """Distances; the first process that meets a certain example is killed."""
    if fatal in index.tolist() and not Path(note).exists():
        Path(note).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return bg.boundary_distance(clf, x, y, direction="random", max_distance=1.0, index=index)


def always_shot(clf: bg.Classifier, x: Tensor, y: Tensor, *, index: Tensor) -> bg.Result:
    """Every process that tries is killed."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.fixture(scope="module")
def engine():
    """One small cluster for all tests."""
    import ray
    from ray import cloudpickle

    from boundarygeo.runs.ray import RayEngine

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield RayEngine(workers=2, device="cpu")
    ray.shutdown()


def test_two_workers_give_the_store_of_one_process(engine, tmp_path: Path) -> None:
    clf, x, y = problem()
    shared, alone = (
        bg.run(bg.example_maps, clf, x, y, out=tmp_path / f"{name}.zarr", engine=each, **SETTINGS)
        for name, each in (("shared", engine), ("alone", LocalEngine()))
    )
    assert contents(shared) == contents(alone)
    assert bg.run_status(shared).workers == 2
    assert bg.run_status(alone).workers == 1


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_its_chunk_computed_again(engine, tmp_path: Path) -> None:
    clf, x, y = problem()
    note = tmp_path / "died"
    path = bg.run(
        shot_once, clf, x, y, out=tmp_path / "run.zarr", engine=engine, chunk_size=4, fatal=17, note=str(note)
    )
    assert note.exists()
    alone = bg.run(shot_once, clf, x, y, out=tmp_path / "alone.zarr", chunk_size=4, fatal=17, note=str(note))
    assert contents(path) == contents(alone)
    assert len((path / "chunks/log.jsonl").read_text().splitlines()) == PARTS  # none of the others was computed twice


@pytest.mark.slow
def test_a_chunk_that_kills_every_worker_is_named(engine, tmp_path: Path) -> None:
    clf, x, y = problem(4)
    with pytest.raises(RuntimeError, match="worker died 3 times on examples 0 to 3"):
        bg.run(always_shot, clf, x, y, out=tmp_path / "run.zarr", engine=engine, chunk_size=4)


def test_what_the_analysis_raises_is_raised_here(engine, tmp_path: Path) -> None:
    clf, x, y = problem(8)
    with pytest.raises(ValueError, match="extent must be a positive number, in axis units, got -1"):
        bg.run(bg.example_maps, clf, x, y, out=tmp_path / "run.zarr", engine=engine, extent=-1.0)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_models_travel_with_their_settings(engine, tmp_path: Path) -> None:
    x = torch.rand(9, 3, 2, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1
    clf = bg.Classifier(network(), bounds=(-1, 1), mean=[0.1, 0.2, 0.3], std=[0.5, 1, 2], device="cpu")
    y = clf.predict(x)
    settings: dict[str, Any] = {"direction": "fgsm", "max_distance": 1.5}
    path = bg.run(bg.boundary_distance, clf, x, y, out=tmp_path / "run.zarr", engine=engine, chunk_size=2, **settings)
    kept = bg.load(path)
    assert isinstance(kept, bg.BoundaryDistances)
    assert torch.equal(kept.distance, bg.boundary_distance(clf, x, y, **settings).distance)


@pytest.mark.slow
def test_the_command_line_uses_them(engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folder(tmp_path)
    words = [*base(folder), "--resolution", 9, "--examples", 10, "--chunk-size", 3]
    assert run(capsys, *words, "--out", tmp_path / "ray.zarr", "--engine", "ray", "--workers", 2)[0] == 0
    assert run(capsys, *words, "--out", tmp_path / "local.zarr")[0] == 0
    assert contents(tmp_path / "ray.zarr") == contents(tmp_path / "local.zarr")


def test_settings_of_the_engine_are_checked() -> None:
    from boundarygeo.runs.ray import RayEngine

    for settings, message in (
        ({"workers": 0}, "workers must be a positive whole number, got 0"),
        ({"threads": 1.5}, "threads must be a positive whole number, got 1.5"),
        ({"device": "tpu"}, "device must be 'auto', 'cpu' or 'cuda', got 'tpu'"),
    ):
        with pytest.raises(ValueError, match=message):
            RayEngine(**settings)
