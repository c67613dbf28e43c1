"""Overwriting replaces what this package wrote, recognised as such, and nothing else.

Situations, for `--overwrite` and its equals in Python. Kept, byte for byte: folders of the user's files (with a text,
hidden files only, links, another Zarr store, a folder that looks like a journal), texts, CSV tables, photos and figures
of matplotlib as PNG, PDF and SVG, pages, state dicts, checkpoints of others, our own things of another kind (a store
for a figure, a checkpoint for a store), stores in which the user has put a file, a folder or an array, symbolic links,
what the command reads (also through links and other spellings), and what is called like our unfinished runs. Replaced:
stores saved at once, by runs, and by runs that were killed; empty folders; figures, tables, pages, checkpoints.
"""

import csv
import hashlib
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from command_line import make_folder, refused, run
from explored_maps import explored_maps
from matplotlib.figure import Figure
from PIL import Image
from synthetic_maps import make_maps
from torch import nn

import boundarygeo as bg
from boundarygeo.explorer import explorer_page
from boundarygeo.maps.example_maps import example_maps
from boundarygeo.plots import map_grid, save_figure
from boundarygeo.results.overwriting import check_free, foreign
from boundarygeo.training import load_checkpoint, save_checkpoint

SMALL = ["--examples", 4, "--resolution", 5, "--method", "dense", "--include-misclassified"]


def contents(path: Path) -> dict[str, str]:
    """Digest of every file at or below a path, and the targets of links."""
    found = {}
    for each in (path, *path.rglob("*")):
        if each.is_symlink():
            found[str(each)] = os.readlink(each)
        elif each.is_file():
            found[str(each)] = hashlib.sha256(each.read_bytes()).hexdigest()
    return found


def maps():
    return make_maps(np.zeros((1, 5, 5)))


def folder_of_texts(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("mine")


def folder_of_hidden_files(path: Path) -> None:
    path.mkdir()
    (path / ".bashrc").write_text("mine")


def folder_with_a_link(path: Path) -> None:
    path.mkdir()
    (path / "elsewhere").symlink_to("/")


def folder_like_a_journal(path: Path) -> None:
    (path / "chunks").mkdir(parents=True)
    (path / "chunks" / "000000.json").write_text("{}")


def other_zarr(path: Path) -> None:
    xr.Dataset({"labels": ("x", np.arange(3))}).to_zarr(path, consolidated=False)


def store_with_a_file(path: Path) -> None:
    maps().save(path)
    (path / "notes.txt").write_text("mine")


def store_with_a_file_inside_an_array(path: Path) -> None:
    maps().save(path)
    (path / "labels" / "notes.txt").write_text("mine")


def store_with_a_figure(path: Path) -> None:
    maps().save(path)
    save_figure(Figure(), path / "figures" / "grid.png")


def store_with_an_array(path: Path) -> None:
    maps().save(path)
    zarr.open_group(path, mode="r+", use_consolidated=False).create_array("own", shape=(3,), dtype="float64")


def run_with_a_file(path: Path) -> None:
    killed_run(path)
    (path / "chunks" / "notes.txt").write_text("mine")


def table(path: Path) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["level", "score"], ["model", "0.5"]])


def text(path: Path) -> None:
    path.write_text("boundarygeo: mine")


def state_dict(path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), path)


def photo(path: Path) -> None:
    Image.new("RGB", (4, 4), "red").save(path, "PNG")


def own_checkpoint(path: Path) -> None:
    make_checkpoint(path)


def own_figure(path: Path) -> None:
    save_figure(Figure(), path.with_suffix(".png"))
    path.with_suffix(".png").rename(path)


def make_checkpoint(path: Path) -> None:
    from boundarygeo.training import Checkpoint
    from boundarygeo.zoo import build_model

    module = build_model("softmax_regression", num_classes=2, input_shape=(1, 2, 2))
    save_checkpoint(path, module, Checkpoint(architecture="softmax_regression", num_classes=2, input_shape=(1, 2, 2),
                                             mean=(0.0,), std=(1.0,)))  # fmt: skip


def linear() -> bg.Classifier:
    torch.manual_seed(0)
    return bg.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), device="cpu")


def run_maps(out: Path, *, overwrite: bool = False, extent: float = 0.1) -> None:
    x = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    clf = linear()
    settings = {"extent": extent, "resolution": 5, "method": "dense"}
    bg.run(example_maps, clf, x, clf.predict(x), out=out, chunk_size=2, overwrite=overwrite, progress=False, **settings)


def killed_run(path: Path) -> None:
    """A store that lacks what its run says of its parts."""
    run_maps(path)
    (path / "chunks" / "parts.json").unlink()


