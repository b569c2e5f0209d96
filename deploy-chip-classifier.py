#!/usr/bin/env python3
"""Run a trained Keras classifier over a tar of image chips.

The task works in one directory, /mnt/work in the container:

    input/ports.json      string ports, all optional: classes, size, deploy_batch,
                          normalization_vector, normalization_value
    input/chips/          one tar archive of jpeg, png and tif chips
    input/model/          one Keras model: .h5, .hdf5 or .keras
    output/results/       classified.json: chip name -> class and certainty;
                          unclassified.json: chip name -> reason, if there is such a chip
    output/logs/          out.log; preview.html, a page to look at the results
    status.json           {"status": "success" or "failed", "reason": a sentence or null}

A run that was cut short is resumed by running the same command again.
"""

import argparse
import contextlib
import errno
import faulthandler
import functools
import gc
import json
import logging
import math
import os
import platform
import queue
import re
import signal
import sys
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType

# TensorFlow, and Keras, which it loads, read these when they are loaded: report errors only; use
# oneDNN on every processor (by itself TensorFlow does so only on some), where its convolutions are
# faster; be the backend whatever the user's own settings for Keras say; read and write no settings
# (a directory that cannot be).
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["KERAS_HOME"] = os.devnull

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
if __name__ == "__main__":
    # A signal that comes while libraries are loaded waits until main can answer it.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

import numpy as np

from chips import (
    ARCHIVE_SUFFIXES,
    MAX_CHIP_PIXELS,
    Archive,
    Batch,
    BrokenArchive,
    Listing,
    Pipeline,
    usable_cores,
)
from open_model import ModelError, OpenedModel, open_model
from results import JOURNAL, NO_CLASS, Answers, Journal, fingerprint_file

# isort: split
# After chips, which sets the limits that OpenCV reads when it is loaded.
from chip_classifier.preview import Preview, RunFacts

VERSION = "1.0.0"

PREVIEW = "preview.html"

# Those whose versions are in the log.
PACKAGES = ("tensorflow", "keras", "h5py", "numpy", "opencv-python-headless", "pillow")

MODEL_SUFFIXES = (".h5", ".hdf5", ".keras")

# Ports that are absent mean these values (the task's documentation).
DEFAULT_SIZE = 224
DEFAULT_BATCH = 100
# Mean of the R, G and B bands of ImageNet, as in keras.applications.imagenet_utils, mode "caffe".
DEFAULT_VECTOR = (123.68, 116.779, 103.939)

STRING_PORTS = ("classes", "size", "deploy_batch", "normalization_vector", "normalization_value")

# On a processor a batch of more pixels than these (25 chips of 224 x 224) is computed in parts, to
# take less memory, and two parts, of one batch or of two, are computed at a time: while one waits
# for the last of its threads, at the end of each layer, the other one has work for the cores.
CPU_PART_PIXELS = 25 * 224 * 224
CPU_PARTS_AT_A_TIME = 2

# For how long chips are listed before TensorFlow is loaded: long enough for thousands, so that a
# small archive that is damaged fails at once, short enough that a large one costs nothing.
LISTING_SECONDS = 0.1

# What is said of too little memory on a GPU where TensorFlow raises another error than
# ResourceExhaustedError: by the copy of a batch to the GPU, by cuDNN's trials of its algorithms, by
# CUDA and its libraries.
OUT_OF_MEMORY_SIGNS = (
    "dst tensor is not initialized",
    "resource_exhausted",
    "out of memory",
    "out_of_memory",
    "alloc_failed",
)

PROGRESS_SECONDS = {"terminal": 0.5, "log": 10.0}

KILLED = (
    "The task was ended from outside before it could finish (killed, out of memory or power); "
    "run it again to resume where it stopped."
)

log = logging.getLogger("deploy-chip-classifier")
log.addHandler(logging.NullHandler())  # what comes before out.log is there is not printed twice


class TaskError(Exception):
    """The task cannot do what it was asked to; the message is one sentence for the user."""


class Stopped(BaseException):
    """The task was asked to stop by a signal."""


# ---------------------------------------------------------------------------------------- ports


@dataclass(frozen=True)
class Ports:
    """The string ports, checked.

    classes: names in the order of the model's outputs, or None for '0', '1', ...
    size: rows and columns to warp chips to, or None for the model's own.
    deploy_batch: chips per batch.
    normalization_vector: what to subtract from the R, G and B band.
    normalization_value: what to divide by after that, or None.
    unknown: names in ports.json that are no string port of this task.
    """

    classes: tuple[str, ...] | None = None
    size: int | None = None
    deploy_batch: int = DEFAULT_BATCH
    normalization_vector: tuple[float, float, float] = DEFAULT_VECTOR
    normalization_value: float | None = None
    unknown: tuple[str, ...] = ()


