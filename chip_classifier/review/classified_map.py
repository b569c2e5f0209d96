"""classified.geojson: the features of a reference, or the footprints of tif chips, with answers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from chip_classifier.answers import NO_CLASS, Answers, encode_json
from chip_classifier.layout import MAP
from chip_classifier.log import log, warn
from chip_classifier.review.final_chips import FinalChips
from chip_classifier.review.footprints import centres_of, corners_in_wgs84, footprints
from chip_classifier.review.geojson import (
    FEATURES_AT_ONCE,
    Matcher,
    Matches,
    are_degrees,
    foreign_crs,
    read_features,
    with_answers,
    write_collection,
)
from chip_classifier.review.geotiff import PlacedChips


def map_features(
    results: Path,
    reference: Path,
    answers: Answers,
    chips: FinalChips,
    class_names: Sequence[str],
) -> Matches:
    """Match a reference file with the chips, and write its features with their answers.

    Nothing is written, and no place is known, if it is not in WGS 84.

    Args:
        results: directory of the results.
        reference: the GeoJSON file beside the chips.
        answers: of all chips.
        chips: those that count.
        class_names: the name of each class.
    Raises:
        TaskError, OSError: a file cannot be read or written.
    """

    def answer(row: int) -> Mapping[str, object]:
        if chips.classes[row] == NO_CLASS:
            return {}
        return answers.entry(int(chips.answering[row]), class_names)

    matcher = Matcher(chips, class_names)
    matched = matcher.match(read_features(reference))
    problem = _why_not_wgs84(reference)
    if problem is None:
        write_collection(results / MAP, with_answers(matched, answer))
        matches = matcher.matches()
    else:
        warn(
            f"{reference.name} {problem}, GeoJSON is in WGS 84: {MAP} is not written; convert "
            "it with 'ogr2ogr -t_srs EPSG:4326 -lco RFC7946=YES' for that."
        )
        for _ in matched:
            pass
        matches = matcher.matches()._replace(centres=chips.nowhere())
    _log_matches(matches, reference.name)
    return matches


def _why_not_wgs84(reference: Path) -> str | None:
    """Say why a file is not in WGS 84; None if it seems to be."""
    if crs := foreign_crs(reference):
        return f"is in {crs[:200]}"
    first = (feature for feature, _ in zip(read_features(reference), range(FEATURES_AT_ONCE)))
    return None if are_degrees(first) else "has coordinates that are no longitudes and latitudes"


def _log_matches(matches: Matches, name: str) -> None:
    """Log what the features told, and warn of what may be wrong."""
    log.info("Features in %s: %d, matched by %s", name, matches.features, matches.key or "nothing")
    log.info("Features without a chip, left as they are: %d", matches.lost)
    log.info("Chips without a feature: %d", np.count_nonzero(~matches.is_matched))
    if matches.key is None:
        warn(
            f"None of the {matches.features:,} features in {name} has the name of a chip as "
            "feature_id, id or name: none of them gets a class."
        )
    if matches.strange:
        warn(
            f"{matches.strange.total():,} features in {name} have a class_name that is none of the "
            f"classes, as '{matches.strange.most_common(1)[0][0][:100]}': they do not count for "
            "the accuracy."
        )


def map_footprints(
    results: Path,
    placed: PlacedChips,
    answers: Answers,
    chips: FinalChips,
    class_names: Sequence[str],
) -> np.ndarray:
    """Write the footprints of the classified chips that say where they lie, if there are any.

    Args:
        placed: the chips that say where they lie; the others as for map_features.
    Returns:
        Longitude and latitude of each chip's middle, float64 (N, 2), NaN where it is unknown.
    Raises:
        OSError: the file cannot be written.
    """
    if not len(placed.numbers):
        return chips.nowhere()
    centres = np.full((len(chips.numbers), 2), np.nan)
    positions = np.minimum(
        np.searchsorted(placed.numbers, chips.answering), len(placed.numbers) - 1
    )
    is_placed = (placed.numbers[positions] == chips.answering) & (chips.classes != NO_CLASS)
    corners = corners_in_wgs84(placed)[positions]
    is_placed &= np.isfinite(corners[:, 0, 0])
    log.info(
        "Classified chips with a place on the ground: %d, without: %d",
        is_placed.sum(),
        ((chips.classes != NO_CLASS) & ~is_placed).sum(),
    )
    if not is_placed.any():
        return centres
    (rows,) = is_placed.nonzero()
    corners = corners[rows]
    centres[rows] = centres_of(corners)

    def features() -> Iterator[str]:
        entry, answering = answers.entry_writer(class_names), chips.answering[rows].tolist()
        names = chips.names.of(chips.numbers[rows].tolist())
        for name, number, geometry in zip(names, answering, footprints(corners), strict=True):
            properties = f'{{"name": {encode_json(name)}, {entry(number)}}}'
            yield f'{{"type": "Feature", "properties": {properties}, "geometry": {geometry}}}'

    write_collection(results / MAP, features())
    return centres
