#!/usr/bin/env python3
"""Run a trained Keras classifier over a tar of image chips.

    deploy-chip-classifier.py --chips chips.tar --model model.h5 --out deployed
    deploy-chip-classifier.py --chips chips.zip --model model.keras --out deployed --size 96
    deploy-chip-classifier.py --chips my/chips --model model.h5 --out deployed --classes "No, Yes"
    deploy-chip-classifier.py --work-dir DIR

The first three leave all that they write in --out, and take a flag for each string port (the README
explains them). The features that the chips were cut at may lie beside the tar, the zip or the
folder as ref.geojson, or in the folder. The last one works in one directory, /mnt/work in the
container, as GBDX lays it:

    input/ports.json      string ports, all optional: classes, size, deploy_batch, preprocessing,
                          normalization_vector, normalization_value, bands, bit_depth, probabilities
    input/chips/          one tar archive of chips; beside it one .geojson with the features that
                          they were cut at, if there is one
    input/model/          one Keras model: .h5, .hdf5 or .keras, or its architecture and weights
    output/results/       classified.json: chip name -> class and certainty;
                          unclassified.json: chip name -> reason, if there is such a chip;
                          classified.geojson: the chips on the map, if they say where they are
    output/logs/          out.log; preview.html, a page to look at the results
    status.json           {"status": "success" or "failed", "reason": a sentence or null}

A run that was cut short is resumed by running the same command again.
"""

import contextlib
import functools
import os
import signal
import time
from datetime import datetime
from pathlib import Path
from types import FrameType

from chip_classifier.environment import prepare_environment
from chip_classifier.start import Start, begin, release_lock

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
if __name__ == "__main__":
    # A signal that comes while libraries are loaded waits until main can answer it.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    prepare_environment()
    START = begin(__doc__)

from chip_classifier import VERSION
from chip_classifier.answers import Answers
from chip_classifier.classifier import Classifier
from chip_classifier.classify import classify_chips
from chip_classifier.errors import Stopped, TaskError
from chip_classifier.explain import exit_code, explain
from chip_classifier.files import obstacle
from chip_classifier.inputs import Given, find_inputs
from chip_classifier.journal import Expected, Journal, fingerprint_task
from chip_classifier.layout import CLASSIFIED, INPUT, JOURNAL, LOG, MAP, PAGE, RESULTS
from chip_classifier.listing import list_chips
from chip_classifier.log import log, start_logging, warn, warnings
from chip_classifier.pipeline import Pipeline
from chip_classifier.ports import chip_size, class_names
from chip_classifier.preprocessing import (
    contradictions,
    numbers_for_fractions,
    settle_preprocessing,
)
from chip_classifier.progress import Progress, say
from chip_classifier.report import (
    join_reasons,
    log_archive,
    log_fed,
    log_resume,
    log_settings,
    settings_in_force,
    summarize,
)
from chip_classifier.review.geotiff import Places
from chip_classifier.review.page import RunFacts
from chip_classifier.review.review import Where, review
from chip_classifier.review.sample import Sample
from chip_classifier.status import write_status
from chip_classifier.waiting import wait_for
from keras_files.open_model import open_model