def read_ports(path: Path) -> Ports:
    """Read ports.json, a flat JSON object of strings; all defaults if there is none.

    Raises TaskError if the file is no such object or a port has a value that it cannot take.
    """
    if not path.exists():
        return Ports()
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise TaskError(f"ports.json is not valid JSON ({error}): correct it.") from error
    if not isinstance(content, dict):
        raise TaskError('ports.json must be one JSON object, such as {"size": "224"}.')
    for name, value in content.items():
        if name in STRING_PORTS and not isinstance(value, str):
            raise TaskError(
                f"The port {name} must be a string: write it in quotation marks in ports.json, "
                f'as in "{name}": "{json.dumps(value)[:100]}".'
            )
    given = {name: content[name].strip() for name in STRING_PORTS if content.get(name, "").strip()}
    parsers = {
        "classes": parse_classes,
        "size": parse_size,
        "deploy_batch": parse_batch,
        "normalization_vector": parse_vector,
        "normalization_value": parse_value,
    }
    unknown = tuple(name for name in content if name not in STRING_PORTS)
    return Ports(**{name: parsers[name](text) for name, text in given.items()}, unknown=unknown)


def parse_classes(text: str) -> tuple[str, ...]:
    """Parse the port classes: "No Buildings, Buildings" -> two names without blanks around them.

    Raises TaskError if a name is empty.
    """
    names = tuple(name.strip() for name in text.split(","))
    if "" in names:
        raise TaskError(
            f"The port classes has an empty name: '{text}'; separate the names by single commas."
        )
    return names


def parse_size(text: str) -> int:
    """Parse the port size, in pixels. Raises TaskError if it is no size of a chip."""
    size = parse_whole_number("size", text)
    if size * size > MAX_CHIP_PIXELS:
        raise TaskError(
            f"The port size must be at most {math.isqrt(MAX_CHIP_PIXELS)} pixels, not {text}."
        )
    return size


def parse_batch(text: str) -> int:
    """Parse the port deploy_batch, in chips. Raises TaskError if it is not positive."""
    return parse_whole_number("deploy_batch", text)


