"""What a run tells of itself: findings to out.log, a summary to the terminal, a page."""

import contextlib
import platform
from collections import Counter
from datetime import datetime
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from chip_classifier import VERSION
from chip_classifier.answers import NO_CLASS, Answers
from chip_classifier.archive import Archive
from chip_classifier.final_chips import FinalChips
from chip_classifier.classifier import Classifier
from chip_classifier.inputs import Inputs
from chip_classifier.record import Record
from chip_classifier.log import Warnings, clock_time, log, say
from chip_classifier.pipeline import Pipeline
from chip_classifier.preprocessing import Preprocessing
from chip_classifier.settings import Settings
from chip_classifier.review.chip_map import draw_map
from chip_classifier.review.page import (
    MOST_UNCLASSIFIED,
    Confused,
    Findings,
    KnownChip,
    MistakenChip,
    Preview,
    RunFacts,
)
from chip_classifier.review.review import Review
from chip_classifier.review.sample import SampledChip, thumbnail
from chip_classifier.review.scores import Mistakes, mistakes
from keras_files.open_model import OpenedModel

DECODED_PER_CONFUSION = 4  # chips of the commonest confusions that the page shows at least

# Those whose versions are in the log.
PACKAGES = (
    *("tensorflow", "keras", "h5py", "numpy"),
    *("opencv-python-headless", "imagecodecs", "rasterio"),
)


def log_settings(settings: Settings, inputs: Inputs, model: OpenedModel) -> None:
    """Log what the run is made of: versions, inputs, ports in force."""
    log.info("deploy-chip-classifier %s, Python %s", VERSION, platform.python_version())
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            log.info("%s %s", package, version(package))
    log.info("Chips: %s, %d bytes", inputs.chips.path.name, inputs.chips.size)
    log.info("Model: %s, %s", inputs.model.name, model.description)
    for port, value in settings.in_force.items():
        log.info("Port %s: %s", port, value)
    if model.head.owed:
        log.info(
            "The model was trained with a loss that computes a %s from its outputs (from_logits): "
            "the task computes it too.",
            model.head.owed,
        )


def facts_of(
    inputs: Inputs,
    model: OpenedModel,
    classifier: Classifier,
    record: Record,
    started: datetime,
) -> RunFacts:
    """Say what a run was, for the page, and log what the model was fed; `started`: its beginning."""
    settings = classifier.settings
    return RunFacts(
        archive=inputs.chips.path.name,
        model=inputs.model.name,
        model_description=model.description,
        classes=classifier.class_names,
        ports=settings.in_force,
        device=classifier.device,
        seconds=record.seconds,
        chips_per_second=record.rate,
        started=started.strftime("%Y-%m-%d %H:%M:%S %Z"),
        version=VERSION,
        fed=log_fed(settings.preprocessing, record.fed),
        warnings=tuple(record.warnings.sentences),
    )


def log_fed(preprocessing: Preprocessing, fed: Sequence[tuple[float, float, float]]) -> list[str]:
    """Log what the model was fed, and give it for the page: a line on all, one on each band.

    Args:
        preprocessing: what was done to the pixels.
        fed: of each band the least, mean and largest value in the first batch.
    """
    lines = [preprocessing.description]
    for band, (least, mean, largest) in enumerate(fed, start=1):
        lines.append(f"band {band}: least {least:.4g}, mean {mean:.4g}, largest {largest:.4g}")
    for line in lines:
        log.info("Fed to the model: %s", line)
    return lines


def log_archive(archive: Archive, warnings: Warnings) -> None:
    """Log what was noticed about the archive while it was read, and warn about it."""
    for what, number in archive.passed_over.items():
        log.info("Passed over in the archive: %d %s", number, what)
    if archive.first_passed_over is not None:
        warnings.add(
            f"{archive.passed_over['other files']:,} file(s) of the archive are no chips and were "
            f"passed over, the first is '{archive.first_passed_over}'."
        )
    if archive.left_behind:
        warnings.add(
            f"Data follows the end of the archive {archive.path.name} and was not read: if "
            "archives were joined with cat, join them with 'tar --concatenate' instead."
        )


