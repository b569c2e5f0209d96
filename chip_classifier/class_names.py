"""The port classes as people have it: names between commas, or what print() or JSON made of them.

A, B                            "Developed, Low Intensity", Water
['A', 'B']                      ["A", "B"]
{'B': 1, 'A': 0}                {"0": "A", "1": "B"}     as class_indices, and reversed
['A' 'B']                       array(['A', 'B'], dtype='<U1')    as numpy prints them
B: 1, A: 0                      0=A, 1=B    a dict without its braces
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence

from chip_classifier.errors import TaskError

# array([...], dtype=...), Index([...]), dict_keys([...]), OrderedDict({...}), and such.
_WRAPPED = re.compile(r"[A-Za-z_.]+\(\s*([\[{(].*[\]})])\s*(,\s*dtype=.*)?\)", re.DOTALL)
_QUOTED = r"'[^']*'|\"[^\"]*\""
_PRINTED_BY_NUMPY = re.compile(rf"\[\s*({_QUOTED})(\s+({_QUOTED}))*\s*\]")
_BEGINS_AS_PRINTED = re.compile(r"[\[({]\s*['\"]")
_ALL_IN_SINGLE_QUOTES = re.compile(r"'[^']*'(\s*,\s*'[^']*')*")
_PAIR = re.compile(r"\s*(.+?)\s*[:=]\s*(.+?)\s*", re.DOTALL)
_ITEM = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*(?=,|$)|([^,]*))(,|$)', re.DOTALL)


def parse_classes(text: str) -> tuple[str, ...]:
    """Parse the port classes; names have no blanks around them.

    Raises TaskError if a name is empty, given twice or no text, or if it does not say which class
    is which.
    """
    text = text.strip("\ufeff")  # the mark at the beginning of a file that was copied
    value = _literal(text)
    if isinstance(value, Mapping):
        names = _in_order(value, text)
    elif isinstance(value, Sequence):
        names = _of_list(value, text)
    else:
        names = _split(text)
        names = _of_pairs(names) or names
    names = tuple(name.strip() for name in names)
    if not names or "" in names:
        raise TaskError(
            f"The port classes has an empty name: '{text[:200]}'; separate the names by single "
            "commas."
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise TaskError(
            f"The port classes has the name '{twice}' twice: give each output a name of its own."
        )
    if not all(map(_is_text, names)):
        raise TaskError(
            f"The port classes has letters that are not Unicode: {text[:200]!a}; write the "
            "names in UTF-8."
        )
    return names


def write_classes(names: Sequence[str]) -> str:
    """Write class names as the port takes them: those with a comma in quotation marks."""
    quoted = ('"' + name.replace('"', '""') + '"' if "," in name else name for name in names)
    return ", ".join(quoted)


def _literal(text: str) -> object:
    """Return the list or dict that a text is as Python or JSON; None if it is plain names."""
    text = text.strip()
    if wrapped := _WRAPPED.fullmatch(text):
        text = wrapped[1]
    if text[:1] + text[-1:] not in ("[]", "{}", "()"):
        if _BEGINS_AS_PRINTED.match(text):
            raise _unreadable(text)
        return None
    if _PRINTED_BY_NUMPY.fullmatch(text):
        return [quoted[1:-1] for quoted in re.findall(_QUOTED, text)]
    inside = re.sub(_QUOTED, "", text[1:-1])
    if text[0] == "(" and re.search(r"[()]", inside):  # as "(A), (B)"
        return None
    for parse in (ast.literal_eval, json.loads):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
        if isinstance(value, list | tuple) and value and all(map(_is_pair, value)):
            return dict(value)  # as in OrderedDict([('A', 0), ('B', 1)])
        if isinstance(value, list | tuple | dict):
            return value
    if text[0] == "{" or _BEGINS_AS_PRINTED.match(text):
        raise _unreadable(text)
    if re.search(r"[][(){}]", inside):
        return None
    return [item.strip() for item in text[1:-1].split(",")]  # written by hand, without quotes


def _unreadable(text: str) -> TaskError:
    """Say that a text begins as a list or dict, but cannot be read as one."""
    return TaskError(
        f"The port classes is no list or dict that can be read: '{text[:200]}'; write it as in "
        "['A', 'B'] or {'A': 0, 'B': 1}, or the names in the order of the model's outputs: A, B."
    )


def _is_pair(item: object) -> bool:
    """Return whether an item is (name, index) or (index, name)."""
    return isinstance(item, list | tuple) and len(item) == 2 and {*map(type, item)} == {str, int}


def _of_pairs(items: Sequence[str]) -> list[str] | None:
    """Return the names of items such as B: 1, A: 0 by their indices; None if they are none."""
    pairs = [pair.groups() for pair in map(_PAIR.fullmatch, items) if pair]
    numbers = [str(number) for number in range(len(items))]
    for by_index in ({index: name for name, index in pairs}, dict(pairs)):
        if len(pairs) == len(items) > 1 and sorted(by_index) == sorted(numbers):
            names = [by_index[number].strip("'\"") for number in numbers]
            if len({*names}) == len(names):  # the keys of a dict; "zone: 0, zone: 1" is none
                return names
    return None


def _is_text(name: str) -> bool:
    """Return whether a name has no halves of characters, as JSON and other encodings may give."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _of_list(items: Sequence[object], text: str) -> list[str]:
    """Return the names in a list. Raises TaskError if something else stands there."""
    if not all(isinstance(item, str | int | float) for item in items):
        raise TaskError(
            f"The port classes is a list of more than names: '{text[:200]}'; write the names in "
            "the order of the model's outputs, as in A, B."
        )
    return [item if isinstance(item, str) else repr(item) for item in items]


def _in_order(content: Mapping[object, object], text: str) -> list[str]:
    """Return the names of a dict of names and indices, whichever are the keys, by their indices.

    Raises TaskError if one of them are no indices, or both are and say different things.
    """
    numbers = [str(number) for number in range(len(content))]
    pairs = [(str(key), str(value)) for key, value in content.items()]
    found = []
    for by_index, kinds in (
        ({index: name for name, index in pairs}, {*map(type, content.values())}),
        (dict(pairs), {*map(type, content)}),
    ):
        if sorted(by_index) == sorted(numbers):
            found.append((int in kinds, [by_index[number] for number in numbers]))
    whole = [names for is_number, names in found if is_number] or [names for _, names in found]
    if not whole or any(names != whole[0] for names in whole):
        last = len(content) - 1
        raise TaskError(
            f"The port classes is a dict that does not give each class an index of 0 to {last}: "
            f"'{text[:200]}'; write it as in {{'A': 0, 'B': 1}}, or the names in their order: A, B."
        )
    return whole[0]


def _split(text: str) -> list[str]:
    """Split names at commas that stand in no quotation marks, or at line breaks."""
    text = text.strip()
    if _ALL_IN_SINGLE_QUOTES.fullmatch(text):
        return [quoted[1:-1] for quoted in re.findall(r"'[^']*'", text)]
    if "," not in text:
        return text.splitlines()
    names, place = [], 0
    while True:
        item = _ITEM.match(text, place)
        quoted, plain, end = item.groups()
        if quoted is None and plain.count('"') == 1 and plain.startswith('"'):
            raise TaskError(
                f"The port classes has a quotation mark that is not closed, before '{plain[1:100]}'"
                ": close it, or leave it out."
            )
        names.append(plain if quoted is None else quoted.replace('""', '"'))
        place = item.end()
        if not end:
            return names