def parse_whole_number(port: str, text: str) -> int:
    """Parse a positive whole number. Raises TaskError if it is none."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise TaskError(f"The port {port} must be a positive whole number, not '{text[:100]}'.")
    return int(text)


def parse_vector(text: str) -> tuple[float, float, float]:
    """Parse the port normalization_vector: "R,G,B". Raises TaskError if it is not three numbers."""
    numbers = tuple(parse_number(part) for part in text.split(","))
    if len(numbers) != 3 or None in numbers:
        raise TaskError(
            "The port normalization_vector must be three numbers for R,G,B, such as "
            f"'123.68,116.779,103.939', not '{text[:100]}'."
        )
    return numbers


def parse_value(text: str) -> float | None:
    """Parse the port normalization_value. Raises TaskError unless it is None or not 0."""
    if text.lower() == "none":
        return None
    value = parse_number(text)
    if value is None or abs(value) < np.finfo(np.float32).tiny:
        raise TaskError(
            "The port normalization_value must be a number other than 0, or 'None', "
            f"not '{text[:100]}'."
        )
    return value


def parse_number(text: str) -> float | None:
    """Parse a number that float32 can hold; None if it is none."""
    if not re.fullmatch(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*", text):
        return None
    with np.errstate(over="ignore"):
        return float(text) if np.isfinite(np.float32(text)) else None


# --------------------------------------------------------------------------------------- inputs


def find_input(directory: Path, what: str, suffixes: Sequence[str]) -> Path:
    """Find the one file of a kind in an input directory.

    Args:
        directory: input/chips or input/model.
        what: the kind of file, for the message.
        suffixes: the endings that the file may have, lower case.
    Raises:
        TaskError: there is none, or more than one; the message names what was found.
    """
    try:
        files = sorted(f.name for f in directory.iterdir() if f.is_file() and f.name[0] != ".")
    except OSError as error:
        raise TaskError(
            f"The input directory {directory} cannot be read ({error.strerror}): put the {what} "
            "there."
        ) from error
    found = [name for name in files if name.lower().endswith(tuple(suffixes))]
    if len(found) == 1:
        return directory / found[0]
    listed = ", ".join((found or files)[:10]) + (", ..." if len(found or files) > 10 else "")
    raise TaskError(
        f"{directory} must hold exactly one {what} ({', '.join(suffixes)}), "
        + (f"but holds {len(found)}: {listed}." if found else f"but holds {listed or 'no file'}.")
    )


def chip_size(ports: Ports, model: OpenedModel, model_name: str) -> tuple[int, int]:
    """Decide on the rows and columns that chips are warped to.

    The port's size, else the model's own, else 224. Raises TaskError if the model is of another
    size than the port.
    """
    rows, columns = model.input_size
    if ports.size is not None:
        if (rows or ports.size, columns or ports.size) != (ports.size, ports.size):
            raise TaskError(
                f"The port size is {ports.size}, but {model_name} takes chips of "
                f"{rows or 'any'} x {columns or 'any'} (rows x columns): set size to that, or "
                "leave it out."
            )
        return ports.size, ports.size
    return rows or DEFAULT_SIZE, columns or DEFAULT_SIZE


def class_names(ports: Ports, outputs: int) -> tuple[str, ...]:
    """Name the classes of a model with that many outputs; one (sigmoid) output means two classes.

    Raises TaskError if the port classes has another number of names.
    """
    classes = max(outputs, 2)
    if ports.classes is None:
        return tuple(str(number) for number in range(classes))
    if len(ports.classes) != classes:
        raise TaskError(
            f"The port classes has {len(ports.classes)} name(s), but the model has {outputs} "
            f"output(s), for {classes} classes: give {classes} names in the order of training."
        )
    return ports.classes


# ---------------------------------------------------------------------------------------- model


class Classifier:
    """A model with the task's preprocessing in front of it.

    outputs: number of the model's outputs.
    device: the device that it runs on, for the log.
    batches_at_a_time: from how many threads it is to be called at a time, to be fastest.
    """

    def __init__(self, opened: OpenedModel, ports: Ports, size: tuple[int, int]) -> None:
        """Load TensorFlow and the model.

        Args:
            opened: the model file.
            ports: for the normalization.
            size: rows and columns of the chips.
        Raises:
            ModelError: the file cannot be built into a model.
            TaskError: the model does not take chips of this size.
        """
        # The import makes many objects that stay: the garbage collector would go over them again
        # and again.
        gc.disable()
        import tensorflow as tf

        gc.freeze()
        gc.enable()
        self._tf = tf
        # By itself TensorFlow rounds to 10 bits what GPUs since NVIDIA's Ampere multiply (TF32).
        tf.config.experimental.enable_tensor_float_32_execution(False)
        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
        names = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
        self.device = ", ".join(f"GPU {name}" for name in names) or f"CPU, {usable_cores()} cores"
        model = opened.build()
        # TensorFlow subtracts an array of a whole chip faster than one of three values.
        vector = tf.broadcast_to(
            tf.constant(ports.normalization_vector[::-1], tf.float32), (*size, 3)
        )

        def classify(chips: tf.Tensor) -> tf.Tensor:
            pixels = tf.cast(chips, tf.float32) - vector
            if ports.normalization_value is not None:
                pixels /= tf.constant(ports.normalization_value, tf.float32)
            return tf.cast(model(pixels, training=False), tf.float32)

        signature = tf.TensorSpec((None, *size, 3), tf.uint8)
        try:
            function = tf.function(classify, autograph=False).get_concrete_function(signature)
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise TaskError(
                f"The model does not take chips of {size[0]} x {size[1]}: set the port size to the "
                f"size that it was trained with ({' '.join(str(error).split())[:300]})."
            ) from error
        shape = function.outputs[0].shape
        if len(function.outputs) != 1 or shape.rank != 2 or not shape[1]:
            raise TaskError(
                f"The model's output has the shape {tuple(shape)}, but a classifier's is (chips, "
                "classes): use a model that ends in one output per class."
            )
        self.outputs = int(shape[1])
        self._function = function
        largest = CPU_PART_PIXELS // (size[0] * size[1])
        self._map = map  # one part after the other
        self.batches_at_a_time = 1
        if largest and not gpus:
            self._map = ThreadPoolExecutor(CPU_PARTS_AT_A_TIME, "classify").map
            self.batches_at_a_time = CPU_PARTS_AT_A_TIME
        self._largest = sys.maxsize if gpus else max(1, largest)
        self._fill_to = ports.deploy_batch if gpus else 0

    def __call__(self, chips: np.ndarray) -> np.ndarray:
        """Classify chips.

        Args:
            chips: uint8 (N, rows, columns, 3), bands B, G, R.
        Returns:
            float32 (N, outputs).
        Raises:
            TaskError: the device's memory does not hold a single chip.
        """
        while True:
            parts = np.array_split(chips, math.ceil(len(chips) / self._largest))
            try:
                return np.concatenate(list(self._map(self._compute, parts)))
            except self._tf.errors.OpError as error:
                if not self._is_out_of_memory(error):
                    raise
                tried = len(self._fill_up(parts[0]))
                log.info("%d chips do not fit the device's memory: %s", tried, str(error)[:500])
                if tried == 1:
                    raise TaskError(
                        "The device has too little memory for a single chip: free some, or use "
                        "one with more."
                    ) from error
                warn_once(
                    "A batch does not fit the device's memory: it is halved until it does; a "
                    "smaller deploy_batch saves the attempts."
                )
                self._largest = min(self._largest, math.ceil(tried / 2))

    def _is_out_of_memory(self, error: Exception) -> bool:
        """Tell whether an error of TensorFlow's means that the device's memory is too small."""
        text = str(error).lower()
        return isinstance(error, self._tf.errors.ResourceExhaustedError) or any(
            sign in text for sign in OUT_OF_MEMORY_SIGNS
        )

    def _compute(self, part: np.ndarray) -> np.ndarray:
        """Classify as many chips as the device takes at a time, as in __call__."""
        return self._function(self._tf.constant(self._fill_up(part))).numpy()[: len(part)]

    def _fill_up(self, part: np.ndarray) -> np.ndarray:
        """On a GPU, put black chips behind others, so that there are few different numbers of them.

        For each number of chips the GPU's library tries its algorithms anew (cuDNN's autotuning).
        Their number is made the next power of 2, but never more than a whole batch.
        """
        number = min(1 << (len(part) - 1).bit_length(), self._fill_to, self._largest)
        if number <= len(part):
            return part
        return np.concatenate([part, np.zeros((number - len(part), *part.shape[1:]), np.uint8)])


def interpret(outputs: np.ndarray, is_logit: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn a model's outputs into classes and certainties.

    Several outputs: the class of the largest one, and its value. One output: the second class if it
    is above 0.5 (above 0 for a logit), and the probability of the class chosen (for a logit, its
    value).

    Args:
        outputs: float32 (N, K).
        is_logit: whether a single output is no probability, but was meant for a sigmoid.
    Returns:
        Classes int (N,), certainties float64 (N,), and whether each chip's outputs are finite (N,).
    """
    finite = np.isfinite(outputs).all(axis=1)
    values = np.where(finite[:, None], outputs, 0).astype(np.float64)
    if values.shape[1] > 1:
        classes = values.argmax(axis=1)
        return classes, values[np.arange(len(values)), classes], finite
    value = values[:, 0]
    if is_logit:
        return (value > 0).astype(int), value, finite
    second = value > 0.5
    return second.astype(int), np.where(second, value, 1 - value), finite


