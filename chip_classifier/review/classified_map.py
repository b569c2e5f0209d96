"""classified.geojson: the features of a reference, or the footprints of tif chips, with answers."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from chip_classifier.answers import NO_CLASS, Answers, encode_json
from chip_classifier.layout import MAP
from chip_classifier.log import log
from chip_classifier.review.final_chips import FinalChips
from chip_classifier.review.footprints import centres_of, corners_in_wgs84, footprints
from chip_classifier.review.geojson import read_features, write_collection
from chip_classifier.review.geotiff import PlacedChips
from chip_classifier.review.reference import Matcher, Matches, Reference, with_answers


def map_features(
    results: Path,
    reference: Reference,
    answers: Answers,
    chips: FinalChips,
    class_names: Sequence[str],
) -> Matches:
    """Match the features of a reference with the chips, and write these with their answers.

    Nothing is written, and no place is known, if they are not in WGS 84.

    Args:
        results: directory of the results.
        reference: the features; they can be read.
        answers: of all chips.
        chips: those that count.
        class_names: the name of each class.
    Raises:
        OSError, ValueError: a file cannot be read or written.
    """

    def answer(row: int) -> Mapping[str, object]:
        if chips.classes[row] == NO_CLASS:
            return {}
        return answers.entry(int(chips.answering[row]), class_names)

    matcher = Matcher(chips, class_names)
    matcher.choose_key(read_features(reference.path))
    matched = matcher.match(read_features(reference.path))
    if reference.is_wgs84:
        write_collection(results / MAP, with_answers(matched, answer, reference.prefix))
        return matcher.matches()
    for _ in matched:
        pass
    return matcher.matches()._replace(centres=chips.nowhere())


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
