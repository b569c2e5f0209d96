"""Footprints of chips: polygons in WGS 84, as GDAL finds them."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.warp import transform, transform_geom
from test_geotiff import PLACED, WIDTH, corners_by_rasterio, geotif, metres_apart

from chip_classifier.review import footprints
from chip_classifier.review.footprints import centres_of, corners_in_wgs84, cut
from chip_classifier.review.geotiff import Places, read_place
from chip_files import REPOSITORY

# rasterio's own: how it multiplies.
pytestmark = [
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def test_the_smallest_tif_says_the_same_coordinate_system() -> None:
    for data in PLACED.values():
        with rasterio.MemoryFile(data) as file, file.open() as image:
            expected = image.crs
        tif = footprints.smallest_tif(read_place(data).keys)
        with rasterio.MemoryFile(tif) as file, file.open() as image:
            assert image.crs == expected


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


# Those that reach the antimeridian, on datums of their own, in degrees, grads, metres and feet, of
# all kinds of projections; and the latitude that they are looked at.
SYSTEMS = {
    -17: (
        *(4326, 4322, 4269, 4267, 4258, 4283, 4179, 4200, 4284, 4740, 4612, 4301, 4610, 4490, 4148),
        *(4211, 4807, 4314, 4277, 4720, 32601, 32660, 32701, 32760, 32201, 32260, 32301, 32360),
        *(28432, 20032, 3994, 3832, 3395, 3857, 6933, 3460, 3141, 3142, 2134, 2135, 32702, 8857),
    ),
    -40: (4167, 2193, 27200, 32759),
    66: (3338, 3571, 3572, 3573, 3574, 3575, 3576, 3995, 3996, 3413, 5041, 3408, 6931, 32661, 3593),
    -75: (3031, 3976, 5042, 3409, 32761),
}


def rings_of(geometry: dict) -> list[list]:
    """Return the outer rings of a geometry, those east of the antimeridian first."""
    is_one = geometry["type"] == "Polygon"
    rings = [ring for (ring,) in ([geometry["coordinates"]] if is_one else geometry["coordinates"])]
    return sorted(rings, key=lambda ring: min(point[0] for point in ring))


def metres_to(point: Sequence[float], points: Iterable[Sequence[float]]) -> float:
    """Return the distance of a point to the nearest of some."""
    return min(metres_apart(np.array([point]), np.array([other])) for other in points)


def test_longitudes_across_180_are_as_gdal_has_them() -> None:
    """In 60 coordinate systems: a chip on the antimeridian, and one at each side of it."""
    assert sum(map(len, SYSTEMS.values())) > 60
    cut_by_gdal = 0
    for latitude, longitude, epsg in (
        (latitude, longitude, epsg)
        for latitude, group in SYSTEMS.items()
        for epsg, longitude in itertools.product(group, (180, 179.95, -179.95))
    ):
        crs = rasterio.CRS.from_epsg(epsg)
        unit = crs.units_factor[1]
        pixel = 0.0005 * np.pi / 180 / unit if crs.is_geographic else 50 / unit
        ((x,), (y,)) = transform("EPSG:4326", crs, [longitude], [latitude])
        affine = Affine(pixel, 0, x - 3.3 * pixel, 0, -pixel, y + 2.2 * pixel)
        data = geotif(crs, affine)
        found = rings_of(footprint(data))
        corners = corners_by_rasterio(data)
        corners[:, 0] %= 360
        is_cut = corners[:, 0].min() < 180 < corners[:, 0].max()
        assert is_cut == (longitude == 180), epsg
        assert len(found) == 1 + is_cut, epsg
        # The corners are those of rasterio, in the half that they are in.
        points = [((x % 360, y)) for ring in found for x, y in ring]
        assert all(metres_to(corner, points) < 0.01 for corner in corners.tolist()), epsg
        assert all(-180 <= x <= 180 for ring in found for x, _ in ring), epsg
        # Nothing is lost or added: the parts are as large as the whole chip.
        whole = abs(area((corners[[0, 1, 2, 3, 0]] - corners[0]).tolist()))
        areas = [area([(x - ring[0][0], y - ring[0][1]) for x, y in ring]) for ring in found]
        assert sum(areas) == pytest.approx(whole, rel=1e-3), epsg  # positions have 8 decimals
        # GDAL cuts some of them itself; others it leaves around the earth.
        ends = [affine * at for at in ((0, 0), (0, 6), (8, 6), (8, 0), (0, 0))]
        by_gdal = transform_geom(crs, "EPSG:4326", {"type": "Polygon", "coordinates": [ends]})
        expected = rings_of(by_gdal)
        if len(expected) == 2 and all(np.ptp([x for x, _ in ring]) < 1 for ring in expected):
            cut_by_gdal += 1
            for ring, other in zip(found, expected, strict=True):
                assert all(metres_to(at, other) < 0.01 for at in ring), epsg
    assert cut_by_gdal > 15


@pytest.mark.parametrize(
    ("epsg", "affine", "west", "width"),
    [
        (4326, Affine(45, 0, -180, 0, -30, 90), -180, 360),
        (4326, Affine(45, 0, 0, 0, -20, 60), 0, 360),
        (4326, Affine(30, 0, -100, 0, -20, 60), -100, 240),
        (4322, Affine(30, 0, 100, 0, -20, 60), 100, 240),
        (4807, Affine(30, 0, 0, 0, -20, 60), 2.337, 216),
        (3857, Affine(2 * 20037508.342789 / 8, 0, -20037508.342789, 0, -1e6, 3e6), -180, 360),
        (3395, Affine(3.2e6, 0, -1.28e7, 0, -1e6, 3e6), -114.984, 229.968),
        (3832, Affine(3.2e6, 0, -1.28e7, 0, -1e6, 3e6), 35.016, 229.968),
        (6933, Affine(3.2e6, 0, -1.28e7, 0, -1e6, 3e6), -132.661, 265.323),
    ],
)
def test_chips_of_half_the_earth_and_more(
    epsg: int, affine: Affine, west: float, width: float
) -> None:
    chips = Places()
    chips.add(0, geotif(f"EPSG:{epsg}", affine))
    (corners,) = corners_in_wgs84(chips.chips())
    assert corners[:2, 0] == pytest.approx([west, west], abs=0.001)
    assert corners[2:, 0] == pytest.approx([west + width, west + width], abs=0.001)
    rings = rings_of(footprint(geotif(f"EPSG:{epsg}", affine)))
    extents = [np.ptp([point[0] for point in ring]) for ring in rings]
    assert sum(extents) == pytest.approx(width, abs=0.001)
    assert all(-180 <= x <= 180 for ring in rings for x, _ in ring)


def test_rasterio_is_loaded_without_the_library_of_a_store() -> None:
    """It stays to be had for others, such as the workflow's tests; decoders load at a time."""
    program = (
        "import sys; from chip_classifier.gdal import load_rasterio; "
        "from concurrent.futures import ThreadPoolExecutor; "
        "list(ThreadPoolExecutor(8).map(lambda _: load_rasterio(), range(8))); "
        "print('boto3' in sys.modules, 'botocore' in sys.modules); import boto3"
    )
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout == "False False\n"