# ------------------------------------------------------------------------------------- progress


class Progress:
    """Tells on stdout how far the run is: a line that renews itself on a terminal, else a new line
    every ten seconds."""

    def __init__(self, listing: Listing, resumed: int) -> None:
        """Begin the count.

        Args:
            listing: the chips, all or so far.
            resumed: chips answered by an earlier run, which do not count for the rate.
        """
        self._listing, self._resumed = listing, resumed
        self._live = sys.stdout.isatty()
        self._interval = PROGRESS_SECONDS["terminal" if self._live else "log"]
        self._started = self._shown = time.monotonic()

    def show(self, done: int) -> None:
        """Report `done` chips of the archive, if it is time to."""
        now = time.monotonic()
        if now - self._shown < self._interval:
            return
        self._shown = now
        rate = (done - self._resumed) / (now - self._started)
        total, about = self._listing.number, ""
        if not self._listing.is_complete:
            total, about = round(total / max(self._listing.archive.progress, 1e-9)), "about "
        line = f"{done:,} of {about}{max(total, done):,} chips, {rate:,.1f} chips/s"
        if rate:
            line += f", {duration(max(total - done, 0) / rate)} left"
        say(f"\r{line:<78}" if self._live else line, end="" if self._live else "\n")

    def clear(self) -> None:
        """Take the line off the terminal: the summary comes next."""
        if self._live:
            say(f"\r{'':<78}\r", end="")


def say(text: str, end: str = "\n") -> None:
    """Print to stdout at once; one that is closed or full is no reason to end the run."""
    with contextlib.suppress(OSError):
        print(text, end=end, flush=True)


