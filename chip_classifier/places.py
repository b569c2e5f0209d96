"""Where tif chips lie on the ground, by their tags (GeoTIFF 1.1, OGC 19-008), kept while a run goes
on."""

import math
import struct
import threading
from array import array
from typing import NamedTuple

import numpy as np

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
TIFF_SUFFIXES = (".tif", ".tiff")

# Real ones have some hundred bytes, and an archive has one set for each of its map projections.
MAX_KEY_BYTES = 2**14
MAX_KEY_SETS = 1000

_WIDTH, _HEIGHT = 256, 257
_PIXEL_SCALE, _TIEPOINT, _TRANSFORMATION = 33550, 33922, 34264
_KEYS, _DOUBLES, _TEXT = 34735, 34736, 34737
# Tag -> the types that it may have: their numbers (TIFF 6.0, page 15; 16 is BigTIFF's), and codes.
_TAGS = {
    **{tag: {3: "H", 4: "I", 16: "Q"} for tag in (_WIDTH, _HEIGHT)},
    **{tag: {12: "d"} for tag in (_PIXEL_SCALE, _TIEPOINT, _TRANSFORMATION, _DOUBLES)},
    _KEYS: {3: "H"},
    _TEXT: {2: "c"},
}
_RASTER_TYPE, _PIXEL_IS_POINT = 1025, 2


class GeoKeys(NamedTuple):
    """What names the coordinate system: the values of three tags, in the byte order of Intel."""

    directory: bytes
    doubles: bytes
    text: bytes


class Place(NamedTuple):
    """Where a chip lies, in a coordinate system.

    origin: x and y of the first pixel's outer corner.
    along: from there to the end of the first row, (x, y).
    down: from there to the end of the first column, (x, y).
    keys: of the coordinate system.
    """

    origin: tuple[float, float]
    along: tuple[float, float]
    down: tuple[float, float]
    keys: GeoKeys


def read_place(data: bytes) -> Place | None:
    """Read where a tif file lies; None if it does not say so, or only by ground control points.

    As GDAL reads it: a matrix counts before a scale with its tiepoint; where a pixel is a point,
    the place is half a pixel off.
    """
    if not data.startswith(TIFF_MAGIC):
        return None
    try:
        tags = _read_tags(data)
        affine = _affine(tags)
        if affine is None or _KEYS not in tags:
            return None
        keys = GeoKeys(*(tags[tag].raw if tag in tags else b"" for tag in (_KEYS, _DOUBLES, _TEXT)))
        (width,), (height,) = tags[_WIDTH].values(1), tags[_HEIGHT].values(1)
    except (struct.error, KeyError):
        return None
    x, a, b, y, d, e = affine
    if _is_point(keys.directory):
        x, y = x - (a + b) / 2, y - (d + e) / 2
    place = Place((x, y), (a * width, d * width), (b * height, e * height), keys)
    is_sound = all(map(math.isfinite, (*place.origin, *place.along, *place.down)))
    return place if is_sound and sum(map(len, keys)) <= MAX_KEY_BYTES else None


class _Tag(NamedTuple):
    """The value of a tag: its bytes in the byte order of Intel, and the code of its type."""

    raw: bytes
    code: str

    def values(self, count: int) -> tuple[float, ...]:
        """Give its first `count` values. Raises struct.error if it has fewer."""
        return struct.unpack_from(f"<{count}{self.code}", self.raw)


def _read_tags(data: bytes) -> dict[int, _Tag]:
    """Read the values of _TAGS in a tif file's first directory.

    Raises struct.error, KeyError: a tag does not lie within the file, or is of a type that it
    cannot be of.
    """
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    number, entry, inline, at = ("Q", "HHQ8s", 8, 8) if is_big else ("H", "HHI4s", 4, 4)
    offset = order + ("Q" if is_big else "I")
    (start,) = struct.unpack_from(offset, data, at)
    (entries,) = struct.unpack_from(order + number, data, start)
    first = start + struct.calcsize(order + number)
    directory = data[first : first + entries * struct.calcsize(order + entry)]
    tags: dict[int, _Tag] = {}
    for tag, kind, count, value in struct.iter_unpack(order + entry, directory):
        if tag in _TAGS and tag not in tags:
            code = _TAGS[tag][kind]
            size = struct.calcsize(code) * count
            place = struct.unpack(offset, value)[0] if size > inline else 0
            raw = (data if size > inline else value)[place : place + size]
            if len(raw) < size:
                raise struct.error("a tag lies outside the file")
            if order == ">":
                raw = np.frombuffer(raw, f">{code}").byteswap().tobytes()
            tags[tag] = _Tag(raw, code)
    return tags


def _affine(tags: dict[int, _Tag]) -> tuple[float, ...] | None:
    """Give x, a, b, y, d, e of (column, row) -> (x + a column + b row, y + d column + e row).

    Raises struct.error if a tag has too few values.
    """
    if _TRANSFORMATION in tags:
        a, b, _, x, d, e, _, y = tags[_TRANSFORMATION].values(8)
        return x, a, b, y, d, e
    if _PIXEL_SCALE not in tags or _TIEPOINT not in tags:
        return None
    scale_x, scale_y = tags[_PIXEL_SCALE].values(2)
    if not (scale_x and scale_y):
        return None
    column, row, _, x, y, _ = tags[_TIEPOINT].values(6)
    scale_y = -abs(scale_y)
    return x - column * scale_x, scale_x, 0.0, y - row * scale_y, 0.0, scale_y


def _is_point(directory: bytes) -> bool:
    """Tell whether the geo keys say that a pixel is a point (GTRasterTypeGeoKey)."""
    entries = directory[8 : len(directory) // 8 * 8]  # behind the header, four shorts for each key
    return any(
        key == _RASTER_TYPE and value == _PIXEL_IS_POINT
        for key, _, _, value in struct.iter_unpack("<4H", entries)
    )


class PlacedChips(NamedTuple):
    """The M chips of a run that say where they lie.

    numbers: the chips' numbers, int64 (M,), rising.
    places: origin, along and down of each, float64 (M, 3, 2).
    key_sets: the different sets of geo keys.
    key_indices: which of these each chip has, int32 (M,).
    """

    numbers: np.ndarray
    places: np.ndarray
    key_sets: list[GeoKeys]
    key_indices: np.ndarray


class Places:
    """Keeps the places of chips, 60 bytes for each; several threads may add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers, self._places, self._key_indices = array("q"), array("d"), array("i")
        self._key_sets: dict[GeoKeys, int] = {}

    def add(self, number: int, data: bytes) -> None:
        """Note the place of chip `number`, if its file, `data`, tells one."""
        place = read_place(data)
        if place is None:
            return
        with self._lock:
            if place.keys not in self._key_sets and len(self._key_sets) == MAX_KEY_SETS:
                return
            self._numbers.append(number)
            self._places.extend((*place.origin, *place.along, *place.down))
            self._key_indices.append(self._key_sets.setdefault(place.keys, len(self._key_sets)))

    def chips(self) -> PlacedChips:
        """Give the places noted so far."""
        numbers = np.array(self._numbers, np.int64)
        order = np.argsort(numbers)
        places = np.array(self._places).reshape(-1, 3, 2)
        indices = np.array(self._key_indices, np.int32)
        return PlacedChips(numbers[order], places[order], list(self._key_sets), indices[order])
