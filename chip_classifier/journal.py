"""The answers of a run, safe against its sudden end.

While the task runs, each classified batch is appended to a journal beside the results, as a line of
JSON. The system has it at once, for the case that the process is killed; the disk has it seconds
later, for a power failure. A run that dies leaves the journal behind, and the next run of the same
task goes on from it.

The first line is the task's fingerprint (what must be the same for a resume to be right), each
further line a batch: {"first": number of its first chip, "classes": [...], "certainties": [...],
"problems": {number: reason}, "links": [number, ...], "noticed": [values of Noticed, sorted]};
where they are wanted, also "probabilities": [...], those of all classes of a chip behind each
other. A class of -1 stands for a chip that has none, because it has a problem or is a link to
another chip.

A journal may be damaged like any file. Each field of a line is checked; from the first line that
does not hold, the run goes on as if the journal ended there.
"""

import faulthandler
import itertools
import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chip_classifier import VERSION
from chip_classifier.answers import NO_CLASS, AnsweredBatch, Answers, Noticed
from chip_classifier.files import create, odd_kind
from keras_files.pinned_file import PinnedFile

# How often the journal is synced to the disk at most; between two fast batches it would cost more
# time than it can save.
SYNC_SECONDS = 1.0

STDERR = 2
_CRASH = re.compile(rb"Fatal Python error: ([\w ]+)\n")

# A longer line is no batch, without its probabilities: at 35 bytes a chip, this is one of two
# million.
MAX_LINE_BYTES = 2**26
MAX_VALUE_BYTES = 26  # of one probability, with a comma: -1.2345678901234567e-308


@dataclass(frozen=True)
class Expected:
    """What the batches of a task's journal are known to be like.

    classes: number of classes; batch_size: chips of each batch but the last; chips: number of chips
    in the archive, None while it is not known; probabilities: whether a chip has one for
    each class.
    """

    classes: int
    batch_size: int
    chips: int | None
    probabilities: bool = False


class Journal:
    """The file that a run leaves behind if it dies, so that the next one goes on from there.

    note: one sentence for out.log on what was found, or "" where there was no journal.
    crash: what the earlier run died of without a word, such as "Segmentation fault", or "". Python
        writes that behind the last batch (faulthandler).
    """

    def __init__(
        self, path: Path, fingerprint: Mapping[str, str], expected: Expected, answers: Answers
    ) -> None:
        """Open the journal: the one of an earlier run of the same task, or a new one.

        Args:
            path: where the journal lies.
            fingerprint: what must be the same for a resume; see fingerprint_task.
            expected: what its batches are to be like.
            answers: empty; receives the answers of the earlier run.
        Raises:
            OSError: the journal cannot be read or written.
        """
        self.path = path
        self.note = self.crash = ""
        self._is_empty = True
        self._syncing = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._sync_waits = False
        self._sync_error: OSError | None = None
        self._next_sync = time.monotonic()
        header = json.dumps(dict(fingerprint), sort_keys=True).encode() + b"\n"
        sound = self._replay(header, expected, answers) if self._is_there() else 0
        if sound:
            self._file = path.open("r+b")
            self._file.truncate(sound)  # what does not hold, such as a line that a crash cut off
            self._file.seek(sound)
        else:
            self._file = create(path).detach()
            self._append(header)
        faulthandler.enable(self._file)

    def _is_there(self) -> bool:
        """Whether a file, and not a link or a FIFO, lies in the journal's place."""
        return self.path.exists() and odd_kind(self.path) is None

    def _replay(self, header: bytes, expected: Expected, answers: Answers) -> int:
        """Add the batches of an earlier run; return how many bytes are sound, 0 for none."""
        with self.path.open("rb") as file:
            found = file.readline(MAX_LINE_BYTES)
            if found != header:
                self.note = f"Starting anew: {_difference(found, header)}."
                return 0
            sound = len(found)
            values = expected.batch_size * expected.classes * expected.probabilities
            while line := file.readline(MAX_LINE_BYTES + MAX_VALUE_BYTES * values):
                batch = _parse_batch(line, len(answers), expected)
                if batch is None:
                    if found := _CRASH.match(line):
                        self.crash = found[1].decode()
                    break
                answers.add(batch)
                self._is_empty = False
                sound += len(line)
        if len(answers) or self.crash:
            self.note = f"Resuming an earlier run of the same task after {len(answers):,} chips."
        if self.crash:
            self.note += (
                f" A library crashed in it ({self.crash}): the chips that it may have been about "
                "are decoded in processes of their own."
            )
        return sound

    def add(self, batch: AnsweredBatch) -> None:
        """Write one batch. Raises OSError if the disk does not take it, or not the ones before."""
        line = {
            "first": batch.first,
            "classes": list(batch.classes),
            "certainties": list(batch.certainties),
            "problems": dict(batch.problems),
            "links": list(batch.links),
            "noticed": sorted(batch.noticed),
        }
        if len(batch.probabilities):
            line["probabilities"] = list(batch.probabilities)
        self._is_empty = False
        self._append(json.dumps(line, separators=(",", ":")).encode() + b"\n")

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
        faulthandler.enable(STDERR)  # out.log
        self._file.close()
        if self._is_empty:
            self.path.unlink(missing_ok=True)


