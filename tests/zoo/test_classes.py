"""Which class of a model each class of a data set is.

The oracle is the list of the model's names: a name of the data must be found where it stands there. Situations:

- the same names in another order; some of them missing; all of one class; the model's names in any order
- case, spaces, underscores and hyphens that differ; names that differ by nothing else, in the data or in the model
- numbers: by value and not as text, with zeros in front, out of range, twice, named in another order by the model
- numbers in the data, words in the model, and the other way round
- WordNet ids: all 1,000, a few, one that is not ImageNet's, at the beginning of longer names, in another order
- names unknown: as many classes, more, fewer
- one name of the model twice, asked for or not
- ImageNet's names with synonyms, as timm and Hugging Face have them
- models side by side: other names, another order, another number, a difference late in a long list
"""

import os
import random
import tarfile
from pathlib import Path

import pytest

from boundarygeo.zoo.classes import check_same_classes, imagenet_ids, match_classes, usual_names

ANIMALS = ("dog", "ant", "Great white_shark", "bee")
DATA = os.environ.get("BOUNDARYGEO_DATA", "")


def torchvision_names() -> list[str]:
    from torchvision.models import ResNet50_Weights

    return ResNet50_Weights.IMAGENET1K_V1.meta["categories"]


@pytest.mark.parametrize(
    ("data", "numbers"),
    [
        (("ant", "bee", "dog"), (1, 3, 0)),
        (("bee",), (3,)),
        (("great_white shark", "DOG"), (2, 0)),
        ((" Great-White  Shark ", "ant"), (2, 1)),
        (ANIMALS, (0, 1, 2, 3)),
        (tuple(reversed(ANIMALS)), (3, 2, 1, 0)),
    ],
)
def test_classes_are_found_by_name(data: tuple[str, ...], numbers: tuple[int, ...]) -> None:
    match = match_classes(data, ANIMALS, 4)
    assert match.numbers == numbers
    assert match.names == ANIMALS
    assert not match.by_number


def test_any_order_and_any_choice_of_many_names() -> None:
    draw = random.Random(0)
    model = [f"class {letter}{number}" for letter in "abcdefgh" for number in range(30)]
    draw.shuffle(model)
    for count in (1, 7, 239, 240):
        data = draw.sample(model, count)
        match = match_classes(data, model, 240)
        assert [model[number] for number in match.numbers] == data


@pytest.mark.parametrize(
    ("data", "model", "complaint"),
    [
        (
            ("ant", "zant"),
            ANIMALS,
            "no class zant .the data's classes: ant, zant; the model's: dog, ant, Great white_sha",
        ),
        (("dog", "Dog"), ANIMALS, "no class Dog "),
        (("Cat",), ("cat", "CAT", "dog"), "'Cat' of the data matches several of the model's classes, 0, 1"),
        (
            ("crane", "dog"),
            ("crane", "dog", "crane"),
            "'crane' of the data matches several of the model's classes, 0, 2",
        ),
        (("0", "4"), (), "no class 4 .the data's classes: 0, 4; the model's: 0, 1, 2, 3"),
        (("1", "2", "3", "4"), (), "no class 4"),  # counted from 1
        (("7",), ("0", "1", "2", "8"), "no class 7"),
        (("1", "01"), (), "match the same class of the model"),
        (("ant", "bee", "cat", "dog"), ("0", "1", "2", "3"), "no class ant, bee, cat, dog"),
        (("ant", "1"), (), "has 2 classes .ant, 1., the model has 4 classes without names"),
        (("a", "b", "c", "d", "e"), (), "has 5 classes .a, b, c, d, e., the model has 4"),
        (("n01440764", "n02084071"), (), "n02084071"),  # no id of ImageNet's, and 4 outputs
        (("ant",), ("ant", "bee"), "has 4 outputs, but names of 2 classes: ant, bee"),
    ],
)
def test_what_is_no_class_of_the_model_or_could_be_several_is_refused(
    data: tuple[str, ...], model: tuple[str, ...], complaint: str
) -> None:
    outputs = 3 if len(model) == 3 else 4
    with pytest.raises(ValueError, match=complaint):
        match_classes(data, model, outputs)


def test_a_name_that_the_model_has_twice_may_be_there_if_the_data_does_not_ask_for_it() -> None:
    assert match_classes(("dog", "ant"), ("crane", "dog", "crane", "ant"), 4).numbers == (1, 3)
    assert match_classes(("2", "0"), ("crane", "dog", "crane", "ant"), 4).numbers == (2, 0)


def test_exact_names_come_before_those_that_differ_by_case() -> None:
    assert match_classes(("Turkey", "turkey"), ("turkey", "Turkey"), 2).numbers == (1, 0)


def test_numbers_are_looked_up_by_value() -> None:
    as_text = sorted(map(str, range(12)))  # 0, 1, 10, 11, 2, ...
    assert as_text[2] == "10"
    expected = tuple(map(int, as_text))
    assert match_classes(as_text, (), 12).numbers == expected
    assert match_classes(as_text, (), 1000).numbers == expected
    assert match_classes(as_text, (), 12).names[10] == "10"
    # A network of ours that was trained on such a folder has its classes in the order of the text, and says so.
    assert match_classes(tuple(map(str, range(12))), as_text, 12).numbers == tuple(
        as_text.index(str(k)) for k in range(12)
    )
    assert match_classes(("008", "010"), (), 12).numbers == (8, 10)
    assert match_classes(("8", "10"), tuple(f"{k:03}" for k in range(12)), 12).numbers == (8, 10)


