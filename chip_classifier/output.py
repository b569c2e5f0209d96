"""What a run leaves: status.json, and results that take the place of an earlier run's all at once.

New results are written into a folder of their own, `.new`, beside the earlier ones. When all of
them are there, that folder becomes `.complete`, and its files take their places. Whenever a run
dies, the next one finds either folder: results in part are thrown away, whole ones put in place.
"""

import contextlib
import json
import shutil
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path

from chip_classifier.errors import TaskError
from chip_classifier.files import create, obstacle, odd_kind, overwrite
from chip_classifier.layout import CLASSIFIED, LOG, PAGE, RESULTS, STATUS
from chip_classifier.log import start_logging

NEW, COMPLETE = ".new", ".complete"
NAMES = "names.json"  # in COMPLETE: of all results, also in place -> whether there is a new one

# What status.json says while a run goes on: a process that is killed cannot write it any more.
KILLED = (
    "The task was ended from outside before it could finish (killed, out of memory or power); "
    "run it again to resume where it stopped."
)


class Output:
    """The folders and files that a run writes to.

    work_dir: has status.json and the lock.
    results, logs: the folders of results, and of out.log and the page; they may be one.
    new_results, new_logs: where results and page are written to, until all are there.
    """

    def __init__(self, work_dir: Path, results: Path, logs: Path) -> None:
        """Name the folders; nothing is read or written."""
        self.work_dir, self.results, self.logs = work_dir, results, logs
        self.new_results, self.new_logs = results / NEW, logs / NEW
        self._names = {results: list(RESULTS)}
        self._names.setdefault(logs, []).append(PAGE)
        self._earlier = ""
        # A stop comes in another thread than the results.
        self._replacing, self._is_discarded = threading.Lock(), False

    def begin(self) -> None:
        """Let status.json say "failed" for now, and see what an earlier run left.

        Whole results of a run that died while it put them in place are put there. Raises OSError if
        that cannot be done.
        """
        self.write_status("failed", KILLED)
        put_in_place(self._names)
        files = [path for name in RESULTS if (path := self.results / name).is_file()]
        if files:
            changed = time.localtime(max(path.lstat().st_mtime for path in files))
            when = time.strftime("%Y-%m-%d %H:%M %Z", changed)
            self._earlier = f" The results in {self.results} are still those of a run of {when}."
            self.write_status("failed", KILLED + self._earlier)

    @property
    def has_earlier(self) -> bool:
        """Whether an earlier run has classified chips, and its results are still in place."""
        return bool(self._earlier) and (self.results / CLASSIFIED).is_file()

    def prepare(self) -> None:
        """Make the folders, and begin out.log. Raises TaskError if they cannot be written to."""
        try:
            for folder in (self.results, self.logs):
                if found := obstacle(folder):
                    raise TaskError(
                        f"The output directory cannot be written to: {found}, where the task needs "
                        "a directory; take it away."
                    )
            self.make_folders()
            start_logging(self.logs / LOG)
        except OSError as error:
            raise TaskError(
                f"The output directory {self.results.parent} cannot be written to ({error}): mend "
                "that."
            ) from error

    def make_folders(self) -> None:
        """Make the folders, those for new results empty. Raises OSError if that cannot be done."""
        for folder, names in self._names.items():
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                (folder / f"{name}.part").unlink(missing_ok=True)  # of versions before 1.2
                if odd_kind(folder / name) == "a directory":
                    raise OSError(f"{folder / name} is a directory")
            take_away(folder / NEW)
            (folder / NEW).mkdir()

    def replace(self) -> None:
        """Put the new results in the place of the earlier ones.

        What they have not, such as a map, is taken away. A run that dies meanwhile leaves its own
        results, for the next one to put in place, and a status that says "failed".

        Raises:
            TaskError: the run was stopped before, and the new results are discarded.
            OSError: it fails.
        """
        with self._replacing:
            if self._is_discarded:
                raise TaskError("The task was stopped before its results were in place.")
            if self._earlier:
                self.write_status("failed", KILLED)
                self._earlier = ""
            for folder, names in self._names.items():
                complete(folder, names)
            put_in_place(self._names)

    def discard(self) -> None:
        """Take away what a failed run has written of its results, as far as that goes.

        Results that are about to be put in place are in place before.
        """
        with self._replacing:
            self._is_discarded = True
            for folder in self._names:
                with contextlib.suppress(OSError):
                    take_away(folder / NEW)

    def fail(self, reason: str) -> str:
        """Let status.json say why a run failed, and whose the results are. Returns that sentence.

        Raises OSError if it cannot be written.
        """
        self.write_status("failed", reason + self._earlier)
        return reason + self._earlier

    def write_status(self, status: str, reason: str | None) -> None:
        """Write status.json, whole if possible. Raises OSError if it cannot be written at all."""
        path, temporary = self.work_dir / STATUS, self.work_dir / f"{STATUS}.part"
        text = json.dumps({"status": status, "reason": reason}) + "\n"
        try:
            with create(temporary) as file:
                file.write(text)
            temporary.replace(path)
        except OSError:
            # On a full disk the old file's block is still there to be written over.
            if temporary.is_file():
                temporary.unlink()
            with overwrite(path) as file:
                file.write(text)


def complete(folder: Path, names: Iterable[str]) -> None:
    """Let the results in the folder NEW of a folder be complete: put_in_place puts these in place.

    Args:
        folder: of the results; it has a folder NEW.
        names: of the files that they replace, also where they have none of that name; in the order
            in which they are put in place.
    Raises:
        OSError: a file cannot be written.
    """
    new = folder / NEW
    with create(new / NAMES) as file:
        json.dump({name: (new / name).exists() for name in names}, file)
    new.rename(folder / COMPLETE)


def put_in_place(folders: Collection[Path]) -> None:
    """Move the files of complete results to their places, and take away what they replace.

    A run that dies meanwhile leaves them to be put in place. Where one of the folders has none, as
    in a run that died before they were complete, or a list that power failure damaged, those of
    the others are taken away.

    Raises OSError if a file cannot be moved or taken away.
    """
    names = {folder: _names_of_complete(folder) for folder in folders}
    for folder in folders if all(names.values()) else ():
        for name, is_new in names[folder].items():
            if not is_new:
                (folder / name).unlink(missing_ok=True)
                continue
            with contextlib.suppress(FileNotFoundError):  # it is in place
                (folder / COMPLETE / name).replace(folder / name)
    for folder in folders:
        take_away(folder / COMPLETE)


def _names_of_complete(folder: Path) -> dict[str, bool]:
    """Return what `complete` wrote down; nothing where it did not, or where that is damaged."""
    try:
        names = json.loads((folder / COMPLETE / NAMES).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return names if isinstance(names, dict) else {}


def take_away(path: Path) -> None:
    """Remove a file, a link or a folder with all that is in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
