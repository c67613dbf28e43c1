"""Long runs: what they give is what the analysis gives at once; what cannot be run in parts is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray as xr
from long_runs import CHUNK, EXAMPLES, SETTINGS, Slow, contents, network, problem, traced_maps
from torch import Tensor, nn

import boundarygeo as bg
from boundarygeo.runs import Job, run_jobs
from boundarygeo.transfer.dimension import dimension_and_transfer


def sign_step(module: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    x = x.clone().requires_grad_()
    nn.functional.cross_entropy(module(x), y, reduction="sum").backward()
    return (x + eps * x.grad.sign()).clamp(0, 1).detach()


@pytest.mark.parametrize(
    ("analysis", "settings"),
    [
        (bg.example_maps, {"extent": 0.3, "resolution": 9, "keep": ("margin", "probability", "planes")}),
        (bg.example_maps, {"extent": 0.3, "resolution": 9, "planes": "random", "seed": 4, "class_names": tuple("abc")}),
        (bg.boundary_distance, {"direction": "fgsm", "max_distance": 0.5}),
        (bg.logit_lines, {"extent": 0.2, "points": 5}),
        (bg.accuracy_curve, {"attack": "pgd", "eps": [0.0, 0.1], "seed": 2, "steps": 3}),
        (bg.adversarial_dimension, {"eps": 1.0}),
        (bg.sequential_directions, {"eps": 2.0, "max_directions": 2}),
        (bg.accuracy_curve, {"attack": sign_step, "eps": [0.0, 0.1]}),
        (bg.worst_case_accuracy, {"attacks": ["fgsm", sign_step, "pgd"], "eps": 0.1}),
        (bg.pgd, {"eps": 0.1, "seed": 1, "steps": 2}),
        (bg.minimal_norm, {}),
        (bg.fgsm, {"eps": 0.1}),
        (bg.defences.certify, {"sigma": 0.2, "n": 100}),
        (bg.exact_boundary_distance, {"direction": "fgsm", "max_distance": 0.2}),
        (bg.noise_success, {"eps": 0.5, "draws": 5}),
        (bg.local_smoothness, {"eps": 0.1}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_a_run_gives_what_the_analysis_gives_at_once(analysis: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    clf, x, y = problem(7)
    index = torch.arange(7) * 3 + 2
    path = bg.run(analysis, clf, x, y, out=tmp_path / "run.zarr", index=index, chunk_size=4, **settings)
    kept, direct = bg.load(path), analysis(clf, x, y, index=index, **settings)
    assert type(kept) is type(direct)
    for name, value in vars(direct).items():
        if isinstance(value, Tensor):
            got = getattr(kept, name)
            assert got.dtype == value.dtype
            torch.testing.assert_close(got, value, equal_nan=True, atol=1e-4, rtol=1e-4, msg=name)
        elif name == "provenance":
            assert got_cost(kept) == got_cost(direct)
            assert kept.provenance.seconds > 0
        else:
            assert getattr(kept, name) == value
    assert [file.name for file in tmp_path.iterdir()] == ["run.zarr"]


def got_cost(result: bg.Result) -> tuple[Any, ...]:
    cost = result.provenance
    return cost.command, cost.seed, cost.model, cost.device, cost.forwards, cost.backwards


def test_analyses_of_several_classifiers_run_in_chunks(tmp_path: Path) -> None:
    clf, x, y = problem(11)
    other = bg.Classifier(network(), device="cpu")
    with torch.no_grad():
        other.module[1].weight *= 1.001  # type: ignore[index,operator,union-attr]
    models = {"one": clf, "other": other}
    settings: dict[str, Any] = {"eps": 0.1, "attack": "pgd", "seed": 3}
    path = bg.run(bg.transfer_matrix, models, x, y, out=tmp_path / "run.zarr", chunk_size=4, **settings)
    kept, direct = bg.load(path), bg.transfer_matrix(models, x, y, **settings)
    assert isinstance(kept, bg.TransferMatrix)
    assert torch.equal(kept.predicted, direct.predicted)
    assert kept.rate("shared").tolist() == direct.rate("shared").tolist()


def test_xarray_reads_the_store_lazily_and_without_a_warning(whole: Path) -> None:
    dataset = xr.open_zarr(whole, chunks=None)
    assert dataset["labels"].dims == ("example", "row", "col")
    assert set(dataset.coords) == {"u", "v", "index"}
    assert dataset["u"].attrs["units"] == "axis units"
    lazy = bg.open_store(whole)
    assert not lazy["labels"].variable._in_memory
    both = xr.concat([lazy.isel(example=slice(0, 20)), lazy.isel(example=slice(20, None))], dim="example")
    assert both["labels"].equals(dataset["labels"])


def test_stores_of_several_models_are_merged_by_xarray(tmp_path: Path) -> None:
    _, x, y = problem(9)
    paths = []
    for seed in range(2):
        torch.manual_seed(seed)
        clf = bg.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval(), device="cpu")
        out = tmp_path / f"{seed}.zarr"
        paths.append(bg.run(bg.boundary_distance, clf, x, y, out=out, direction="random", max_distance=2.0))
    merged = xr.concat([bg.open_store(path) for path in paths], "model")
    assert merged["distance"].dims == ("model", "example")
    assert merged["distance"].sel(model=1).values.tolist() == bg.load(paths[1]).distance.tolist()  # type: ignore[attr-defined]


def test_part_of_a_store_is_read_alone(whole: Path) -> None:
    maps = bg.load(whole)
    assert isinstance(maps, bg.BoundaryMaps)
    for examples, rows in ((slice(3, 7), [3, 4, 5, 6]), ([20, 2], [20, 2])):
        part = bg.load(whole, examples=examples)
        assert isinstance(part, bg.BoundaryMaps)
        assert torch.equal(part.labels, maps.labels[rows])
        assert torch.equal(part.u, maps.u)
    for damaged in whole.glob("labels/c/*"):
        if damaged.name != "0":
            shutil.rmtree(damaged)
            damaged.write_text("never read")
    assert torch.equal(bg.load(whole, examples=slice(4)).labels, maps.labels[:4])  # type: ignore[attr-defined]
    for bad in (slice(23, 30), [23], [], [-1]):
        with pytest.raises(ValueError, match="examples must be some of the 23 in"):
            bg.load(whole, examples=bad)


def test_pooled_fields_are_those_of_all_examples_or_of_those_read(tmp_path: Path) -> None:
    clf, x, y = problem()
    y = (y + (torch.arange(EXAMPLES) < 9).long()) % 3  # the first nine are wrong
    path = bg.run(bg.accuracy_curve, clf, x, y, out=tmp_path / "run.zarr", eps=[0.0, 0.01], chunk_size=CHUNK)
    direct = bg.accuracy_curve(clf, x, y, eps=[0.0, 0.01])
    kept, part = bg.load(path), bg.load(path, examples=slice(0, 18))
    assert isinstance(kept, bg.AccuracyCurve)
    assert isinstance(part, bg.AccuracyCurve)
    assert kept.n == EXAMPLES
    assert torch.equal(kept.accuracy, direct.accuracy)
    assert torch.equal(kept.low, direct.low)
    assert (part.n, float(part.accuracy[0])) == (18, 0.5)


def test_results_of_parts_are_joined() -> None:
    clf, x, y = problem(10)
    curves = [
        bg.accuracy_curve(clf, x[rows], y[rows], eps=[0.0, 0.1], index=range(10)[rows])
        for rows in (slice(0, 3), slice(3, 10))
    ]
    whole, direct = bg.AccuracyCurve.concatenate(curves), bg.accuracy_curve(clf, x, y, eps=[0.0, 0.1])
    assert torch.equal(whole.correct, direct.correct)
    assert torch.equal(whole.low, direct.low)
    assert whole.provenance.forwards == sum(curve.provenance.forwards for curve in curves)
    other = bg.accuracy_curve(clf, x, y, eps=[0.0, 0.2])
    with pytest.raises(ValueError, match=r"parts must have the same 'command' in their provenance|same 'eps'"):
        bg.AccuracyCurve.concatenate([direct, other])
    with pytest.raises(ValueError, match="parts must be one AccuracyCurve or more"):
        bg.AccuracyCurve.concatenate([])


def test_several_classifiers_have_their_stores_filled_in_one_run(tmp_path: Path) -> None:
    clf, x, y = problem(9)
    index = torch.arange(9)
    other = bg.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval(), device="cpu")
    settings = {"extent": 0.4, "resolution": 9, "planes_of": clf}
    jobs = [
        Job(
            analysis=bg.example_maps,
            classifiers=one,
            x=x,
            y=y,
            index=index,
            settings=settings,
            stores=(tmp_path / name,),
        )
        for name, one in (("a.zarr", clf), ("b.zarr", other))
    ]
    run_jobs(jobs, chunk_size=4)
    first, second = (bg.load(path) for job in jobs for path in job.stores)
    planes = bg.fgsm_random_planes(clf, x, y)
    for result, one in ((first, clf), (second, other)):
        assert torch.equal(result.labels, bg.boundary_maps(one, planes, extent=0.4, resolution=9).labels)
    with pytest.raises(ValueError, match="two results have the same store"):
        run_jobs([jobs[0], jobs[0]])


def test_an_analysis_may_give_several_results_each_with_a_store(tmp_path: Path) -> None:
    clf, x, y = problem(11)
    alike = network()
    with torch.no_grad():
        for parameter in alike.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    other = bg.Classifier(alike, device="cpu")
    stores = (tmp_path / "own.zarr", tmp_path / "sent.zarr")
    job = Job(
        analysis=dimension_and_transfer,
        classifiers=[clf, other],
        x=x,
        y=y,
        index=torch.arange(11),
        settings={"eps": 1.5, "box": "ignore"},
        stores=stores,
    )
    run_jobs([job], chunk_size=4)
    source = bg.adversarial_dimension(clf, x, y, eps=1.5, box="ignore", keep_directions=True)
    sent = bg.transferred_dimension(other, x, source)
    kept = [bg.load(store) for store in stores]
    assert torch.equal(kept[0].verified, source.verified)  # type: ignore[attr-defined]
    assert torch.equal(kept[1].count, sent.count)  # type: ignore[attr-defined]
    assert sent.count.sum() > 0
    assert kept[0].provenance.forwards == source.provenance.forwards
    assert kept[1].provenance.forwards == sent.provenance.forwards
    # A part that one of them lacks is computed for that one; nothing is written to the other.
    before = [contents(store) for store in stores]
    (stores[1] / "count" / "c" / "1").unlink()
    logs = [(store / "chunks" / "log.jsonl").read_text().splitlines() for store in stores]
    with pytest.warns(UserWarning, match=r"part 1 .*sent.zarr' is damaged"):
        run_jobs([job], chunk_size=4)
    assert [contents(store) for store in stores] == before
    assert (stores[0] / "chunks" / "log.jsonl").read_text().splitlines() == logs[0]
    now = (stores[1] / "chunks" / "log.jsonl").read_text().splitlines()
    assert [line for line in now if line not in logs[1]] == now[1:2]
    assert [json.loads(line)["part"] for line in now] == [0, 1, 2]
    # The time that a chunk took is divided among its results.
    later = tuple(tmp_path / f"later-{store.name}" for store in stores)
    run_jobs([replace(job, stores=later)], chunk_size=4, engine=Slow())
    seconds = [bg.load(store).provenance.seconds for store in later]
    assert min(seconds) > 0
    assert sum(seconds) == pytest.approx(30, abs=0.01)
    with pytest.raises(ValueError, match="was started with other settings .*result: 1, now 0"):
        run_jobs([replace(job, stores=stores[::-1])], chunk_size=4)
    with pytest.raises(ValueError, match="analysis must return 1 results, one per store, got 2"):
        run_jobs([replace(job, stores=(tmp_path / "one.zarr",))], chunk_size=4)


def test_inputs_are_identified_once_for_all_models_and_results(tmp_path: Path) -> None:
    clf, x, y = problem(45)
    read: list[int] = []

    class Files:
        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, rows: slice) -> Tensor:
            read.extend(range(len(x))[rows])
            return x[rows]

    inputs = Files()
    jobs = [
        Job(
            analysis=traced_maps,
            classifiers=clf,
            x=inputs,
            y=y,
            index=torch.arange(len(x)),
            settings={"extent": 0.1, "resolution": 5},
            stores=(tmp_path / f"{number}.zarr",),
        )
        for number in range(3)
    ]
    run_jobs(jobs, chunk_size=15, progress=False)
    read.clear()
    run_jobs(jobs, chunk_size=15, progress=False)  # all is there: what they are of is only compared
    assert read.count(len(x) - 1) == 1


def drawn_alike(clf: bg.Classifier, x: Tensor, y: Tensor, *, seed: int = 0) -> bg.Result:
    """An analysis that would draw the same for the first example of every chunk."""
    return bg.boundary_distance(clf, x, y, direction="random", max_distance=1.0, seed=seed)


def test_functions_are_recognised_by_their_code(tmp_path: Path) -> None:
    clf, x, y = problem(8)

    def attacked(share: float) -> Path:
        def attack(module: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
            return sign_step(module, x, y, share * eps)

        return bg.run(bg.worst_case_accuracy, clf, x, y, out=tmp_path / "a.zarr", attacks=["fgsm", attack], eps=0.1)

    before = bg.load(attacked(0.5))
    assert before.names == ("fgsm", "attack")
    assert torch.equal(bg.load(attacked(0.5)).by, before.by)  # another function with the same code
    with pytest.raises(ValueError, match="was started with other settings"):
        attacked(0.6)


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "chunk size": ({"chunk_size": 0}, ValueError, "chunk_size must be a positive whole number, or None, got 0"),
    "batch size": ({"batch_size": True}, ValueError, "batch_size must be a positive whole number, or None, got True"),
    "setting": (
        {"extra": object()},
        TypeError,
        "extra must be plain values, tensors, classifiers or functions, got object",
    ),
    "unknown": ({"colour": 1}, TypeError, "unexpected keyword argument 'colour'"),
    "no index": (
        {"analysis": drawn_alike},
        TypeError,
        "cannot be run in parts: it has no argument index=, the numbers of its examples",
    ),
    "no classifier": ({"clf": network()}, TypeError, "clf must be a Classifier, or several, got Sequential"),
    "labels": ({"y": torch.zeros(3, dtype=torch.int64)}, ValueError, r"y must have shape \[23\]"),
    "twice": ({"index": [0] * EXAMPLES}, ValueError, "index must be a different number for each example"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_anything_is_written(case: str, tmp_path: Path) -> None:
    changes, kind, message = BAD[case]
    clf, x, y = problem()
    arguments = {"analysis": traced_maps, "clf": clf, "x": x, "y": y, "out": tmp_path / "run.zarr"} | SETTINGS
    with pytest.raises(kind, match=message):
        bg.run(**(arguments | changes))
    assert not list(tmp_path.iterdir())


def test_an_analysis_that_depends_on_the_other_examples_is_refused(tmp_path: Path) -> None:
    clf, x, y = problem(8)

    def of_all(clf: bg.Classifier, x: Tensor, y: Tensor, *, index: Tensor) -> bg.BoundaryDistances:
        reach = float(x.max())
        return bg.boundary_distance(clf, x, y, direction="random", max_distance=reach, index=index)

    with pytest.raises(ValueError, match="analysis must return the same 'max_distance' for every part, got"):
        bg.run(of_all, clf, x, y, out=tmp_path / "run.zarr", chunk_size=4)
