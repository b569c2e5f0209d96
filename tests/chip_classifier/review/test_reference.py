"""A reference: what is wrong with it, and its features matched with chips."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from chip_classifier.errors import TaskError
from chip_classifier.names import ChipNames
from chip_classifier.review.final_chips import FinalChips
from chip_classifier.review.geojson import read_features, write_collection
from chip_classifier.review.reference import (
    Matcher,
    Matches,
    check_reference,
    findings_of,
    variants,
    with_answers,
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
    matcher.choose_key(features)
    return [row for _, row in matcher.match(features)], matcher.matches()


@pytest.mark.parametrize(
    ("features", "rows", "key"),
    [
        ([feature({"feature_id": "x"}), feature({"feature_id": "y"})], [0, 1], "feature_id"),
        ([feature({"feature_id": 7}), feature({"feature_id": 8.0})], [2, 3], "feature_id"),
        ([feature({"id": "y"}), feature({}, id="x")], [1, 0], "id"),
        ([feature({"name": "y"}), feature(None)], [1, -1], "name"),
        ([feature({"feature_id": "?", "name": "y"})], [1], "name"),
        # A lower key counts only where those above it name no chip in the whole file: numbers of
        # one property are not those of another, however many chips they would find.
        ([feature({"feature_id": n, "id": n + 1}) for n in (6, 7)], [-1, 2], "feature_id"),
        (
            [*[feature({"id": "x"})] * 3, feature({"feature_id": "y", "id": "x"})],
            [-1, -1, -1, 1],
            "feature_id",
        ),
        ([feature({"name": "x", "id": "?"}), feature({"id": "y"}), feature({})], [-1, 1, -1], "id"),
        # What is missing or no name is not the chip that is named so.
        ([feature({"feature_id": "None"}), feature({"feature_id": None})], [4, -1], "feature_id"),
        ([feature({"feature_id": True}), feature({"feature_id": [7]})], [-1, -1], None),
    ],
)
def test_a_feature_names_its_chip(features: list[dict], rows: list[int], key: str | None) -> None:
    found, matches = match(features, "x", "y", "7", "8", "None", "True", "[7]")
    assert (found, matches.key) == (rows, key)
    assert (matches.features, matches.lost) == (len(features), rows.count(-1))
    assert matches.is_matched.nonzero()[0].tolist() == sorted({row for row in rows if row >= 0})


def test_truths_and_centers() -> None:
    names = [" A", " b ", None, "sea", "sea", "a", "", "  "]
    features = [feature({"name": str(n), "class_name": name}, n) for n, name in enumerate(names)]
    _, matches = match(features, "4", "3", "2", "1", "0")
    assert matches.truths.tolist() == [-1, -1, -1, 1, 0]
    assert matches.strange == {"sea": 2}
    assert matches.lost == 3
    assert matches.centres.tolist() == [[4.5, 0.5], [3.5, 0.5], [2.5, 0.5], [1.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("names", "truth", "is_contradicted"),
    [
        (["a", "A "], 0, False),
        (["a", None, ""], 0, False),
        (["a", "b"], -1, True),
        (["a", "b", "a"], -1, True),
        (["sea", "a"], -1, True),
        (["sea", "land"], -1, True),
        (["sea", "sea"], -1, False),
    ],
)
def test_truths_that_contradict_each_other(
    names: list[str], truth: int, is_contradicted: bool
) -> None:
    features = [feature({"name": "y", "class_name": name}) for name in names]
    _, matches = match(features, "x", "y")
    assert matches.truths.tolist() == [-1, truth]
    assert matches.contradicted == ((1, "y") if is_contradicted else None)
    told = [text for text in findings_of(matches, "ref.geojson") if "contradict each other" in text]
    assert len(told) == is_contradicted


@pytest.mark.parametrize(
    ("name", "chip", "why"),
    [
        ("y.tif", "y", "an ending"),
        ("east/y.tif", "east/y", "an ending"),
        ("east/y", "y", "a folder"),
        ("chips/east/y", "east/y", "a folder"),
        ("chips/y.tif", "y", "a folder and an ending"),
        ("chips/east/y.tif", "east/y", "a folder and an ending"),
        ("007", "7", "leading zeros"),
        (7, "0007", "leading zeros"),
        ("Geb\u00e4ude", "Geba\u0308ude", "composed accents"),
        (" y ", "y", "blanks"),
        ("Y", "y", "capital letters"),
    ],
)
def test_why_features_match_no_chip(name: object, chip: str, why: str) -> None:
    _, matches = match([feature({"name": "x"}), feature({"name": name})], "x", chip)
    assert (matches.lost, matches.first_lost) == (1, str(name))
    assert matches.hints == {why: (1, f"'{name}' and '{chip}'")}
    (sentence,) = findings_of(matches, "ref.geojson")
    assert f"1 of the 2 features in ref.geojson match no chip by name, the first is '{name}'" in (
        sentence
    )
    assert f"They may differ in {why}, as '{name}' and '{chip}'." in sentence


def test_a_name_with_no_chip_has_few_variants() -> None:
    assert len(list(variants("9" * 4000))) < 10
    _, matches = match([feature({"name": "x"}), feature({"name": "sea"}), feature({})], "x")
    assert [text.partition(":")[0] for text in findings_of(matches, "r")] == [
        "2 of the 3 features in r match no chip by name, the first is 'sea'"
    ]


def written(source: Path, prefix: str, answers: dict[str, dict]) -> list[dict]:
    """Write the features of a reference with the answers of chips, and read them again."""
    chips = chips_named(*answers)
    matcher = Matcher(chips, ["a"])
    matcher.choose_key(read_features(source))
    matched = matcher.match(read_features(source))
    target = source.with_name("out.geojson")
    write_collection(
        target, with_answers(matched, lambda row: answers[chips.name(row)], prefix=prefix)
    )
    text = target.read_text()
    features = json.loads(text)["features"]
    assert text.count("\n") == len(features) + 2  # one a line
    return features


def test_features_keep_all_they_have_and_their_order(tmp_path: Path) -> None:
    features = [
        feature({"name": str(n), "deep": {"list": [1, 2.5, None, "\u00fc\U0001f6f0"]}}, n, id=n)
        for n in range(5)
    ]
    source = write(tmp_path / "ref.geojson", features, name="layer")
    answers = {"3": {"class": "a", "certainty": 0.5}, "1": {"class": "a", "certainty": 1}, "0": {}}
    found = written(source, check_reference(source).prefix, answers)
    features[3]["properties"] |= answers["3"]
    features[1]["properties"] |= answers["1"]
    for one in features:
        one["geometry"]["coordinates"][0].reverse()  # the right-hand rule
    assert found == features


OLD = {"class": "hospital", "certainty": 0.3, "probabilities": {"hospital": 0.3}}


@pytest.mark.parametrize(
    ("own", "prefix", "word"),
    [
        ({}, "", None),
        ({"class": None, "certainty": None}, "", None),
        (OLD, "", "as of an earlier classified.geojson"),
        ({"class": "house", "certainty": 1}, "", "as of an earlier classified.geojson"),
        ({"class": "residential"}, "deployed_", "of their own"),
        ({"class": 5, "certainty": 0.3}, "deployed_", "of their own"),
        ({"class": "house", "certainty": "surveyed"}, "deployed_", "of their own"),
        ({"probabilities": [1]}, "deployed_", "of their own"),
    ],
)
def test_properties_of_the_users_own(
    tmp_path: Path, own: dict, prefix: str, word: str | None
) -> None:
    """They come back; what an earlier run left does not look like an answer of this one."""
    features = [feature({"name": name, **own, "owner": 1}) for name in ("x", "lost", "bad")]
    features.append(feature({"name": "y"}))
    source = write(tmp_path / "ref.geojson", features)
    reference = check_reference(source)
    assert reference.prefix == prefix
    assert [word in text for text in reference.warnings] == ([True] if word else [])
    answers = {
        "x": {"class": "a", "certainty": 0.5},
        "y": {"class": "a", "certainty": 1},
        "bad": {},
    }
    kept = {} if word and not prefix else own
    for _ in range(2):  # its own results as the reference give the same again
        found = {
            one["properties"]["name"]: one["properties"] for one in written(source, prefix, answers)
        }
        added = {prefix + name: value for name, value in answers["x"].items()}
        assert found["x"] == {"name": "x", **kept, "owner": 1, **added}
        assert found["lost"] in ({"name": "lost", **kept, "owner": 1}, {"name": "lost", "owner": 1})
        assert found["bad"].keys() - own.keys() == {"name", "owner"}
        assert found["y"] == {"name": "y", **{prefix + n: v for n, v in answers["y"].items()}}
        if not word:
            break
        source.with_name("out.geojson").rename(source)
        assert check_reference(source).prefix == prefix


@pytest.mark.parametrize(
    ("crs", "is_wgs84"),
    [
        ("urn:ogc:def:crs:OGC:1.3:CRS84", True),
        ("urn:ogc:def:crs:EPSG::4326", True),
        ("EPSG:4326", True),
        ("urn:ogc:def:crs:EPSG::32633", False),
        ("EPSG:3857", False),
        ("EPSG:14326", False),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_a_crs_before_or_behind_the_features(
    tmp_path: Path, crs: str, is_wgs84: bool, before: bool
) -> None:
    members = {"crs": {"type": "name", "properties": {"name": crs}}, "features": [feature({})]}
    path = tmp_path / "r.geojson"
    path.write_text(json.dumps({n: members[n] for n in sorted(members, reverse=not before)}))
    reference = check_reference(path)
    assert reference.is_wgs84 == is_wgs84
    assert [crs in text for text in reference.warnings] == ([] if is_wgs84 else [True])


def test_a_crs_that_is_none_and_coordinates_that_are_no_degrees(tmp_path: Path) -> None:
    path = tmp_path / "r.geojson"
    path.write_text('{"crs": null, "features": []}')
    assert check_reference(path).is_wgs84
    assert check_reference(write(path, [feature({"crs": "EPSG:3857"})])).is_wgs84
    assert not check_reference(write(path, [feature({}, 500_000)])).is_wgs84
    assert not check_reference(write(path, [], crs={"type": "link"})).is_wgs84


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b'{"type": "Feature"}', b"{broken", b"\xff", b'{"features": 5}', b'{"a": [1'),
        '{"features": []}'.encode("utf-16"),
    ],
)
def test_what_is_no_collection_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ref.geojson").write_bytes(content)
    with pytest.raises(TaskError, match=r"ref\.geojson is no GeoJSON FeatureCollection in UTF-8"):
        check_reference(tmp_path / "ref.geojson")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"features": [{}, {"a": }]}', "damaged after feature 1: Expecting value"),
        ('{"features": [{}, {"a": 1}', "damaged after feature 2: the end of the file"),
        ('{"features": [{}]} {', "damaged after feature 1: '{' behind its end"),
        ('{"features": [{}], "n": ' + "9" * 5000 + "}", "a number of more than 4,300 digits"),
        ('{"features": [{"a": ' + "[" * 300_000, "lists within lists"),
        ('{"features": [{"a": "' + "x" * 2**24 + '"}]}', "longer than 16,777,216 characters"),
        ('{"a": "' + "x" * 2**24 + '", "features": []}', "longer than 16,777,216 characters"),
    ],
    ids=lambda value: value[:20],
)
def test_damage_and_what_is_too_large(tmp_path: Path, text: str, what: str) -> None:
    """It is told before the first chip is classified, in little memory."""
    path = tmp_path / "ref.geojson"
    path.write_text(text)
    tracemalloc.start()
    try:
        warnings = check_reference(path).warnings
    except TaskError as error:
        warnings = [str(error)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [what in text for text in warnings] == [True]
    assert peak < 5 * 2**24


def test_memory_does_not_grow_with_the_features(tmp_path: Path) -> None:
    text = json.dumps(feature({"name": "x" * 1000}))
    peaks = []
    for number in (500, 4_000):
        source = tmp_path / "r.geojson"
        source.write_text('{"features": [' + ",".join([text] * number) + "]}")
        matcher = Matcher(chips_named("a"), ["a"])
        tracemalloc.start()
        check_reference(source)
        matcher.choose_key(read_features(source))
        matched = matcher.match(read_features(source))
        write_collection(tmp_path / "o.geojson", with_answers(matched, dict))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # A feature takes about 3 KB as Python's objects: 3,500 more would be 10 MB.
    assert peaks[1] < peaks[0] + 2e6
