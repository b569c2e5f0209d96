"""GeoJSON: features matched with chips, read and written as a stream."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from chip_classifier.names import ChipNames
from chip_classifier.review import geojson
from chip_classifier.review.final_chips import FinalChips
from chip_classifier.review.geojson import (
    Matcher,
    Matches,
    centre_of,
    foreign_crs,
    read_features,
    turn_rings,
    with_answers,
    write_collection,
)


def square(x: float, y: float, size: float = 1) -> list[list[float]]:
    """Make the ring of a square, clockwise."""
    return [[x, y], [x, y + size], [x + size, y + size], [x + size, y], [x, y]]


def feature(properties: dict | None, x: float = 0, **members: object) -> dict:
    """Make a feature with the outline of a square, which runs clockwise."""
    geometry = {"type": "Polygon", "coordinates": [square(x, 0)]}
    return {"type": "Feature", **members, "properties": properties, "geometry": geometry}


def write(path: Path, features: list[dict], **members: object) -> Path:
    """Write a collection."""
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features, **members}))
    return path


def chips_named(*names: str) -> FinalChips:
    """Make chips of class 0."""
    number, named = np.arange(len(names)), ChipNames([f"{name}.png" for name in names])
    return FinalChips(number, named, number, np.zeros(len(names), int), np.ones(len(names)))


def match(features: list[dict], *names: str) -> tuple[list[int], Matches]:
    """Match features with chips of these names; classes are a and b."""
    matcher = Matcher(chips_named(*names), ["a", "b"])
    return [row for _, row in matcher.match(features)], matcher.matches()


@pytest.mark.parametrize(
    ("features", "rows", "key"),
    [
        ([feature({"feature_id": "x"}), feature({"feature_id": "y"})], [0, 1], "feature_id"),
        ([feature({"feature_id": 7}), feature({"feature_id": 8.0})], [2, 3], "feature_id"),
        ([feature({"id": "y"}), feature({}, id="x")], [1, 0], "id"),
        ([feature({"name": "y"}), feature(None)], [1, -1], "name"),
        ([feature({"feature_id": "?", "name": "y"})], [1], "name"),
        # The numbers of one property are not those of another.
        ([feature({"feature_id": n, "id": n + 1}) for n in (6, 7, 8)], [-1, 2, 3], "feature_id"),
        ([feature({"feature_id": True}), feature({"feature_id": [7]})], [-1, -1], None),
    ],
)
def test_a_feature_names_its_chip(features: list[dict], rows: list[int], key: str | None) -> None:
    found, matches = match(features, "x", "y", "7", "8")
    assert (found, matches.key) == (rows, key)
    assert (matches.features, matches.lost) == (len(features), rows.count(-1))
    assert matches.is_matched.nonzero()[0].tolist() == sorted({row for row in rows if row >= 0})


def test_the_key_may_show_late() -> None:
    features = [feature({"name": f"other {n}"}) for n in range(2500)] + [feature({"name": "x"})]
    rows, matches = match(features, "x")
    assert matches.key == "name"
    assert rows == [-1] * 2500 + [0]


def test_truths_and_centres() -> None:
    names = ["a", " b ", None, "sea", "sea", "a"]
    features = [feature({"name": str(n), "class_name": name}, n) for n, name in enumerate(names)]
    _, matches = match(features, "4", "3", "2", "1", "0")
    assert matches.truths.tolist() == [-1, -1, -1, 1, 0]
    assert matches.strange == {"sea": 2}
    assert matches.lost == 1
    assert matches.centres.tolist() == [[4.5, 0.5], [3.5, 0.5], [2.5, 0.5], [1.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("geometry", "centre"),
    [
        ({"type": "Point", "coordinates": [3, 4, 5]}, (3, 4)),
        ({"type": "MultiPolygon", "coordinates": [[square(0, 0)], [square(5, 7)]]}, (3, 4)),
        (None, None),
        ({"type": "Polygon", "coordinates": []}, None),
        ({"type": "Polygon", "coordinates": [["a", "b"], [None], [1]]}, None),
    ],
)
def test_centre(geometry: object, centre: tuple[float, float] | None) -> None:
    found = centre_of(geometry)
    assert found == centre if centre else np.isnan(found).all()


def test_features_keep_all_they_have_and_their_order(tmp_path: Path) -> None:
    features = [
        feature({"name": str(n), "deep": {"list": [1, 2.5, None, "\u00fc\U0001f6f0"]}}, n, id=n)
        for n in range(5)
    ]
    source = write(tmp_path / "ref.geojson", features, name="layer")
    target = tmp_path / "out.geojson"
    matcher = Matcher(chips_named("3", "1", "0"), ["a"])
    answers = {0: {"class": "a", "certainty": 0.5}, 1: {"class": "a", "certainty": 1.0}, 2: {}}
    matched = matcher.match(read_features(source))
    write_collection(target, with_answers(matched, answers.__getitem__))
    text = target.read_text()
    written = json.loads(text)
    assert list(written) == ["type", "features"]
    assert text.count("\n") == len(features) + 2  # one a line
    features[3]["properties"] |= answers[0]
    features[1]["properties"] |= answers[1]
    for one in features:
        one["geometry"]["coordinates"][0].reverse()  # the right-hand rule
    assert written["features"] == features


@pytest.mark.parametrize("features", [[], [feature(None)], [feature({}), {"no": "feature"}]])
def test_odd_collections_stay_as_they_are(tmp_path: Path, features: list[dict]) -> None:
    source, target = write(tmp_path / "r.geojson", features), tmp_path / "out.geojson"
    write_collection(target, with_answers(((f, -1) for f in read_features(source)), dict))
    for one in features:
        turn_rings(one.get("geometry"))
    assert json.loads(target.read_text())["features"] == features


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
    for odd in (None, 5, {"type": "Polygon"}, {"type": "Polygon", "coordinates": [[1], ["a"]]}):
        turn_rings(odd)


@pytest.mark.parametrize(
    ("crs", "expected"),
    [
        ("urn:ogc:def:crs:OGC:1.3:CRS84", None),
        ("urn:ogc:def:crs:EPSG::4326", None),
        ("EPSG:4326", None),
        ("urn:ogc:def:crs:EPSG::32633", "urn:ogc:def:crs:EPSG::32633"),
        ("EPSG:3857", "EPSG:3857"),
        ("EPSG:14326", "EPSG:14326"),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_a_crs_before_or_behind_the_features(
    tmp_path: Path, crs: str, expected: str | None, before: bool
) -> None:
    members = {"crs": {"type": "name", "properties": {"name": crs}}, "features": [feature({})]}
    order = sorted(members, reverse=not before)
    path = tmp_path / "r.geojson"
    path.write_text(json.dumps({name: members[name] for name in order}))
    assert foreign_crs(path) == expected


def test_a_crs_across_the_blocks_of_a_file_and_none_at_all(tmp_path: Path) -> None:
    path = tmp_path / "r.geojson"
    member = '"crs": {"properties": {"name": "EPSG:3857"}}, "features": []}'
    for shift in range(8):
        path.write_text("{" + " " * (2**20 - shift) + member)
        assert foreign_crs(path) == "EPSG:3857"
    path.write_text('{"crs": null, "features": []}')
    assert foreign_crs(path) is None
    assert foreign_crs(write(path, [feature({"crs": "EPSG:3857"})])) is None


def test_memory_does_not_grow_with_the_features(tmp_path: Path) -> None:
    text = json.dumps(feature({"name": "x" * 1000}))
    peaks = []
    for number in (2_000, 20_000):
        source = tmp_path / "r.geojson"
        source.write_text('{"features": [' + ",".join([text] * number) + "]}")
        matcher = Matcher(chips_named("a"), ["a"])
        tracemalloc.start()
        matched = matcher.match(read_features(source))
        write_collection(tmp_path / "o.geojson", with_answers(matched, dict))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A feature takes about 3 KB as Python's objects: 18,000 more would be 50 MB.
    assert peaks[1] < peaks[0] + 2e6
    assert geojson.FEATURES_AT_ONCE == 1000
