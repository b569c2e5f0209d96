"""classified.csv: a line for each chip, for pandas, Excel and QGIS (RFC 4180, UTF-8).

chip,class,certainty[,one column for each class],true_class,longitude,latitude,reason

The columns of the classes, which hold their values, are there if probabilities are wanted; a class
that is named like another column is `probability of ...`. Longitude and latitude are those of the
chip's middle in WGS 84. What is not known is empty; a reason is given where there is no class.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

import numpy as np

from chip_classifier.answers import NO_CLASS, whole_file
from chip_classifier.layout import TABLE
from chip_classifier.record import Record
from chip_classifier.review.final_chips import FinalChips
from chip_classifier.review.numerals import degree_texts, rounded_texts

FIRST, LAST = ("chip", "class", "certainty"), ("true_class", "longitude", "latitude", "reason")
CHIPS_AT_A_TIME, CELLS_AT_A_TIME = 10_000, 200_000  # are written


def header(class_names: Sequence[str], has_probabilities: bool) -> list[str]:
    """Return the names of the columns."""
    others = {*FIRST, *LAST}
    values = [f"probability of {name}" if name in others else name for name in class_names]
    return [*FIRST, *(values if has_probabilities else ()), *LAST]


def write_csv(record: Record, chips: FinalChips, truths: np.ndarray, centres: np.ndarray) -> None:
    """Write classified.csv, whole or not at all.

    Args:
        record: of the run, whose chips are all answered.
        chips: the N that count.
        truths: true class indices, int32 (N,), NO_TRUTH where it is unknown.
        centres: longitude and latitude of each chip's middle, float64 (N, 2), NaN where unknown.
    Raises:
        OSError: the file cannot be written.
    """
    names = (name for _, name in chips.names)
    with whole_file(record.results / TABLE, "utf-8") as file:
        columns = header(record.class_names, record.answers.keeps_probabilities)
        _write(file, [columns])
        at_a_time = max(1, min(CHIPS_AT_A_TIME, CELLS_AT_A_TIME // len(columns)))
        for start in range(0, len(chips.numbers), at_a_time):
            part = slice(start, start + at_a_time)
            some = FinalChips(chips.numbers[part], chips.names, *(one[part] for one in chips[2:]))
            _write(file, zip(*_columns(record, some, names, truths[part], centres[part])))


def _write(file: TextIO, lines: Iterable[Sequence[object]]) -> None:
    """Write lines; what is no character, as of names that are not UTF-8, is written as \\udcff."""
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    file.write(text.getvalue().encode("utf-8", "backslashreplace").decode())


def _columns(
    record: Record,
    chips: FinalChips,
    names: Iterator[str],
    truths: np.ndarray,
    centres: np.ndarray,
) -> Iterator[Iterable[object]]:
    """Yield the columns of some chips; `names` are those of these chips and of all that follow."""
    answers, classes = record.answers, chips.classes.tolist()
    named = [*record.class_names, ""]  # NO_CLASS and NO_TRUTH are the last one
    is_classified = [index != NO_CLASS for index in classes]
    yield [next(names) for _ in classes]
    yield [named[index] for index in classes]
    yield _where(is_classified, rounded_texts(chips.certainties))
    if answers.keeps_probabilities:
        number = len(record.class_names)
        values = np.asarray(answers.probabilities).reshape(-1, number)[chips.answering]
        texts = rounded_texts(values.ravel())
        yield from (_where(is_classified, texts[index::number]) for index in range(number))
    yield [named[index] for index in truths.tolist()]
    yield from map(degree_texts, centres.T)
    numbers = zip(is_classified, chips.numbers.tolist(), chips.answering.tolist())
    yield ["" if has else answers.reason(*pair) for has, *pair in numbers]


def _where(is_classified: Iterable[bool], texts: Iterable[str]) -> list[str]:
    """Return the texts of the chips that are classified, "" for the others."""
    return [text if has else "" for has, text in zip(is_classified, texts)]
