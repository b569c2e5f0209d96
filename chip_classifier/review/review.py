"""The review of a run: how right its answers are, where its chips lie, and a page to look at them.

`review` is the wing's only door for the task: it is called once, when all chips are answered.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chip_classifier.answers import NO_CLASS, Answers
from chip_classifier.cores import usable_cores
from chip_classifier.layout import MAP, PAGE, TABLE
from chip_classifier.log import log
from chip_classifier.pipeline import Pipeline
from chip_classifier.record import Record
from chip_classifier.review.chip_map import draw_map
from chip_classifier.review.classified_csv import write_csv
from chip_classifier.review.classified_map import map_features, map_footprints
from chip_classifier.review.contact_sheets import MOST_WRONG, KnownChip, MistakenChip
from chip_classifier.review.final_chips import FinalChips, final_chips
from chip_classifier.review.page import Confused, Findings, RunFacts, write_page
from chip_classifier.review.reference import Reference
from chip_classifier.review.sample import Sample, thumbnail
from chip_classifier.review.scores import (
    NO_TRUTH,
    Scores,
    headline,
    lines_of_scores,
    mistakes,
    score,
    truths_of_folders,
)
from chip_classifier.second_look.look import SecondLook
from chip_classifier.second_look.of_run import look_again, see_again, truth_of

FIRST_VALUES = 3  # classes of a chip whose values the page shows
MOST_UNCLASSIFIED = 50  # chips that are named


class Where(NamedTuple):
    """Where a run's files lie.

    reference: the features beside the chips, or None.
    logs: directory of the page.
    """

    reference: Reference | None
    logs: Path


class Review(NamedTuple):
    """What is known of the N chips that count.

    truths: true class indices, int32 (N,), NO_TRUTH where it is unknown.
    source: where they are from.
    scores: how right the answers are; None if no true class is known.
    headline: their accuracy in a line; None where it says little.
    centres: longitude and latitude of each chip's middle, float64 (N, 2), NaN where it is unknown.
    """

    truths: np.ndarray
    source: str
    scores: Scores | None
    headline: str | None
    centres: np.ndarray


def review(
    record: Record, pipeline: Pipeline, run: RunFacts, where: Where, look: SecondLook
) -> str | None:
    """Write classified.geojson, if it is known where the chips lie, and the page; log the truth.

    A file that cannot be read or written is warned about.

    Args:
        record: of the run, whose chips are all answered.
        pipeline: has the places of tif chips, and decodes some chips again.
        run: what the page says of the run.
        where: what is read and written.
        look: is asked whether the settings can be right, now that the truth is known.
    Returns:
        How right the answers are, in a line; None if no true class is known, or it says little.
    """
    answers, sample, warnings = record.answers, record.sample, record.warnings
    chips = final_chips(answers)
    found = review_answers(record, chips, pipeline, where)
    with warnings.instead_of("the second look at the settings"):
        see_again(look, chips, pipeline)
    truth = truth_of(look, chips.numbers, found.truths, found.scores)
    doubts = [finding.line for finding in look_again(look, truth, warnings)]
    with warnings.instead_of(TABLE):
        write_csv(record, chips, found.truths, found.centres)
    with warnings.instead_of(PAGE):
        wrong = []
        if found.scores:
            wrong = mistakes(found.scores, found.truths, chips.classes, chips.certainties)
        mistaken = _decode_mistakes(sample, pipeline, chips, found)
        numbers = sample.chip_ids() | {chip.chip_id for chip in mistaken}
        findings = _findings(answers, chips, found)._replace(
            known=_known(numbers, chips, found, answers),
            confusions=[
                Confused(truth, given, number, [chips.name(row) for row in rows])
                for truth, given, number, rows in wrong
            ],
            mistaken=mistaken,
            doubts=doubts,
        )
        run = replace(run, warnings=tuple(warnings.sentences))
        write_page(where.logs / PAGE, run, sample, findings)
    return found.headline


def review_answers(record: Record, chips: FinalChips, pipeline: Pipeline, where: Where) -> Review:
    """Write classified.geojson, if it is known where the chips lie, and log what is found.

    A file that cannot be read or written is warned about. Arguments as for `review`, with the chips
    that count.
    """
    class_names, strange = record.class_names, 0
    truths, centres = np.full(len(chips.numbers), NO_TRUTH, np.int32), chips.nowhere()
    source = where.reference.path.name if where.reference else "the folders' names"
    with record.warnings.instead_of(MAP):
        if where.reference is None:
            of_folders = _truths_of_folders(record.answers, chips, class_names)
            truths = truths if of_folders is None else of_folders
            placed = pipeline.places.chips()
            centres = map_footprints(record, placed, chips)
        elif where.reference.is_sound:
            matches = map_features(record, where.reference, chips)
            truths, centres = matches.truths, matches.centres
            strange = matches.strange.total()
    scores, line = None, None
    with record.warnings.instead_of("the scores"):
        scores = score(truths, chips.classes, len(class_names))
        for text in lines_of_scores(scores, class_names, source) if scores else ():
            log.info("Truth: %s", text)
        line = headline(scores, source, strange) if scores else None
    return Review(truths, source, scores, line, centres)


def _truths_of_folders(
    answers: Answers, chips: FinalChips, class_names: Sequence[str]
) -> np.ndarray | None:
    """Take the true classes from the folders of the chips that count; None if they tell none."""
    counts = np.zeros(len(answers.names), bool)
    counts[chips.numbers] = True
    paths = itertools.compress(answers.names, counts)
    return truths_of_folders(paths, len(chips.numbers), class_names)


def _findings(answers: Answers, chips: FinalChips, found: Review) -> Findings:
    """Return what the page shows of all chips, and the first that are not classified."""
    is_classified = chips.classes != NO_CLASS
    (rows,) = (~is_classified).nonzero()
    numbers = zip(chips.numbers[rows].tolist(), chips.answering[rows].tolist(), strict=True)
    reasons = [answers.reason(*pair) for pair in numbers]
    names = map(chips.name, rows[:MOST_UNCLASSIFIED].tolist())
    return Findings(
        chips.classes[is_classified],
        chips.certainties[is_classified],
        known={},
        reasons=Counter(reasons),
        unclassified=list(zip(names, reasons, strict=False)),
        scores=found.scores,
        headline=found.headline,
        source=found.source,
        map=draw_map(found.centres, chips.classes),
    )


def _decode_mistakes(
    sample: Sample, pipeline: Pipeline, chips: FinalChips, found: Review
) -> list[MistakenChip]:
    """Decode the chips with a wrong class that are not in the sample, the most certain first."""
    is_wrong = (found.truths >= 0) & (chips.classes >= 0) & (found.truths != chips.classes)
    (rows,) = is_wrong.nonzero()
    rows = rows[np.argsort(-chips.certainties[rows], kind="stable")][:MOST_WRONG]
    rows = rows[~np.isin(chips.numbers[rows], list(sample.chip_ids()))]
    with ThreadPoolExecutor(usable_cores(), "mistaken") as threads:
        decoded = threads.map(pipeline.decode_again, chips.answering[rows].tolist())
        return [
            MistakenChip(
                int(chips.classes[row]),
                int(chips.numbers[row]),
                float(chips.certainties[row]),
                thumbnail(pixels, sample.sizes.edge),
            )
            for row, pixels in zip(rows.tolist(), decoded, strict=True)
            if pixels is not None
        ]


def _known(
    numbers: set[int], chips: FinalChips, found: Review, answers: Answers
) -> dict[int, KnownChip]:
    """Return what is known of some chips, by chip number; not of those that no longer count."""
    (rows,) = np.isin(chips.numbers, list(numbers)).nonzero()
    return {
        int(chips.numbers[row]): KnownChip(
            chips.name(row),
            int(found.truths[row]),
            tuple(found.centres[row].tolist()),
            answers.first_values(int(chips.answering[row]), FIRST_VALUES),
        )
        for row in rows.tolist()
        if chips.classes[row] != NO_CLASS
    }
