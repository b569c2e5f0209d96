"""The code object of a Lambda layer, taken apart and never run: instructions, constants, names.

Keras keeps it as `marshal` wrote it, in the format of the Python that saved the model, and does not
say which that was. The bytes tell: the number of integers at their beginning and the fields behind
them differ between 2.7, 3.0 to 3.7, 3.8 to 3.10, and 3.11 on. Within each of these groups, several
versions may be meant, so each is given as a candidate; `lambdas` takes what all of them agree on.

xdis unmarshals for any version of Python, without executing anything. It is given only what
`_Scan` has walked through from end to end: one code object of bounded size, of numbers, text and
tuples, with no other function in it.
"""

from __future__ import annotations

import base64
import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 2**15  # a lambda of one line takes some 200
MAX_ITEMS = 2**12  # objects in a code object, those counted again that are referred to
MAX_DEPTH = 8  # of tuples within tuples
MAX_INSTRUCTIONS = 1000
MAX_NAME = 100  # characters
MAX_DIGITS = 4  # of 15 bits each in a long integer

ANOTHER_FUNCTION = "it holds another function (a comprehension, a def or a lambda)"

Version = tuple[int, int]


class CodeError(Exception):
    """Why code cannot be translated, as a clause that follows a colon."""


@dataclass(frozen=True)
class Code:
    """A code object as one version of Python reads it.

    Attributes:
        instructions: (name, argument) of each, the argument 0 if it has none.
        variables: the names of its local variables, those of its parameters first.
        free: the names of the variables that its closure holds.
        catches: whether it has a table of what to do after an error (3.11 on).
    """

    version: Version
    instructions: tuple[tuple[str, int], ...]
    constants: tuple[Any, ...]
    names: tuple[str, ...]
    variables: tuple[str, ...]
    free: tuple[str, ...]
    parameters: int
    flags: int
    catches: bool


@dataclass(frozen=True)
class _Layout:
    """How some versions of Python marshal a code object: integers, then fields.

    A field is a kind of `_Scan.item`, or "line", a plain integer.
    """

    versions: tuple[Version, ...]
    integers: int
    fields: tuple[str, ...]


# w_object in Python/marshal.c of each version; before 3.11 the cell variables are the last names.
_FIELDS = ("bytes", "tuple", "names", "names", "names", "empty", "text", "text", "line", "bytes")
_FIELDS_311 = ("bytes", "tuple", "names", "names", "bytes", *["text"] * 3, "line", "bytes", "bytes")
_LAYOUTS = (
    _Layout(((2, 7),), 4, _FIELDS),
    _Layout(((3, 4), (3, 5), (3, 6), (3, 7)), 5, _FIELDS),
    _Layout(((3, 8), (3, 9), (3, 10)), 6, _FIELDS),
    _Layout(((3, 11), (3, 12), (3, 13)), 5, _FIELDS_311),
)

# Units of two zero bytes behind an instruction, for the interpreter's own use; the differences
# between 3.11 and 3.12 tell these two apart. Lib/opcode.py, Lib/_opcode_metadata.py.
_CACHES_312 = {
    "BINARY_OP": 1,
    "BINARY_SUBSCR": 1,
    "CALL": 3,
    "COMPARE_OP": 1,
    "FOR_ITER": 1,
    "LOAD_ATTR": 9,
    "LOAD_GLOBAL": 4,
    "LOAD_SUPER_ATTR": 1,
    "SEND": 1,
    "STORE_ATTR": 4,
    "STORE_SUBSCR": 1,
    "UNPACK_SEQUENCE": 1,
}
_JUMPS_313 = "FALSE NONE NOT_NONE TRUE"
_CACHES = {
    (3, 11): {
        "BINARY_OP": 1,
        "BINARY_SUBSCR": 4,
        "CALL": 4,
        "COMPARE_OP": 2,
        "LOAD_ATTR": 4,
        "LOAD_GLOBAL": 5,
        "LOAD_METHOD": 10,
        "PRECALL": 1,
        "STORE_ATTR": 4,
        "STORE_SUBSCR": 1,
        "UNPACK_SEQUENCE": 1,
    },
    (3, 12): _CACHES_312,
    (3, 13): {
        **_CACHES_312,
        **{f"POP_JUMP_IF_{condition}": 1 for condition in _JUMPS_313.split()},
        "CONTAINS_OP": 1,
        "JUMP_BACKWARD": 1,
        "TO_BOOL": 3,
    },
}


