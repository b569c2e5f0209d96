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
                          normalization_vector, normalization_value, bands, bit_depth,
                          probabilities, loading, values
    input/chips/          one tar archive of chips; beside it one .geojson with the features that
                          they were cut at, if there is one
    input/model/          one Keras model: .h5, .hdf5 or .keras, or its architecture and weights
    output/results/       classified.json: chip name -> class and certainty;
                          unclassified.json: chip name -> reason, if there is such a chip;
                          classified.csv: a line for each chip, for tables and maps;
                          classified.geojson: the chips on the map, if they say where they are
    output/logs/          out.log; preview.html, a page to look at the results
    status.json           {"status": "success" or "failed", "reason": a sentence or null}

A run that was cut short is resumed by running the same command again.
"""

import contextlib
import functools
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from chip_classifier.command_line import Start, begin
from chip_classifier.environment import prepare_environment
from chip_classifier.frame import (
    hold_signals,
    ignore_signals,
    release_lock,
    stop_on_signals,
    supervise,
)
from chip_classifier.output import Output

if __name__ == "__main__":
    hold_signals()  # one that comes while libraries are loaded waits until main can answer it
    prepare_environment()
    START = begin(__doc__)

from chip_classifier.classifier import Classifier
from chip_classifier.classify import classify_chips
from chip_classifier.decode import Decoder
from chip_classifier.explain import exit_code, explain
from chip_classifier.inputs import find_inputs
from chip_classifier.journal import Expected, fingerprint_task
from chip_classifier.layout import JOURNAL, Given
from chip_classifier.listing import list_chips
from chip_classifier.log import Warnings, log
from chip_classifier.pipeline import Earlier, Pipeline
from chip_classifier.record import Record
from chip_classifier.report import (
    facts_of,
    join_reasons,
    log_archive,
    log_classifier,
    log_settings,
    summarize,
)
from chip_classifier.review.geotiff import Places
from chip_classifier.review.review import Where, review
from chip_classifier.second_look.of_run import doubts_of_chips
from chip_classifier.settings import settle
from keras_files.open_model import open_model


def run_task(
    source: Path | Given, output: Output, trained_with: str, warnings: Warnings
) -> str | None:
    """Classify chips and write the results.

    Args:
        source: holds ports.json, chips/ and model/, or says what is in their places; nothing is
            written to it.
        output: where the results and the page go, when all of them are there.
        trained_with: backend that trained a Keras 1 model, "tensorflow" or "theano".
        warnings: receives those of the run.
    Returns:
        For status.json: what was not classified, and what is warned about; None if all is well.
    Raises:
        TaskError, BrokenArchive, ModelError: the input is at fault; the message says how.
        OSError: a file cannot be read or written.
    """
    started, clock = datetime.now().astimezone(), time.monotonic()
    inputs = find_inputs(source)
    classes = inputs.ports.classes
    model = open_model(inputs.model, trained_with, inputs.beside, len(classes) if classes else None)
    settings = settle(inputs.ports, model)
    listing = list_chips(inputs.chips)
    log_settings(settings, inputs, model)
    warnings.add(*inputs.warnings, *settings.warnings)
    batch_size = listing.batch_size(settings.ports.deploy_batch)
    listing.go_on_aside()
    with ThreadPoolExecutor(1, "hash") as hashing:  # beside the import of TensorFlow
        fingerprint = hashing.submit(
            fingerprint_task,
            inputs.chips.fingerprint(),
            model.files,
            trained_with,
            settings.in_force,
        )
        classifier = Classifier(model, settings, batch_size, warnings)
    log_classifier(classifier)
    classes, chips = classifier.class_names, listing.number if listing.is_complete else None
    expected = Expected(len(classes), batch_size, chips, settings.ports.probabilities)
    with Record(output, fingerprint.result(), expected, classes, warnings) as record:
        # Not before TensorFlow is loaded: Python runs one thread at a time, and others that ask for
        # their turns slow its import down by more than they gain.
        ports, bands = settings.ports, settings.preprocessing.bands
        decoder = Decoder(bands, ports.bit_depth, ports.loading, ports.values)
        places = None if inputs.reference else Places()
        shape = (batch_size, *settings.size)
        earlier = Earlier(record.resumed, record.has_crashed)
        pipeline = Pipeline(listing, decoder, shape, earlier, places)
        look = classify_chips(pipeline, classifier, record)
    log_archive(inputs.chips, warnings)
    with warnings.instead_of("the second look at the chips"):
        warnings.add(*doubts_of_chips(decoder, settings))
    record.write()
    accuracy = None
    with warnings.instead_of("the review of the results"):
        run = facts_of(inputs, model, classifier, record, started)
        accuracy = review(record, pipeline, run, Where(inputs.reference, output.new_logs), look)
    output.replace()
    missing = summarize(output.results, record, accuracy, time.monotonic() - clock)
    return join_reasons(missing, warnings.sentences)


def main(start: Start) -> int:
    """Run the task; returns the exit code: 0 for success, 1 or 75 for failure, see layout.py."""
    stderr = os.fdopen(os.dup(2), "w", errors="backslashreplace")
    warnings, reason, code = Warnings(), None, 0
    output = start.output
    run = functools.partial(run_task, start.source, output, start.trained_with, warnings)
    try:
        stop_on_signals()
        output.prepare()
        warnings.add(*start.warnings)
        reason = supervise(run)
    except BaseException as error:  # noqa: BLE001, a status is written whatever happens
        reason, code = explain(error, stderr), exit_code(error)
    ignore_signals()
    try:
        if code:
            output.discard()
            reason = output.fail(reason)
        else:
            output.write_status("success", reason)
            (output.results / JOURNAL).unlink(missing_ok=True)
    except OSError as error:
        if not code:
            code = exit_code(error)
            reason = f"status.json cannot be written ({error}): make {output.work_dir} writable."
    with contextlib.suppress(OSError):  # stderr may be full
        for warning in warnings.sentences:
            print(f"Warning: {warning}", file=stderr, flush=True)
    if code:
        log.error(reason)
        with contextlib.suppress(OSError):
            print(reason, file=stderr, flush=True)
    release_lock(output.work_dir)
    return code


if __name__ == "__main__":
    code = main(START)
    # Threads of TensorFlow and of an unfinished run are left where they are.
    os._exit(code)
