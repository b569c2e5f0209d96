"""GeoJSON, read and written as a stream, and its geometries."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from test_reference import feature, square, write

from chip_classifier.review import geojson
from chip_classifier.review.geojson import (
    centre_of,
    encode_feature,
    read_collection,
    read_features,
    turn_rings,
    write_collection,
)


def test_members_and_features_come_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "r.geojson"
    path.write_text(' {"a" : [1, {"features": []}],\r\n"features":[ {"b": 1} ,5, {}],"c":null}\n')
    assert list(read_collection(path)) == [
        ("a", [1, {"features": []}]),
        ("features", None),
        ("features", {"b": 1}),
        ("features", 5),
        ("features", {}),
        ("c", None),
    ]
    assert list(read_features(path)) == [{"b": 1}, {}]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 50])
def test_blocks_of_any_size_read_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    features = [
        feature({"name": f'\u00fc\\"{n}\n', "n": [n, -n / 3, True, None, 1e300]}, n)
        for n in range(20)
    ]
    path = write(tmp_path / "r.geojson", features, number=12345678, word=True)
    expected = list(read_collection(path))
    monkeypatch.setattr(geojson, "_BLOCK", block)
    assert list(read_collection(path)) == expected
    assert [value for _, value in expected[2:-2]] == features
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert list(read_collection(path)) == expected


def test_numbers_that_json_has_not_and_large_ones(tmp_path: Path) -> None:
    path = tmp_path / "r.geojson"
    large = "[9749618446378729472, 123456789012345678901234567890, -18446744073709551617, 0.1]"
    path.write_text(f'{{"features": [{{"a": [NaN, -Infinity, 1e999, 1.5], "b": {large}}}]}}')
    (found,) = read_features(path)
    assert encode_feature(found) == f'{{"a": [null, null, null, 1.5], "b": {large}}}'


@pytest.mark.parametrize("features", [[], [feature(None)], [feature({}), {"no": "feature"}]])
def test_odd_collections_stay_as_they_are(tmp_path: Path, features: list[dict]) -> None:
    source, target = write(tmp_path / "r.geojson", features), tmp_path / "out.geojson"
    write_collection(target, map(encode_feature, read_features(source)))
    assert json.loads(target.read_text()) == {"type": "FeatureCollection", "features": features}


@pytest.mark.parametrize(
    ("geometry", "centre"),
    [
        ({"type": "Point", "coordinates": [3, 4, 5]}, (3, 4)),
        ({"type": "MultiPolygon", "coordinates": [[square(0, 0)], [square(5, 7)]]}, (3, 4)),
        (
            {"type": "MultiPolygon", "coordinates": [[square(179, 0)], [square(-180, 0)]]},
            (180, 0.5),
        ),
        ({"type": "Polygon", "coordinates": [square(-180, 0)]}, (-179.5, 0.5)),
        ({"type": "LineString", "coordinates": [[170, 0], [-178, 2]]}, (176, 1)),
        ({"type": "LineString", "coordinates": [[170, 0], [182, 2]]}, (176, 1)),
        ({"type": "LineString", "coordinates": [[-90, 0], [90, 2]]}, (0, 1)),
        (None, None),
        ({"type": "Polygon", "coordinates": []}, None),
        ({"type": "Polygon", "coordinates": [["a", "b"], [None], [1]]}, None),
        ({"type": "Point", "coordinates": [10**400, 1]}, None),
    ],
)
def test_centre(geometry: object, centre: tuple[float, float] | None) -> None:
    found = centre_of(geometry)
    assert found == pytest.approx(centre) if centre else np.isnan(found).all()


def test_rings_are_turned() -> None:
    hole = square(0.2, 0.2, 0.5)[::-1]
    polygon = {"type": "Polygon", "coordinates": [square(0, 0), hole]}
    turn_rings(polygon)
    assert polygon["coordinates"] == [square(0, 0)[::-1], square(0.2, 0.2, 0.5)]
    right = {"type": "MultiPolygon", "coordinates": [[square(0, 0)[::-1]], [square(179, 9)[::-1]]]}
    copy = json.loads(json.dumps(right))
    turn_rings(copy)
    assert copy == right
    tiny = {"type": "Polygon", "coordinates": [square(179.123, -33.3, 1e-6)]}
    turn_rings(tiny)
    assert tiny["coordinates"][0] == square(179.123, -33.3, 1e-6)[::-1]
    odd = ([[1], ["a"]], [[[10**400, 1], [math.inf, 2.0], [1, 1.5]]], [[[None, None]] * 4])
    for rings in odd:
        turn_rings({"type": "Polygon", "coordinates": rings})
    for geometry in (None, 5, {"type": "Polygon"}):
        turn_rings(geometry)