def duration(seconds: float) -> str:
    """Write a time in seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


# ----------------------------------------------------------------------------------------- task


def run_task(input_dir: Path, results: Path, logs: Path, trained_with: str) -> str | None:
    """Classify the chips of a work directory and write the results.

    Args:
        input_dir: holds ports.json, chips/ and model/; nothing is written to it.
        results: directory for classified.json and unclassified.json.
        logs: directory for preview.html.
        trained_with: backend that trained a Keras 1 model, "tensorflow" or "theano".
    Returns:
        A sentence for status.json if some chips could not be classified, else None.
    Raises:
        TaskError, BrokenArchive, ModelError: the input is at fault; the message says how.
        OSError: a file cannot be read or written.
    """
    started, started_at = time.monotonic(), datetime.now().astimezone()
    ports = read_ports(input_dir / "ports.json")
    archive = Archive(find_input(input_dir / "chips", "tar archive", ARCHIVE_SUFFIXES))
    model_path = find_input(input_dir / "model", "Keras model file", MODEL_SUFFIXES)
    opened = open_model(model_path, trained_with)
    size = chip_size(ports, opened, model_path.name)
    if opened.outputs is not None:
        class_names(ports, opened.outputs)
    listing = list_chips(archive)
    settings = settings_in_force(ports, size)
    log_settings(settings, archive, model_path, opened)
    for name in ports.unknown:
        log.warning("ports.json sets '%s', which is no string port of this task: ignored.", name)

    fingerprint = {
        "task": f"{VERSION}, trained with {trained_with}",
        "archive": fingerprint_file(archive.path, whole=False),
        "model": fingerprint_file(model_path, whole=True),
        **settings,
    }
    answers = Answers()
    if not archive.is_compressed:
        # No more than there are chips, for which memory would be taken.
        listing.go_on(chips=ports.deploy_batch)
        ports = replace(ports, deploy_batch=min(ports.deploy_batch, listing.number))
    listing.go_on_aside()
    with contextlib.closing(Journal(results / JOURNAL, fingerprint, answers)) as journal:
        resumed = len(answers)
        log_resume(journal, answers)
        loading = time.monotonic()
        classifier = Classifier(opened, ports, size)
        classes = class_names(ports, classifier.outputs)
        log.info("Device: %s", classifier.device)
        log.info("Time to load the model: %.2f s", time.monotonic() - loading)

        # Not before TensorFlow is loaded: Python runs one thread at a time, and others that ask for
        # their turns slow its import down by more than they gain.
        pipeline = Pipeline(listing, ports.deploy_batch, size, resumed)
        preview = Preview(len(classes))
        progress = Progress(listing, resumed)
        classifying = time.monotonic()
        batches = batches_to_compute(pipeline, answers)
        # A batch is noted while others are computed: the device need not wait for that.
        with ThreadPoolExecutor(1, "note") as noting:
            noted: Future | None = None
            for batch, outputs in compute_batches(batches, classifier):
                if noted:
                    noted.result()
                noted = noting.submit(
                    note_batch, batch, outputs, opened.is_logit, answers, journal, preview
                )
                progress.show(len(answers))
            if noted:
                noted.result()
        progress.clear()
        seconds = time.monotonic() - classifying
    rate = (len(answers) - resumed) / max(seconds, 1e-9)
    log.info("Total classification time: %.2f s, %.1f chips/s", seconds, rate)
    log_archive(archive, pipeline)

    counts, reasons = answers.write(results, classes)
    if not counts.total():
        (results / JOURNAL).unlink()  # another run would come to the same end
        raise TaskError(
            f"None of the {reasons.total():,} chips could be classified, most often because: "
            f"{reasons.most_common(1)[0][0]}; see unclassified.json."
        )
    run = RunFacts(
        archive=archive.path.name,
        model=model_path.name,
        model_description=opened.description,
        classes=classes,
        ports=settings,
        device=classifier.device,
        seconds=seconds,
        chips_per_second=rate,
        started=started_at.strftime("%Y-%m-%d %H:%M:%S %Z"),
        version=VERSION,
    )
    write_preview(logs / PREVIEW, preview, run, answers, reasons)
    return summarize(results, counts, reasons, rate, time.monotonic() - started)


def list_chips(archive: Archive) -> Listing:
    """Begin to list the chips of an archive; a small one is listed to its end.

    Raises TaskError, BrokenArchive: there is no chip, or the archive is damaged, if that is found
    at once.
    """
    listing = Listing(archive)
    listing.go_on(LISTING_SECONDS)
    if listing.error:
        raise listing.error
    if not listing.number:
        others = ", ".join(f"{n} {what}" for what, n in archive.passed_over.items() if n)
        raise TaskError(
            f"{archive.path.name} holds no jpeg, png or tif chips ({others or 'it is empty'}): "
            "make it with 'tar -cvf chips.tar chips'."
        )
    return listing


def batches_to_compute(pipeline: Pipeline, answers: Answers) -> Iterator[Batch]:
    """Take batches from the pipeline, whose chips become known to the answers.

    Yields those that have no answers from an earlier run. Raises BrokenArchive as soon as it is
    known that the archive is damaged, wherever that is.
    """
    answered = len(answers)
    for batch in pipeline:
        if pipeline.listing.error:
            raise pipeline.listing.error
        answers.names += batch.names
        answers.links |= batch.links
        if batch.first >= answered:
            yield batch


@dataclass(frozen=True)
class Outputs:
    """What the model gave for a batch.

    rows: those of the batch's pixels that hold a chip, int (M,).
    values: for each of these the model's outputs, float32 (M, K).
    seconds: the time that it took, in some of which another batch may have been computed.
    """

    rows: np.ndarray
    values: np.ndarray
    seconds: float


def compute_batches(
    batches: Iterable[Batch], classifier: Classifier
) -> Iterator[tuple[Batch, Outputs]]:
    """Compute batches, as many at a time as the classifier wants, and yield them in their order.

    One more waits for its turn. An error ends it: of what comes behind, nothing is yielded.
    """
    # Not waited for at the end: after an error, what is still computed is of no use.
    computing = ThreadPoolExecutor(classifier.batches_at_a_time, "compute")
    pending: deque[tuple[Batch, Future[Outputs]]] = deque()
    for batch in batches:
        pending.append((batch, computing.submit(compute_batch, batch, classifier)))
        if len(pending) > classifier.batches_at_a_time:
            earliest, outputs = pending.popleft()
            yield earliest, outputs.result()
    for batch, outputs in pending:
        yield batch, outputs.result()


def compute_batch(batch: Batch, classifier: Classifier) -> Outputs:
    """Compute the model's outputs for a batch as it comes from the pipeline."""
    started = time.monotonic()
    rows = batch.decoded_rows()
    values = np.empty((0, classifier.outputs), np.float32)
    if len(rows):
        values = classifier(rows_of(batch, rows))
    return Outputs(rows, values, time.monotonic() - started)


