"""What becomes known when all chips are answered: how right the answers are, and where they lie."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chip_classifier.answers import NO_CLASS, Answers, encode_json
from chip_classifier.final_chips import FinalChips
from chip_classifier.layout import MAP
from chip_classifier.log import Warnings, log
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
from chip_classifier.review.geotiff import Places
from chip_classifier.review.scores import (
    NO_TRUTH,
    Scores,
    lines_of_scores,
    score,
    truths_of_folders,
)


class Review(NamedTuple):
    """What is known of the N chips that count.

    truths: true class indices, int32 (N,), NO_TRUTH where it is unknown.
    source: where they are from.
    scores: how right the answers are; None if no true class is known.
    centres: longitude and latitude of each chip's middle, float64 (N, 2), NaN where it is unknown.
    """

    truths: np.ndarray
    source: str
    scores: Scores | None
    centres: np.ndarray


def review_answers(
    results: Path,
    reference: Path | None,
    places: Places | None,
    answers: Answers,
    chips: FinalChips,
    class_names: Sequence[str],
    warnings: Warnings,
) -> Review:
    """Write classified.geojson, if it is known where the chips lie, and log what is found.

    A file that cannot be read or written is warned about.

    Args:
        results: directory of the results.
        reference: the GeoJSON file beside the chips, or None.
        places: of the tif chips; where there is a reference, they are not looked at.
        answers: of all chips.
        chips: those that count.
        class_names: the name of each class.
    """
    truths = np.full(len(chips.numbers), NO_TRUTH, np.int32)
    centres = _nowhere(chips)
    source = reference.name if reference else "the folders' names"
    with warnings.instead_of(MAP):
        if reference is None:
            counts = np.zeros(len(answers.names), bool)
            counts[chips.numbers] = True
            paths = itertools.compress(answers.names, counts)
            of_folders = truths_of_folders(paths, len(chips.numbers), class_names)
            if of_folders is not None:
                truths = of_folders
            centres = _place(results, places, answers, chips, class_names)
        else:
            matches = _match(results, reference, answers, chips, class_names, warnings)
            truths, centres = matches.truths, matches.centres
            _log_matches(matches, reference.name, warnings)
    scores = score(truths, chips.classes, len(class_names))
    for line in lines_of_scores(scores, class_names, source) if scores else ():
        log.info("Truth: %s", line)
    return Review(truths, source, scores, centres)


def _nowhere(chips: FinalChips) -> np.ndarray:
    """Return the middles of chips of which none is known, as Review has them; without memory."""
    return np.broadcast_to(np.nan, (len(chips.numbers), 2))


def _match(
    results: Path,
    reference: Path,
    answers: Answers,
    chips: FinalChips,
    class_names: Sequence[str],
    warnings: Warnings,
) -> Matches:
    """Match a reference file with the chips, and write its features with their answers.

    Nothing is written, and no place is known, if it is not in WGS 84.
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
        return matcher.matches()
    warnings.add(
        f"{reference.name} {problem}, GeoJSON is in WGS 84: {MAP} is not written; convert "
        "it with 'ogr2ogr -t_srs EPSG:4326 -lco RFC7946=YES' for that."
    )
    for _ in matched:
        pass
    matches = matcher.matches()
    return matches._replace(centres=_nowhere(chips))


def _why_not_wgs84(reference: Path) -> str | None:
    """Say why a file is not in WGS 84; None if it seems to be."""
    if crs := foreign_crs(reference):
        return f"is in {crs[:200]}"
    first = (feature for feature, _ in zip(read_features(reference), range(FEATURES_AT_ONCE)))
    return None if are_degrees(first) else "has coordinates that are no longitudes and latitudes"


def _place(
    results: Path,
    places: Places,
    answers: Answers,
    chips: FinalChips,
    class_names: Sequence[str],
) -> np.ndarray:
    """Write the footprints of the classified chips that say where they lie, if there are any.

    Returns the chips' middles, as Review has them.
    """
    placed = places.chips()
    if not len(placed.numbers):
        return _nowhere(chips)
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


def _log_matches(matches: Matches, name: str, warnings: Warnings) -> None:
    """Log what the features told, and warn of what may be wrong."""
    log.info("Features in %s: %d, matched by %s", name, matches.features, matches.key or "nothing")
    log.info("Features without a chip, left as they are: %d", matches.lost)
    log.info("Chips without a feature: %d", np.count_nonzero(~matches.is_matched))
    if matches.key is None:
        warnings.add(
            f"None of the {matches.features:,} features in {name} has the name of a chip as "
            "feature_id, id or name: none of them gets a class."
        )
    if matches.strange:
        warnings.add(
            f"{matches.strange.total():,} features in {name} have a class_name that is none of the "
            f"classes, as '{matches.strange.most_common(1)[0][0][:100]}': they do not count for "
            "the accuracy."
        )
