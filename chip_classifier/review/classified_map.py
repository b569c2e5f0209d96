"""classified.geojson: the features of a reference, or the footprints of tif chips, with answers."""

import itertools
from collections.abc import Iterator, Mapping
from json.encoder import encode_basestring_ascii

import numpy as np

from chip_classifier.answers import NO_CLASS
from chip_classifier.layout import MAP
from chip_classifier.log import log
from chip_classifier.record import Record
from chip_classifier.review.final_chips import FinalChips
from chip_classifier.review.footprints import centres_of, corners_in_wgs84, footprints
from chip_classifier.review.geojson import read_features, write_collection
from chip_classifier.review.geotiff import PlacedChips
from chip_classifier.review.reference import (
    Matcher,
    Matches,
    Reference,
    findings_of,
    with_answers,
)


def map_features(record: Record, reference: Reference, chips: FinalChips) -> Matches:
    """Match the features of a reference with the chips, and write these with their answers.

    Nothing is written, and no place is known, if they are not in WGS 84.

    Args:
        record: of the run, whose chips are all answered.
        reference: the features; they can be read.
        chips: those that count.
    Raises:
        OSError, ValueError: a file cannot be read or written.
    """

    def answer(row: int) -> Mapping[str, object]:
        if chips.classes[row] == NO_CLASS:
            return {}
        return record.answers.entry(int(chips.answering[row]), record.class_names)

    matcher = Matcher(chips, record.class_names)
    matcher.choose_key(read_features(reference.path))
    matched = matcher.match(read_features(reference.path))
    if reference.is_wgs84:
        write_collection(record.results / MAP, with_answers(matched, answer, reference.prefix))
        matches = matcher.matches()
    else:
        for _ in matched:
            pass
        matches = matcher.matches()._replace(centres=chips.nowhere())
    name = reference.path.name
    log.info("Features in %s: %d, matched by %s", name, matches.features, matches.key or "nothing")
    log.info("Features without a chip, left as they are: %d", matches.lost)
    log.info("Chips without a feature: %d", np.count_nonzero(~matches.is_matched))
    record.warnings.add(*findings_of(matches, name))
    return matches


def map_footprints(record: Record, placed: PlacedChips, chips: FinalChips) -> np.ndarray:
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
        entry = record.answers.entry_writer(record.class_names)
        answering = chips.answering[rows].tolist()
        names = itertools.compress((name for _, name in chips.names), is_placed.tolist())
        for name, number, geometry in zip(names, answering, footprints(corners), strict=True):
            properties = f'{{"name": {encode_basestring_ascii(name)}, {entry(number)}}}'
            yield f'{{"type": "Feature", "properties": {properties}, "geometry": {geometry}}}'

    write_collection(record.results / MAP, features())
    return centres
