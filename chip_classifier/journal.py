"""The answers of a run, safe against its sudden end.

While the task runs, each classified batch is appended to a journal beside the results, as a line of
JSON. The system has it at once, for the case that the process is killed; the disk has it seconds
later, for a power failure. A run that dies leaves the journal behind, and the next run of the same
task goes on from it.

The first line is the task's fingerprint (what must be the same for a resume to be right), each
further line a batch: {"first": number of its first chip, "classes": [...], "certainties": [...],
"problems": {number: reason}}; where they are wanted, also "probabilities": [...], those of all
classes of a chip behind each other. A class of -1 stands for a chip that has none.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chip_classifier import VERSION
from chip_classifier.answers import Answers

JOURNAL = "resume.jsonl"

# How often the journal is synced to the disk at most; between two fast batches it would cost more
# time than it can save.
SYNC_SECONDS = 1.0


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
        probabilities: Sequence[float] = (),
    ) -> None:
        """Write one batch. Raises OSError if the disk does not take it, or not the ones before."""
        batch = {
            "first": first,
            "classes": list(classes),
            "certainties": list(certainties),
            "problems": dict(problems),
        }
        if len(probabilities):
            batch["probabilities"] = list(probabilities)
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


def _parse_batch(
    line: bytes, first: int
) -> tuple[list[int], list[float], dict[int, str], list[float]] | None:
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
    return classes, certainties, problems, batch.get("probabilities", [])


def _difference(found: bytes, header: bytes) -> str:
    """Say which parts of two fingerprints differ."""
    try:
        old, new = json.loads(found), json.loads(header)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    except (ValueError, AttributeError):
        return "the journal of the earlier run is damaged"
    return "since the earlier run, this has changed: " + ", ".join(changed)


def fingerprint_task(
    archive: Path, model: Sequence[Path], trained_with: str, settings: Mapping[str, str]
) -> dict[str, str]:
    """Give what must be the same for a resume to be right, by the words of a journal's note.

    Args:
        archive, model: the input files; a model may lie in two.
        trained_with: backend that trained a Keras 1 model.
        settings: the ports in force.
    Raises:
        OSError: a file cannot be read.
    """
    return {
        "task": f"{VERSION}, trained with {trained_with}",
        "archive": fingerprint_file(archive, whole=False),
        "model": " ".join(fingerprint_file(path, whole=True) for path in model),
        **settings,
    }


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
