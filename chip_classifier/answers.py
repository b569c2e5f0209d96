"""The answers of a run: batch by batch, kept while it goes on, written as JSON at its end.

A chip is known by its number in the archive; its name is made at the end, when all are known.
"""

import contextlib
import itertools
import json
import os
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import TextIO

import numpy as np

from chip_classifier.files import create
from chip_classifier.names import ChipNames, Names
from chip_classifier.review.pictures import Pictures

NO_CLASS = -1
UNKNOWN = "an earlier run left no answer for this chip: run the task again"
ENTRIES_AT_A_TIME = 1000  # are written
encode_json = json.JSONEncoder(allow_nan=False).encode


class Noticed(StrEnum):
    """What may be wrong with some of the chips, by the words of the journal."""

    SIXTEEN_BITS = "16 bits"
    SIXTEEN_BITS_OF_GREY = "16 bits of grey"
    NO_PROBABILITIES = "no probabilities"


@dataclass(frozen=True)
class AnsweredBatch:
    """The answers for the chips number `first`, first + 1, ... of the archive.

    classes: index of each chip's class, NO_CLASS where it has none.
    certainties: certainty of each chip, 0.0 where it has no class.
    problems: chip number -> why the chip could not be classified.
    links: the numbers of the chips that are links to others.
    probabilities: the values of each chip's classes, one chip behind the other, 0.0 where it has no
        class; empty unless they are wanted.
    noticed: what may be wrong with the chips or the model's outputs so far.
    pictures: of the chips that have a class; None in a batch that the journal gives back.
    pixels, values: of these chips what the model got, (M, rows, columns, bands), and the values of
        the classes, float64 (M, classes); None where `pictures` is.
    """

    first: int
    classes: Sequence[int]
    certainties: Sequence[float]
    problems: Mapping[int, str] = field(default_factory=dict)
    links: Collection[int] = ()
    probabilities: Sequence[float] = ()
    noticed: Collection[str] = ()
    pictures: Pictures | None = None
    pixels: np.ndarray | None = None
    values: np.ndarray | None = None