def read_code(text: str) -> list[Code]:
    """Read the code object that a Lambda layer keeps as text: candidates, newest Python first.

    Args:
        text: base64, or in Keras before 2.1 the bytes themselves (raw_unicode_escape).

    Raises:
        CodeError: it is no code object of Python 2.7 to 3.13, is too large, or holds more than one
            function.
    """
    if len(text) > 2 * MAX_BYTES:
        raise CodeError(f"its code has {len(text)} characters, more than plain arithmetic needs")
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:  # no base64
        data = text.encode("raw_unicode_escape")
    layout = _find_layout(data)
    candidates = [_unmarshal(data, version) for version in reversed(layout.versions)]
    found = [code for code in candidates if code]
    if not found:
        raise CodeError("its code is damaged, or of no Python from 2.7 to 3.13")
    return found


def _find_layout(data: bytes) -> _Layout:
    """Return the one layout that the bytes have from end to end."""
    if len(data) > MAX_BYTES:
        raise CodeError(f"its code has {len(data)} bytes, more than plain arithmetic needs")
    for layout in _LAYOUTS:
        scan = _Scan(data, layout.versions[0] == (2, 7))
        if scan.has_header(layout.integers):
            found = all(scan.field(field) for field in layout.fields)
            if found and scan.at == len(data):
                return layout
    raise CodeError("its code is damaged, or of no Python from 2.7 to 3.13")


# What an item may be where a field of this kind is wanted.
_FITS = {
    "bytes": {"bytes", "string"},
    "text": {"text", "string"},
    "tuple": {"tuple", "names", "empty"},
    "names": {"names", "empty"},
    "empty": {"empty"},
}
_SIZES = {"i": 4, "I": 8, "g": 8, "N": 0, "T": 0, "F": 0, ".": 0}


