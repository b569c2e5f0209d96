"""Where tif chips lie: their tags, read as GDAL reads them."""

import math
import struct
import warnings

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine
from rasterio.warp import transform

from chip_classifier.review import geotiff
from chip_classifier.review.footprints import corners_in_wgs84
from chip_classifier.review.geotiff import Places, read_place

# rasterio's own: what it says of chips without a place, and how it multiplies.
pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

WIDTH, HEIGHT = 8, 6
ROTATED = Affine.translation(500_000, 4_649_776) * Affine.rotation(30) * Affine.scale(0.5, -0.5)


def geotif(crs: object, affine: Affine | None, **options: object) -> bytes:
    """Make a tif chip with a place, written by GDAL."""
    profile = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": 3, "dtype": "uint8"}
    if affine is not None:
        profile["transform"] = affine
    with rasterio.MemoryFile() as file:
        with file.open(**profile, crs=crs, **options) as image:
            image.write(np.zeros((3, HEIGHT, WIDTH), np.uint8))
        return bytes(file.read())


def corners_by_rasterio(data: bytes) -> np.ndarray:
    """Return the corners of a chip in WGS 84, (4, 2), as rasterio finds them."""
    with rasterio.MemoryFile(data) as file, file.open() as image:
        pixels = [(0, 0), (0, HEIGHT), (WIDTH, HEIGHT), (WIDTH, 0)]
        x, y = zip(*(image.transform * pixel for pixel in pixels), strict=True)
        return np.column_stack(transform(image.crs, CRS.from_epsg(4326), x, y))


def metres_apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest distance of points in metres, on a sphere of the earth's radius."""
    difference = np.radians(one - other)
    difference[..., 0] *= np.cos(np.radians(one[..., 1]))
    return 6_378_137 * float(np.hypot(*np.moveaxis(difference, -1, 0)).max())


PLACED = {
    "UTM 33 N": geotif("EPSG:32633", Affine(0.5, 0, 500_000, 0, -0.5, 4_649_776)),
    "UTM 33 S, big": geotif("EPSG:32733", Affine(30, 0, 300_000, 0, -30, 7e6), BIGTIFF="YES"),
    "Motorola": geotif("EPSG:32633", Affine(2, 0, 6e5, 0, -2, 5e6), ENDIANNESS="BIG"),
    "rotated": geotif("EPSG:32617", ROTATED),
    "south up": geotif("EPSG:3857", Affine(1, 0, 1e6, 0, 1, 6e6)),
    "degrees": geotif("EPSG:4326", Affine(1e-5, 0, 11.5, 0, -1e-5, 48.1)),
    "degrees of NAD27": geotif("EPSG:4267", Affine(1e-5, 0, -100, 0, -1e-5, 40)),
    "LAEA": geotif("EPSG:3035", Affine(10, 0, 4_321_000, 0, -10, 3_210_000)),
    "feet": geotif("EPSG:2263", Affine(1, 0, 985_000, 0, -1, 210_000)),
    "no EPSG code": geotif(
        "+proj=lcc +lat_1=40 +lat_2=50 +lat_0=45 +lon_0=3 +ellps=GRS80 +units=m",
        Affine(1, 0, 1234.5, 0, -1, 9876.5),
    ),
    "Antarctica": geotif("EPSG:3031", Affine(100, 0, 5e5, 0, -100, -1e6)),
}


@pytest.mark.parametrize("name", PLACED)
def test_corners_are_where_rasterio_has_them(name: str) -> None:
    chips = Places()
    chips.add(7, PLACED[name])
    found = corners_in_wgs84(chips.chips())
    assert metres_apart(found[0], corners_by_rasterio(PLACED[name])) < 0.001


def test_a_pixel_may_be_a_point() -> None:
    with rasterio.MemoryFile() as file:
        profile = {"driver": "GTiff", "width": WIDTH, "height": HEIGHT, "count": 1}
        affine = Affine(2, 0, 500_000, 0, -2, 5e6)
        with file.open(**profile, dtype="uint8", crs="EPSG:32633", transform=affine) as image:
            image.update_tags(AREA_OR_POINT="Point")
        data = bytes(file.read())
    chips = Places()
    chips.add(0, data)
    with rasterio.MemoryFile(data) as file, file.open() as image:
        assert image.tags()["AREA_OR_POINT"] == "Point"
    assert read_place(data).origin == (500_000, 5e6)
    assert metres_apart(corners_in_wgs84(chips.chips())[0], corners_by_rasterio(data)) < 0.001


def test_chips_without_a_place_of_their_own() -> None:
    points = [GroundControlPoint(row, col, 10 + col, 40 - row) for row in (0, 6) for col in (0, 8)]
    only_points = geotif(CRS.from_epsg(4326), None, gcps=points)
    without_crs = geotif(None, Affine(1, 0, 5, 0, -1, 5))
    assert read_place(geotif("EPSG:4326", None)) is None
    assert read_place(only_points) is None
    assert read_place(without_crs) is None
    assert read_place(b"\xff\xd8\xff") is None
    assert read_place(geotif("EPSG:4326", Affine(math.inf, 0, 1, 0, -1, 1))) is None


