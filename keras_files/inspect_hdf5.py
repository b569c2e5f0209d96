"""Look at a Keras model file as untrusted input: HDF5 (.h5, .hdf5), or a .keras archive around one.

This runs in a process with limits, since a damaged file can make libhdf5 loop or crash. Nothing is
read before it is checked. A link is looked at before it is followed, an array's declared size is
compared with its stored size, and of the types only numbers and text are taken: h5py is never asked
for objects, so that nothing is unpickled. Keras writes none of what is refused here.

What was found is handed over as JSON: {"archive": {file name: text} or null, "root": group}. A
group is {"attributes": {name: text or [text, ...]}, "items": {name: group or array}}, an array
{"shape": [...], "dtype": numpy's name, "offset": place in the file}. An array that does not lie in
one piece has "size" in place of "offset": so many bytes of it follow the JSON, in their order.
"""

from __future__ import annotations

import codecs
import io
import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from keras_files.foreign_file import recognize
from keras_files.limits import allow_time
from keras_files.pinned_file import BLOCK_BYTES, PinnedFile

MAX_INFLATION = 100  # declared bytes per stored byte of one array; trained weights hardly compress
MAX_FILE_INFLATION = 10  # the same of all arrays of a file
SMALL_BYTES = 2**16  # an array that may be all zeros, and so compress to nothing
SMALL_FILE_BYTES = 2**28  # the same of all arrays of a file
MAX_TEXT_BYTES = (
    2**24
)  # of all attributes; NASNetLarge, the longest of keras.applications, has 2 MB
MAX_ITEMS = 20_000  # NASNetLarge has 4,624; an optimizer adds two for each array of weights
MAX_ATTRIBUTES = 1000  # of one item; Keras writes three, and one more for each 64 KB of names
MAX_DEPTH = 100  # a model nested in a model adds four levels
ITEMS_PER_SECOND = 200  # of a processor twenty times as slow as those of 2026
SLOW_BYTES_PER_SECOND = 2**23  # what a slow processor inflates at least

PLAIN_TYPES = {h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM}
PLAIN_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
OPTIMIZERS = ("/optimizer/", "/optimizer_weights/")  # of these only their numbers of steps are read
ARCHIVED = ("config.json", "metadata.json")
WEIGHTS = "model.weights.h5"
SIGNATURE = b"\x89HDF\r\n\x1a\n"
ZIP_HEADER = struct.Struct("<26xHH")  # of a member: the lengths of its name and of its extra field
ZIP_HEADER_BYTES = 30

# With the limits no more modules can be loaded: zipfile needs the first one, h5py the others.
for encoding in ("cp437", "ascii", "latin-1", "utf-8"):
    codecs.lookup(encoding)

Found = dict[str, Any]

NO_HDF5 = (
    "this is no HDF5 file, or its beginning is damaged: copy the whole file again, or save "
    "the model with model.save('model.h5')"
)


class Refusal(Exception):
    """The file is not taken; the message says why."""


def most_declared(size: int) -> int:
    """Return the most bytes that all arrays of a model file of `size` bytes may have."""
    return max(SMALL_FILE_BYTES, MAX_FILE_INFLATION * size)