def run_task(source: Path | Given, results: Path, logs: Path, trained_with: str) -> str | None:
    """Classify chips and write the results.

    Args:
        source: holds ports.json, chips/ and model/, or says what is in their places; nothing is
            written to it.
        results: directory for classified.json and unclassified.json.
        logs: directory for preview.html.
        trained_with: backend that trained a Keras 1 model, "tensorflow" or "theano".
    Returns:
        For status.json: what was not classified, and what is warned about; None if all is well.
    Raises:
        TaskError, BrokenArchive, ModelError: the input is at fault; the message says how.
        OSError: a file cannot be read or written.
    """
    started, started_at = time.monotonic(), datetime.now().astimezone()
    inputs = find_inputs(source)
    ports, archive = inputs.ports, inputs.chips
    opened = open_model(inputs.model, trained_with, inputs.beside)
    size = chip_size(ports, opened, inputs.model.name)
    preprocessing = settle_preprocessing(ports, opened.bands)
    if opened.outputs is not None:
        class_names(ports, opened.outputs)
    listing = list_chips(archive)
    settings = settings_in_force(ports, size, preprocessing)
    log_settings(settings, archive, inputs.model, opened)
    for warning in (
        *ports.warnings,
        *numbers_for_fractions(ports),
        *opened.warnings,
        *contradictions(opened, ports, preprocessing),
    ):
        warn(warning)
    fingerprint = fingerprint_task(archive.fingerprint(), opened.files, trained_with, settings)
    batch_size = listing.batch_size(ports.deploy_batch)
    listing.go_on_aside()
    loading = time.monotonic()
    classifier = Classifier(opened, preprocessing, size, batch_size)
    classes = class_names(ports, classifier.outputs)
    log.info("Device: %s", classifier.device)
    say(f"Computing on {classifier.device}.")
    log.info("Time to load the model: %.2f s", time.monotonic() - loading)
    answers, places = Answers(ports.probabilities), None if inputs.reference else Places()
    expected = Expected(
        len(classes),
        batch_size,
        listing.number if listing.is_complete else None,
        len(classes) if ports.probabilities else 0,
    )
    with contextlib.closing(Journal(results / JOURNAL, fingerprint, expected, answers)) as journal:
        resumed = len(answers)
        log_resume(journal, answers)
        # Not before TensorFlow is loaded: Python runs one thread at a time, and others that ask for
        # their turns slow its import down by more than they gain.
        pipeline = Pipeline(
            listing, batch_size, size, resumed, preprocessing.bands, ports.bit_depth, places
        )
        sample = Sample(len(classes))
        progress = Progress(listing, resumed)
        classifying = time.monotonic()
        values = classify_chips(
            pipeline, classifier, preprocessing, opened.head, answers, journal, sample, progress
        )
        seconds = time.monotonic() - classifying
    rate = (len(answers) - resumed) / max(seconds, 1e-9)
    log.info("Total classification time: %.2f s, %.1f chips/s", seconds, rate)
    log_archive(archive)
    fed = log_fed(preprocessing, values)

    counts, reasons = answers.write(results, classes)
    if not counts.total():
        (results / JOURNAL).unlink()  # another run would come to the same end
        raise TaskError(
            f"None of the {reasons.total():,} chips could be classified, most often because: "
            f"{reasons.most_common(1)[0][0]}; see unclassified.json."
        )
    run = RunFacts(
        archive=archive.path.name,
        model=inputs.model.name,
        model_description=opened.description,
        classes=classes,
        ports=settings,
        device=classifier.device,
        seconds=seconds,
        chips_per_second=rate,
        started=started_at.strftime("%Y-%m-%d %H:%M:%S %Z"),
        version=VERSION,
        fed=fed,
        warnings=tuple(warnings),
    )
    review(answers, sample, pipeline, run, Where(inputs.reference, results, logs))
    unclassified = summarize(results, counts, reasons, rate, time.monotonic() - started)
    return join_reasons(unclassified, warnings)


def main(start: Start) -> int:
    """Run the task; returns the exit code: 0 for success, 1 or 75 for failure, see explain.py."""
    work_dir = start.work_dir
    stderr = os.fdopen(os.dup(2), "w", errors="backslashreplace")

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise Stopped(signal.Signals(number).name)

    results, logs, source = start.results, start.logs, work_dir / INPUT
    if start.chips and start.model:
        source = Given(start.chips, start.model, start.ports)
    status, reason, code = "success", None, 0
    try:
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        prepare_output(results, logs)
        if start.warning:
            warn(start.warning)
        reason = wait_for(functools.partial(run_task, source, results, logs, start.trained_with))
    except BaseException as error:  # noqa: BLE001, a status is written whatever happens
        status, reason, code = "failed", explain(error, stderr), exit_code(error)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if status == "failed":
        with contextlib.suppress(OSError):
            for result in (CLASSIFIED, MAP):
                (results / result).unlink(missing_ok=True)
    try:
        write_status(work_dir, status, reason)
        if status == "success":
            (results / JOURNAL).unlink(missing_ok=True)
    except OSError as error:
        status, code = "failed", code or exit_code(error)
        reason = reason or f"status.json cannot be written ({error}): make {work_dir} writable."
    with contextlib.suppress(OSError):  # stderr may be full
        for warning in warnings:
            print(f"Warning: {warning}", file=stderr, flush=True)
    if status == "failed":
        log.error(reason)
        with contextlib.suppress(OSError):
            print(reason, file=stderr, flush=True)
    release_lock(work_dir)
    return code


def prepare_output(results: Path, logs: Path) -> None:
    """Make the output directories, without results of an earlier run, and begin out.log.

    Raises TaskError if they cannot be written to.
    """
    try:
        for folder in (results, logs):
            if found := obstacle(folder):
                raise TaskError(
                    f"The output directory cannot be written to: {found}, where the task needs a "
                    "directory; take it away."
                )
        results.mkdir(parents=True, exist_ok=True)
        logs.mkdir(parents=True, exist_ok=True)
        for stale in RESULTS:
            (results / stale).unlink(missing_ok=True)
        (logs / PAGE).unlink(missing_ok=True)
        start_logging(logs / LOG)
    except OSError as error:
        raise TaskError(
            f"The output directory {results.parent} cannot be written to ({error}): mend that."
        ) from error


if __name__ == "__main__":
    code = main(START)
    # Threads of TensorFlow and of an unfinished run are left where they are.
    os._exit(code)