def test_damaged_files_have_no_place_or_one_but_no_error() -> None:
    data = PLACED["rotated"]
    rng = np.random.default_rng(0)
    for length in range(len(data)):
        read_place(data[:length])
    for _ in range(2000):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            damaged[at] = rng.integers(256)
        chips = Places()
        chips.add(0, bytes(damaged))
        assert corners_in_wgs84(chips.chips()).shape[1:] == (4, 2)
    far = (2**64 - 1).to_bytes(8, "little")  # where a BigTIFF's directory would be
    assert read_place(b"II+\0\x08\0\0\0" + far + bytes(100)) is None


def test_places_are_kept_by_number_with_each_set_of_keys_once() -> None:
    chips, names = Places(), ["UTM 33 N", "degrees", "rotated"]
    for number in (5, 3, 9, 1, 0):
        chips.add(number, PLACED[names[number % 3]])
    found = chips.chips()
    assert found.numbers.tolist() == [0, 1, 3, 5, 9]
    assert len(found.key_sets) == 3
    corners = corners_in_wgs84(found)
    for number, corner in zip(found.numbers, corners, strict=True):
        assert metres_apart(corner, corners_by_rasterio(PLACED[names[number % 3]])) < 0.001


def test_chips_outside_of_their_projection_are_left_out() -> None:
    chips = Places()
    for number in range(100):
        x = 5e5 if number % 7 else 1e30
        chips.add(number, geotif("EPSG:32633", Affine(1, 0, x, 0, -1, 5e6)))
    found = corners_in_wgs84(chips.chips())
    assert np.isnan(found[:, 0, 0]).nonzero()[0].tolist() == list(range(0, 100, 7))


def test_memory_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geotiff, "MAX_KEY_SETS", 2)
    chips = Places()
    for number, data in enumerate(PLACED.values()):
        chips.add(number, data)
    assert chips.chips().numbers.tolist() == [0, 1, 2]  # the third is as the first
    monkeypatch.setattr(geotiff, "MAX_KEY_BYTES", 20)
    assert read_place(PLACED["degrees"]) is None


def with_tags(tags: dict[int, list[float]]) -> bytes:
    """Make a tif of 32 x 24 pixels in UTM 33 N, with tags of doubles that GDAL does not write."""
    shorts = {256: 32, 257: 24, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 24, 279: 768}
    keys = [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633]
    values = {tag: ("H", [value]) for tag, value in shorts.items()} | {34735: ("H", keys)}
    values |= {tag: ("d", numbers) for tag, numbers in tags.items()}
    at, entries, behind = 8 + 768 + 2 + 12 * len(values) + 4, b"", b""
    for tag, (kind, numbers) in sorted(values.items()):
        data = struct.pack(f"<{len(numbers)}{kind}", *numbers)
        place = struct.pack("<I", at + len(behind)) if len(data) > 4 else data.ljust(4, b"\0")
        entries += struct.pack("<HHI", tag, {"H": 3, "d": 12}[kind], len(numbers)) + place
        behind += data if len(data) > 4 else b""
    directory = struct.pack("<H", len(values)) + entries + bytes(4)
    return b"II" + struct.pack("<HI", 42, 776) + bytes(768) + directory + behind


SCALE, TIEPOINT, MATRIX = 33550, 33922, 34264
_MATRIX = [5.0, 8, 0, 4e5, 8, -5, 0, 4e6, *[0.0] * 7, 1]


@pytest.mark.parametrize(
    "tags",
    [
        {SCALE: [10.0, 10, 0], TIEPOINT: [0.0, 0, 0, 5e5, 5e6, 0], MATRIX: _MATRIX},
        {SCALE: [10.0, 10], TIEPOINT: [2.0, 3, 0, 5e5, 5e6, 0]},
        {SCALE: [10.0, -10, 0], TIEPOINT: [0.0, 0, 0, 5e5, 5e6, 0]},
        {MATRIX: _MATRIX},
        {SCALE: [10.0, 10, 0], MATRIX: _MATRIX},
        {SCALE: [0.0, 0, 0], MATRIX: _MATRIX},
        {SCALE: [0.0, 0, 0], TIEPOINT: [0.0, 0, 0, 5e5, 5e6, 0], MATRIX: _MATRIX},
        {SCALE: [10.0], TIEPOINT: [0.0, 0, 0, 5e5, 5e6, 0], MATRIX: _MATRIX},
        {TIEPOINT: [0.0, 0, 0, 5e5, 5e6, 0]},
        {MATRIX: _MATRIX[:15]},
    ],
)
def test_which_tags_count_is_as_gdal_has_it(tags: dict[int, list[float]]) -> None:
    data = with_tags(tags)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with rasterio.MemoryFile(data) as file, file.open() as image:
            expected = image.transform
    place = read_place(data)
    without = any(one.category is NotGeoreferencedWarning for one in caught)
    if without or expected.is_identity:  # the latter with a tiepoint alone
        assert place is None
    else:
        assert place.origin == (expected.c, expected.f)
        assert place.along == (32 * expected.a, 32 * expected.d)
        assert place.down == (24 * expected.b, 24 * expected.e)
