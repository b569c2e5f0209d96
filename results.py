"""The answers of a run: kept while it goes on, safe against its sudden end, written as JSON.

A chip is known by its number in the archive. While the task runs, each classified batch is appended
to a journal beside the results, as a line of JSON. The system has it at once, for the case that the
process is killed; the disk has it seconds later, for a power failure. A run that dies leaves the
journal behind, and the next run of the same task goes on from it.

Journal: the first line is the task's fingerprint (what must be the same for a resume to be right),
each further line a batch: {"first": number of its first chip, "classes": [...], "certainties":
[...], "problems": {number: reason}}. A class of -1 stands for a chip that has none.
"""

import hashlib
import itertools
import json
import os
import posixpath
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NO_CLASS = -1
JOURNAL = "resume.jsonl"

# How often the journal is synced to the disk at most; between two fast batches it would cost more
# time than it can save.
SYNC_SECONDS = 1.0

_encode = json.JSONEncoder(allow_nan=False).encode


class Answers:
    """The answers of a run so far, by chip number.

    names: path of each chip in the archive.
    classes: index of each chip's class, NO_CLASS where it has none.
    certainties: certainty of each chip, 0.0 where it has no class.
    problems: chip number -> why the chip could not be classified.
    links: chip number -> path of the member that a link in the archive points to.
    """

    def __init__(self) -> None:
        """Begin without any answer."""
        self.names: list[str] = []
        self.classes = array("i")
        self.certainties = array("d")
        self.problems: dict[int, str] = {}
        self.links: dict[int, str] = {}

    def __len__(self) -> int:
        """Give the number of chips that have been answered."""
        return len(self.classes)

    def add(
        self, classes: Sequence[int], certainties: Sequence[float], problems: Mapping[int, str]
    ) -> None:
        """Append the answers of one batch; arguments as in the attributes of this class."""
        self.classes.extend(classes)
        self.certainties.extend(certainties)
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
                    class_name = class_names[self.classes[answering]]
                    counts[class_name] += 1
                    certainty = round(self.certainties[answering], 10)
                    yield name, {"class": class_name, "certainty": certainty}

        def unclassified() -> Iterator[tuple[str, object]]:
            for number, name, answering in self.final():
                if answering < 0:
                    reason = f"a link to '{self.links[number]}', which is no chip of the archive"
                elif self.classes[answering] == NO_CLASS:
                    reason = self.problems[answering]
                else:
                    continue
                reasons[reason] += 1
                yield name, reason

        for file_name, items in (
            ("unclassified.json", unclassified() if self.problems or self.links else iter(())),
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
    temporary = path.with_name(path.name + ".part")
    try:
        with temporary.open("w", encoding="ascii") as file:
            separator = "{\n"
            for key, value in items:
                file.write(f"{separator}{_encode(key)}: {_encode(value)}")
                separator = ",\n"
            file.write("{}\n" if separator == "{\n" else "\n}\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class Journal:
    """The file that a run leaves behind if it dies, so that the next one goes on from there.

    note: one sentence for out.log on what was found, or "" where there was no journal.
    """

    def __init__(self, path: Path, fingerprint: Mapping[str, str], answers: Answers) -> None:
        """Open the journal: the one of an earlier run of the same task, or a new one.

        Args:
            path: where the journal lies.
            fingerprint: what must be the same for a resume; see fingerprint_file for files.
            answers: empty; receives the answers of the earlier run.
        Raises:
            OSError: the journal cannot be read or written.
        """
        self.path = path
        self.note = ""
        self._is_empty = True
        self._syncing = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._sync_waits = False
        self._sync_error: OSError | None = None
        self._next_sync = time.monotonic()
        header = json.dumps(dict(fingerprint), sort_keys=True).encode() + b"\n"
        sound = self._replay(header, answers) if path.exists() else 0
        if sound:
            self._file = path.open("r+b")
            self._file.truncate(sound)  # a line that the crash cut off
            self._file.seek(sound)
        else:
            self._file = path.open("wb")
            self._append(header)

    def _replay(self, header: bytes, answers: Answers) -> int:
        """Add the batches of an earlier run; return how many bytes are sound, 0 for none."""
        with self.path.open("rb") as file:
            found = file.readline()
            if found != header:
                self.note = f"Starting anew: {_difference(found, header)}."
                return 0
            sound = len(found)
            for line in file:
                batch = _parse_batch(line, len(answers))
                if batch is None:  # the crash cut it off
                    break
                answers.add(*batch)
                self._is_empty = False
                sound += len(line)
        if len(answers):
            self.note = f"Resuming an earlier run of the same task after {len(answers):,} chips."
        return sound

    def add(
        self,
        first: int,
        classes: Sequence[int],
        certainties: Sequence[float],
        problems: Mapping[int, str],
    ) -> None:
        """Write one batch. Raises OSError if the disk does not take it, or not the ones before."""
        batch = {
            "first": first,
            "classes": list(classes),
            "certainties": list(certainties),
            "problems": dict(problems),
        }
        self._is_empty = False
        self._append(json.dumps(batch, separators=(",", ":")).encode() + b"\n")

    def _append(self, line: bytes) -> None:
        if self._sync_error:
            raise self._sync_error
        self._file.write(line)
        self._file.flush()
        if not self._sync_waits:
            self._sync_waits = True
            self._syncing.submit(self._sync)

    def _sync(self) -> None:
        """Sync the journal when it is time to: a disk may take longer than a GPU for a batch."""
        time.sleep(max(0.0, self._next_sync - time.monotonic()))
        self._next_sync = time.monotonic() + SYNC_SECONDS
        self._sync_waits = False  # it will not see what is written from now on
        if not self._file.closed:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                self._sync_error = error

    def close(self) -> None:
        """Close the journal and leave it for the next run, unless it holds no batch yet."""
        self._file.close()
        if self._is_empty:
            self.path.unlink(missing_ok=True)


def _parse_batch(line: bytes, first: int) -> tuple[list[int], list[float], dict[int, str]] | None:
    """Parse a line of the journal; None if it is not the batch that begins with chip `first`."""
    try:
        batch = json.loads(line)
        classes, certainties, problems = (
            batch[key] for key in ("classes", "certainties", "problems")
        )
        if not line.endswith(b"\n") or batch["first"] != first:
            return None
        problems = {int(number): str(reason) for number, reason in problems.items()}
        if len(classes) != len(certainties):
            return None
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        return None
    return classes, certainties, problems


def _difference(found: bytes, header: bytes) -> str:
    """Say which parts of two fingerprints differ."""
    try:
        old, new = json.loads(found), json.loads(header)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    except (ValueError, AttributeError):
        return "the journal of the earlier run is damaged"
    return "since the earlier run, this has changed: " + ", ".join(changed)


def fingerprint_file(path: Path, whole: bool) -> str:
    """Give a short text that changes when the file does.

    Args:
        path: a file.
        whole: hash all of it; else its size, time of change, first and last MiB, which is quick for
            an archive of any size.
    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    stat = path.stat()
    with path.open("rb") as file:
        if whole:
            while block := file.read(2**20):
                digest.update(block)
            return digest.hexdigest()
        digest.update(file.read(2**20))
        file.seek(max(stat.st_size - 2**20, 0))
        digest.update(file.read(2**20))
    return f"{stat.st_size}-{stat.st_mtime_ns}-{digest.hexdigest()}"
