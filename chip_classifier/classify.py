"""The loop of a run: batches to the model, several at a time, and their answers noted in order."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from chip_classifier.answers import NO_CLASS, Answers
from chip_classifier.classifier import Classifier, are_probabilities, interpret
from chip_classifier.journal import Journal
from chip_classifier.log import harmless, log
from chip_classifier.noticed import Noticed, warn_about
from chip_classifier.pipeline import Batch, Pipeline, batches_to_compute, rows_of, to_bgr
from chip_classifier.preprocessing import Preprocessing
from chip_classifier.progress import Progress
from chip_classifier.review.sample import Sample
from keras_files.head import Head


def classify_chips(
    pipeline: Pipeline,
    classifier: Classifier,
    preprocessing: Preprocessing,
    head: Head,
    answers: Answers,
    journal: Journal,
    preview: Sample,
    progress: Progress,
) -> list[tuple[float, float, float]]:
    """Classify the chips that have no answers yet, and note the answers batch by batch.

    Args:
        pipeline: the batches, those that have answers among them.
        classifier: the model.
        preprocessing: what it gets of the chips' pixels.
        head: what the model's outputs are.
        answers, journal, preview: receive each batch, in the order of the archive.
        progress: is told how many chips have answers.
    Returns:
        What the model was fed of the first batch, as Preprocessing.fed; empty where there was none.
    Raises:
        BrokenArchive: the archive is damaged or was changed.
        TaskError, OSError: the device or the disk cannot go on.
    """
    fed: list[tuple[float, float, float]] = []
    batches = batches_to_compute(pipeline, answers)
    # A batch is noted while others are computed: the device need not wait for that.
    with ThreadPoolExecutor(1, "note") as noting:
        noted: Future | None = None
        for batch, outputs in compute_batches(batches, classifier):
            if noted:
                noted.result()
            noted = noting.submit(
                note_batch, batch, outputs, head, answers, journal, preview, pipeline.saw_16_bits
            )
            if not fed and len(outputs.rows):
                fed = preprocessing.fed(rows_of(batch, outputs.rows))
            progress.show(len(answers))
        if noted:
            noted.result()
    progress.clear()
    return fed


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


def note_batch(
    batch: Batch,
    outputs: Outputs,
    head: Head,
    answers: Answers,
    journal: Journal,
    preview: Sample,
    saw_16_bits: bool,
) -> None:
    """Note the answers of a batch, write them to the journal, show them to the preview.

    A chip for which the model gives no finite value is not classified. What may be wrong with the
    chips or the outputs is warned about; `saw_16_bits`: as Pipeline has it, with this batch.
    """
    rows = outputs.rows
    classes = np.full(len(batch.names), NO_CLASS)
    certainties = np.zeros(len(batch.names))
    probabilities: list[float] = []
    noticed = {Noticed.SIXTEEN_BITS} if saw_16_bits else set()
    if len(rows):
        finite = np.isfinite(outputs.values).all(axis=1)
        for row in rows[~finite]:
            batch.problems[batch.first + int(row)] = "the model gives no finite value for this chip"
        rows = rows[finite]
        found, certainty, values = interpret(outputs.values[finite], head)
        classes[rows], certainties[rows] = found, certainty
        if not are_probabilities(values):
            noticed.add(Noticed.NO_PROBABILITIES)
        with harmless("the preview"):
            pixels = to_bgr(rows_of(batch, rows))
            preview.add(batch.first + rows, pixels, found, certainty)
    if answers.keeps_probabilities:
        of_chips = np.zeros((len(batch.names), max(outputs.values.shape[1], 2)))
        if len(rows):
            of_chips[rows] = values
        probabilities = of_chips.ravel().tolist()
    for number, problem in batch.problems.items():
        log.warning("Chip '%s' is not classified: %s", batch.names[number - batch.first], problem)
    warn_about(noticed)
    noted = (classes.tolist(), certainties.tolist(), batch.problems)
    journal.add(batch.first, *noted, batch.links, probabilities, noticed)
    answers.add(*noted, probabilities, noticed)
    last = batch.first + len(batch.names) - 1
    log.info("Chips %d to %d: %.3f s", batch.first, last, outputs.seconds)
