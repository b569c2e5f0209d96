"""The loop of a run: batches to the model, several at a time, and their answers noted in order."""

import sys
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from chip_classifier.answers import NO_CLASS, AnsweredBatch, Noticed
from chip_classifier.classifier import Classifier, are_probabilities, interpret
from chip_classifier.listing import Listing
from chip_classifier.log import clock_time, log, say
from chip_classifier.pipeline import Batch, Pipeline, batches_to_compute, rows_of
from chip_classifier.record import Record
from chip_classifier.review.pictures import Look, Pictures
from chip_classifier.second_look.look import SecondLook
from chip_classifier.second_look.of_run import second_look

PROGRESS_SECONDS = {"terminal": 0.5, "log": 10.0}


def classify_chips(pipeline: Pipeline, classifier: Classifier, record: Record) -> SecondLook:
    """Classify the chips that have no answers yet, and note the answers batch by batch.

    Args:
        pipeline: the batches, those that have answers among them.
        classifier: the model.
        record: receives each batch, in the order of the archive.
    Returns:
        What has seen the chips, and is to be asked whether the settings can be right.
    Raises:
        BrokenArchive: the archive is damaged or was changed.
        TaskError, OSError: the device or the disk cannot go on.
    """
    second = second_look(classifier)
    progress, started = Progress(pipeline.listing, record.resumed), time.monotonic()
    batches = batches_to_compute(pipeline, record.answers)

    def note(batch: Batch, outputs: Outputs, noticed: Collection[str]) -> None:
        answered = answer(batch, outputs, classifier, noticed, pipeline.look)
        with record.warnings.instead_of("the second look at the settings"):
            second.see(answered)
        record.add(answered)
        last = batch.first + len(batch.names) - 1
        log.info("Chips %d to %d: %.3f s", batch.first, last, outputs.seconds)

    # A batch is noted while others are computed: the device need not wait for that.
    with ThreadPoolExecutor(1, "note") as noting:
        noted: Future | None = None
        for batch, outputs in compute_batches(batches, classifier):
            if noted:
                noted.result()
            noted = noting.submit(note, batch, outputs, {*pipeline.noticed})
            if not record.fed and len(outputs.rows):
                preprocessing = classifier.settings.preprocessing
                record.fed = preprocessing.fed(rows_of(batch, outputs.rows))
            progress.show(len(record))
        if noted:
            noted.result()
    progress.clear()
    record.look = pipeline.look.description
    record.mostly_empty = pipeline.mostly_empty
    record.seconds = time.monotonic() - started
    log.info("Total classification time: %.2f s, %.1f chips/s", record.seconds, record.rate)
    return second


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


def answer(
    batch: Batch,
    outputs: Outputs,
    classifier: Classifier,
    noticed: Collection[str] = (),
    look: Look | None = None,
) -> AnsweredBatch:
    """Turn the model's outputs for a batch into answers.

    A chip for which the model gives no finite value is not classified.

    Args:
        batch: as it comes from the pipeline; why chips are not classified is logged.
        outputs: the model's, for its chips.
        classifier: the model.
        noticed: what may be wrong with the chips so far.
        look: how they become pictures; None for pixels from 0 to 255.
    """
    finite = np.isfinite(outputs.values).all(axis=1)
    for row in outputs.rows[~finite]:
        batch.problems[batch.first + int(row)] = "the model gives no finite value for this chip"
    for number, problem in batch.problems.items():
        log.warning("Chip '%s' is not classified: %s", batch.names[number - batch.first], problem)
    rows, chips = outputs.rows[finite], len(batch.names)
    found, certainty, values = interpret(outputs.values[finite], classifier.head)
    classes, certainties = np.full(chips, NO_CLASS), np.zeros(chips)
    classes[rows], certainties[rows] = found, certainty
    of_chips = np.zeros((chips if classifier.settings.ports.probabilities else 0, values.shape[1]))
    if len(of_chips):
        of_chips[rows] = values
    noticed = {*noticed}
    if not are_probabilities(values):
        noticed.add(Noticed.NO_PROBABILITIES)
    pictures = ()
    if len(rows):
        look = look or Look()
        look.see(pixels := rows_of(batch, rows))
        pictures = (Pictures(pixels, look), pixels, values)
    return AnsweredBatch(
        batch.first,
        classes.tolist(),
        certainties.tolist(),
        batch.problems,
        batch.links,
        of_chips.ravel().tolist(),
        noticed,
        *pictures,
    )


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
            total, about = round(total / max(self._listing.source.progress, 1e-9)), "about "
        line = f"{done:,} of {about}{max(total, done):,} chips, {rate:,.1f} chips/s"
        if rate:
            line += f", {clock_time(max(total - done, 0) / rate)} left"
        say(f"\r{line:<78}" if self._live else line, end="" if self._live else "\n")

    def clear(self) -> None:
        """Take the line off the terminal: the summary comes next."""
        if self._live:
            say(f"\r{'':<78}\r", end="")
