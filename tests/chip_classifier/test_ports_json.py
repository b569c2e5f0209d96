"""ports.json as people write it: what can mean only one thing is taken, the rest refused."""

import json
import os
from pathlib import Path

import pytest

from chip_classifier.ports import PARSERS, parse_ports, read_ports
from chip_classifier.ports_json import MAX_BYTES, STRING_PORTS, PortError, read_texts

FILES = Path(__file__).parents[1] / "ports"
NAMES = {"classes": "blue,green,red"}

TAKEN = {
    "sound": NAMES,
    "utf8_mark": NAMES,
    "utf16_powershell": NAMES,
    "utf16_big_endian": NAMES,
    "null": NAMES,
    "list_classes": {"classes": '["blue", "green", "red"]'},  # see test_class_names
    "list_as_text": {"classes": "['blue', 'green', 'red']"},
    "list_as_json_text": {"classes": '["blue", "green", "red"]'},
    "list_vector": {"normalization_vector": "123.68,116.779,103.939"},
    "vector_as_text": {"normalization_vector": "123.68,116.779,103.939"},
    "numbers": {"size": "16", "deploy_batch": "10.0", "normalization_value": "255"},
    "number_with_point": {"size": "16.0"},
    "duplicate_names": {"classes": "blue,green,blue"},  # refused by the port itself
    "one_name_less": {"classes": "blue,green"},
    "semicolons": {"classes": "blue; green; red"},
    "decimal_comma": {"normalization_vector": "123,68; 116,779; 103,939"},
}
REFUSED = {
    "latin1": ["save it as UTF-8", "line 1"],
    "true": ["normalization_value", "leave it out"],
    "trailing_comma": ["comma at the end of line 2"],
    "single_quotes": ["double quotation marks", "line 1"],
    "comment": ["no comments", "line 2"],
    "given_twice": ["'classes' twice"],
    "one_level_too_high": ["'inputs'", "to the top"],
    "list_around": ["one JSON object"],
    "gbdx_list": ["one JSON object"],
    "empty_file": ["empty", "{}"],
}
WARNED = {
    "misspelt": ["did you mean classes?", "did you mean normalization_value?"],
    "upper_case": ["did you mean classes?", "did you mean size?"],
}


def test_every_port_has_its_parser() -> None:
    assert tuple(PARSERS) == STRING_PORTS


def test_every_file_is_tried() -> None:
    assert {path.stem for path in FILES.glob("*.json")} == {*TAKEN, *REFUSED, *WARNED}


@pytest.mark.parametrize("name", TAKEN)
def test_what_can_mean_only_one_thing_is_taken(name: str) -> None:
    assert read_texts(FILES / f"{name}.json") == (TAKEN[name], ())


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused_with_advice(name: str) -> None:
    with pytest.raises(PortError) as error:
        read_texts(FILES / f"{name}.json")
    for part in REFUSED[name]:
        assert part in str(error.value)


@pytest.mark.parametrize("name", WARNED)
def test_a_name_that_is_no_port_is_warned_about(name: str) -> None:
    texts, warnings = read_texts(FILES / f"{name}.json")
    assert texts == {}
    assert [warning.rpartition("; ")[2] for warning in warnings] == WARNED[name]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('{"size": {"rows": 16}}', "quotation marks"),
        ('{"size": [16, [16]]}', "one string"),
        ('{"ports": [{"name": "size", "value": "16"}]}', "to the top"),
        ("[" * 100_000, "not valid JSON"),
        ('{"size": "16",, }', "not valid JSON"),
        ('{"size": "16" "classes": "a,b"}', "not valid JSON"),
        ("{'size': 16}", "double quotation marks"),
        ('{"size": "16", # comment\n}', "no comments"),
        ('{"classes": ["a", "b",]}', "comma at the end of line 1"),
        ('"size"', "one JSON object"),
        ("\n \t", "empty"),
    ],
)
def test_other_slips_have_a_sentence_too(text: str, part: str, tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text(text)
    with pytest.raises(PortError, match="ports.json|The port") as error:
        read_texts(tmp_path / "ports.json")
    assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[5, 3]", "(5,3)", "['5', \"3\"]", "5,3"])
def test_lists_as_text_lose_their_brackets(text: str, tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text(json.dumps({"bands": text}))
    texts, _ = read_texts(tmp_path / "ports.json")
    assert [number.strip() for number in texts["bands"].split(",")] == ["5", "3"]


@pytest.mark.parametrize("value", [["a,b", "c"], {"c": 1, "a,b": 0}, "['a,b', 'c']", '"a,b", c'])
def test_class_names_may_have_commas(value: object, tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text(json.dumps({"classes": value}))
    assert parse_ports(read_ports(tmp_path / "ports.json")).classes == ("a,b", "c")


def test_no_file_sets_nothing(tmp_path: Path) -> None:
    assert read_texts(tmp_path / "ports.json") == ({}, ())


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    path.mkdir()
    with pytest.raises(PortError, match="is a directory"):
        read_texts(path)
    path.rmdir()
    path.symlink_to(tmp_path / "nothing")
    with pytest.raises(PortError, match="target is missing"):
        read_texts(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PortError, match="no file that can be read"):
        read_texts(path)


def test_a_file_of_any_size_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "ports.json").open("wb") as file:
        file.truncate(100 * MAX_BYTES)
    with pytest.raises(PortError, match="bytes"):
        read_texts(tmp_path / "ports.json")
