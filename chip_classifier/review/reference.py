"""A reference: the features that the chips were cut at, some with their true class.

It lies beside the chips as the task chip-from-vrt writes it. It is read twice: before the first
chip is classified (`check_reference`), and when all are, to match its features with them.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chip_classifier.errors import TaskError
from chip_classifier.layout import MAP
from chip_classifier.review.final_chips import FinalChips
from chip_classifier.review.geojson import (
    Feature,
    are_degrees,
    centre_of,
    encode_feature,
    properties_of,
    read_collection,
    turn_rings,
)
from chip_classifier.review.scores import NO_TRUTH, class_finder

TRUE_CLASS = "class_name"
# Where a feature may say which chip was cut at it: a lower one counts only where none above it
# names a chip in the whole file.
KEYS = ("feature_id", "id", "name")
ANSWER = ("class", "certainty", "probabilities")
PREFIX = "deployed_"  # of the answer's properties where the features have such of their own
FEATURES_OF_DEGREES = 1000  # that are looked at
MOST_STRANGE = 1000  # different class names, and features without a chip, that are looked at

# The names of WGS 84 with longitude first, which GeoJSON of before 2016 may give in "crs".
_WGS84 = re.compile(r"(OGC.*CRS84|EPSG:+4326|WGS ?84)$", re.IGNORECASE)


@dataclass(frozen=True)
class Reference:
    """A file of features, looked at.

    path: of the file.
    is_sound: it can be read to its end.
    is_wgs84: its coordinates can be longitudes and latitudes of WGS 84.
    prefix: of the properties that get the answers; "" unless there are such of the user's own.
    warnings: sentences on what is wrong with it.
    """

    path: Path
    is_sound: bool = True
    is_wgs84: bool = True
    prefix: str = ""
    warnings: Sequence[str] = ()


def check_reference(path: Path) -> Reference:
    """Look at a whole file of features.

    Raises TaskError: it is no collection of features.
    """
    name, has_features, problem, crs = path.name, False, None, None
    old: Counter = Counter()
    are_places = True
    try:
        for number, (member, value) in enumerate(read_collection(path)):
            if member == "crs":
                crs = crs or _foreign_crs(value)
            has_features |= member == "features"
            if member == "features" and isinstance(value, dict):
                old[_kind_of_answer(properties_of(value))] += 1
                are_places &= number >= FEATURES_OF_DEGREES or are_degrees(value)
    except ValueError as error:
        problem = str(error)
    if not has_features:
        why = problem.partition(": ")[2] if problem else "it has no list of features"
        raise TaskError(
            f"{name} is no GeoJSON FeatureCollection in UTF-8 ({why}): mend it, or take it away "
            "from the chips."
        )
    if problem:
        text = f"{problem}: neither {MAP} nor the accuracy is made; mend it, or take it away."
        return Reference(path, is_sound=False, warnings=(text,))
    if crs is None and not are_places:
        crs = "coordinates that are no longitudes and latitudes"
    prefix = PREFIX if old["own"] else ""
    return Reference(path, True, crs is None, prefix, tuple(_warnings(name, crs, old)))


def _warnings(name: str, crs: str | None, old: Counter) -> Iterator[str]:
    """Yield what may be wrong with a file of features.

    Args:
        name: of the file.
        crs: what its coordinates are in, None for WGS 84.
        old: kinds of answers, as _kind_of_answer tells them -> features.
    """
    if crs is not None:
        yield (
            f"{name} is in {crs}, GeoJSON is in WGS 84: {MAP} is not written; convert it with "
            "'ogr2ogr -t_srs EPSG:4326 -lco RFC7946=YES' for that."
        )
    if old["own"]:
        yield (
            f"The features in {name} have properties class, certainty or probabilities of their "
            f"own: they keep them, and the answers are {PREFIX}class and so on in {MAP}."
        )
    elif old["earlier"]:
        yield (
            f"{old['earlier']:,} features in {name} have the properties class and certainty, as of "
            f"an earlier {MAP}: this run's answers take their place, or none; rename them to keep "
            "both."
        )


def _foreign_crs(crs: object) -> str | None:
    """Return the name of the coordinate system that a file declares, if it is not WGS 84.

    GeoJSON has been in WGS 84 since RFC 7946; before, a member "crs" could name another one.
    """
    try:
        name = str(crs["properties"]["name"])
    except (TypeError, KeyError):
        name = "an unnamed coordinate system"
    return None if crs is None or _WGS84.search(name) else name[:200]


def _kind_of_answer(properties: Mapping[str, object]) -> str:
    """Tell whose the properties are that are named like those of an answer: "own", "earlier", "".

    An earlier run's have a class, which is a text, and a certainty, which is a number.
    """
    found = [properties.get(name) for name in ANSWER]
    if found == [None, None, None]:
        return ""
    name, certainty, values = found
    is_number = isinstance(certainty, int | float) and not isinstance(certainty, bool)
    is_answer = isinstance(name, str) and is_number and isinstance(values, dict | None)
    return "earlier" if is_answer else "own"


class Matches(NamedTuple):
    """What the features of a reference tell of the N chips.

    key: by which property they were matched; None if no feature matches a chip.
    features: how many there are.
    lost: those that no chip was cut at; first_lost: the first of them, as it names its chip.
    hints: why features may match no chip -> features and an example; of the first MOST_STRANGE.
    is_matched: bool (N,): the chips that have a feature.
    truths: true class indices, int32 (N,), NO_TRUTH where it is unknown.
    centres: longitude and latitude of the features' middles, float64 (N, 2), NaN where unknown.
    strange: class names of features that are none of the model's classes -> features.
    contradicted: number of chips whose features have different classes, and the name of the first;
        their truth is unknown.
    """

    key: str | None
    features: int
    lost: int
    first_lost: str | None
    hints: Mapping[str, tuple[int, str]]
    is_matched: np.ndarray
    truths: np.ndarray
    centres: np.ndarray
    strange: Counter
    contradicted: tuple[int, str] | None


class Matcher:
    """Matches features with chips, and notes what they tell of them."""

    def __init__(self, chips: FinalChips, class_names: Sequence[str]) -> None:
        """Begin; arguments as elsewhere."""
        self._chips = chips
        self._rows = {name: row for row, (_, name) in enumerate(chips.names)}
        self._class_of = class_finder(class_names)
        self._key: str | None = None
        self._features = self._lost = 0
        self._first_lost: str | None = None
        self._hints: dict[str, tuple[int, str]] = {}
        self._is_matched = np.zeros(len(chips.numbers), bool)
        self._centres = np.full((len(chips.numbers), 2), np.nan)
        # Class indices; below NO_TRUTH are those of classes that the model has not.
        self._truths = np.full(len(chips.numbers), NO_TRUTH, np.int32)
        self._is_contradicted = np.zeros(len(chips.numbers), bool)
        self._strange: Counter = Counter()
        self._codes: dict[str, int] = {}

    def choose_key(self, features: Iterable[Feature]) -> None:
        """Choose the key by which features name chips: the first of KEYS by which any does.

        It is one for the whole file, because numbers in another one may be those of other chips.
        """
        best = len(KEYS)
        for feature in features:
            names = (name_of(feature, key) for key in KEYS[:best])
            best = next((n for n, name in enumerate(names) if name in self._rows), best)
            if best == 0:
                break
        self._key = KEYS[best] if best < len(KEYS) else None

    def match(self, features: Iterable[Feature]) -> Iterator[tuple[Feature, int]]:
        """Yield each feature with the row of its chip in FinalChips, -1 if it has none."""
        for feature in features:
            name = name_of(feature, self._key) if self._key else None
            row = self._rows.get(name, -1)
            self._features += 1
            if row < 0:
                self._note_lost(feature)
            else:
                self._note(feature, row)
            yield feature, row

    def _note(self, feature: Feature, row: int) -> None:
        """Note the true class and the place of a feature."""
        self._is_matched[row] = True
        self._centres[row] = centre_of(feature.get("geometry"))
        name = properties_of(feature).get(TRUE_CLASS)
        if name is None or not str(name).strip():
            return
        truth = self._class_of(str(name))
        if truth is None:
            name = str(name).strip() if len(self._codes) < MOST_STRANGE else "..."
            self._strange[name] += 1
            truth = self._codes.setdefault(name, NO_TRUTH - 1 - len(self._codes))
        before = self._truths[row]
        self._is_contradicted[row] |= before not in (NO_TRUTH, truth)
        self._truths[row] = truth

    def _note_lost(self, feature: Feature) -> None:
        """Note a feature that matches no chip, and why that may be."""
        self._lost += 1
        if self._lost > MOST_STRANGE:
            return
        names = [name_of(feature, key) for key in ([self._key] if self._key else KEYS)]
        names = [name for name in names if name is not None]
        if self._first_lost is None and names:
            self._first_lost = names[0]
        for name in names:
            for why, variant in variants(name):
                if variant in self._rows:
                    number, example = self._hints.get(why, (0, f"'{name}' and '{variant}'"))
                    self._hints[why] = number + 1, example
                    return

    def matches(self) -> Matches:
        """Return what the features told, once all are matched."""
        (rows,) = self._is_contradicted.nonzero()
        contradicted = (len(rows), self._chips.name(rows[0])) if len(rows) else None
        is_known = (self._truths >= 0) & ~self._is_contradicted
        return Matches(
            self._key,
            self._features,
            self._lost,
            self._first_lost,
            self._hints,
            self._is_matched,
            np.where(is_known, self._truths, NO_TRUTH),
            self._centres,
            self._strange,
            contradicted,
        )


def findings_of(matches: Matches, name: str) -> Iterator[str]:
    """Yield sentences on what may be wrong with the features of the file `name`."""
    hint = ""
    if matches.hints:
        why = max(matches.hints, key=lambda why: matches.hints[why][0])
        hint = f" They may differ in {why}, as {matches.hints[why][1]}."
    if matches.key is None:
        yield (
            f"None of the {matches.features:,} features in {name} has the name of a chip as "
            f"feature_id, id or name: none of them gets a class.{hint}"
        )
    elif matches.lost:
        first = f"'{matches.first_lost}'" if matches.first_lost else f"one without {matches.key}"
        yield (
            f"{matches.lost:,} of the {matches.features:,} features in {name} match no chip by "
            f"{matches.key}, the first is {first}: they get no class.{hint}"
        )
    if matches.strange:
        yield (
            f"{matches.strange.total():,} features in {name} have a class_name that is none of the "
            f"classes, as '{matches.strange.most_common(1)[0][0][:100]}': they do not count for "
            "the accuracy."
        )
    if matches.contradicted:
        number, chip = matches.contradicted
        yield (
            f"The features in {name} contradict each other: {number:,} chips have two with "
            f"different class_name, the first is '{chip}'; they do not count for the accuracy."
        )


def name_of(feature: Feature, key: str) -> str | None:
    """Return the name of a chip that a feature has under a key; None if it has none."""
    value = properties_of(feature).get(key)
    if value is None and key == "id":
        value = feature.get("id")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)


def variants(name: str) -> Iterator[tuple[str, str]]:
    """Yield names that may be meant by that of a feature, each with what makes the difference."""
    path, _, base = name.rpartition("/")
    stem, dot, _ = base.rpartition(".")
    if dot and stem:
        yield "an ending", f"{path}/{stem}" if path else stem
    if path:
        yield "a folder", base
        yield "a folder", name.partition("/")[2]
        yield "a folder and an ending", stem
        yield "a folder and an ending", name.partition("/")[2].rpartition(".")[0]
    yield "leading zeros", name.lstrip("0") or "0"
    for width in range(len(name) + 1, 13 if name.isdecimal() else 0):
        yield "leading zeros", name.zfill(width)
    for form in ("NFC", "NFD"):
        yield "composed accents", unicodedata.normalize(form, name)
    yield "blanks", name.strip()
    yield "capital letters", name.lower()
    yield "capital letters", name.upper()


def with_answers(
    matched: Iterable[tuple[Feature, int]],
    answer: Callable[[int], Mapping[str, object]],
    prefix: str = "",
) -> Iterator[str]:
    """Add the answers of their chips to the properties of features, and yield these in JSON.

    What stands there of an earlier answer is taken away.

    Args:
        matched: features, each with the row of its chip, -1 if it has none.
        answer: row of a chip -> what to add, {} if the chip has no class.
        prefix: of the names of what is added.
    """
    stale = {prefix + name for name in ANSWER}
    for feature, row in matched:
        entry = answer(row) if row >= 0 else {}
        properties = properties_of(feature)
        if entry or not stale.isdisjoint(properties):
            kept = {name: value for name, value in properties.items() if name not in stale}
            feature["properties"] = kept | {prefix + name: entry[name] for name in entry}
        turn_rings(feature.get("geometry"))
        yield encode_feature(feature)