class _Scan:
    """A walk through marshalled data: only what a code object of plain arithmetic can hold.

    Args:
        python2: without references, but with strings that are bytes and text, some of them shared.
    """

    def __init__(self, data: bytes, python2: bool) -> None:
        self.at = 0
        self._data = data
        self._python2 = python2
        self._kept: list[tuple[str, int]] = [("code", 0)]  # the code object itself comes first
        self._shared = 0
        self._count = 0

    def has_header(self, integers: int) -> bool:
        """Go to the first field, if the data begin as a code object with so many integers."""
        begin = 1 + 4 * integers
        known = self._data[:1] == b"c" or (self._data[:1] == b"\xe3" and not self._python2)
        if self._data[:1] == b"c":
            self._kept.clear()  # not marked to be referred to
        self.at = begin
        return known and self._data[begin : begin + 1] in (b"s", b"\xf3")

    def field(self, kind: str) -> bool:
        """Go past a field; return whether it was there and of this kind."""
        try:
            if kind == "line":
                return self._take(4) != b""
            return self.item()[0] in _FITS[kind]
        except (IndexError, struct.error):
            return False

    def _take(self, size: int) -> bytes:
        if not 0 <= size <= len(self._data) - self.at:
            raise IndexError("more bytes than there are")
        self.at += size
        return self._data[self.at - size : self.at]

    def _number(self, form: str) -> int:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def item(self, depth: int = 0) -> tuple[str, int]:
        """Go past an object; return its kind, and how many objects it is with all in it.

        Raises:
            IndexError, struct.error: the data do not hold one here.
            CodeError: it is of a kind that plain arithmetic does not need, or too large.
        """
        byte = self._take(1)[0]
        kept = byte >= 0x80 and not self._python2
        letter = chr(byte & 0x7F) if kept else chr(byte)
        place = len(self._kept)
        if kept:
            self._kept.append(("unfinished", 0))
        found = self._content(letter, depth)
        if kept:
            self._kept[place] = found
        self._count += found[1]
        if self._count > MAX_ITEMS:
            raise CodeError("its code holds more constants than plain arithmetic needs")
        return found

    def _content(self, letter: str, depth: int) -> tuple[str, int]:
        if letter in "()":
            return self._tuple(self._number("<i" if letter == "(" else "B"), depth)
        if letter in _SIZES:
            self._take(_SIZES[letter])
            return "plain", 1
        if letter == "l":
            digits = self._number("<i")
            if not 0 <= digits <= MAX_DIGITS:  # below 0 for negative ones, which xdis misreads
                raise CodeError("its code holds an integer of more than 60 bits (31 if negative)")
            self._take(2 * digits)
            return "plain", 1
        if letter == "r" and not self._python2:
            found = self._kept[self._index()]
            if found[0] in ("code", "unfinished"):
                raise IndexError("an object within itself")
            return found
        if letter == "R" and self._python2:
            if self._index() >= self._shared:
                raise IndexError("no such string")
            return "string", 1
        if letter in ("s", "t", "u", "a", "A", "z", "Z"):
            return self._string(letter)
        if letter == "c":
            raise CodeError(ANOTHER_FUNCTION)
        raise CodeError("its code holds a constant that is no number, text or tuple")

    def _index(self) -> int:
        index = self._number("<i")
        if index < 0:
            raise IndexError("no such reference")
        return index

    def _tuple(self, size: int, depth: int) -> tuple[str, int]:
        if size < 0 or depth == MAX_DEPTH:
            raise IndexError("no tuple that Python writes")
        parts = [self.item(depth + 1) for _ in range(size)]
        names = all(kind in _FITS["text"] for kind, _ in parts)
        kind = "tuple" if not names else "names" if parts else "empty"
        return kind, 1 + sum(weight for _, weight in parts)

    def _string(self, letter: str) -> tuple[str, int]:
        size = self._number("B" if letter in "zZ" else "<i")
        self._take(size)
        if self._python2:
            self._shared += letter == "t"
            return ("text" if letter == "u" else "string"), 1
        if letter == "s":
            return "bytes", 1
        return "text", 1


def _unmarshal(data: bytes, version: Version) -> Code | None:
    """Return the code object as one version reads it, None if that one cannot have written it."""
    from xdis.op_imports import get_opcode_module
    from xdis.unmarshal import load_code
    from xdis.version_info import PythonImplementation

    opcodes = get_opcode_module(version, PythonImplementation.CPython)
    try:
        found = load_code(data, _magic(version), code_objects={})
    except Exception as error:  # whatever a library makes of data that no Python wrote
        raise CodeError(f"its code is damaged ({type(error).__name__})") from error
    try:
        instructions = tuple(_instructions(found.co_code, version, opcodes))
    except (IndexError, ValueError):
        return None
    if (3, 8) <= version <= (3, 10) and any("JUMP" in name for name, _ in instructions):
        # jumps count bytes until 3.9 and instructions in 3.10, which the lines tell apart
        table = getattr(found, "co_linetable", None) or found.co_lnotab
        if (version == (3, 10)) != _has_line_table(table, found.co_code):
            return None
    if len(instructions) > MAX_INSTRUCTIONS:
        raise CodeError(f"it has {len(instructions)} instructions, more than a formula needs")
    if version >= (3, 11) and found.co_cellvars:
        raise CodeError(ANOTHER_FUNCTION)
    if getattr(found, "co_kwonlyargcount", 0):
        raise CodeError("it has parameters that can only be given by their names")
    # Before 3.11, xdis takes the free variables for the cell variables, of which there are none
    free = (*found.co_cellvars, *found.co_freevars)
    return Code(
        version=version,
        instructions=instructions,
        constants=tuple(_constant(value) for value in found.co_consts),
        names=tuple(map(_name, found.co_names)),
        variables=tuple(map(_name, found.co_varnames)),
        free=tuple(map(_name, free)),
        parameters=found.co_argcount,
        flags=found.co_flags,
        catches=bool(getattr(found, "co_exceptiontable", None)),
    )


