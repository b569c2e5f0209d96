"""The answers of a run: kept while it goes on, written as JSON at its end.

A chip is known by its number in the archive; its name is made at the end, when all are known.
"""

import contextlib
import itertools
import json
import os
import posixpath
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from chip_classifier.files import create

NO_CLASS = -1
UNKNOWN = "an earlier run left no answer for this chip: run the task again"
encode_json = json.JSONEncoder(allow_nan=False).encode


class Answers:
    """The answers of a run so far, by chip number.

    names: path of each chip in the archive.
    classes: index of each chip's class, NO_CLASS where it has none.
    certainties: certainty of each chip, 0.0 where it has no class.
    probabilities: the values of each chip's classes, one chip behind the other, 0.0 where it has no
        class; empty unless they are wanted.
    problems: chip number -> why the chip could not be classified.
    links: chip number -> path of the member that a link in the archive points to.
    """

    def __init__(self, probabilities: bool = False) -> None:
        """Begin without any answer; `probabilities`: whether the values of all classes are kept."""
        self.keeps_probabilities = probabilities
        self.probabilities = array("d")
        self.names: list[str] = []
        self.classes = array("i")
        self.certainties = array("d")
        self.problems: dict[int, str] = {}
        self.links: dict[int, str] = {}

    def __len__(self) -> int:
        """Give the number of chips that have been answered."""
        return len(self.classes)

    def add(
        self,
        classes: Sequence[int],
        certainties: Sequence[float],
        problems: Mapping[int, str],
        probabilities: Sequence[float] = (),
    ) -> None:
        """Append the answers of one batch; arguments as in the attributes of this class."""
        self.classes.extend(classes)
        self.certainties.extend(certainties)
        self.probabilities.extend(probabilities)
        self.problems.update(problems)

    def final(self) -> Iterator[tuple[int, str, int]]:
        """Yield (chip number, chip name, number of the chip that answers for it) in order.

        A chip that a later member of the same path replaces is left out. A link is answered by the
        chip that it points to; the last number is -1 where that is no chip of the archive.
        """
        latest = {name: number for number, name in enumerate(self.names)}
        numbers = sorted(latest.values())
        for number, name in zip(numbers, chip_names([self.names[n] for n in numbers]), strict=True):
            answering = number
            for _ in range(40):  # as many links in a row as Linux follows
                if answering not in self.links:
                    break
                answering = latest.get(self.links[answering], -1)
            else:
                answering = -1  # a circle of links
            yield number, name, answering

    def entry(self, answering: int, class_names: Sequence[str]) -> dict[str, object]:
        """Give the answer of a chip that has a class, as the results hold it.

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
        counts: Counter = Counter({name: 0 for name in class_names})
        reasons: Counter = Counter()

        def classified() -> Iterator[tuple[str, object]]:
            for _, name, answering in self.final():
                if answering >= 0 and self.classes[answering] != NO_CLASS:
                    entry = self.entry(answering, class_names)
                    counts[entry["class"]] += 1
                    yield name, entry

        def unclassified() -> Iterator[tuple[str, object]]:
            for number, name, answering in self.final():
                if answering >= 0 and self.classes[answering] != NO_CLASS:
                    continue
                reason = self.reason(number, answering)
                reasons[reason] += 1
                yield name, reason

        for file_name, items in (
            (
                "unclassified.json",
                unclassified() if self.links or NO_CLASS in self.classes else iter(()),
            ),
            ("classified.json", classified()),
        ):
            if first := next(items, None):
                write_json_object(folder / file_name, itertools.chain([first], items))
        return counts, reasons


def chip_names(paths: Sequence[str]) -> list[str]:
    """Name chips for the user: without the archive's top directory and without the extension.

    The top directory is the first part of the paths, where all of them share it. Names that would
    be equal without their extensions keep them.

    Args:
        paths: different paths of chips in the archive.
    Returns:
        As many different names, in the same order.
    """
    tops = {path.partition("/")[0] if "/" in path else None for path in paths}
    if len(tops) == 1 and None not in tops:
        paths = [path.partition("/")[2] for path in paths]
    names = [posixpath.splitext(path)[0] for path in paths]
    while len(taken := Counter(names)) < len(names):
        # Once more, because a name that got its extension back may meet another one.
        names = [path if taken[name] > 1 else name for path, name in zip(paths, names, strict=True)]
    return names


def write_json_object(path: Path, items: Iterable[tuple[str, object]]) -> None:
    """Write a JSON object, one key a line, without holding it in memory, whole or not at all.

    Raises OSError if it cannot be written; nothing is left of it then.
    """
    with whole_file(path) as file:
        separator = "{\n"
        for key, value in items:
            file.write(f"{separator}{encode_json(key)}: {encode_json(value)}")
            separator = ",\n"
        file.write("{}\n" if separator == "{\n" else "\n}\n")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Open a file of JSON to write, which appears at its path when it is whole and on the disk.

    Raises OSError if it cannot be written; nothing is left of it then, or after another error.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with create(temporary, encoding="ascii") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