def rows_of(batch: Batch, rows: np.ndarray) -> np.ndarray:
    """Give rows of a batch's pixels, uint8 (M, rows, columns, 3), without a copy if all are."""
    return batch.pixels if len(rows) == len(batch.pixels) else batch.pixels[rows]


def note_batch(
    batch: Batch,
    outputs: Outputs,
    is_logit: bool,
    answers: Answers,
    journal: Journal,
    preview: Preview,
) -> None:
    """Note the answers of a batch, write them to the journal, show them to the preview.

    A chip for which the model gives no finite value is not classified.
    """
    rows, values = outputs.rows, outputs.values
    classes = np.full(len(batch.names), NO_CLASS)
    certainties = np.zeros(len(batch.names))
    if len(rows):
        found, certainty, finite = interpret(values, is_logit)
        for row in rows[~finite]:
            batch.problems[batch.first + int(row)] = "the model gives no finite value for this chip"
        if not finite.all():
            rows, values = rows[finite], values[finite]
            found, certainty = found[finite], certainty[finite]
        classes[rows], certainties[rows] = found, certainty
        warn_once_about_values(values)
        with harmless("the preview"):
            preview.add(batch.first + rows, rows_of(batch, rows), found, certainty)
    for number, problem in batch.problems.items():
        log.warning("Chip '%s' is not classified: %s", batch.names[number - batch.first], problem)
    journal.add(batch.first, classes.tolist(), certainties.tolist(), batch.problems)
    answers.add(classes.tolist(), certainties.tolist(), batch.problems)
    last = batch.first + len(batch.names) - 1
    log.info("Chips %d to %d: %.3f s", batch.first, last, outputs.seconds)


def write_preview(
    path: Path, preview: Preview, run: RunFacts, answers: Answers, reasons: Mapping[str, int]
) -> None:
    """Write preview.html; a warning is logged if that fails.

    Args:
        path: where to.
        preview: has seen the batches of this run.
        run: what the page says of the run.
        answers: of all chips.
        reasons: number of chips for each reason why chips are not classified.
    """
    with harmless("preview.html"):
        shown, names = preview.chip_ids(), {}
        classes, certainties = array("i"), array("d")
        for number, name, answering in answers.final():
            if answering >= 0 and answers.classes[answering] != NO_CLASS:
                classes.append(answers.classes[answering])
                certainties.append(answers.certainties[answering])
                if number in shown:
                    names[number] = name
        preview.write(path, run, names.get, np.asarray(classes), np.asarray(certainties), reasons)


