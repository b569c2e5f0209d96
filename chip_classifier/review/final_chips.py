"""The answers of a run that has ended, as arrays: one row for each chip that counts."""

from typing import NamedTuple

import numpy as np

from chip_classifier.answers import NO_CLASS, Answers
from chip_classifier.names import ChipNames


class FinalChips(NamedTuple):
    """The N chips that count, in the order of the archive.

    numbers: the chips' numbers, int64 (N,).
    names: those of all N chips, by number: with many chips, a list of them would take gigabytes.
    answering: number of the chip that answers for each, int64 (N,); -1 for a link to no chip.
    classes: class indices, int32 (N,), NO_CLASS for a chip that could not be classified.
    certainties: float64 (N,), 0 for a chip that could not be classified.
    """

    numbers: np.ndarray
    names: ChipNames
    answering: np.ndarray
    classes: np.ndarray
    certainties: np.ndarray

    def name(self, row: int) -> str:
        """Return the name of a chip; quickest for one row after the other."""
        return self.names[int(self.numbers[row])]

    def nowhere(self) -> np.ndarray:
        """Return the middles of chips of which none is known: NaN (N, 2), without memory."""
        return np.broadcast_to(np.nan, (len(self.numbers), 2))


def final_chips(answers: Answers) -> FinalChips:
    """Return what `answers.final()` yields, with the answers."""
    names, every = answers.chip_names(), np.arange(len(answers.names))
    numbers = np.delete(every, list(names.replaced))
    for link, answering in answers.answering().items():
        every[link] = answering
    sources = every[numbers]
    is_answered = sources >= 0
    classes = np.full(len(sources), NO_CLASS, np.int32)
    classes[is_answered] = np.asarray(answers.classes)[sources[is_answered]]
    certainties = np.zeros(len(sources))
    certainties[is_answered] = np.asarray(answers.certainties)[sources[is_answered]]
    return FinalChips(numbers, names, sources, classes, certainties)
