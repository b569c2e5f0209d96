"""The tags of a tif file's first image (TIFF 6.0, section 2; BigTIFF): where they are in the file.

The chips of an archive mostly have the same directory but for a few values outside of it: what was
made of one is kept for the others.
"""

import functools
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

MAX_ENTRIES = 0xFFFF  # of a directory, as in libtiff

# Different directories that are kept, and the bytes up to which one is. GDAL's have 18 entries.
KEPT_DIRECTORIES = 256
MAX_KEPT_BYTES = 2**12

# Type of an entry (TIFF 6.0, page 15; 13 is an offset, 16 to 18 are BigTIFF's) -> bytes of a value.
_SIZES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}


class _Form(NamedTuple):
    """How a file's numbers are written.

    order: of their bytes, for struct.
    number, entry, offset: the number of entries, an entry, an offset.
    inline: most bytes of values that stand in the entry itself.
    first: where the offset of the first directory is.
    """

    order: str
    number: struct.Struct
    entry: struct.Struct
    offset: struct.Struct
    inline: int
    first: int


_FORMS = {}
for _name, _order in ((b"II", "<"), (b"MM", ">")):
    _classic = "H", "HHI4s", "I"
    _FORMS[_name, 42] = _Form(_order, *(struct.Struct(_order + c) for c in _classic), 4, 4)
    _big = "Q", "HHQ8s", "Q"
    _FORMS[_name, 43] = _Form(_order, *(struct.Struct(_order + c) for c in _big), 8, 8)


class Entry(NamedTuple):
    """A tag's entry: the type and number of its values, and these, if they stand in it."""

    type: int
    count: int
    value: bytes


@dataclass(frozen=True, eq=False)
class Directory:
    """The entries of an image, of each tag the first one, as in libtiff.

    order: of the bytes, "<" or ">".
    entries: tag -> entry.
    outside: tag -> where in the file its values are, for those that do not stand in the entry.
    """

    order: str
    entries: dict[int, Entry]
    outside: dict[int, slice] = field(default_factory=dict)

    def values(self, tag: int, code: str, outside: bytes) -> tuple[int, ...] | np.ndarray:
        """Return the values of a tag.

        Args:
            tag: one of the entries.
            code: of a value, for struct, without the order of its bytes.
            outside: the bytes at its place outside, if it has one.
        Raises:
            struct.error, ValueError: they do not lie within the file.
        """
        entry = self.entries[tag]
        source = outside if tag in self.outside else entry.value
        if entry.count == 1:
            return struct.unpack_from(self.order + code, source)
        return np.frombuffer(source, self.order + code, entry.count)


def read_directory(data: bytes) -> Directory:
    """Find the entries of a tif file's first image.

    Raises struct.error, KeyError: it is no tif file, or its directory does not lie within it.
    """
    form = _FORMS[data[:2], int.from_bytes(data[2:4], "little" if data[:2] == b"II" else "big")]
    (start,) = form.offset.unpack_from(data, form.first)
    # An offset beyond any file is too large for Python's own index, too.
    if start >= len(data):
        raise struct.error("the directory lies outside the file")
    (number,) = form.number.unpack_from(data, start)
    if number > MAX_ENTRIES:
        raise struct.error("more entries than libtiff reads")
    start += form.number.size
    entries = data[start : start + number * form.entry.size]
    if len(entries) < number * form.entry.size:
        raise struct.error("the directory is cut off")
    parse = _parse if len(entries) <= MAX_KEPT_BYTES else _parse.__wrapped__
    return parse(form, entries)


@functools.lru_cache(KEPT_DIRECTORIES)
def _parse(form: _Form, entries: bytes) -> Directory:
    """Make a Directory of its entries' bytes."""
    directory = Directory(form.order, {})
    for tag, kind, count, value in form.entry.iter_unpack(entries):
        if tag in directory.entries:
            continue
        directory.entries[tag] = Entry(kind, count, value)
        size = _SIZES.get(kind, 0) * count
        if size > form.inline:
            (at,) = form.offset.unpack(value)
            directory.outside[tag] = slice(at, at + size)
    return directory