class Looker:
    """A walk through the HDF5 file of a model that checks and notes all that is in it.

    blocks: the arrays that do not lie in one piece, in the order in which they are noted.
    """

    def __init__(self, file: h5py.File, start: int | None, size: int) -> None:
        """Begin with nothing read.

        Args:
            file: the open HDF5 file.
            start: where it begins in the model file; None if it is not stored there as it is.
            size: bytes of the model file.
        """
        self.blocks: list[bytes] = []
        self._file, self._start = file, start
        self._seen: set[int] = set()
        self._text = self._declared = 0
        self._most_declared = most_declared(size)

    def look(self) -> Found:
        """Return the root group."""
        root = self._file["/"]
        self._seen.add(_address(root))
        return self._group(root, 0)

    def _group(self, group: h5py.Group, depth: int) -> Found:
        if depth > MAX_DEPTH:
            raise Refusal("its groups are nested too deep")
        found: Found = {"attributes": self._attributes(group), "items": {}}
        if len(self._seen) + len(group) > MAX_ITEMS:
            raise Refusal(f"it has more than {MAX_ITEMS:,} entries, which no model has")
        for name in group:
            where = f"'{group.name.rstrip('/')}/{name}'"
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise _unsafe(where, f"is a link to another place ({type(link).__name__})")
            item = group[name]
            if _address(item) in self._seen:
                raise _unsafe(where, "is a second name for another entry of the file")
            self._seen.add(_address(item))
            if len(self._seen) % ITEMS_PER_SECOND == 0:
                allow_time(1)
            if isinstance(item, h5py.Group):
                found["items"][name] = self._group(item, depth + 1)
            elif isinstance(item, h5py.Dataset):
                self._check_array(item, where)
                found["items"][name] = self._array(item)
            else:
                raise _unsafe(where, "is neither a group nor an array")
        return found

    def _check_array(self, dataset: h5py.Dataset, where: str) -> None:
        self._attributes(dataset)
        creation = dataset.id.get_create_plist()
        if dataset.is_virtual or creation.get_external_count():
            raise _unsafe(where, "keeps its values in another file")
        if {creation.get_filter(i)[0] for i in range(creation.get_nfilters())} - PLAIN_FILTERS:
            raise _unsafe(where, "is packed in another way than gzip")
        if dataset.id.get_type().get_class() not in PLAIN_TYPES or dataset.shape is None:
            raise _unsafe(where, "holds something other than numbers and text")
        declared = dataset.size * dataset.dtype.itemsize
        if declared > max(SMALL_BYTES, MAX_INFLATION * dataset.id.get_storage_size()):
            raise _unsafe(where, f"declares {declared} bytes, far more than it stores")
        self._declared += declared
        if self._declared > self._most_declared:
            raise _unsafe(
                where, "and what comes before it declare far more bytes than the file has"
            )

    def _array(self, dataset: h5py.Dataset) -> Found:
        found: Found = {"shape": dataset.shape, "dtype": dataset.dtype.str}
        is_idle = dataset.shape and dataset.name.startswith(OPTIMIZERS)
        if dataset.dtype.kind not in "fiub" or is_idle:
            return found
        offset = self._offset(dataset)
        if offset is not None:
            return {**found, "offset": offset}
        allow_time(dataset.size * dataset.dtype.itemsize / SLOW_BYTES_PER_SECOND)
        self.blocks.append(np.asarray(dataset[()], np.float32).tobytes())
        return {**found, "dtype": "<f4", "size": len(self.blocks[-1])}

    def _offset(self, dataset: h5py.Dataset) -> int | None:
        """Return where in the model file the values lie in one piece, in a type of numpy."""
        kind, size = dataset.dtype.kind, dataset.size * dataset.dtype.itemsize
        if self._start is None or kind == "b" or not size:
            return None
        if dataset.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
            return None
        if dataset.id.get_storage_size() < size or dataset.id.get_offset() is None:
            return None
        if not h5py.h5t.py_create(dataset.dtype).equal(dataset.id.get_type()):
            return None
        return self._start + dataset.id.get_offset()

    def _attributes(self, item: h5py.Group | h5py.Dataset) -> dict[str, str | list[str]]:
        """Check the attributes of a group or array; give those that are text."""
        if h5py.h5a.get_num_attrs(item.id) > MAX_ATTRIBUTES:
            raise _unsafe(f"'{item.name}'", f"has more than {MAX_ATTRIBUTES:,} attributes")
        names: list[bytes] = []
        h5py.h5a.iterate(item.id, lambda name: names.append(name))
        found = {}
        for name in names:
            attribute = h5py.h5a.open(item.id, name)
            text = name.decode(errors="surrogateescape")
            where = f"attribute '{text[:200]}' of '{item.name}'"
            kind = attribute.get_type().get_class()
            if kind not in PLAIN_TYPES:
                raise _unsafe(where, "holds something other than numbers and text")
            size = (
                attribute.get_space().get_simple_extent_npoints() * attribute.get_type().get_size()
            )
            if size > MAX_TEXT_BYTES:
                raise _unsafe(where, f"has {size} bytes")
            if kind == h5py.h5t.STRING:
                found[text] = self._as_text(item.attrs[name])
        return found

    def _as_text(self, value: Any) -> str | list[str]:
        """Return an attribute as text: old files hold bytes."""
        several = isinstance(value, np.ndarray)
        parts = [
            part.decode(errors="surrogateescape") if isinstance(part, bytes) else str(part)
            for part in (value.ravel() if several else [value])
        ]
        self._text += sum(map(len, parts))
        if self._text > MAX_TEXT_BYTES:
            raise Refusal(f"its text of {self._text:,} bytes is larger than any model's")
        return parts if several else parts[0]