def _parse_batch(line: bytes, first: int, expected: Expected) -> AnsweredBatch | None:
    """Parse a line of the journal; None if it is not the batch that begins with chip `first`."""
    try:
        batch = json.loads(line, object_pairs_hook=_without_repetition)
        classes, certainties = batch["classes"], batch["certainties"]
        problems = {int(number): reason for number, reason in batch["problems"].items()}
        has_none = sorted([*problems, *batch["links"]])
        probabilities, noticed = batch.get("probabilities", []), batch["noticed"]
        size = len(classes)
        holds = (
            line.endswith(b"\n")
            and (type(batch["first"]), batch["first"]) == (int, first)
            and _is_size_of_batch(first, size, expected)
            and all(type(part) is list for part in (classes, certainties, probabilities))
            and type(batch["links"]) is list
            and noticed == sorted({*noticed} & {*Noticed})
            and all(type(n) is int and NO_CLASS <= n < expected.classes for n in classes)
            and len(certainties) == size
            and len(probabilities) == size * expected.classes * expected.probabilities
            and all(
                type(value) in (int, float) and math.isfinite(value)
                for value in itertools.chain(certainties, probabilities)
            )
            and all(type(n) is int for n in has_none)
            and has_none == [first + row for row in range(size) if classes[row] == NO_CLASS]
            and all(type(reason) is str and reason.encode() for reason in problems.values())
        )
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError):
        return None
    if not holds:
        return None
    return AnsweredBatch(
        first, classes, certainties, problems, batch["links"], probabilities, noticed
    )


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object; raises ValueError if a key stands in it twice."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands there twice")
    return made


def _is_size_of_batch(first: int, size: int, expected: Expected) -> bool:
    """Whether the batch that begins with chip `first` may have so many chips.

    The last one may have fewer than others. Where the number of chips is not known yet, such a one
    is classified again.
    """
    if expected.chips is None:
        return size == expected.batch_size
    return 0 < size == min(expected.batch_size, expected.chips - first)


def _difference(found: bytes, header: bytes) -> str:
    """Say which parts of two fingerprints differ."""
    try:
        old, new = json.loads(found), json.loads(header)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    except (ValueError, AttributeError, RecursionError):
        return "the journal of the earlier run is damaged"
    return "since the earlier run, this has changed: " + ", ".join(changed)


def fingerprint_task(
    archive: str, model: Sequence[PinnedFile], trained_with: str, settings: Mapping[str, str]
) -> dict[str, str]:
    """Return what must be the same for a resume to be right, by the words of a journal's note.

    Args:
        archive: what changes when the chips do.
        model: its files, as they were opened.
        trained_with: backend that trained a Keras 1 model.
        settings: the ports in force.
    Raises:
        OSError: a file cannot be read.
    """
    return {
        "task": f"{VERSION}, trained with {trained_with}",
        "archive": archive,
        "model": " ".join(file.digest(whole=True) for file in model),
        **settings,
    }