@contextlib.contextmanager
def harmless(what: str) -> Iterator[None]:
    """Turn an exception into a warning in the log: the run matters more than this part of it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001, whatever it is, the results are not at fault
        warn_once(f"Could not make {what} ({type(error).__name__}: {error}): the results are whole")


@functools.cache
def warn_once(message: str) -> None:
    """Log a warning that holds for the whole run."""
    log.warning(message)


def warn_once_about_values(outputs: np.ndarray) -> None:
    """Warn if outputs, float32 (N, K), are no probabilities, which a softmax or sigmoid gives."""
    if ((outputs < 0) | (outputs > 1)).any():
        warn_once(
            "The model's outputs are no probabilities (values below 0 or above 1): the certainties "
            "are its values as they are."
        )


def settings_in_force(ports: Ports, size: tuple[int, int]) -> dict[str, str]:
    """Write the ports in force as text, for the log and for the journal."""
    return {
        "classes": ", ".join(ports.classes) if ports.classes else "numbers",
        "size": f"{size[0]} x {size[1]}",
        "deploy_batch": str(ports.deploy_batch),
        "normalization_vector": ",".join(map(str, ports.normalization_vector)),
        "normalization_value": str(ports.normalization_value),
    }


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
    for warning in opened.warnings:
        log.warning(warning)


def log_resume(journal: Journal, answers: Answers) -> None:
    """Log and print what the journal of an earlier run meant for this one."""
    if journal.note:
        log.info(journal.note)
        say(journal.note)
    for number, problem in answers.problems.items():
        log.warning("Chip number %d was not classified by the earlier run: %s", number, problem)


def log_archive(archive: Archive, pipeline: Pipeline) -> None:
    """Log what was noticed about the archive and its chips while they were read."""
    for what, number in archive.passed_over.items():
        log.info("Passed over in the archive: %d %s", number, what)
    if archive.left_behind:
        log.warning(
            "Data follows the end of the archive %s and was not read: if archives were joined "
            "with cat, join them with 'tar --concatenate' instead.",
            archive.path.name,
        )
    if pipeline.saw_16_bits:
        log.warning(
            "Some chips have 16-bit bands, which are read as value / 256: chips with 11 "
            "significant bits, as of most satellites, turn almost black; stretch them to 8 bits."
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


# ------------------------------------------------------------------------------- logs and status


class PrintableFormatter(logging.Formatter):
    """Formats log records so that names of chips, which may hold anything, forge no lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format the line of a record; a traceback below it keeps its lines."""
        record.message = printable(record.message)
        return super().formatMessage(record)


def printable(text: str) -> str:
    """Escape control characters, line breaks among them, as Python does in a literal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def start_logging(path: Path) -> None:
    """Begin out.log, and send all that libraries write to stderr into it.

    TensorFlow, libpng and others write to the file descriptor itself, so that is what is replaced.
    """
    stream = path.open("w", encoding="utf-8", errors="backslashreplace", buffering=1)
    os.dup2(stream.fileno(), 2)
    faulthandler.enable(stream)
    logging.raiseExceptions = False  # a full disk is reported once, by the results
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def write_status(work_dir: Path, status: str, reason: str | None) -> None:
    """Write status.json, whole if possible. Raises OSError if it cannot be written at all."""
    path = work_dir / "status.json"
    text = json.dumps({"status": status, "reason": reason}) + "\n"
    temporary = work_dir / "status.json.part"
    try:
        temporary.write_text(text)
        temporary.replace(path)
    except OSError:
        # On a full disk the old file's block is still there to be written over.
        temporary.unlink(missing_ok=True)
        path.write_text(text)


def explain(error: BaseException) -> str:
    """Turn an exception into the sentence for status.json; unexpected ones also go to out.log."""
    if isinstance(error, TaskError | BrokenArchive | ModelError):
        return printable(str(error))
    if isinstance(error, Stopped):
        return f"The task was stopped by {error}: run it again to resume where it stopped."
    log.error("The task failed", exc_info=error)
    text = printable(" ".join(str(error).split())[:500])
    if isinstance(error, MemoryError):
        return "The task ran out of memory: give it more, or set a smaller deploy_batch."
    if isinstance(error, RuntimeError) and "start new thread" in text:
        return (
            "The task may start no more threads: give it more memory, or raise its limit of "
            "threads."
        )
    if isinstance(error, ImportError):
        return (
            f"A library cannot be loaded ({text}): install the libraries anew, or give the task "
            "more memory if that is short."
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk with the output directory is full: free space and run the task again."
    if isinstance(error, OSError):
        text = printable(str(error))
        return f"A file cannot be read or written ({text}): mend that and run the task again."
    return f"Unexpected error, {type(error).__name__}: {text} (out.log has the details)."


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("/mnt/work"),
        metavar="DIR",
        help="work directory (default: %(default)s)",
    )
    parser.add_argument(
        "--trained-with",
        choices=("tensorflow", "theano"),
        default="tensorflow",
        help="Keras backend that the model was trained with; files of Keras 2 and later record it "
        "themselves (default: %(default)s)",
    )
    return parser.parse_args()