class Answers:
    """The answers of a run so far, by chip number.

    names: path of each chip in the archive.
    classes: index of each chip's class, NO_CLASS where it has none.
    certainties: certainty of each chip, 0.0 where it has no class.
    probabilities: the values of each chip's classes, one chip behind the other, 0.0 where it has no
        class; empty unless they are wanted.
    problems: chip number -> why the chip could not be classified.
    links: chip number -> path of the member that a link in the archive points to.
    noticed: what may be wrong with the chips or the model's outputs; see Noticed.
    """

    def __init__(self, probabilities: bool = False) -> None:
        """Begin without any answer; `probabilities`: whether the values of all classes are kept."""
        self.keeps_probabilities = probabilities
        self.probabilities = array("d")
        self.names = Names()
        self._named: ChipNames | None = None
        self.classes = array("i")
        self.certainties = array("d")
        self.problems: dict[int, str] = {}
        self.links: dict[int, str] = {}
        self.noticed: set[str] = set()

    def __len__(self) -> int:
        """Return the number of chips that have been answered."""
        return len(self.classes)

    def add(self, batch: AnsweredBatch) -> None:
        """Append the answers of the next batch."""
        self.classes.extend(batch.classes)
        self.certainties.extend(batch.certainties)
        self.probabilities.extend(batch.probabilities)
        self.problems.update(batch.problems)
        self.noticed.update(batch.noticed)

    def chip_names(self) -> ChipNames:
        """Return the names of the chips that count, once the paths of all chips are known."""
        if self._named is None:
            self._named = ChipNames(self.names)
        return self._named

    def final(self) -> Iterator[tuple[int, str, int]]:
        """Yield (chip number, chip name, number of the chip that answers for it) in order.

        To be called when the paths of all chips are known.

        A chip that a later member of the same path replaces is left out. The last number is as in
        `answering`.
        """
        answering = self.answering()
        for number, name in self.chip_names():
            yield number, name, answering.get(number, number)

    def answering(self) -> dict[int, int]:
        """Return the number of each link -> that of the chip that it points to and that answers
        for it; -1 where that is no chip of the archive.
        """
        targets = set(self.links.values())
        latest = {
            path: n for n, path in enumerate(self.names if targets else ()) if path in targets
        }
        return {number: self._follow(number, latest) for number in self.links}

    def _follow(self, number: int, latest: Mapping[str, int]) -> int:
        """Return the number of the chip that answers for a link; -1 if none of the archive does.

        Args:
            number: of the link.
            latest: path of each link's target -> number of the last member of that path.
        """
        for _ in range(40):  # as many links in a row as Linux follows
            number = latest.get(self.links[number], -1)
            if number not in self.links:
                return number
        return -1  # a circle of links

    def entry(self, answering: int, class_names: Sequence[str]) -> dict[str, object]:
        """Return the answer of a chip that has a class, as the results hold it.

        Args:
            answering: number of the chip that answers.
            class_names: the name of each class.
        """
        entry: dict[str, object] = {
            "class": class_names[self.classes[answering]],
            "certainty": round(self.certainties[answering], 10),
        }
        if self.keeps_probabilities:
            first = answering * len(class_names)
            values = self.probabilities[first : first + len(class_names)]
            rounded = (round(value, 10) for value in values)
            entry["probabilities"] = dict(zip(class_names, rounded, strict=True))
        return entry

    def first_values(self, answering: int, most: int) -> list[tuple[int, float]]:
        """Return index and value of a chip's first classes, the largest first; [] if not kept."""
        if not self.keeps_probabilities:
            return []
        classes = len(self.probabilities) // len(self)
        values = np.array(self.probabilities[answering * classes : (answering + 1) * classes])
        first = np.argsort(-values, kind="stable")[:most]
        return [(int(index), float(values[index])) for index in first]

    def entry_writer(self, class_names: Sequence[str]) -> Callable[[int], str]:
        """Return what writes the items of `entry` as JSON, quicker, for the number of a chip."""
        openings = [f'"class": {encode_json(name)}, "certainty": ' for name in class_names]
        classes, certainties = self.classes, self.certainties

        def write(answering: int) -> str:
            return openings[classes[answering]] + rounded(certainties[answering])

        def write_all(answering: int) -> str:
            probabilities = encode_json(self.entry(answering, class_names)["probabilities"])
            return f'{write(answering)}, "probabilities": {probabilities}'

        return write_all if self.keeps_probabilities else write

    def reason(self, number: int, answering: int) -> str:
        """Say why chip `number`, for which `answering` answers, has no class."""
        if answering < 0:
            return f"a link to '{self.links[number]}', which is no chip of the archive"
        # A damaged journal may take a chip for a link that is none.
        return self.problems.get(answering, UNKNOWN)

    def write(self, folder: Path, class_names: Sequence[str]) -> tuple[Counter, Counter]:
        """Write classified.json and unclassified.json, each if there is a chip to go into it.

        Each file appears whole or not at all, classified.json last.

        Args:
            folder: the directory of the results.
            class_names: the name of each class.
        Returns:
            The number of chips of each class name, and the number of chips for each reason why
            chips are unclassified.
        Raises:
            OSError: a file cannot be written.
        """
        if not np.isfinite(np.asarray(self.certainties)).all():
            raise ValueError("a certainty that is not finite, which JSON has no word for")
        counts, reasons = [0] * len(class_names), Counter()
        for file_name, entries in (
            (
                "unclassified.json",
                self._unclassified(reasons) if self.links or NO_CLASS in self.classes else iter(()),
            ),
            ("classified.json", self._classified(class_names, counts)),
        ):
            if first := next(entries, None):
                write_json_entries(folder / file_name, itertools.chain([first], entries))
        by_name: Counter = Counter()
        for name, number in zip(class_names, counts, strict=True):
            by_name[name] += number
        return by_name, reasons

    def _classified(self, class_names: Sequence[str], counts: list[int]) -> Iterator[str]:
        """Yield the entries of classified.json, and count the chips of each class."""
        entry = self.entry_writer(class_names)
        for _, name, answering in self.final():
            if answering >= 0 and (index := self.classes[answering]) != NO_CLASS:
                counts[index] += 1
                yield f"{encode_basestring_ascii(name)}: {{{entry(answering)}}}"

    def _unclassified(self, reasons: Counter) -> Iterator[str]:
        """Yield the entries of unclassified.json, and count the chips for each reason."""
        for number, name, answering in self.final():
            if answering >= 0 and self.classes[answering] != NO_CLASS:
                continue
            reason = self.reason(number, answering)
            reasons[reason] += 1
            yield f"{encode_json(name)}: {encode_json(reason)}"


def rounded(value: float) -> str:
    """Write a finite number with at most ten decimals, as repr(round(value, 10)), in a third of the
    time.

    15 digits name a float64, whose shortest name they are then. Python writes smaller ones with an
    exponent.
    """
    if 1e-4 <= value < 1e5:
        text = f"{value:.10f}".rstrip("0")
        return text + "0" if text.endswith(".") else text
    return repr(round(value, 10))


def write_json_object(path: Path, items: Iterable[tuple[str, object]]) -> None:
    """Write keys and values as a JSON object, as write_json_entries does."""
    write_json_entries(path, (f"{encode_json(key)}: {encode_json(value)}" for key, value in items))


def write_json_entries(path: Path, entries: Iterable[str]) -> None:
    """Write a JSON object, one entry a line, without holding it in memory, whole or not at all.

    Args:
        path: where to.
        entries: of the object, '"key": value', encoded in ASCII.
    Raises:
        OSError: it cannot be written; nothing is left of it then.
    """
    with whole_file(path) as file:
        entries = iter(entries)
        between, end = "{\n", "{}\n"
        while some := list(itertools.islice(entries, ENTRIES_AT_A_TIME)):
            file.write(between + ",\n".join(some))
            between, end = ",\n", "\n}\n"
        file.write(end)


@contextlib.contextmanager
def whole_file(path: Path, encoding: str = "ascii") -> Iterator[TextIO]:
    """Open a file of results to write, which appears at its path when it is whole and on the disk.

    Raises OSError if it cannot be written; nothing is left of it then, or after another error.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with create(temporary, encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
