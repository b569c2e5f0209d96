"""What a run tells of itself: findings to out.log, a summary to the terminal, a page."""

import contextlib
import platform
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from chip_classifier import VERSION
from chip_classifier.classifier import Classifier
from chip_classifier.inputs import Inputs
from chip_classifier.log import Warnings, clock_time, log, say
from chip_classifier.preprocessing import Preprocessing
from chip_classifier.record import Record
from chip_classifier.review.page import (
    RunFacts,
)
from chip_classifier.settings import Settings
from chip_classifier.sources.source import Source
from keras_files.open_model import OpenedModel

# Those whose versions are in the log.
PACKAGES = (
    *("tensorflow", "keras", "h5py", "numpy"),
    *("opencv-python-headless", "imagecodecs", "rasterio", "pillow"),
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
    for place in dict.fromkeys(settings.ports.origins.values()):
        ports = (port for port, origin in settings.ports.origins.items() if origin == place)
        log.info("Set by %s: %s", place, ", ".join(ports))
    if model.head.owed:
        log.info(
            "The model was trained with a loss that computes a %s from its outputs (from_logits): "
            "the task computes it too.",
            model.head.owed,
        )


def log_classifier(classifier: Classifier) -> None:
    """Log and print on which devices the model was loaded."""
    log.info("Device: %s", classifier.device)
    say(f"Computing on {classifier.device}.")
    log.info("Time to load the model: %.2f s", classifier.seconds)


def facts_of(
    inputs: Inputs,
    model: OpenedModel,
    classifier: Classifier,
    record: Record,
    started: datetime,
) -> RunFacts:
    """Say what a run that began then was, for the page, and log what the model was fed."""
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
        fed=log_fed(settings.preprocessing, record),
    )


def log_fed(preprocessing: Preprocessing, record: Record) -> list[str]:
    """Log what the model was fed, and give it for the page: a line on all, one on each band.

    Args:
        preprocessing: what was done to the pixels.
        record: has the least, mean and largest value of each band in the first batch.
    """
    lines = [preprocessing.description]
    for band, (least, mean, largest) in enumerate(record.fed, start=1):
        lines.append(f"band {band}: least {least:.4g}, mean {mean:.4g}, largest {largest:.4g}")
    if record.mostly_empty:
        lines.append(
            f"{record.mostly_empty:,} chip(s) with no data (nodata, or transparent) in more than "
            "half of their pixels"
        )
    for line in lines:
        log.info("Fed to the model: %s", line)
    return [*lines, record.look] if record.look else lines


def log_archive(archive: Source, warnings: Warnings) -> None:
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
            f"A part of {archive.path.name} belongs to no file in the archive and was not read: "
            "if archives were joined with cat, make one archive of their files instead."
        )


def summarize(results: Path, record: Record, accuracy: str | None, seconds: float) -> str | None:
    """Print the summary of a run.

    Args:
        results: where the results lie.
        record: of the run.
        accuracy: how right the answers are, in a line, if that is known.
        seconds: time of the whole run.
    Returns:
        A sentence for status.json if some chips are not classified, else None.
    """
    counts, reasons = record.counts, record.reasons
    missing, total = reasons.total(), counts.total() + reasons.total()
    say(
        f"Classified {counts.total():,} of {total:,} chips in {clock_time(seconds)} "
        f"({record.rate:,.1f} chips/s without start-up)."
    )
    empty = [name for name, number in counts.items() if number == 0]
    for name, number in counts.most_common(None if len(empty) <= 10 else len(counts) - len(empty)):
        say(f"{number:>12,}  {name}")
    if len(empty) > 10:
        say(f"{0:>12,}  in each of the other {len(empty):,} classes")
    if missing:
        say(f"{missing:>12,}  not classified, see unclassified.json")
    if accuracy:
        say(accuracy)
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