def main() -> int:
    """Run the task; returns the exit code: 0 for success, 1 for failure."""
    arguments = parse_arguments()
    work_dir = arguments.work_dir
    stderr = os.fdopen(os.dup(2), "w", errors="backslashreplace")
    sys.stdout.reconfigure(errors="backslashreplace")

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise Stopped(signal.Signals(number).name)

    results, logs = work_dir / "output" / "results", work_dir / "output" / "logs"
    status, reason = "success", None
    try:
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        prepare_output(work_dir)
        reason = wait_for(
            functools.partial(run_task, work_dir / "input", results, logs, arguments.trained_with)
        )
    except BaseException as error:  # noqa: BLE001, a status is written whatever happens
        status, reason = "failed", explain(error)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if status == "failed":
        with contextlib.suppress(OSError):
            (results / "classified.json").unlink(missing_ok=True)
    try:
        write_status(work_dir, status, reason)
        if status == "success":
            (results / JOURNAL).unlink(missing_ok=True)
    except OSError as error:
        status = "failed"
        reason = reason or f"status.json cannot be written ({error}): make {work_dir} writable."
    if status == "failed":
        log.error(reason)
        print(reason, file=stderr)
    stderr.flush()
    return int(status == "failed")


def wait_for(task: Callable[[], str | None]) -> str | None:
    """Call a function in a thread of its own and wait for what it returns or raises.

    The main thread only waits, so that a signal is answered while the model computes.

    A thread that dies of an exception is the end too: others may wait for it for ever (those of an
    executor do not die of what their functions raise). Where there is memory for a thread, but not
    for its first step in Python, whoever starts it waits for ever; only sys.unraisablehook is told.
    That cannot be a function in Python either, which would need the same memory: both hooks are the
    queue's own method.

    Raises:
        MemoryError: a thread of the function's could not begin, or memory was short where nothing
            can be raised.
        BaseException: whatever the function raised, or another thread died of.
    """
    ends: queue.SimpleQueue = queue.SimpleQueue()

    def work() -> None:
        try:
            ends.put(task())
        except BaseException as error:  # noqa: BLE001, the main thread reports it
            ends.put(error)

    sys.unraisablehook = threading.excepthook = ends.put
    threading.Thread(target=work, name="task", daemon=True).start()
    while True:
        end = ends.get()
        if end is None or isinstance(end, str):
            return end
        if isinstance(end, BaseException):
            raise end
        if isinstance(end, threading.ExceptHookArgs):
            raise end.exc_value
        if issubclass(end.exc_type, MemoryError) or "thread started" in (end.err_msg or ""):
            raise MemoryError from end.exc_value
        with contextlib.suppress(OSError):  # out.log may be on a full disk
            sys.__unraisablehook__(end)


def prepare_output(work_dir: Path) -> None:
    """Make the output directories, without results of an earlier run, and begin out.log.

    status.json says "failed" from here on: a process that is killed cannot write it any more.
    Raises TaskError if they cannot be written to.
    """
    if not work_dir.is_dir():
        raise TaskError(
            f"The work directory {work_dir} does not exist: mount it there, or give another one "
            "with --work-dir."
        )
    try:
        write_status(work_dir, "failed", KILLED)
        results, logs = work_dir / "output" / "results", work_dir / "output" / "logs"
        results.mkdir(parents=True, exist_ok=True)
        logs.mkdir(parents=True, exist_ok=True)
        for stale in (results / "classified.json", results / "unclassified.json", logs / PREVIEW):
            stale.unlink(missing_ok=True)
        start_logging(logs / "out.log")
    except OSError as error:
        raise TaskError(
            f"The work directory {work_dir} cannot be written to ({error}): make it writable."
        ) from error


if __name__ == "__main__":
    code = main()
    # Threads of TensorFlow and of an unfinished run are left where they are.
    os._exit(code)
