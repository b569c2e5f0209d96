"""The record of a run: its answers, safe on the disk batch by batch, pictures, and warnings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np

from chip_classifier.answers import NO_CLASS, AnsweredBatch, Answers, Noticed
from chip_classifier.errors import TaskError
from chip_classifier.journal import Expected, Journal
from chip_classifier.layout import JOURNAL, LOG, UNCLASSIFIED
from chip_classifier.log import Warnings, log, say
from chip_classifier.output import Output
from chip_classifier.review.sample import Sample

_WARNINGS = {
    Noticed.SIXTEEN_BITS: (
        "Some chips have 16-bit bands, which are read as value / 256: chips with 11 significant "
        "bits, as of most satellites, turn almost black: set the port bit_depth to 11, or to what "
        "they have."
    ),
    Noticed.SIXTEEN_BITS_OF_GREY: (
        "Some chips are grey and have 16 bits, of which the function of the port loading makes no "
        "8 bits: all above 255 is 255, or stays what it is for a model of one band. If the "
        "training had other chips, set the port bit_depth to how many bits they have."
    ),
    Noticed.NO_PROBABILITIES: (
        "The model's outputs are no probabilities (values below 0 or above 1): the certainties are "
        "its values as they are."
    ),
}


class Record:
    """What a run knows of its chips, from its first batch to its results.

    A run that dies leaves its journal behind; the record of the next run of the same task begins
    with the answers in it.

    results: directory where the results are written, until all are there.
    class_names: the name of each class.
    answers: of all chips so far.
    sample: some of the chips that this run has classified, to look at.
    warnings: of the run.
    resumed: how many chips an earlier run answered; has_crashed: whether a library crashed then.
    seconds: the time that the classification took.
    fed: what the model was fed of the first batch, as Preprocessing.fed; empty until then.
    look: how the pictures in the sample were made, in words; "" if nothing was done to the chips.
    mostly_empty: chips that this run decoded of which more than half of the pixels have no data.
    counts: number of chips of each class, and reasons: number of chips for each reason why chips
        are not classified, once they are written.
    """

    def __init__(
        self,
        output: Output,
        fingerprint: Mapping[str, str],
        expected: Expected,
        class_names: Sequence[str],
        warnings: Warnings,
    ) -> None:
        """Open the journal of an earlier run of the same task, or a new one.

        Args:
            output: where the journal and the results go.
            fingerprint: what must be the same for a resume; see fingerprint_task.
            expected: what the batches are to be like.
            class_names: the name of each class.
            warnings: receives those on the chips.
        Raises:
            OSError: the journal cannot be read or written.
        """
        self.class_names, self.warnings = class_names, warnings
        self._output, self.results = output, output.new_results
        self.answers = Answers(expected.probabilities)
        self.sample = Sample(expected.classes)
        self._journal = Journal(output.results / JOURNAL, fingerprint, expected, self.answers)
        self.resumed = len(self.answers)
        self.has_crashed = bool(self._journal.crash)
        self.counts, self.reasons = Counter(), Counter()
        self.seconds = 0.0
        self.fed: list[tuple[float, float, float]] = []
        self.look = ""
        self.mostly_empty = 0
        if self._journal.note:
            log.info(self._journal.note)
            say(self._journal.note)
        for number, problem in self.answers.problems.items():
            log.warning("Chip number %d was not classified by the earlier run: %s", number, problem)
        self._warn()

    def __len__(self) -> int:
        """Return the number of chips that have been answered."""
        return len(self.answers)

    @property
    def rate(self) -> float:
        """Chips that this run classified, per second."""
        return (len(self) - self.resumed) / max(self.seconds, 1e-9)

    def __enter__(self) -> Self:
        """Return the record itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the journal: all chips are answered, or the next run goes on from here."""
        self._journal.close()

    def add(self, batch: AnsweredBatch) -> None:
        """Note the answers of the next batch: in the journal, in memory, in the sample.

        Raises OSError if the disk does not take them.
        """
        rows = [row for row, index in enumerate(batch.classes) if index != NO_CLASS]
        if rows and batch.pictures is not None:
            with self.warnings.instead_of("the preview"):
                numbers, classes, certainties = (
                    np.array(values)
                    for values in (
                        [batch.first + row for row in rows],
                        [batch.classes[row] for row in rows],
                        [batch.certainties[row] for row in rows],
                    )
                )
                self.sample.add(numbers, batch.pictures, classes, certainties)
        self._journal.add(batch)
        self.answers.add(batch)
        self._warn()

    def _warn(self) -> None:
        """Warn about what was noticed."""
        self.warnings.add(*(text for one, text in _WARNINGS.items() if one in self.answers.noticed))

    def write(self) -> None:
        """Write the results, and count them.

        Raises:
            TaskError: no chip has a class.
            OSError: a file cannot be written.
        """
        self.counts, self.reasons = self.answers.write(self.results, self.class_names)
        if not self.counts.total():
            (self._output.results / JOURNAL).unlink()  # another run would come to the same end
            if not self._output.has_earlier:
                self._output.replace()
            raise TaskError(
                f"None of the {self.reasons.total():,} chips could be classified, most often "
                f"because: {self.reasons.most_common(1)[0][0]}; see "
                f"{LOG if self._output.has_earlier else UNCLASSIFIED}."
            )
