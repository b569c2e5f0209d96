"""The string ports, one by one: what is taken, what is refused."""

import pytest

from chip_classifier.errors import TaskError
from chip_classifier.ports import (
    parse_batch,
    parse_size,
    parse_value,
    parse_vector,
)


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("224", 224), ("0010", 10), ("16.0", 16)])
def test_whole_numbers_are_parsed(text: str, number: int) -> None:
    assert parse_size(text) == parse_batch(text) == number


@pytest.mark.parametrize(
    "text", ["0", "-1", "1.5", "1e2", "0x10", "1 000", "1,000", "٣", "²", "nan", "9" * 30, "1\n2"]
)
def test_what_is_no_positive_whole_number_is_refused(text: str) -> None:
    with pytest.raises(TaskError, match="size"):
        parse_size(text)
    with pytest.raises(TaskError, match="deploy_batch"):
        parse_batch(text)


@pytest.mark.parametrize(
    ("text", "vector"),
    [
        ("123.68,116.779,103.939", (123.68, 116.779, 103.939)),
        ("0,0,0", (0, 0, 0)),
        (" -1 , +.5,1e2 ", (-1, 0.5, 100)),
        ("1.,2.0e-1,3", (1, 0.2, 3)),
    ],
)
def test_vector_is_three_numbers(text: str, vector: tuple[float, float, float]) -> None:
    assert parse_vector(text) == vector


@pytest.mark.parametrize("text", ["1,2,", "1;2;3", "a,b,c", "1,2,inf", "1,2,1e39", "1_0,2,3"])
def test_what_is_no_vector_is_refused(text: str) -> None:
    with pytest.raises(TaskError, match="normalization_vector"):
        parse_vector(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("None", ()),
        ("none", ()),
        ("255", (255,)),
        ("-0.5", (-0.5,)),
        ("1e-3", (0.001,)),
        ("+58.4", (58.4,)),
        ("58.4, 57.1,57.4", (58.4, 57.1, 57.4)),
    ],
)
def test_value_is_a_number_or_none(text: str, value: tuple[float, ...]) -> None:
    assert parse_value(text) == value


@pytest.mark.parametrize("text", ["0", "0.0", "-0", "0e5", "nan", "inf", "1/255", "1e39", "1e-60"])
def test_value_that_cannot_divide_is_refused(text: str) -> None:
    # 1e-60 is 0 in float32, which is what the division is done in.
    with pytest.raises(TaskError, match="normalization_value"):
        parse_value(text)