def write_preview(
    path: Path,
    preview: Preview,
    pipeline: Pipeline,
    run: RunFacts,
    answers: Answers,
    chips: FinalChips,
    reasons: Mapping[str, int],
    review: Review,
    warnings: Warnings,
) -> None:
    """Write preview.html; a warning is logged if that fails.

    Args:
        path: where to.
        preview: has seen the batches of this run.
        pipeline: decodes some chips again.
        run: what the page says of the run.
        answers: of all chips.
        chips: those that count.
        reasons: number of chips for each reason why chips are not classified.
        review: what is known of these chips.
    """
    with warnings.instead_of("preview.html"):
        is_classified = chips.classes != NO_CLASS
        wrong: list[Mistakes] = []
        if review.scores:
            wrong = mistakes(review.scores, review.truths, chips.classes, chips.certainties)
        mistaken = _decode_mistakes(wrong, preview, pipeline, chips)
        preview.write(
            path,
            run,
            _known(preview.chip_ids() | {chip.chip_id for chip in mistaken}, chips, review),
            chips.classes[is_classified],
            chips.certainties[is_classified],
            reasons,
            Findings(
                review.scores,
                review.source,
                [
                    Confused(truth, given, number, [chips.name(row) for row in rows])
                    for truth, given, number, rows in wrong
                ],
                mistaken,
                draw_map(review.centres, chips.classes),
                _first_unclassified(answers, chips),
            ),
        )


def _first_unclassified(answers: Answers, chips: FinalChips) -> list[tuple[str, str]]:
    """Return the names and reasons of the first chips that have no class."""
    (rows,) = (chips.classes == NO_CLASS).nonzero()
    return [
        (chips.name(row), answers.reason(int(chips.numbers[row]), int(chips.answering[row])))
        for row in rows[:MOST_UNCLASSIFIED].tolist()
    ]


def _decode_mistakes(
    wrong: Sequence[Mistakes], preview: Preview, pipeline: Pipeline, chips: FinalChips
) -> list[MistakenChip]:
    """Decode some chips of each of the commonest confusions that are not in the sample."""
    sampled, found = preview.chip_ids(), []
    for confusion in wrong:
        rows = [row for row in confusion.rows if int(chips.numbers[row]) not in sampled]
        for row in rows[:DECODED_PER_CONFUSION]:
            pixels = pipeline.decode_again(int(chips.answering[row]))
            if pixels is not None:
                image = thumbnail(pixels, preview.sizes.edge)
                chip = SampledChip(int(chips.numbers[row]), float(chips.certainties[row]), image)
                found.append(MistakenChip(confusion.given, *chip))
    return found


def _known(numbers: set[int], chips: FinalChips, review: Review) -> dict[int, KnownChip]:
    """Return what is known of some chips, by chip number; not of those that no longer count."""
    (rows,) = np.isin(chips.numbers, list(numbers)).nonzero()
    return {
        int(chips.numbers[row]): KnownChip(
            chips.name(row), int(review.truths[row]), tuple(review.centres[row].tolist())
        )
        for row in rows.tolist()
        if chips.classes[row] != NO_CLASS
    }


def summarize(
    results: Path, counts: Counter, reasons: Counter, rate: float, seconds: float
) -> str | None:
    """Print the summary of a run.

    Args:
        results: where the results lie.
        counts: number of chips of each class.
        reasons: number of chips for each reason why chips are not classified.
        rate: chips per second while classifying.
        seconds: time of the whole run.
    Returns:
        A sentence for status.json if some chips are not classified, else None.
    """
    missing, total = reasons.total(), counts.total() + reasons.total()
    say(
        f"Classified {counts.total():,} of {total:,} chips in {clock_time(seconds)} "
        f"({rate:,.1f} chips/s without start-up)."
    )
    empty = [name for name, number in counts.items() if number == 0]
    for name, number in counts.most_common(None if len(empty) <= 10 else len(counts) - len(empty)):
        say(f"{number:>12,}  {name}")
    if len(empty) > 10:
        say(f"{0:>12,}  in each of the other {len(empty):,} classes")
    if missing:
        say(f"{missing:>12,}  not classified, see unclassified.json")
    say(f"Results: {results}")
    if not missing:
        return None
    return f"{missing:,} of {total:,} chips could not be classified: see unclassified.json."


def join_reasons(unclassified: str | None, warnings: Sequence[str]) -> str | None:
    """Join for status.json: what was not classified, what is warned about.

    One sentence each: of the warnings the first one, and how many more there are.
    """
    sentences = [unclassified] if unclassified else []
    if warnings:
        more = f" ({len(warnings) - 1} more in out.log)" if len(warnings) > 1 else ""
        sentences.append(f"Warning{more}: {warnings[0]}")
    return " ".join(sentences) or None
