"""What a run tells of itself: findings to out.log, a summary to the terminal, a page."""

import contextlib
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from chip_classifier import VERSION
from chip_classifier.answers import Answers
from chip_classifier.archive import Archive
from chip_classifier.journal import Journal
from chip_classifier.log import log, warn
from chip_classifier.noticed import warn_about
from chip_classifier.ports import Ports
from chip_classifier.preprocessing import Preprocessing
from chip_classifier.progress import duration, say
from keras_files.open_model import OpenedModel

# Those whose versions are in the log.
PACKAGES = (
    *("tensorflow", "keras", "h5py", "numpy"),
    *("opencv-python-headless", "imagecodecs", "rasterio"),
)


def settings_in_force(
    ports: Ports, size: tuple[int, int], preprocessing: Preprocessing
) -> dict[str, str]:
    """Write the ports in force as text, for the log, for the page and for the journal."""
    value = set(preprocessing.value)
    numbers = preprocessing.value if len(value) > 1 else tuple(value)
    grey = preprocessing.bands is None
    return {
        "classes": ", ".join(ports.classes) if ports.classes else "numbers",
        "size": f"{size[0]} x {size[1]}",
        "deploy_batch": str(ports.deploy_batch),
        "preprocessing": ports.preprocessing,
        "normalization_vector": _of_rgb(preprocessing.vector, preprocessing),
        "normalization_value": _of_rgb(numbers, preprocessing) or "None",
        "bands": "grey value" if grey else ",".join(map(str, preprocessing.named_bands)),
        "bit_depth": str(ports.bit_depth or "that of the file"),
        "probabilities": str(ports.probabilities),
    }


def _of_rgb(numbers: Sequence[float], preprocessing: Preprocessing) -> str:
    """Write numbers of the model's bands in the order in which the ports give them: R,G,B."""
    is_bgr = len(preprocessing.vector) == 3 and not preprocessing.flips
    return ",".join(map(str, numbers[::-1] if is_bgr else numbers))


def log_settings(
    settings: Mapping[str, str], archive: Archive, model_path: Path, opened: OpenedModel
) -> None:
    """Log what the run is made of: versions, inputs, ports in force."""
    log.info("deploy-chip-classifier %s, Python %s", VERSION, platform.python_version())
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            log.info("%s %s", package, version(package))
    log.info("Chips: %s, %d bytes", archive.path.name, archive.size)
    log.info("Model: %s, %s", model_path.name, opened.description)
    for port, value in settings.items():
        log.info("Port %s: %s", port, value)
    if opened.head.owed:
        log.info(
            "The model was trained with a loss that computes a %s from its outputs (from_logits): "
            "the task computes it too.",
            opened.head.owed,
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


def log_resume(journal: Journal, answers: Answers) -> None:
    """Log and print what the journal of an earlier run meant for this one; warn as that one did."""
    if journal.note:
        log.info(journal.note)
        say(journal.note)
    for number, problem in answers.problems.items():
        log.warning("Chip number %d was not classified by the earlier run: %s", number, problem)
    warn_about(answers.noticed)


def log_archive(archive: Archive) -> None:
    """Log what was noticed about the archive while it was read."""
    for what, number in archive.passed_over.items():
        log.info("Passed over in the archive: %d %s", number, what)
    if archive.first_passed_over is not None:
        warn(
            f"{archive.passed_over['other files']:,} file(s) of the archive are no chips and were "
            f"passed over, the first is '{archive.first_passed_over}'."
        )
    if archive.left_behind:
        warn(
            f"Data follows the end of the archive {archive.path.name} and was not read: if "
            "archives were joined with cat, join them with 'tar --concatenate' instead."
        )


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
        f"Classified {counts.total():,} of {total:,} chips in {duration(seconds)} "
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
