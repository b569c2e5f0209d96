"""GeoJSON (RFC 7946) in and out, one feature at a time: a file may have millions of them."""

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO, TypeAlias

import numpy as np

from chip_classifier.answers import ENTRIES_AT_A_TIME, encode_json, whole_file

# Of a feature, or of another member of a file. Python's objects take up to 33 times as much memory.
MOST_CHARACTERS = 2**24
_BLOCK = 2**16  # characters that are read at a time
_NEAR = 16  # characters: what is wrong so near to the end of a text may be due to its end
_BLANKS = re.compile(r"[ \t\r\n]*")
# NaN and Infinity, which Python and older GDAL write, are null.
_decode = json.JSONDecoder(parse_constant=lambda _: None, strict=False).raw_decode

Feature: TypeAlias = dict[str, object]


class _Text:
    """The text of a JSON file, read as it is needed."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._text, self._at, self._is_whole = file, "", 0, False

    def _read_on(self) -> None:
        """Read at least as much again as waits, so that all is looked at twice in the mean."""
        more = self._file.read(max(_BLOCK, len(self._text) - self._at))
        self._text, self._at, self._is_whole = self._text[self._at :] + more, 0, not more

    def peek(self) -> str:
        """Return the next character that is no blank, "" at the end."""
        self._at = _BLANKS.match(self._text, self._at).end()
        while self._at == len(self._text) and not self._is_whole:
            self._read_on()
            self._at = _BLANKS.match(self._text).end()
        return self._text[self._at : self._at + 1]

    def take(self, expected: str) -> str:
        """Take the next character, which must be one of those expected; raise ValueError if not."""
        if (found := self.peek()) not in expected or not found:
            found = f"'{found}'" if found else "the end of the file"
            raise ValueError(f"{found} where '{expected[0]}' is expected")
        self._at += 1
        return found

    def value(self) -> object:
        """Take the next value.

        Raises ValueError: it is no JSON, or larger than what is read.
        """
        self.peek()
        while True:
            end = None
            try:
                value, end = _decode(self._text, self._at)
            except json.JSONDecodeError as error:
                is_open = error.msg.startswith("Unterminated string")
                if self._is_whole or (error.pos < len(self._text) - _NEAR and not is_open):
                    raise ValueError(error.msg) from error
            except RecursionError as error:
                raise ValueError("lists within lists, deeper than anything is read") from error
            except ValueError as error:
                raise ValueError("a number of more than 4,300 digits") from error
            if (end or len(self._text)) - self._at > MOST_CHARACTERS:
                raise ValueError(f"what follows is longer than {MOST_CHARACTERS:,} characters")
            if end is not None and (end < len(self._text) or self._is_whole):
                self._at = end
                return value
            self._read_on()

    def items(self) -> Iterator[object]:
        """Take a list behind its bracket, and yield its items."""
        if self.peek() == "]":
            self.take("]")
            return
        yield self.value()
        while self.take(",]") == ",":
            yield self.value()


def read_collection(path: Path) -> Iterator[tuple[str, object]]:
    """Yield the members of a file, (name, value).

    ("features", None) stands for the beginning of the features' list, ("features", feature) for
    each of them.

    Raises ValueError where the file is damaged, or larger than what is read: what was yielded
    before is sound.
    """
    features = 0
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = _Text(file)
            text.take("{")
            end = "}" if text.peek() == "}" else ","
            while end == ",":
                name = str(text.value())
                text.take(":")
                if name == "features":
                    text.take("[")
                    yield name, None
                    for feature in text.items():
                        features += 1
                        yield name, feature
                else:
                    yield name, text.value()
                end = text.take(",}")
            if rest := text.peek():
                raise ValueError(f"'{rest}' behind its end")
    except ValueError as error:  # also where text is not UTF-8
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path.name} is damaged after feature {features:,}: {reason}") from error


def read_features(path: Path) -> Iterator[Feature]:
    """Yield the features of a file, as read_collection does; what is no object is left out."""
    for name, value in read_collection(path):
        if name == "features" and isinstance(value, dict):
            yield value


def encode_feature(feature: object) -> str:
    """Write a feature as JSON; a number that is too large for a float is null."""
    try:
        return encode_json(feature)
    except ValueError:
        return encode_json(_finite(feature))


def _finite(value: object) -> object:
    """Return a value of JSON with null for each number that is not finite."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_collection(path: Path, features: Iterable[str]) -> None:
    """Write features, in JSON, one a line, as a GeoJSON FeatureCollection, whole or not at all.

    Raises OSError if it cannot be written; nothing is left of it then, or after another error.
    """
    with whole_file(path) as file:
        file.write('{"type": "FeatureCollection", "features": [')
        features, between = iter(features), "\n"
        while some := list(itertools.islice(features, ENTRIES_AT_A_TIME)):
            file.write(between + ",\n".join(some))
            between = ",\n"
        file.write("\n]}\n")


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
    """Return the middle of a geometry's bounds, (longitude, latitude); NaN where it has none.

    Bounds that would be wider than half the earth are those across the antimeridian, if these are
    narrower: where it cuts a geometry, the parts lie at both ends.
    """
    points = list(positions(geometry))
    if not points:
        return np.nan, np.nan
    longitudes, latitudes = zip(*points, strict=True)
    west, east = min(longitudes), max(longitudes)
    try:
        if east - west > 180:
            west, width = shortest_stretch(np.array(longitudes, np.float64))
            east = west + width
        return (west + east) / 2, (min(latitudes) + max(latitudes)) / 2
    except OverflowError:  # a number of hundreds of digits
        return np.nan, np.nan


def shortest_stretch(longitudes: np.ndarray) -> tuple[float, float]:
    """Return the west end and the width of the shortest stretch that has all longitudes (N,)."""
    ordered = np.unique(longitudes % 360)
    gaps = np.diff(ordered, append=ordered[0] + 360)
    widest = int(gaps.argmax())
    west = float(ordered[(widest + 1) % len(ordered)])
    return (west + 180) % 360 - 180, 360 - float(gaps[widest])


def are_degrees(feature: Feature) -> bool:
    """Return whether the coordinates of a feature can be longitudes and latitudes.

    Longitudes up to 360 occur where a feature crosses the antimeridian.
    """
    return all(
        abs(longitude) <= 360 and abs(latitude) <= 90
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
    except (TypeError, IndexError, AttributeError, ValueError, OverflowError):
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