def look(file: PinnedFile) -> Iterator[bytes]:
    """Look at a model file; yield what was found (JSON behind its length), and then the arrays.

    Or, where it is refused, {"refused": why}; where it is damaged, {"damaged": how}.
    """
    blocks: list[bytes] = []
    try:
        found, blocks = _look(file)
        text = json.dumps(found)
    except MemoryError:
        raise
    except Refusal as error:
        text = json.dumps({"refused": str(error)})
    except Exception as error:  # noqa: BLE001, whatever a damaged file causes
        cause = " ".join(str(error).split())[:200]
        text = json.dumps({"damaged": f"{type(error).__name__}: {cause}"})
    data = text.encode()
    yield len(data).to_bytes(8)
    yield data
    yield from blocks


def _look(file: PinnedFile) -> tuple[Found, list[bytes]]:
    source, start, archived = file.stream(), 0, None
    if zipfile.is_zipfile(source):
        if foreign := recognize(file):
            raise Refusal(foreign)
        with zipfile.ZipFile(source) as archive:
            archived = {name: _member(archive, name).decode() for name in ARCHIVED}
            source, start = _weights(file, archive)
    try:
        opened = h5py.File(source, "r")
    except OSError as error:
        if "signature" in str(error):
            raise Refusal(recognize(file) or NO_HDF5) from error
        raise Refusal(f"the file is truncated or damaged ({error}): copy it again") from error
    looker = Looker(opened, start, file.size)
    return {"archive": archived, "root": looker.look()}, looker.blocks


def is_model_file(path: Path) -> bool:
    """Return whether a file begins as those do that `look` takes.

    HDF5 may lie behind 512, 1024, 2048, ... bytes.
    """
    file = PinnedFile(path)
    places = [0, *(2**power for power in range(9, 64) if 2**power < file.size)]
    is_hdf5 = any(file.read(place, len(SIGNATURE)) == SIGNATURE for place in places)
    return is_hdf5 or zipfile.is_zipfile(file.stream())


def _checked_member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Return one file of a .keras archive, unless it declares far more bytes than it stores."""
    if name not in archive.namelist():
        raise Refusal(
            f"this zip archive has no {name}, so it is no .keras file: save the model with "
            "model.save('model.keras')"
        )
    info = archive.getinfo(name)
    if info.file_size > max(2**20, MAX_INFLATION * info.compress_size):
        raise Refusal(f"{name} in the archive declares far more bytes than it stores")
    allow_time(info.file_size / SLOW_BYTES_PER_SECOND)
    return info


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = _checked_member(archive, name)
    if info.file_size > MAX_TEXT_BYTES:
        raise Refusal(f"its {name} of {info.file_size} bytes is larger than any model's")
    return archive.read(info)


def _weights(file: PinnedFile, archive: zipfile.ZipFile) -> tuple[BinaryIO, int | None]:
    """Return the HDF5 file in a .keras archive, and where it begins if it is stored as it is."""
    info = _checked_member(archive, WEIGHTS)
    if info.compress_type != zipfile.ZIP_STORED:
        return io.BytesIO(archive.read(info)), None
    with archive.open(info) as member:
        while member.read(BLOCK_BYTES):  # compares the checksum
            pass
    header = file.read(info.header_offset, ZIP_HEADER_BYTES)
    start = info.header_offset + ZIP_HEADER_BYTES + sum(ZIP_HEADER.unpack(header))
    return file.stream(start, info.file_size), start


def _address(item: h5py.Group | h5py.Dataset) -> int:
    return h5py.h5o.get_info(item.id).addr


def _unsafe(where: str, cause: str) -> Refusal:
    return Refusal(
        f"{where} {cause}, which Keras never writes; the file is not opened for safety's sake: "
        "take it as model.save() wrote it"
    )
