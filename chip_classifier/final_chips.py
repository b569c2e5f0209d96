"""The answers of a run that has ended, as arrays: one row for each chip that counts."""

from array import array
from typing import NamedTuple

import numpy as np

from chip_classifier.answers import NO_CLASS, Answers


class FinalChips(NamedTuple):
    """The N chips that count, in the order of the archive.

    numbers: the chips' numbers, int64 (N,).
    names: the chips' names.
    answering: number of the chip that answers for each, int64 (N,); -1 for a link to no chip.
    classes: class indices, int32 (N,), NO_CLASS for a chip that could not be classified.
    certainties: float64 (N,), 0 for a chip that could not be classified.
    """

    numbers: np.ndarray
    names: list[str]
    answering: np.ndarray
    classes: np.ndarray
    certainties: np.ndarray


def final_chips(answers: Answers) -> FinalChips:
    """Give what `answers.final()` yields, with the answers."""
    numbers, names, answering = array("q"), [], array("q")
    for number, name, by in answers.final():
        numbers.append(number)
        names.append(name)
        answering.append(by)
    sources = np.asarray(answering)
    is_answered = sources >= 0
    classes = np.full(len(names), NO_CLASS, np.int32)
    classes[is_answered] = np.asarray(answers.classes)[sources[is_answered]]
    certainties = np.zeros(len(names))
    certainties[is_answered] = np.asarray(answers.certainties)[sources[is_answered]]
    return FinalChips(np.asarray(numbers), names, sources, classes, certainties)