def test_numbers_are_numbers_of_outputs_where_the_model_has_words() -> None:
    match = match_classes(("3", "0"), ANIMALS, 4)
    assert (match.numbers, match.names, match.by_number) == ((3, 0), ANIMALS, True)
    assert not match_classes(("3", "0"), ("0", "1", "2", "3"), 4).by_number
    assert not match_classes(("3", "0"), (), 4).by_number


def test_the_data_s_order_is_taken_where_nothing_is_known_and_the_numbers_are_equal() -> None:
    match = match_classes(("ant", "bee", "cat"), (), 3)
    assert (match.numbers, match.names) == ((0, 1, 2), ("ant", "bee", "cat"))


def test_wordnet_ids_are_in_sorted_order_in_a_model_of_imagenet_s_classes() -> None:
    ids, names = imagenet_ids(), torchvision_names()
    assert len(set(ids)) == 1000
    assert list(ids) == sorted(ids)
    few = ("n01440764", "n01443537", "n02084071", "n15075141")
    assert (ids[0], ids[1], ids[-1]) == (few[0], few[1], few[3])
    for own in ((), names):
        assert match_classes((few[1], few[3]), own, 1000).numbers == (1, 999)
        assert match_classes(ids, own, 1000).numbers == tuple(range(1000))
        with pytest.raises(
            ValueError, match="has no class n02084071 .*; the model's: n01440764, n01443537, .* 993 more"
        ):
            match_classes(few[:3], own, 1000)
    assert match_classes((few[1],), names, 1000).names[1] == "goldfish"
    assert match_classes((few[1],), (), 1000).names[1] == few[1]
    assert match_classes(("goldfish", "Tench"), names, 1000).numbers == (1, 0)


def test_ids_that_the_model_s_names_begin_with() -> None:
    names = ("n02123045 tabby, tabby cat", "n01440764 tench, Tinca tinca", "n01443537 goldfish")
    match = match_classes(("n01440764", "n02123045"), names, 3)
    assert (match.numbers, match.names) == ((1, 0), names)


def test_ids_mean_nothing_to_a_model_whose_1000_names_are_others_or_in_another_order() -> None:
    reordered = torchvision_names()[::-1]
    for names in (reordered, [f"class {k}" for k in range(1000)]):
        with pytest.raises(ValueError, match="the model has no class n01440764"):
            match_classes(("n01440764",), names, 1000)
    with pytest.raises(ValueError, match="the model has 1001"):
        match_classes(("n01440764",), (), 1001)


@pytest.mark.skipif(not (Path(DATA) / "imagenet-1000.tar").is_file(), reason="needs BOUNDARYGEO_DATA")
def test_the_list_of_ids_has_the_names_that_images_of_each_class_have() -> None:
    with tarfile.open(Path(DATA) / "imagenet-1000.tar") as archive:
        files = [Path(name) for name in archive.getnames() if name.endswith((".jpg", ".JPEG"))]
    assert {file.parent.name for file in files} == set(imagenet_ids())
    # The files are called n01443537_goldfish.jpg: another list of the same order.
    said = {file.parent.name: file.stem.partition("_")[2].casefold() for file in files}
    pairs = zip(imagenet_ids(), torchvision_names(), strict=True)
    alike = [name.casefold().replace(" ", "_") in said[each] for each, name in pairs]
    assert sum(alike) > 900


def test_models_side_by_side_must_have_the_same_classes_in_the_same_order() -> None:
    check_same_classes({})
    check_same_classes({"a": ANIMALS})
    check_same_classes({"a": ANIMALS, "b": ("Dog", "ant", "great white shark", "BEE")})
    with pytest.raises(ValueError, match="the same classes in the same order: .*; class 1 is 'ant' and 'bee'"):
        check_same_classes({"a": ANIMALS, "b": ANIMALS, "c": ("dog", "bee", "Great white shark", "ant")})
    with pytest.raises(ValueError, match="must have the same classes: a has 4, dog, .*, and b has 2, dog, ant$"):
        check_same_classes({"a": ANIMALS, "b": ANIMALS[:2]})
    many = [f"number {k}" for k in range(300)]
    with pytest.raises(ValueError, match="class 200 is 'number 200' and 'another'") as refused:
        check_same_classes({"a": many, "b": [*many[:200], "another", *many[201:]]})
    assert len(str(refused.value)) < 400


def test_lists_in_messages_are_cut_short() -> None:
    model = [f"a rather long name of a class of which there are many more, {k}" for k in range(5000)]
    with pytest.raises(ValueError, match="the model has no class [^(]*, … 2993 more …, ") as refused:
        match_classes([f"unknown {k}" for k in range(3000)], model, 5000)
    assert len(str(refused.value)) < 1000
    assert "more, 4999" in str(refused.value)


def test_imagenet_s_names_with_synonyms_are_torchvision_s() -> None:
    usual = torchvision_names()
    with_synonyms = [f"{name}, {name} vulgaris" for name in usual]
    with_synonyms[134] = "crane bird"
    assert usual_names(with_synonyms) == tuple(usual)
    assert match_classes(["n01443537"], usual_names(with_synonyms), 1000).numbers == (1,)
    others = list(reversed(with_synonyms))
    assert usual_names(others) == tuple(others)
    assert usual_names(ANIMALS) == ANIMALS
