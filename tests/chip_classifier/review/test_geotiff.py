"""Where tif chips lie: their tags, read as GDAL reads them, and their footprints in WGS 84."""

import itertools
import json
import math

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform

from chip_classifier.review import footprints, geotiff
from chip_classifier.review.footprints import centres_of, corners_in_wgs84, cut
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


def test_the_smallest_tif_says_the_same_coordinate_system() -> None:
    for data in PLACED.values():
        with rasterio.MemoryFile(data) as file, file.open() as image:
            expected = image.crs
        tif = footprints.smallest_tif(read_place(data).keys)
        with rasterio.MemoryFile(tif) as file, file.open() as image:
            assert image.crs == expected


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


# ------------------------------------------------------------------------------------- footprints


def footprint(data: bytes) -> dict:
    """Return the geometry of a chip."""
    chips = Places()
    chips.add(0, data)
    (geometry,) = footprints.footprints(corners_in_wgs84(chips.chips()))
    return json.loads(geometry)


def area(ring: list) -> float:
    """Return the signed area of a closed ring, positive if it runs counterclockwise."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in itertools.pairwise(ring)) / 2


@pytest.mark.parametrize("name", PLACED)
def test_a_footprint_is_a_closed_ring_by_the_right_hand_rule(name: str) -> None:
    geometry = footprint(PLACED[name])
    assert geometry["type"] == "Polygon"
    (ring,) = geometry["coordinates"]
    assert len(ring) == 5
    assert ring[0] == ring[-1]
    shifted = [(x - ring[0][0], y - ring[0][1]) for x, y in ring]
    assert area(shifted) > 0
    expected = corners_by_rasterio(PLACED[name])
    for point in ring:
        nearest = min(metres_apart(np.array([point]), corner[None]) for corner in expected)
        assert nearest < 0.01


@pytest.mark.parametrize(
    "data",
    [
        geotif("EPSG:32660", Affine(10_000, 0, 790_000, 0, -10_000, 5e5)),
        geotif("EPSG:4326", Affine(0.1, 0, 179.7, 0, -0.1, 10)),
        geotif("EPSG:4326", Affine(0.1, 0, -180.5, 0, -0.1, 10)),
        geotif("EPSG:3832", Affine(30_000, 0, 3_250_000, 0, -30_000, 2e6)),
    ],
    ids=["UTM", "degrees east", "degrees west", "Pacific Mercator"],
)
def test_the_antimeridian_cuts_a_footprint(data: bytes) -> None:
    geometry = footprint(data)
    assert geometry["type"] == "MultiPolygon"
    (west,), (east,) = sorted(geometry["coordinates"], key=lambda rings: -rings[0][0][0])
    assert all(170 < x <= 180 for x, _ in west)
    assert all(-180 <= x < -170 for x, _ in east)
    assert area(west) > 0
    assert area(east) > 0
    for ring in (west, east):
        assert ring[0] == ring[-1]
        assert sum(abs(x) == 180 for x, _ in ring[1:]) == 2
    # Nothing is lost: an independent sum over a chip that is whole beyond 180.
    corners = corners_by_rasterio(data)
    corners[:, 0] %= 360
    whole = abs(area([*corners.tolist(), corners[0].tolist()]))
    assert area(west) + area(east) == pytest.approx(whole, rel=1e-6)


def test_edges_on_the_antimeridian_are_not_cut() -> None:
    for x in (-180, 180 - WIDTH / 10):
        geometry = footprint(geotif("EPSG:4326", Affine(0.1, 0, x, 0, -0.1, 10)))
        assert geometry["type"] == "Polygon"
        assert {abs(point[0]) for point in geometry["coordinates"][0]} == {180, 179.2}
    world = footprint(geotif("EPSG:4326", Affine(45, 0, -180, 0, -30, 90)))
    assert area(world["coordinates"][0]) == 360 * 180


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3031", -90), ("EPSG:3995", 90)])
def test_a_chip_over_a_pole(crs: str, pole: int) -> None:
    size = 100_000
    data = geotif(crs, Affine(size, 0, -size * 3, 0, -size, size * 2))
    geometry = footprint(data)
    polygons = geometry["coordinates"]
    rings = [polygons[0]] if geometry["type"] == "Polygon" else [rings[0] for rings in polygons]
    assert all(abs(x) <= 180 and abs(y) <= 90 for ring in rings for x, y in ring)
    assert any(y == pole for ring in rings for _, y in ring)
    assert all(area(ring) > 0 for ring in rings)
    # It reaches all around the earth, 2 to 5 degrees from the pole at the corners.
    assert 360 * 2 < sum(map(area, rings)) < 360 * 6


def test_cut_leaves_what_needs_no_cut() -> None:
    ring = [(1.0, 2.0), (1.0, 1.0), (2.0, 1.0)]
    assert cut(ring) == [ring]
    assert cut([(x + 720, y) for x, y in ring]) == [ring]


def test_centres() -> None:
    corners = np.array(
        [[[179, 0], [179, -2], [185, -2], [185, 0]], [[1, 1], [1, 0], [2, 0], [2, 1]]]
    )
    assert centres_of(corners.astype(float)).tolist() == [[-178, -1], [1.5, 0.5]]