@functools.cache
def _magic(version: Version) -> int:
    """Return the number by which files of a Python's byte code are told."""
    from xdis.magics import by_version, magic2int

    return magic2int(by_version[".".join(map(str, version))])


def _instructions(code: bytes, version: Version, opcodes: Any) -> Iterator[tuple[str, int]]:
    """Yield name and argument of each instruction; that of a jump forward is a place in this list.

    Raises:
        IndexError, ValueError: this version of Python has no such instructions.
    """
    found, places = [], {}  # name, argument and where the next one begins; offset -> place
    for start, name, argument, end in _units(code, version, opcodes):
        places[start] = len(found)
        found.append((name, argument, end))
    for name, argument, end in found:
        if name == "JUMP_FORWARD" or "POP_JUMP" in name and version >= (3, 11):
            argument = end + argument * (2 if version >= (3, 10) else 1)
        elif "POP_JUMP" in name and version == (3, 10):
            argument *= 2
        jumps = name == "JUMP_FORWARD" or "POP_JUMP" in name and "BACKWARD" not in name
        if jumps and argument not in places:
            raise ValueError("a jump to no instruction")
        yield name, places[argument] if jumps else argument


def _units(code: bytes, version: Version, opcodes: Any) -> Iterator[tuple[int, str, int, int]]:
    """Yield offset, name, argument and the offset of what follows, of each instruction."""
    width, caches = (2 if version >= (3, 6) else 3), _CACHES.get(version, {})
    at = start = extended = 0
    while at < len(code):
        name = opcodes.opname[code[at]]
        if name.startswith("<") or name == "CACHE":
            raise ValueError("no such instruction")
        size = width if width == 2 or code[at] >= opcodes.HAVE_ARGUMENT else 1
        if at + size > len(code):
            raise IndexError("an instruction without its argument")
        argument = int.from_bytes(code[at + 1 : at + size], "little") | extended
        extended = argument << 8 * (width - 1) if name == "EXTENDED_ARG" else 0
        if extended >= 2**32:
            raise ValueError("an argument that no Python writes")
        at += size
        end = at + 2 * caches.get(name, 0)
        if len(code) < end or any(code[at:end]):
            raise ValueError("other caches than this version has")
        at = end
        if name != "EXTENDED_ARG":
            yield start, name, argument if size > 1 else 0, at
            start = at


def _has_line_table(table: bytes, code: bytes) -> bool:
    """Return whether the table of lines is that of 3.10, which goes to the end of the code."""
    return sum(table[::2]) == len(code)


def _constant(value: Any) -> Any:
    """Return a constant in the types of this Python."""
    if isinstance(value, tuple):
        return tuple(_constant(item) for item in value)
    if isinstance(value, (str, bytes)):
        return _text(value)
    if value is None or value is Ellipsis or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return int(value)
    raise CodeError("its code holds a constant that is no number, text or tuple")


def _text(value: str | bytes) -> str:
    value = getattr(value, "value", value)  # xdis marks the unicode of Python 2
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _name(value: str | bytes) -> str:
    name = _text(value)
    parts = name.split(".")  # of what is imported
    if not all(part.isidentifier() for part in parts) or len(name) > MAX_NAME:
        raise CodeError("its code is damaged: it has a name that is none")
    return name
