"""Features with the chips' answers: GeoJSON (RFC 7946) in and out, one feature at a time.

A reference file lies beside the chips, as the task chip-from-vrt writes it: the features that the
chips were cut at, some with their true class. It may have millions of features; it is read as a
stream.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import ijson
import numpy as np

from chip_classifier.answers import encode_json, whole_file
from chip_classifier.errors import TaskError
from chip_classifier.review.final_chips import FinalChips
from chip_classifier.review.scores import NO_TRUTH

TRUE_CLASS = "class_name"
# Where a feature may say which chip was cut at it, in this order.
KEYS = ("feature_id", "id", "name")
FEATURES_AT_ONCE = 1000
MOST_STRANGE = 1000  # different class names, for the warning

# The names of WGS 84 with longitude first, which GeoJSON of before 2016 may give in "crs".
_WGS84 = re.compile(r"(OGC.*CRS84|EPSG:+4326|WGS ?84)$", re.IGNORECASE)

Feature: TypeAlias = dict[str, object]


def require_collection(path: Path) -> None:
    """Raise TaskError unless a file begins as a collection of features does."""
    problem = "it has no list of features"
    try:
        with path.open("rb") as file:
            if ("features", "start_array") in (
                (prefix, event) for prefix, event, _ in ijson.parse(_without_mark(file))
            ):
                return
    except (ijson.JSONError, ValueError) as error:  # the latter where text is not UTF-8
        problem = " ".join(str(error).split())[:200]
    raise TaskError(
        f"{path.name} is no GeoJSON FeatureCollection in UTF-8 ({problem}): mend it, or take it "
        "away from the chips."
    )


def _without_mark(file: Iterable[bytes]) -> Iterable[bytes]:
    """Pass over the mark with which some editors begin a file in UTF-8."""
    if file.read(3) != b"\xef\xbb\xbf":
        file.seek(0)
    return file


def read_features(path: Path) -> Iterator[Feature]:
    """Yield the features of a collection.

    Raises ValueError where the file is damaged: what was yielded before is sound.
    """
    number = 0
    with path.open("rb") as file:
        try:
            for feature in ijson.items(_without_mark(file), "features.item", use_float=True):
                number += 1
                if isinstance(feature, dict):
                    yield feature
        except (ijson.JSONError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{path.name} is damaged after feature {number:,}: {reason}"
            ) from error


def foreign_crs(path: Path) -> str | None:
    """Return the name of the coordinate system that a file declares, if it is not WGS 84.

    GeoJSON has been in WGS 84 since RFC 7946; before, a member "crs" could name another one.
    """
    with path.open("rb") as file:
        blocks = iter(lambda: file.read(2**20), b"")
        overlaps = itertools.pairwise(itertools.chain(blocks, [b""]))
        if not any(b'"crs"' in one + other[:4] for one, other in overlaps):
            return None
        file.seek(0)
        for crs in ijson.items(_without_mark(file), "crs"):
            try:
                name = str(crs["properties"]["name"])
            except (TypeError, KeyError):
                name = "an unnamed coordinate system"
            if crs is not None and not _WGS84.search(name):
                return name
    return None


class Matches(NamedTuple):
    """What the features of a reference file tell of the N chips.

    key: by which property they were matched; None if no feature matches a chip.
    features: how many there are.
    lost: those that no chip was cut at.
    is_matched: bool (N,): the chips that have a feature.
    truths: true class indices, int32 (N,), NO_TRUTH where it is unknown.
    centres: longitude and latitude of the features' middles, float64 (N, 2), NaN where unknown.
    strange: class names of features that are none of the model's classes -> features.
    """

    key: str | None
    features: int
    lost: int
    is_matched: np.ndarray
    truths: np.ndarray
    centres: np.ndarray
    strange: Counter


class Matcher:
    """Matches features with chips, and notes what they tell of them.

    Which of KEYS names the chip is told by the features themselves: it is the one by which most of
    the first features that match at all find a chip. It is one for the whole file, because
    numbers in another one may be those of other chips.
    """

    def __init__(self, chips: FinalChips, class_names: Sequence[str]) -> None:
        """Begin; arguments as elsewhere."""
        self._chips = chips
        self._rows = {name: row for row, (_, name) in enumerate(chips.names)}
        self._class_index = {name: index for index, name in enumerate(class_names)}
        self._key: str | None = None
        self._features = self._lost = 0
        self._is_matched = np.zeros(len(chips.numbers), bool)
        self._truths = np.full(len(chips.numbers), NO_TRUTH, np.int32)
        self._centres = np.full((len(chips.numbers), 2), np.nan)
        self._strange: Counter = Counter()

    def match(self, features: Iterable[Feature]) -> Iterator[tuple[Feature, int]]:
        """Yield each feature with the row of its chip in FinalChips, -1 if it has none."""
        features = iter(features)
        while block := list(itertools.islice(features, FEATURES_AT_ONCE)):
            if self._key is None:
                self._key = self._choose_key(block)
            for feature in block:
                row = self._row(feature, self._key) if self._key else -1
                self._features += 1
                if row < 0:
                    self._lost += 1
                else:
                    self._note(feature, row)
                yield feature, row

    def _choose_key(self, features: Sequence[Feature]) -> str | None:
        """Return the key by which most features match, the first of several; None if none does."""
        found = {key: sum(self._row(f, key) >= 0 for f in features) for key in KEYS}
        best = max(KEYS, key=found.__getitem__)
        return best if found[best] else None

    def _row(self, feature: Feature, key: str) -> int:
        """Return the row of the chip that a feature names by a key, -1 if there is none."""
        value = properties_of(feature).get(key)
        if value is None and key == "id":
            value = feature.get("id")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return self._rows.get(str(value), -1)

    def _note(self, feature: Feature, row: int) -> None:
        """Note the true class and the place of a feature."""
        self._is_matched[row] = True
        self._centres[row] = centre_of(feature.get("geometry"))
        name = properties_of(feature).get(TRUE_CLASS)
        if name is None:
            return
        index = self._class_index.get(str(name).strip())
        if index is not None:
            self._truths[row] = index
        elif len(self._strange) < MOST_STRANGE:
            self._strange[str(name)] += 1

    def matches(self) -> Matches:
        """Return what the features told, once all are matched."""
        return Matches(
            self._key,
            self._features,
            self._lost,
            self._is_matched,
            self._truths,
            self._centres,
            self._strange,
        )


def properties_of(feature: Feature) -> Mapping[str, object]:
    """Return the properties of a feature, {} if it has none."""
    properties = feature.get("properties")
    return properties if isinstance(properties, dict) else {}


def positions(geometry: object) -> Iterator[tuple[float, float]]:
    """Yield the longitudes and latitudes of a geometry; of what is none, nothing."""
    waiting = [geometry.get("coordinates") if isinstance(geometry, dict) else None]
    while waiting:
        item = waiting.pop()
        if not isinstance(item, list) or not item:
            continue
        if isinstance(item[0], int | float):
            if len(item) > 1 and isinstance(item[1], int | float):
                yield item[0], item[1]
        else:
            waiting += item


def centre_of(geometry: object) -> tuple[float, float]:
    """Return the middle of a geometry's bounds, (longitude, latitude); NaN where it has none."""
    points = list(positions(geometry))
    if not points:
        return np.nan, np.nan
    longitudes, latitudes = zip(*points, strict=True)
    return (min(longitudes) + max(longitudes)) / 2, (min(latitudes) + max(latitudes)) / 2


