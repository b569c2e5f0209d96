"""Where tif chips lie on the ground, by their tags (GeoTIFF 1.1, OGC 19-008), kept while a run goes
on."""

import functools
import math
import struct
import threading
from array import array
from typing import NamedTuple

import numpy as np

from chip_classifier.tiff_tags import KEPT_DIRECTORIES, Directory, read_directory

TIFF_SUFFIXES = (".tif", ".tiff")

# Real ones have some hundred bytes, and an archive has one set for each of its map projections.
MAX_KEY_BYTES = 2**14
MAX_KEY_SETS = 1000

_WIDTH, _HEIGHT = 256, 257
_PIXEL_SCALE, _TIEPOINT, _TRANSFORMATION = 33550, 33922, 34264
_KEYS, _DOUBLES, _TEXT = 34735, 34736, 34737
# Tag -> the types that it may have (TIFF 6.0, page 15; 16 is BigTIFF's) -> bytes of a value.
_TAGS = {
    **{tag: {3: 2, 4: 4, 16: 8} for tag in (_WIDTH, _HEIGHT)},
    **{tag: {12: 8} for tag in (_PIXEL_SCALE, _TIEPOINT, _TRANSFORMATION, _DOUBLES)},
    _KEYS: {3: 2},
    _TEXT: {2: 1},
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

    As GDAL reads it: a scale counts before a matrix, also without a tiepoint; where a pixel is a
    point, the place is half a pixel off.
    """
    try:
        directory = read_directory(data)
        if _KEYS not in directory.entries:
            return None
        tags = _values(data, directory)
        affine = _affine(tags)
        if affine is None:
            return None
        keys = tags[_KEYS], tags.get(_DOUBLES, b""), tags.get(_TEXT, b"")
        width = int.from_bytes(tags[_WIDTH][:8], "little")
        height = int.from_bytes(tags[_HEIGHT][:8], "little")
    except (struct.error, LookupError, ArithmeticError, ValueError):
        return None
    if len(keys[0]) + len(keys[1]) + len(keys[2]) > MAX_KEY_BYTES:
        return None
    keys, is_point = _known(*keys)
    x, a, b, y, d, e = affine
    if is_point:
        x, y = x - (a + b) / 2, y - (d + e) / 2
    along, down = (a * width, d * width), (b * height, e * height)
    # The sum of finite numbers is infinite only where they lie nowhere on the earth.
    is_sound = math.isfinite(x + y + along[0] + along[1] + down[0] + down[1])
    return Place((x, y), along, down, keys) if is_sound else None


def _values(data: bytes, directory: Directory) -> dict[int, bytes]:
    """Return the values of _TAGS in a tif file, in the byte order of Intel.

    Raises struct.error, KeyError: a tag does not lie within the file, or is of a type that it
    cannot be of.
    """
    inside, outside = _tags(directory)
    tags = inside.copy()
    for tag, place, size in outside:
        tags[tag] = value = data[place]
        if len(value) < size:
            raise struct.error("a tag lies outside the file")
    if directory.order == ">":
        for tag, value in tags.items():
            unit = _TAGS[tag][directory.entries[tag].type]
            tags[tag] = np.frombuffer(value, f"u{unit}").byteswap().tobytes()
    return tags


@functools.lru_cache(KEPT_DIRECTORIES)
def _tags(directory: Directory) -> tuple[dict[int, bytes], list[tuple[int, slice, int]]]:
    """Find those of _TAGS that a directory has: their values where they stand in it, and tag,
    place and bytes of the others.

    Raises struct.error, KeyError: a tag is cut off, or of a type that it cannot be of.
    """
    inside, outside = {}, []
    for tag in _TAGS.keys() & directory.entries.keys():
        entry = directory.entries[tag]
        size = _TAGS[tag][entry.type] * entry.count
        if tag in directory.outside:
            outside.append((tag, directory.outside[tag], size))
        else:
            inside[tag] = entry.value[:size]
            if len(inside[tag]) < size:
                raise struct.error("a tag lies outside the file")
    return inside, outside


def _affine(tags: dict[int, bytes]) -> tuple[float, ...] | None:
    """Return x, a, b, y, d, e of (column, row) -> (x + a column + b row, y + d column + e row).

    Raises struct.error if a tag has too few values.
    """
    scale = tags.get(_PIXEL_SCALE, b"")
    scale_x, scale_y = struct.unpack_from("<2d", scale) if len(scale) >= 16 else (0, 0)
    if not (scale_x and scale_y):
        if len(tags.get(_TRANSFORMATION, b"")) != 128:
            return None
        a, b, _, x, d, e, _, y = struct.unpack_from("<8d", tags[_TRANSFORMATION])
        return x, a, b, y, d, e
    if _TIEPOINT not in tags:
        return None
    column, row, _, x, y = struct.unpack_from("<5d", tags[_TIEPOINT])
    scale_y = -abs(scale_y)
    return x - column * scale_x, scale_x, 0.0, y - row * scale_y, 0.0, scale_y


@functools.lru_cache(MAX_KEY_SETS)
def _known(directory: bytes, doubles: bytes, text: bytes) -> tuple[GeoKeys, bool]:
    """Return geo keys, and whether they say that a pixel is a point (GTRasterTypeGeoKey)."""
    entries = directory[8 : len(directory) // 8 * 8]  # behind the header, four shorts for each key
    is_point = any(
        key == _RASTER_TYPE and value == _PIXEL_IS_POINT
        for key, _, _, value in struct.iter_unpack("<4H", entries)
    )
    return GeoKeys(directory, doubles, text), is_point


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
        """Return the places noted so far."""
        numbers = np.array(self._numbers, np.int64)
        order = np.argsort(numbers)
        places = np.array(self._places).reshape(-1, 3, 2)
        indices = np.array(self._key_indices, np.int32)
        return PlacedChips(numbers[order], places[order], list(self._key_sets), indices[order])
