"""Commands go by the names of classes: in folders, checkpoints and files of names.

The class of an image is the quadrant that is bright, and a linear network says which that is: by construction it is
right on every image, if and only if each label stands for the output with the name of its folder. Situations:

- a checkpoint with the folders' names in another order: all folders, two of them, in another spelling, one renamed
- folders named by number, ten or more of them, for a checkpoint with words, with numbers, and for a factory
- a factory with four outputs for a folder of three; with names from a file, in the wrong number, twice
- stores: names and true classes are the model's, examples included that are wrong
- compare and transfer: models whose outputs are in another order, of other names, of unknown names
- folders of WordNet ids
"""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import refused, run
from PIL import Image

import boundarygeo as bg
from boundarygeo.training import Checkpoint, load_checkpoint, save_checkpoint
from boundarygeo.zoo import build_model

NAMES = ("wasp", "ant", "Polar Bear", "dog")  # of quadrants 0 to 3, and not in the order of the alphabet


def write_images(folder: Path, quadrant: int, count: int = 3) -> None:
    """Noise with a bright quadrant."""
    generator = np.random.default_rng(quadrant)
    folder.mkdir(parents=True)
    for number in range(count):
        image = generator.integers(0, 40, (4, 4, 3)).astype(np.uint8)
        row, col = divmod(quadrant % 4, 2)
        image[2 * row : 2 * row + 2, 2 * col : 2 * col + 2] += 200
        Image.fromarray(image).save(folder / f"{number}.png")


def folder_of(path: Path, quadrants: dict[str, int]) -> str:
    for name, quadrant in quadrants.items():
        write_images(path / name, quadrant)
    return f"folder:{path}"


def head(quadrants: list[int]) -> dict[str, torch.Tensor]:
    """Weights with which output k is the brightness of quadrant `quadrants[k]`; -1 for an output that never wins."""
    places = torch.arange(16).view(2, 2, 2, 2).permute(0, 2, 1, 3).reshape(4, 4)  # [quadrant, pixel]
    weight = torch.zeros(len(quadrants), 3, 16)
    for output, quadrant in enumerate(quadrants):
        if quadrant >= 0:
            weight[output, :, places[quadrant]] = 1.0
    return {"1.weight": weight.flatten(1), "1.bias": torch.zeros(len(quadrants))}