def are_degrees(features: Iterable[Feature]) -> bool:
    """Return whether the coordinates of features can be longitudes and latitudes.

    Longitudes up to 360 occur where a feature crosses the antimeridian.
    """
    return all(
        abs(longitude) <= 360 and abs(latitude) <= 90
        for feature in features
        for longitude, latitude in positions(feature.get("geometry"))
    )


def turn_rings(geometry: object) -> None:
    """Turn the rings of a polygon by the right-hand rule (RFC 7946, 3.1.6), in place.

    The outer one runs counterclockwise, holes run clockwise. What is no sound polygon is left.
    """
    if not isinstance(geometry, dict):
        return
    polygons = {
        "Polygon": [geometry.get("coordinates")],
        "MultiPolygon": geometry.get("coordinates"),
    }
    try:
        for rings in polygons.get(geometry.get("type"), ()):
            for number, ring in enumerate(rings):
                if ring and (signed_area(ring) < 0) == (number == 0):
                    ring.reverse()
    except (TypeError, IndexError, AttributeError, ValueError):
        return


def signed_area(ring: Sequence[Sequence[float]]) -> float:
    """Return the area of a closed ring, negative if it runs clockwise (the shoelace formula)."""
    x0, y0 = ring[0][:2]  # differences, because areas of metres vanish beside 180 degrees
    return (
        sum(
            (a[0] - x0) * (b[1] - y0) - (b[0] - x0) * (a[1] - y0)
            for a, b in itertools.pairwise(ring)
        )
        / 2
    )


def write_collection(path: Path, features: Iterable[str]) -> None:
    """Write features, in JSON, one a line, as a GeoJSON FeatureCollection, whole or not at all.

    Raises OSError if it cannot be written; nothing is left of it then, or after another error.
    """
    with whole_file(path) as file:
        file.write('{"type": "FeatureCollection", "features": [')
        separator = "\n"
        for feature in features:
            file.write(separator + feature)
            separator = ",\n"
        file.write("\n]}\n")


def with_answers(
    matched: Iterable[tuple[Feature, int]], answer: Callable[[int], Mapping[str, object]]
) -> Iterator[str]:
    """Add the answers of their chips to the properties of features, and yield these in JSON.

    Args:
        matched: features, each with the row of its chip, -1 if it has none.
        answer: row of a chip -> what to add, {} if the chip has no class.
    """
    for feature, row in matched:
        if row >= 0 and (entry := answer(row)):
            feature["properties"] = {**properties_of(feature), **entry}
        turn_rings(feature.get("geometry"))
        yield encode_json(feature)