FOREIGN = [
    folder_of_texts, folder_of_hidden_files, folder_with_a_link, folder_like_a_journal, other_zarr, store_with_a_file,
    store_with_a_file_inside_an_array, store_with_a_figure, store_with_an_array, run_with_a_file, table, text,
    state_dict, photo, own_checkpoint, own_figure,
]  # fmt: skip


@pytest.mark.parametrize("make", FOREIGN, ids=lambda make: make.__name__)
def test_stores_replace_nothing_but_stores(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "there"
    make(path)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="path must not exist yet, got .*there', which .* and is not replaced"):
        maps().save(path, overwrite=True)
    with pytest.raises(ValueError, match="which .* and is not replaced"):
        run_maps(path, overwrite=True)
    path.rename(tmp_path / "out.partial")
    with pytest.raises(ValueError, match="out.partial', which .* and is not replaced"):
        run_maps(tmp_path / "out", overwrite=True, extent=0.2)
    (tmp_path / "out.partial").rename(path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("make", "name"),
    [(store_with_a_file, "notes.txt"), (store_with_a_figure, "figures/grid.png"), (store_with_an_array, "own/.*")],
)
def test_the_file_in_the_way_is_named(make: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    make(tmp_path / "maps.zarr")
    with pytest.raises(ValueError, match=f"holds '{name}' that boundarygeo did not write"):
        maps().save(tmp_path / "maps.zarr", overwrite=True)


def test_our_own_stores_are_replaced(tmp_path: Path) -> None:
    saved, made, unfinished, empty = (tmp_path / name for name in ("saved", "run", "killed", "empty"))
    maps().save(saved)
    run_maps(made)
    killed_run(unfinished)
    empty.mkdir()
    (saved / ".DS_Store").touch()  # of the Finder
    for path in (saved, made, unfinished, empty):
        maps().save(path, overwrite=True)
        assert isinstance(bg.load(path), bg.BoundaryMaps)
        run_maps(path, overwrite=True)
        assert len(bg.load(path).labels) == 4  # type: ignore[attr-defined]
    assert {each.name for each in tmp_path.iterdir()} == {"saved", "run", "killed", "empty"}


def test_a_store_of_an_earlier_version_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "old.zarr"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        maps().to_xarray().to_zarr(path, consolidated=True)  # as it was written before: without the group `chunks`
    maps().save(path, overwrite=True)
    assert (path / "chunks" / "zarr.json").is_file()


def test_what_comes_to_stand_there_while_a_run_computes_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "maps.zarr"
    x, clf = torch.rand(2, 3, 2, 2), linear()

    def meanwhile(clf: bg.Classifier, x: torch.Tensor, y: torch.Tensor, *, index: torch.Tensor) -> bg.BoundaryMaps:
        folder_of_texts(out)
        return example_maps(clf, x, y, extent=0.1, resolution=5, method="dense", index=index, progress=False)

    with pytest.raises(ValueError, match="maps.zarr', which is not a store of boundarygeo and is not replaced"):
        bg.run(meanwhile, clf, x, clf.predict(x), out=out, progress=False)
    assert (out / "notes.txt").read_text() == "mine"
    assert len(bg.load(tmp_path / "maps.zarr.partial").labels) == 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_figures_replace_figures_that_were_saved_by_us(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"figure{suffix}"
    Figure().savefig(path)  # the user's own, with matplotlib
    before = path.read_bytes()
    with pytest.raises(ValueError, match="which is not a figure that boundarygeo saved and is not replaced"):
        save_figure(map_grid(maps()), path)
    assert path.read_bytes() == before
    path.unlink()
    save_figure(Figure(), path)
    before = path.read_bytes()
    save_figure(map_grid(maps()), path)
    assert path.read_bytes() != before


@pytest.mark.parametrize("make", [photo, text, folder_of_texts, own_checkpoint])
def test_figures_replace_nothing_else(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "figure.png")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="which is not a figure"):
        save_figure(Figure(), tmp_path / "figure.png")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("make", [state_dict, text, photo, folder_of_texts, own_figure])
def test_checkpoints_replace_checkpoints_alone(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    make(path)
    before = contents(tmp_path)
    own_checkpoint(tmp_path / "own.pt")
    module, checkpoint = load_checkpoint(tmp_path / "own.pt")
    with pytest.raises(ValueError, match="net.pt', which is not a checkpoint of boundarygeo and is not replaced"):
        save_checkpoint(path, module, checkpoint, overwrite=True)
    with pytest.raises(ValueError, match="must not exist yet \\(or pass overwrite\\)"):
        save_checkpoint(tmp_path / "own.pt", module, checkpoint)
    save_checkpoint(tmp_path / "own.pt", module, checkpoint, overwrite=True)
    assert contents(path) == {name: digest for name, digest in before.items() if name.startswith(str(path))}


def test_links_are_refused_wherever_they_point(tmp_path: Path) -> None:
    maps().save(tmp_path / "real.zarr")
    for target in ("real.zarr", "nowhere"):
        (tmp_path / "link").symlink_to(tmp_path / target)
        for overwrite in (True, False):
            with pytest.raises(ValueError, match="path must not be a symbolic link, got .*link': pass the path"):
                check_free(tmp_path / "link", overwrite=overwrite, kind="store")
        (tmp_path / "link").unlink()
    (tmp_path / "folder").symlink_to(tmp_path)
    maps().save(tmp_path / "folder" / "real.zarr", overwrite=True)  # a link above it is a place like any other


@pytest.mark.parametrize("path", ["", ".", "/", "..", "file/new.zarr", "file/deep/new.zarr"])
def test_where_nothing_can_be_written_is_said_before(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(ValueError, match="path must end in the name of a file|cannot be written: .* is not a folder"):
        maps().save(path, overwrite=True)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_folders_without_permission_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Faked, because nothing is forbidden to root.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    for path in (tmp_path / "new.png", tmp_path / "deep" / "new.png"):
        with pytest.raises(ValueError, match="new.png' cannot be written: no permission to write to"):
            save_figure(Figure(), path)
    assert not list(tmp_path.iterdir())


def test_trailing_slashes_mean_the_same(tmp_path: Path) -> None:
    maps().save(f"{tmp_path}/maps.zarr/")
    maps().save(f"{tmp_path}/maps.zarr//", overwrite=True)
    folder_of_texts(tmp_path / "mine")
    with pytest.raises(ValueError, match="is not a store of boundarygeo"):
        maps().save(f"{tmp_path}/mine/", overwrite=True)


# ---- the command line


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("study"))


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files of the user's, and with a model and data."""
    for name in ("model.pt", "data.npz"):
        shutil.copy(made / name, tmp_path / name)
    folder_of_texts(tmp_path / "folder")
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    photo(tmp_path / "photo.png")
    (tmp_path / "page.html").write_text("<html><body>mine</body></html>")
    (tmp_path / "link.pt").symlink_to("model.pt")
    maps().save(tmp_path / "maps.zarr")
    monkeypatch.chdir(tmp_path)
    return tmp_path


MODEL = ["--model", "model.pt", "--data", "npz:data.npz", "--device", "cpu", *SMALL]
REFUSED = {
    "a folder": (["maps", *MODEL, "--out", "folder"], "folder', which is not a store of boundarygeo"),
    "a folder with a slash": (["maps", *MODEL, "--out", "folder/"], "folder', which is not a store of boundarygeo"),
    "a table": (["maps", *MODEL, "--out", "notes.csv"], "notes.csv', which is not a store"),
    "the model": (["maps", *MODEL, "--out", "model.pt"], "--out would overwrite model.pt, which --model reads"),
    "the model in other words": (["maps", *MODEL, "--out", "folder/../model.pt"], "model.pt, which --model reads"),
    "the model through a link": (["maps", *MODEL, "--out", "link.pt"], "would overwrite link.pt, which --model reads"),
    "the data": (["maps", *MODEL, "--out", "data.npz"], "--out would overwrite data.npz, which --data reads"),
    "the model, counted": (["maps", *MODEL, "--out", "mod{model}"], "mod1', which is not a store"),
    "a photo": (["maps", *MODEL, "--figure", "photo.png"], "photo.png', which is not a figure that boundarygeo saved"),
    "a second photo": (["maps", *MODEL, "--plane-figure", "photo.png"], "photo.png', which is not a figure"),
    "a photo of lines": (["lines", *MODEL[:6], "--figure", "photo.png"], "photo.png', which is not a figure"),
    "a figure in the store": (["maps", *MODEL, "--out", "new", "--figure", "new/a.png"], "--figure must not be inside"),
    "two spellings": (["maps", *MODEL, "--figure", "a.png", "--plane-figure", "./a.png"], "are the same file"),
    "below a file": (["maps", *MODEL, "--figure", "notes.csv/a.png"], "'notes.csv/a.png' cannot be written: '"),
    "no name": (["maps", *MODEL, "--out", "."], "path must end in the name of a file or folder"),
    "a page": (["explore", "maps.zarr", "--out", "page.html"], "page.html', which is not a page of boundarygeo"),
    "a comparison's table": (["compare", "model.pt", "--out", "notes.csv"], "notes.csv', which is not a table of"),
    "a comparison's folder": (["compare", "model.pt", "--out", "folder"], "folder', which is not a comparison of"),
    "a store for a comparison": (["compare", "model.pt", "--out", "maps.zarr"], "which is not a comparison of"),
    "a checkpoint of others": (["train", "--data", "npz:data.npz", "--out", "photo.png"], "which is not a checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_commands_keep_what_is_not_theirs(case: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, complaint = REFUSED[case]
    (here / "mod1").write_text("mine")
    before = contents(here)
    assert complaint in refused(capsys, *words, "--overwrite")
    assert contents(here) == before


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("name", ["net.best.pt", "net.state.pt"])
def test_training_keeps_what_is_called_like_its_files(
    name: str, resume: bool, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state_dict(here / name)
    before = contents(here)
    words = ["train", "--data", "npz:data.npz", "--out", "net.pt", "--resume" if resume else "--overwrite"]
    assert f"{name}', which is not a" in refused(capsys, *words)
    assert contents(here) == before


def test_commands_replace_what_is_theirs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["maps", *MODEL, "--out", "new.zarr", "--figure", "new.png", "--plane-figure", "plane.svg", "--overwrite"]
    for seed in (0, 1):
        assert run(capsys, *words, "--seed", seed)[0] == 0
    assert bg.load("new.zarr").provenance.seed == 1
    for title in ("one", "two"):
        assert run(capsys, "explore", "maps.zarr", "--out", "new.html", "--overwrite", "--title", title)[0] == 0
    assert "<h1>two</h1>" in (here / "new.html").read_text(encoding="utf-8")
    few = ["--data", "npz:data.npz", "--instruments", "spectrum", "--examples", 8, "--device", "cpu", "--overwrite"]
    for out in ("table.csv", "folder2"):
        for seed in (0, 1):
            assert run(capsys, "compare", "model.pt", *few, "--out", out, "--seed", seed)[0] == 0
    (here / "folder2" / "notes.txt").write_text("mine")  # beside a comparison: it is kept
    assert run(capsys, "compare", "model.pt", *few, "--out", "folder2", "--seed", 2)[0] == 0
    assert (here / "folder2" / "notes.txt").read_text() == "mine"
    (here / "folder2" / "results" / "notes.txt").write_text("mine")  # inside it: it would be deleted
    complaint = refused(capsys, "compare", "model.pt", *few, "--out", "folder2", "--seed", 3)
    assert "holds 'results/notes.txt' that boundarygeo did not write" in complaint


def test_pages_are_recognised_whatever_their_title(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(explorer_page(explored_maps(), title='<meta name="generator" content="mine">'), encoding="utf-8")
    assert foreign(page, "page") is None
    page.write_text("<title>&lt;meta name=&quot;generator&quot; content=&quot;boundarygeo 1</title>")
    assert foreign(page, "page") == "is not a page of boundarygeo"


def test_the_mark_of_a_figure_survives_other_settings(tmp_path: Path) -> None:
    with mpl.rc_context({"savefig.facecolor": "red", "svg.fonttype": "none", "pdf.compression": 9}):
        for suffix in ("png", "pdf", "svg"):
            assert foreign(save_figure(map_grid(maps()), tmp_path / f"a.{suffix}"), "figure") is None


@pytest.mark.parametrize("left", [None, ".plan.json.123.partial"])
def test_a_run_that_was_killed_before_its_plan_was_written_is_no_obstacle(left: str | None, tmp_path: Path) -> None:
    started = tmp_path / "out.partial" / "parts"
    started.mkdir(parents=True)
    if left is not None:
        (started / left).write_bytes(b"{")
    run_maps(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def unfinished_run(out: Path) -> Path:
    """What a run leaves that was stopped after the first of its two parts."""

    def stops(self, jobs, tasks, compute=bg.LocalEngine.compute):
        yield from compute(self, jobs, tasks[:1])
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bg.LocalEngine, "compute", stops)
        with pytest.raises(KeyboardInterrupt):
            run_maps(out)
    return out.with_name(f"{out.name}.partial")


def test_a_file_inside_an_unfinished_run_is_kept_and_so_is_one_beside_its_parts(tmp_path: Path) -> None:
    left = unfinished_run(tmp_path / "out")
    for name in ("parts/notes.txt", "parts/000000.zarr/notes.txt"):
        (left / name).write_text("mine")
        before = contents(tmp_path)
        with pytest.raises(ValueError, match=r"holds 'parts/(notes.txt|000000.zarr)' that boundarygeo did not write"):
            run_maps(tmp_path / "out", overwrite=True, extent=0.2)
        assert contents(tmp_path) == before
        (left / name).unlink()
    (left / "notes.txt").write_text("mine")
    run_maps(tmp_path / "out", overwrite=True, extent=0.2)
    assert sorted(contents(left)) == [str(left / "notes.txt")]
    assert len(bg.load(tmp_path / "out").labels) == 4  # type: ignore[attr-defined]