def checkpoint(file: Path, names: tuple[str, ...], quadrants: list[int]) -> Path:
    module = build_model("softmax_regression", num_classes=len(quadrants), input_shape=(3, 4, 4))
    module.load_state_dict(head(quadrants))
    said = Checkpoint(
        architecture="softmax_regression", num_classes=len(quadrants), input_shape=(3, 4, 4), class_names=names
    )
    return save_checkpoint(file, module, said)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "net.pt", NAMES, [0, 1, 2, 3])


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A factory of four and of twelve outputs."""
    lines = ["from torch import nn"]
    for count, name in ((4, "four"), (12, "twelve"), (1000, "thousand")):
        lines += [f"def {name}():", f"    return nn.Sequential(nn.Flatten(), nn.Linear(48, {count}))"]
    (tmp_path / "nets_of_classes.py").write_text("\n".join(lines))
    torch.save(head([0, 1, 2, 3]), tmp_path / "four.pt")
    torch.save(head([k % 4 if k >= 8 else -1 for k in range(12)]), tmp_path / "twelve.pt")
    monkeypatch.chdir(tmp_path)
    return "nets_of_classes"


def accuracy(capsys: pytest.CaptureFixture[str], *words: object) -> float:
    """Share of the examples that the network gets right, in per cent."""
    status, said, complaint = run(capsys, "accuracy", "--eps", 0, "--examples", 6, "--device", "cpu", *words)
    assert status == 0, complaint
    found = re.search(r"^0 +([\d.]+) %", said, re.MULTILINE)
    assert found is not None, said
    return float(found[1])


@pytest.mark.parametrize(
    "quadrants",
    [{"ant": 1, "dog": 3, "wasp": 0, "Polar Bear": 2}, {"dog": 3, "wasp": 0}, {"ANT": 1, "polar_bear": 2, "dog": 3}],
)
def test_folders_are_the_classes_of_their_names(
    quadrants: dict[str, int], net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accuracy(capsys, "--model", net, "--data", folder_of(tmp_path / "images", quadrants)) == 100
    turned = {name: (quadrant + 1) % 4 for name, quadrant in quadrants.items()}
    assert accuracy(capsys, "--model", net, "--data", folder_of(tmp_path / "wrong", turned)) == 0


@pytest.mark.parametrize("command", ["accuracy", "maps", "compare"])
def test_a_renamed_folder_is_refused_with_both_lists(
    command: str, net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder_of(tmp_path / "images", {"emmet": 1, "dog": 3, "wasp": 0})
    model = [net] if command == "compare" else ["--model", net]
    said = refused(capsys, command, *model, "--data", data, "--out", tmp_path / "out")
    assert "no class emmet (the data's classes: dog, emmet, wasp; the model's: wasp, ant, Polar Bear, dog)" in said
    assert not (tmp_path / "out").exists()


def test_stores_have_the_model_s_names_and_numbers(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder_of(tmp_path / "images", {"dog": 3, "Polar Bear": 2, "ant": 0})  # every ant is a wasp
    words = ["--include-misclassified", "--examples", 9, "--extent", 0.01, "--resolution", 9, "--planes", "random"]
    status, _, complaint = run(
        capsys,
        "maps",
        "--model",
        net,
        "--data",
        data,
        *words,
        "--out",
        tmp_path / "m.zarr",
        "--figure",
        tmp_path / "m.png",
    )
    assert status == 0, complaint
    maps = bg.load(tmp_path / "m.zarr")
    assert isinstance(maps, bg.BoundaryMaps)
    assert maps.class_names == NAMES
    pairs = list(zip(maps.true_labels.tolist(), maps.center_labels.tolist(), strict=True))
    assert sorted(pairs) == [(1, 0)] * 3 + [(2, 2)] * 3 + [(3, 3)] * 3


def test_folders_named_by_number_are_the_outputs_of_these_numbers(
    factory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # In the order of the text, 10 and 11 come before 8 and 9.
    data = folder_of(tmp_path / "images", {"8": 0, "9": 1, "10": 2, "11": 3})
    model = ["--model", f"{factory}:twelve", "--weights", "twelve.pt"]
    assert accuracy(capsys, *model, "--data", data) == 100
    as_text = tuple(sorted(map(str, range(12))))
    ours = checkpoint(tmp_path / "as_text.pt", as_text, [int(name) % 4 if int(name) >= 8 else -1 for name in as_text])
    assert accuracy(capsys, "--model", ours, "--data", data) == 100


def test_numbers_for_a_model_that_has_words_are_taken_as_numbers_with_a_warning(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder_of(tmp_path / "images", {"0": 0, "2": 2})
    with pytest.warns(UserWarning, match="'2' is class 2, 'Polar Bear'"):
        assert accuracy(capsys, "--model", net, "--data", data) == 100
    # Labels of arrays are numbers and nothing else.
    images = np.stack([np.asarray(Image.open(tmp_path / f"images/{k}/0.png")) for k in (0, 2)])
    np.savez(tmp_path / "data.npz", x_test=images, y_test=np.array([0, 2]))
    with pytest.warns(UserWarning, match="only 2 of the 6 examples") as warned:
        assert accuracy(capsys, "--model", net, "--data", f"npz:{tmp_path}/data.npz") == 100
    assert len(warned) == 1


def test_a_factory_s_classes_are_known_from_a_file(
    factory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder_of(tmp_path / "images", {"ant": 1, "dog": 3, "wasp": 0})
    model = ["--model", f"{factory}:four", "--weights", "four.pt"]
    said = refused(capsys, "accuracy", *model, "--data", data)
    assert "the data has 3 classes (ant, dog, wasp), the model has 4 classes without names" in said
    assert "--classes FILE" in said
    (tmp_path / "names.txt").write_text("\ufeff" + "\n".join(NAMES) + "\n\n", encoding="utf-8")
    assert accuracy(capsys, *model, "--data", data, "--classes", tmp_path / "names.txt") == 100
    (tmp_path / "other.txt").write_text("dog\nPolar Bear\nant\nwasp\n")
    assert accuracy(capsys, *model, "--data", data, "--classes", tmp_path / "other.txt") == 0
    (tmp_path / "few.txt").write_text("dog\nPolar Bear\nant\n")
    said = refused(capsys, "accuracy", *model, "--data", data, "--classes", tmp_path / "few.txt")
    assert "the model has 4 outputs, but names of 3 classes: dog, Polar Bear, ant" in said


def test_as_many_folders_as_outputs_are_in_the_order_of_the_alphabet_where_nothing_is_known(
    factory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder_of(tmp_path / "images", {"a": 0, "b": 1, "c": 2, "d": 3})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert accuracy(capsys, "--model", f"{factory}:four", "--weights", "four.pt", "--data", data) == 100


def test_folders_of_wordnet_ids_are_imagenet_s_classes(
    factory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Numbers 0, 1, 2 and 999.
    data = folder_of(tmp_path / "images", {"n01440764": 0, "n01443537": 1, "n01484850": 2, "n15075141": 3})
    quadrants = [-1] * 1000
    quadrants[:3], quadrants[999] = [0, 1, 2], 3
    torch.save(head(quadrants), tmp_path / "thousand.pt")
    model = ["--model", f"{factory}:thousand", "--weights", "thousand.pt"]
    assert accuracy(capsys, *model, "--data", data) == 100


@pytest.mark.parametrize(
    ("names", "quadrants", "complaint"),
    [
        (("ant", "wasp", "Polar Bear", "dog"), [1, 0, 2, 3], "the same classes in the same order"),
        (("wasp", "ant", "Polar Bear", "cat"), [0, 1, 2, 3], "class 3 is 'dog' and 'cat'"),
        (("wasp", "ant", "dog"), [0, 1, 3], "number of classes|models must have the same classes"),
    ],
)
@pytest.mark.parametrize("command", ["transfer", "compare", "accuracy"])
def test_models_of_other_classes_are_not_compared(
    command: str,
    names: tuple[str, ...],
    quadrants: list[int],
    complaint: str,
    net: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = folder_of(tmp_path / "images", {"ant": 1, "wasp": 0})
    other = checkpoint(tmp_path / "other.pt", names, quadrants)
    models = [net, other] if command == "compare" else ["--model", net, "--model", other]
    start = {"transfer": ["transfer", "matrix", "--eps", 0.1]}.get(command, [command])
    said = refused(capsys, *start, *models, "--data", data, "--out", tmp_path / "out-{model}")
    assert re.search(complaint, said), said
    assert not list(tmp_path.glob("out*"))


def test_models_of_the_same_classes_are_compared_and_nameless_ones_by_the_numbers_of_the_data(
    factory: str, net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = folder_of(tmp_path / "images", {"dog": 3, "wasp": 0})
    models = ["--model", net, "--model", f"{factory}:four", "--weights", "four.pt"]
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    words = ["transfer", "matrix", *models, "--eps", 0.1, "--examples", 6, "--device", "cpu", "--data"]
    status, said, complaint = run(capsys, *words, some, "--classes", tmp_path / "names.txt")
    assert status == 0, complaint
    assert len(re.findall(r"100\.0 %", said)) >= 2
    every = folder_of(tmp_path / "every", {"dog": 3, "wasp": 0, "ant": 1, "Polar Bear": 2})
    # In the order of the alphabet the factory's outputs would be others than the checkpoint's.
    assert "the outputs of" in refused(capsys, *words, every)


def test_compare_goes_by_names(net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder_of(tmp_path / "images", {"dog": 3, "wasp": 0, "Polar Bear": 2})
    words = ["--instruments", "accuracy", "--examples", 9, "--eps", 0.001, "--restarts", 1, "--device", "cpu"]
    status, _, complaint = run(capsys, "compare", net, "--data", data, *words, "--out", tmp_path / "table.csv")
    assert status == 0, complaint
    clean = [line for line in (tmp_path / "table.csv").read_text().splitlines() if "clean" in line]
    assert clean, "no clean accuracy in the table"
    assert all(",1.0," in line or ",1," in line or ",100.0," in line for line in clean), clean


def test_compare_takes_names_from_a_file_for_checkpoints_that_have_none(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nameless = checkpoint(tmp_path / "nameless.pt", (), [0, 1, 2, 3])
    data = folder_of(tmp_path / "images", {"dog": 3, "wasp": 0, "Polar Bear": 2})
    names = tmp_path / "names.txt"
    words = ["--data", data, "--instruments", "accuracy", "--examples", 9, "--eps", 0.001, "--restarts", 1]
    words += ["--device", "cpu", "--classes", names]
    names.write_text("\n".join(NAMES))
    status, _, complaint = run(capsys, "compare", net, nameless, *words, "--out", tmp_path / "table.csv")
    assert status == 0, complaint
    clean = [line for line in (tmp_path / "table.csv").read_text().splitlines() if "clean" in line]
    assert len(clean) >= 2
    assert all(",1.0," in line for line in clean), clean
    names.write_text("\n".join(reversed(NAMES)))
    assert "class 0 is 'wasp' and 'dog'" in refused(capsys, "compare", net, nameless, *words)
    names.write_text("wasp\nant\n")
    assert "classes" in refused(capsys, "compare", nameless, *words)


def test_images_of_a_folder_are_resized_and_cropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "test"):
        for quadrant, name in enumerate(("ant", "wasp")):
            write_images(tmp_path / "images" / split / name, quadrant)
            Image.new("RGB", (6, 5)).save(tmp_path / "images" / split / name / "other.png")  # of another size
    data, out = f"folder:{tmp_path}/images", tmp_path / "net.pt"
    words = ["train", "--arch", "mlp", "--data", data, "--epochs", 1, "--device", "cpu", "--out", out]
    assert "size" in refused(capsys, *words)
    assert run(capsys, *words, "--resize", 4, "--size", 3)[0] == 0
    assert load_checkpoint(out)[1].input_shape == (3, 3, 3)
    compared = ["compare", out, "--instruments", "accuracy", "--examples", 4, "--restarts", 1, "--device", "cpu"]
    assert "size" in refused(capsys, *compared, "--data", data)
    assert run(capsys, *compared, "--data", data, "--resize", 4, "--size", 3)[0] == 0


def test_files_of_names_are_given_once_or_for_each_model_that_needs_one(
    factory: str, net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder_of(tmp_path / "images", {"dog": 3, "wasp": 0})
    names, empty = tmp_path / "names.txt", tmp_path / "empty.txt"
    names.write_text("\n".join(NAMES))
    empty.write_text("wasp\n\nant\n")
    words = ["accuracy", "--model", net, "--model", f"{factory}:four", "--weights", "four.pt", "--data", data]
    said = refused(capsys, *words, "--classes", names, "--classes", names)
    assert "--classes must be given once, or once per model without class names of its own (1), got 2" in said
    assert "line 2 of" in refused(capsys, *words, "--classes", empty)
    assert "text file with one name per line" in refused(capsys, *words, "--classes", tmp_path / "missing.txt")
    # Where all models know their classes, the file is another name for them.
    names.write_text("hornet\nant\nice bear\nhound\n")
    renamed = folder_of(tmp_path / "renamed", {"hound": 3, "hornet": 0})
    assert accuracy(capsys, "--model", net, "--data", renamed, "--classes", names) == 100
