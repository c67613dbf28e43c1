"""Numbers and lists from words."""

import pytest

from boundarygeo.cli.words import ascending_sizes, each_once, numbers, positive_number, some_of


@pytest.mark.parametrize(
    ("text", "expected"), [("16/255", (16 / 255,)), ("0.1,1/4,-2", (0.1, 0.25, -2.0)), ("0", (0.0,)), (None, None)]
)
def test_numbers_may_be_fractions(text: str | None, expected: tuple[float, ...] | None) -> None:
    assert numbers(text, "--words") == expected


@pytest.mark.parametrize(("text", "expected"), [("16/255", 16 / 255), ("1e-3", 1e-3), (" 2 ", 2.0)])
def test_positive_numbers(text: str, expected: float) -> None:
    assert positive_number(text, "--words") == expected


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "-inf", "0/255"])
def test_numbers_that_are_not_positive_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"--words must be a positive number, not '{text}'"):
        positive_number(text, "--words")


@pytest.mark.parametrize(
    "text",
    [
        "1,2", "", ",", "large", "1/0", "1/0.0", "1/-0", "8/", "/8", "/", "8//255", "8/255/2", "8/ ", " ", "\t",
        "1_000", "0x10", "1e", "e3", "1e3.5", ".", "+", "--1", "+-1", "1 2", "8 /255 1", "8\\255", "8:255",
        "0,5", "½", "٣", "１", "8/255ε", "10%", "1.5.2", "True", "None", "1j", "nan/1x",
    ],
)  # fmt: skip
def test_what_is_not_one_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--words takes (one number|numbers) such as 0.5 or 16/255"):
        positive_number(text, "--words")


@pytest.mark.parametrize("text", ["nan", "inf", "-inf,1", "0.5,NaN", "1/nan", "1/inf", "Infinity", "1e999", "1/1e-999"])
def test_numbers_are_finite(text: str) -> None:
    with pytest.raises(ValueError, match="--mean takes (finite numbers|numbers such as 0.5 or 16/255), "):
        numbers(text, "--mean")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8/255", 8 / 255),
        (" 8 / 255 ", 8 / 255),
        (".5", 0.5),
        ("2.", 2.0),
        ("+3", 3.0),
        ("1E-2", 0.01),
        ("1e3/1e2", 10.0),
    ],
)
def test_numbers_as_people_write_them(text: str, expected: float) -> None:
    assert positive_number(text, "--words") == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("0,1/255, 2/255", (0.0, 1 / 255, 2 / 255)), ("0.1", (0.1,)), ("0", (0.0,))]
)
def test_ascending_sizes(text: str, expected: tuple[float, ...]) -> None:
    assert ascending_sizes(text, "--words") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.2,0.1", "--words must be strictly ascending, got '0.2,0.1'"),
        ("0,0.1,0.1", "--words must be strictly ascending"),
        ("2/255,0.00784313725490196", "must be strictly ascending"),
        ("-0.1,0", "--words takes finite numbers >= 0, not '-0.1,0'"),
        ("0,nan", "--words takes finite numbers >= 0"),
        ("nan", "--words takes finite numbers >= 0"),
        ("0,inf", "--words takes finite numbers >= 0"),
        ("", "--words takes numbers such as 0.5 or 16/255, separated by commas, not ''"),
        ("0,", "--words takes numbers such as"),
        ("0;1", "--words takes numbers such as"),
    ],
)
def test_lists_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ascending_sizes(text, "--words")


def test_values_are_given_once() -> None:
    assert each_once(["b", "a"], "abc", "--words") == ["b", "a"]
    with pytest.raises(ValueError, match="--words a is given twice"):
        each_once(["a", "b", "a"], "abc", "--words")
    with pytest.raises(ValueError, match="--words is one of a, b, c, not 'd'"):
        each_once(["a", "d"], "abc", "--words")


def test_names_are_some_of_those_that_there_are() -> None:
    assert some_of("b, a,", ["a", "b"], "--words") == ("b", "a")
    for text in ("c", "a,c", "", ","):
        with pytest.raises(ValueError, match=f"--words takes some of a,b, not '{text}'"):
            some_of(text, ["a", "b"], "--words")
